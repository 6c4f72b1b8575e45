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
