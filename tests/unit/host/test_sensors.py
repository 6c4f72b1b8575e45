"""What the machine says of itself agrees with what others read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from edge.host import sensors


def zone(root: Path, number: int, name: str, temp: str) -> None:
    directory = root / f"thermal_zone{number}"
    directory.mkdir(parents=True)
    (directory / "type").write_text(name + "\n", encoding="utf-8")
    (directory / "temp").write_text(temp + "\n", encoding="ascii")


def test_resident_memory_is_what_psutil_reads() -> None:
    assert sensors.rss_mib() == pytest.approx(psutil.Process().memory_info().rss / 2**20, rel=0.05)
    assert sensors.rss_mib(os.getppid()) == pytest.approx(
        psutil.Process(os.getppid()).memory_info().rss / 2**20, rel=0.05
    )


def test_a_process_that_is_gone_holds_no_memory() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert sensors.rss_mib(child.pid) == 0.0


REMEMBERS = """
from edge.host.sensors import peak_rss_mib, rss_mib
big = bytearray(b"x") * (200 * 2**20)
high = peak_rss_mib()
del big
assert high >= 200, high
assert peak_rss_mib() >= high
assert rss_mib() < high - 150, (rss_mib(), high)
"""


def test_the_peak_remembers_what_was_given_back() -> None:
    subprocess.run([sys.executable, "-c", REMEMBERS], check=True)


def test_the_hottest_processor_zone_counts_and_others_do_not(tmp_path: Path) -> None:
    zone(tmp_path, 0, "cpu-thermal", "51234")
    zone(tmp_path, 1, "soc0-thermal", "63500")
    zone(tmp_path, 2, "gpu-thermal", "99000")
    zone(tmp_path, 3, "cpu-thermal", "not a number")
    assert sensors.temperature_c(tmp_path) == 63.5


def test_without_a_processor_zone_the_temperature_is_unknown(tmp_path: Path) -> None:
    zone(tmp_path, 0, "battery", "30000")
    assert sensors.temperature_c(tmp_path) is None
    assert sensors.temperature_c(tmp_path / "absent") is None


def test_the_kernel_may_be_asked_about_the_clock_without_privileges() -> None:
    assert sensors.clock_synced() == sensors.clock_synced()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="ascii")


@pytest.mark.parametrize(
    ("node", "bits", "expected"),
    [
        ("soc/soc:firmware", "0", sensors.Throttle()),
        ("soc/soc:firmware", "50005", sensors.Throttle(hot=True, under_voltage=True)),
        ("soc/soc:firmware", "50000", sensors.Throttle()),  # it was, since boot
        ("soc/soc:firmware", "80008", sensors.Throttle(hot=True)),
        ("soc@107c000000/soc@107c000000:firmware", "2", sensors.Throttle(hot=True)),
        ("soc@107c000000/soc@107c000000:firmware", "3", sensors.Throttle(under_voltage=True)),
    ],
)
def test_a_raspberry_pi_says_that_it_is_throttled(
    tmp_path: Path, node: str, bits: str, expected: sensors.Throttle
) -> None:
    write(tmp_path / "devices/platform" / node / "get_throttled", bits)
    assert sensors.throttle(tmp_path) == expected


def test_elsewhere_the_kernel_says_that_the_clock_is_held_down(tmp_path: Path) -> None:
    for number, (kind, state) in enumerate(
        [("pwm-fan", 4), ("thermal-cpufreq-0", 0), ("Processor", 0), ("cpufreq-cpu4", 0)]
    ):
        write(tmp_path / f"class/thermal/cooling_device{number}/type", kind)
        write(tmp_path / f"class/thermal/cooling_device{number}/cur_state", str(state))
    assert sensors.throttle(tmp_path) == sensors.Throttle()  # the fan turns, nothing more
    write(tmp_path / "class/thermal/cooling_device1/cur_state", "3")
    assert sensors.throttle(tmp_path) == sensors.Throttle(hot=True)
    write(tmp_path / "class/hwmon/hwmon2/name", "rpi_volt")
    write(tmp_path / "class/hwmon/hwmon2/in0_lcrit_alarm", "1")
    assert sensors.throttle(tmp_path) == sensors.Throttle(hot=True, under_voltage=True)


def test_available_memory_is_what_psutil_reads() -> None:
    memory = psutil.virtual_memory()
    assert sensors.memory_available() == pytest.approx(memory.available / memory.total, abs=0.05)


def test_stalls_for_memory_are_read_from_the_pressure_file(tmp_path: Path) -> None:
    assert sensors.memory_stalled(tmp_path) is None  # a kernel without PSI
    write(
        tmp_path / "pressure/memory",
        "some avg10=12.50 avg60=3.00 avg300=1.00 total=1\nfull avg10=4.00 avg60=1.00 avg300=0.00 total=1",
    )
    assert sensors.memory_stalled(tmp_path) == 12.5
    write(tmp_path / "pressure/memory", "nonsense")
    assert sensors.memory_stalled(tmp_path) is None


def test_only_a_battery_that_the_machine_lives_on_counts(tmp_path: Path) -> None:
    def supply(name: str, **values: str) -> None:
        for key, value in values.items():
            write(tmp_path / "class/power_supply" / name / key, value)

    supply("AC", type="Mains", online="0")
    supply("mouse", type="Battery", scope="Device", status="Discharging", capacity="3")
    assert sensors.battery_percent(tmp_path) is None
    supply("BAT0", type="Battery", status="Charging", capacity="40")
    assert sensors.battery_percent(tmp_path) is None
    supply("BAT0", type="Battery", status="Discharging", capacity="40")
    assert sensors.battery_percent(tmp_path) == 40
    supply("BAT1", type="Battery", status="Discharging", capacity="80")
    assert sensors.battery_percent(tmp_path) == 60


def test_a_machine_that_tells_nothing_reads_as_nothing(tmp_path: Path) -> None:
    assert sensors.throttle(tmp_path) is None
    assert sensors.memory_available(tmp_path) is None
    assert sensors.battery_percent(tmp_path) is None
    assert sensors.cpu_seconds(proc=tmp_path) == 0.0


def test_processor_time_is_what_psutil_reads() -> None:
    sum(n * n for n in range(2_000_000))
    times = psutil.Process().cpu_times()
    assert sensors.cpu_seconds() == pytest.approx(times.user + times.system, abs=0.1)
