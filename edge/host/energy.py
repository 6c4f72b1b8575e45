"""How much energy the machine has used: counted or measured where it can tell, estimated elsewhere, and which it was.

Counters of energy (RAPL) are read; meters of power (INA3221, the PMIC of a Raspberry Pi 5) are summed up from one reading
to the next, so they want one every second or so while there is work.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edge.host.devices import Device

Source = Literal["rapl", "ina3221", "pmic"]

SYS = Path("/sys")
VCIO = Path("/dev/vcio")
GAP_S = 5.0  # readings of power further apart say nothing of what was between them

# The firmware's mailbox, as vcgencmd uses it: raspberrypi/utils, vcgencmd.c.
_IOCTL_MBOX_PROPERTY = 0xC0086400  # _IOWR(100, 0, char *) with pointers of 8 bytes
_GET_GENCMD_RESULT = 0x00030080
_RESULT_BYTES = 1024
_RAIL = re.compile(r"(\w+)_([AV])\s+\w+\(\d+\)=([0-9.]+)[AV]")


@dataclass(slots=True)
class Meter:
    """The machine's energy since the meter was made.

    Attributes:
        source: What tells it.
        power_w: Mean power between the last two readings; None before.
    """

    source: Source
    _read: Callable[[], float | None]  # joules of a counter that never goes back, or watts
    _counter: bool
    power_w: float | None = None
    _joules: float = 0.0
    _before: float | None = None
    _before_s: float = 0.0
    _broken: bool = field(default=False)

    def read_j(self, now_s: float) -> float | None:
        """Return the joules so far, or None where the sensor has failed since: then nothing is known of this time.

        Args:
            now_s: The time, never going back.
        """
        value = self._read()
        if value is None:
            self._broken = True
        elif self._before is not None:
            passed_s = now_s - self._before_s
            if self._counter:
                self._joules += value - self._before
                self.power_w = (value - self._before) / passed_s if passed_s > 0 else self.power_w
            else:
                self._broken |= passed_s > GAP_S
                self._joules += passed_s * (value + self._before) / 2
                self.power_w = (value + self._before) / 2
        if value is not None:
            self._before, self._before_s = value, now_s
        return None if self._broken else self._joules

    def forgive(self) -> None:
        """Begin a new span: what was missed lies before it."""
        self._broken = False


def open_meter(sys: Path = SYS, vcio: Path = VCIO) -> Meter | None:
    """Return the best meter that this machine has and this user may read.

    Args:
        sys: Where sysfs is mounted.
        vcio: The mailbox of a Raspberry Pi's firmware.
    """
    found: tuple[tuple[Source, Callable[[], float | None], bool], ...] = (
        ("ina3221", _Ina3221(sys).watts, False),
        ("pmic", lambda: pmic_watts(gencmd("pmic_read_adc", vcio)), False),
        ("rapl", _Rapl(sys).joules, True),
    )
    for source, read, counter in found:
        if read() is not None:
            return Meter(source, read, counter)
    return None


def estimated_j(device: Device, *, wall_s: float, cpu_s: float) -> float:
    """Return what the machine uses in a time in which processes of ours work so much, by its profile.

    Args:
        device: Its profile.
        wall_s: Seconds that pass.
        cpu_s: Seconds of processor time in them, all cores together.
    """
    per_core_w = (device.busy_w - device.idle_w) / device.cores
    return device.idle_w * wall_s + per_core_w * cpu_s


@dataclass(frozen=True, slots=True)
class Energy:
    """What the whole machine used in some time.

    Attributes:
        joules: How much.
        source: ``measured`` by a meter of the machine, or ``estimated`` from processor time and the device's profile.
    """

    joules: float
    source: Literal["measured", "estimated"]


class Account:
    """The energy of one span of work at a time, such as a clip from its first pair to an answer.

    Args:
        device: Profile for the estimate.
        meter: The machine's own, if it has one.
    """

    def __init__(self, device: Device, meter: Meter | None) -> None:
        self._device = device
        self._meter = meter
        self._begun: tuple[float, float, float | None] | None = None  # time, processor time, joules

    @property
    def power_w(self) -> float | None:
        """The power that was measured last, in the present span."""
        return self._meter.power_w if self._meter and self._begun else None

    def begin(self, now_s: float, cpu_s: float) -> None:
        """Begin a span.

        Args:
            now_s: The time, never going back.
            cpu_s: Processor time so far of the processes that work.
        """
        joules = None
        if self._meter is not None:
            self._meter.forgive()
            joules = self._meter.read_j(now_s)
        self._begun = (now_s, cpu_s, joules)

    def tick(self, now_s: float) -> None:
        """Read a meter of power; to be called every second or so. Between spans nothing is read."""
        if self._meter is not None and self._begun is not None:
            self._meter.read_j(now_s)

    def so_far(self, now_s: float, cpu_s: float) -> Energy | None:
        """Return what was used since the span began; None between spans."""
        if self._begun is None:
            return None
        begun_s, cpu_before_s, before = self._begun
        if self._meter is not None and before is not None:
            joules = self._meter.read_j(now_s)
            if joules is not None:
                return Energy(round(joules - before, 3), "measured")
        cpu_s = max(0.0, cpu_s - cpu_before_s)
        return Energy(round(estimated_j(self._device, wall_s=now_s - begun_s, cpu_s=cpu_s), 3), "estimated")

    def end(self) -> None:
        """End the span."""
        self._begun = None


class _Rapl:
    """Intel's and AMD's energy counters through powercap, which only root may read unless it is allowed.

    Of the whole platform (psys) where it has one, else of all packages and their memory. They wrap around.
    """

    def __init__(self, sys: Path) -> None:
        zones = {path: _line(path / "name") for path in sorted(sys.glob("class/powercap/intel-rapl:*"))}
        platform = [path for path, name in zones.items() if name == "psys"]
        parts = [path for path, name in zones.items() if name.startswith("package") or name == "dram"]
        self._zones = platform or parts
        self._before: dict[Path, int] = {}
        self._total_uj = 0

    def joules(self) -> float | None:
        if not self._zones:
            return None
        for zone in self._zones:
            try:
                value = int(_line(zone / "energy_uj"))
                span = int(_line(zone / "max_energy_range_uj") or 0)
            except ValueError:
                return None
            step = value - self._before.get(zone, value)
            self._total_uj += step if step >= 0 else step + span
            self._before[zone] = value
        return self._total_uj / 1e6


class _Ina3221:
    """The power monitor of Jetson boards through hwmon: millivolts and milliamperes per channel.

    VDD_IN is the whole board's; where there is none, the channels are added up.
    """

    def __init__(self, sys: Path) -> None:
        channels: dict[str, tuple[Path, Path]] = {}
        for chip in sorted(sys.glob("class/hwmon/hwmon*")):
            if _line(chip / "name") != "ina3221":
                continue
            for number in (1, 2, 3):
                volts, amperes = chip / f"in{number}_input", chip / f"curr{number}_input"
                if volts.exists() and amperes.exists():
                    channels[_line(chip / f"in{number}_label") or f"{chip.name}/{number}"] = volts, amperes
        whole = channels.get("VDD_IN")
        self._channels = [whole] if whole else list(channels.values())

    def watts(self) -> float | None:
        try:
            found = [int(_line(volts)) * int(_line(amperes)) / 1e6 for volts, amperes in self._channels]
        except ValueError:
            return None
        return sum(found) if found else None


def pmic_watts(text: str | None) -> float | None:
    """Return the power of all rails in the firmware's answer to ``pmic_read_adc``; what has no current is no rail."""
    rails: dict[str, dict[str, float]] = {}
    for name, unit, value in _RAIL.findall(text or ""):
        rails.setdefault(name, {})[unit] = float(value)
    found = [rail["A"] * rail["V"] for rail in rails.values() if len(rail) == 2]
    return sum(found) if found else None


def gencmd(command: str, vcio: Path = VCIO) -> str | None:
    """Ask a Raspberry Pi's firmware, as vcgencmd does; None where it cannot be asked."""
    words = _RESULT_BYTES // 4
    message = bytearray(
        struct.pack(
            f"=6I{_RESULT_BYTES}sI", 0, 0, _GET_GENCMD_RESULT, _RESULT_BYTES, 0, 0, command.encode(), 0
        )
    )
    struct.pack_into("=I", message, 0, 4 * (6 + words + 1))
    try:
        mailbox = os.open(vcio, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.ioctl(mailbox, _IOCTL_MBOX_PROPERTY, message, True)  # mutate_flag has no name
    except OSError:
        return None
    finally:
        os.close(mailbox)
    return bytes(message[24 : 24 + _RESULT_BYTES]).partition(b"\0")[0].decode(errors="replace")


def _line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
