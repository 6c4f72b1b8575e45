"""Joules: counted where a counter can be read, summed up from meters of power, estimated and marked so elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.host.devices import GENERIC, JETSON_ORIN_NANO, RASPBERRY_PI_5, this_device
from edge.host.energy import Account, Meter, estimated_j, gencmd, open_meter, pmic_watts

NO_VCIO = Path("/nonexistent/vcio")
# As a Raspberry Pi 5 answers, shortened.
PMIC = """\
 3V7_WL_SW_A current(0)=0.10000000A
   3V3_SYS_A current(1)=0.20000000A
  VDD_CORE_A current(7)=3.00000000A
 3V7_WL_SW_V volt(8)=3.70000000V
   3V3_SYS_V volt(9)=3.30000000V
  VDD_CORE_V volt(15)=0.80000000V
     EXT5V_V volt(24)=5.10000000V
      BATT_V volt(25)=0.00000000V
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="ascii")


def rapl(sys: Path, zone: str, name: str, energy_uj: int, *, span_uj: int = 1_000_000_000) -> None:
    write(sys / "class/powercap" / zone / "name", name)
    write(sys / "class/powercap" / zone / "energy_uj", str(energy_uj))
    write(sys / "class/powercap" / zone / "max_energy_range_uj", str(span_uj))


def ina3221(sys: Path, number: int, label: str, millivolts: int, milliamperes: int) -> None:
    chip = sys / "class/hwmon/hwmon1"
    write(chip / "name", "ina3221")
    write(chip / f"in{number}_label", label)
    write(chip / f"in{number}_input", str(millivolts))
    write(chip / f"curr{number}_input", str(milliamperes))


def opened(sys: Path) -> Meter:
    meter = open_meter(sys, NO_VCIO)
    assert meter is not None
    return meter


def test_a_counter_of_energy_is_read_over_its_wrap(tmp_path: Path) -> None:
    rapl(tmp_path, "intel-rapl:0", "package-0", 990_000_000)
    rapl(tmp_path, "intel-rapl:0:0", "core", 5)  # a part of the package
    rapl(tmp_path, "intel-rapl:0:1", "dram", 10_000_000)
    meter = opened(tmp_path)
    assert meter.source == "rapl"
    assert meter.read_j(0.0) == 0.0
    rapl(tmp_path, "intel-rapl:0", "package-0", 20_000_000)
    rapl(tmp_path, "intel-rapl:0:1", "dram", 12_000_000)
    assert meter.read_j(8.0) == pytest.approx(32.0)
    assert meter.power_w == pytest.approx(4.0)


def test_the_whole_platform_counts_rather_than_its_parts(tmp_path: Path) -> None:
    rapl(tmp_path, "intel-rapl:0", "package-0", 0)
    rapl(tmp_path, "intel-rapl:1", "psys", 0)
    meter = opened(tmp_path)
    meter.read_j(0.0)
    rapl(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    rapl(tmp_path, "intel-rapl:1", "psys", 9_000_000)
    assert meter.read_j(1.0) == pytest.approx(9.0)


def test_power_is_summed_up_and_the_boards_input_is_the_whole_board(tmp_path: Path) -> None:
    ina3221(tmp_path, 1, "VDD_IN", 5000, 1000)
    ina3221(tmp_path, 2, "VDD_CPU_GPU_CV", 5000, 400)
    meter = opened(tmp_path)
    assert meter.source == "ina3221"
    assert meter.read_j(0.0) == 0.0
    ina3221(tmp_path, 1, "VDD_IN", 5000, 3000)
    assert meter.read_j(2.0) == pytest.approx(20.0)  # 5 W rising to 15 W
    assert meter.power_w == pytest.approx(10.0)


def test_without_an_input_the_channels_are_added_up(tmp_path: Path) -> None:
    ina3221(tmp_path, 1, "VDD_GPU_SOC", 5000, 1000)
    ina3221(tmp_path, 2, "VDD_CPU_CV", 5000, 400)
    meter = opened(tmp_path)
    meter.read_j(0.0)
    assert meter.read_j(1.0) == pytest.approx(7.0)


def test_what_was_not_looked_at_is_not_invented(tmp_path: Path) -> None:
    ina3221(tmp_path, 1, "VDD_IN", 5000, 1000)
    meter = opened(tmp_path)
    meter.read_j(0.0)
    assert meter.read_j(60.0) is None
    meter.forgive()
    before = meter.read_j(61.0)
    assert before is not None
    after = meter.read_j(62.0)
    assert after is not None
    assert after - before == pytest.approx(5.0)


def test_the_rails_of_a_raspberry_pi_are_added_up() -> None:
    assert pmic_watts(PMIC) == pytest.approx(0.37 + 0.66 + 2.4)
    assert pmic_watts("error=1 error_msg=Command not registered") is None
    assert pmic_watts(None) is None


def test_a_machine_without_a_meter_or_without_leave_to_read_it_has_none(tmp_path: Path) -> None:
    assert open_meter(tmp_path, NO_VCIO) is None
    (tmp_path / "class/powercap/intel-rapl:0").mkdir(parents=True)
    write(tmp_path / "class/powercap/intel-rapl:0/name", "package-0")  # energy_uj is root's
    assert open_meter(tmp_path, NO_VCIO) is None
    plain = tmp_path / "vcio"
    plain.write_bytes(b"")
    assert gencmd("pmic_read_adc", plain) is None


def test_the_estimate_follows_the_profile() -> None:
    assert estimated_j(RASPBERRY_PI_5, wall_s=60, cpu_s=0) == pytest.approx(180)
    assert estimated_j(RASPBERRY_PI_5, wall_s=60, cpu_s=240) == pytest.approx(420)  # all four cores at work


def test_an_account_says_whether_it_was_measured(tmp_path: Path) -> None:
    rapl(tmp_path, "intel-rapl:0", "package-0", 0)
    measured, estimated = Account(GENERIC, opened(tmp_path)), Account(RASPBERRY_PI_5, None)
    assert measured.so_far(0.0, 0.0) is None
    for account in (measured, estimated):
        account.begin(100.0, 50.0)
    rapl(tmp_path, "intel-rapl:0", "package-0", 30_000_000)
    found = measured.so_far(110.0, 60.0)
    assert found is not None
    assert found.joules == pytest.approx(30.0)
    assert found.source == "measured"
    guessed = estimated.so_far(110.0, 60.0)
    assert guessed is not None
    assert guessed.joules == pytest.approx(30.0 + 10.0)
    assert guessed.source == "estimated"


def test_an_account_whose_meter_fails_falls_back_on_the_estimate(tmp_path: Path) -> None:
    rapl(tmp_path, "intel-rapl:0", "package-0", 0)
    account = Account(RASPBERRY_PI_5, opened(tmp_path))
    account.begin(0.0, 0.0)
    (tmp_path / "class/powercap/intel-rapl:0/energy_uj").unlink()
    found = account.so_far(10.0, 0.0)
    assert found is not None
    assert found.joules == pytest.approx(30.0)
    assert found.source == "estimated"


@pytest.mark.parametrize(
    ("model", "device"),
    [
        ("Raspberry Pi 5 Model B Rev 1.0\0", RASPBERRY_PI_5),
        ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0", JETSON_ORIN_NANO),
        ("Some Other Board\0", GENERIC),
        ("", GENERIC),
    ],
)
def test_the_board_is_known_by_its_device_tree(tmp_path: Path, model: str, device: object) -> None:
    if model:
        write(tmp_path / "firmware/devicetree/base/model", model)
    assert this_device(tmp_path) is device
