"""What this machine says of itself: memory, heat, supply, battery, and whether its clock can be trusted (Linux).

What a machine does not have, or keeps from this user, reads as None: nothing here raises.
"""

from __future__ import annotations

import ctypes
import os
import resource
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20
THERMAL_ROOT = Path("/sys/class/thermal")
SYS = Path("/sys")
PROC = Path("/proc")
# Names of processor zones: Raspberry Pi and most ARM boards, Jetson, Intel, AMD and ACPI machines.
CPU_ZONES = ("cpu", "soc", "x86_pkg_temp", "k10temp", "acpitz")

# Cooling devices that work by slowing the processor; fans are none.
SLOWING = ("cpufreq", "thermal-cpufreq", "processor", "cpu-throttle")
# Bits of the Raspberry Pi firmware's get_throttled; 16 and up tell what has been since boot.
_UNDER_VOLTAGE, _CAPPED, _THROTTLED, _SOFT_LIMIT = 1 << 0, 1 << 1, 1 << 2, 1 << 3

# linux/timex.h
_TIME_ERROR = 5
_STA_UNSYNC = 0x0040


class _Timex(ctypes.Structure):
    """``struct timex``; only ``modes`` (0: read) and ``status`` matter, the rest is room for the kernel."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def rss_mib(pid: int | None = None) -> float:
    """Return the resident memory of a process (default: this one) in MiB; 0.0 where it is gone.

    Source: the second field of ``/proc/<pid>/statm``, in pages (proc_pid_statm(5)).
    """
    try:
        pages = int(Path(f"/proc/{pid or 'self'}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def peak_rss_mib() -> float:
    """Return the largest resident memory that this process ever had, in MiB (``ru_maxrss`` is in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class AnonymousPeak:
    """The largest anonymous memory of this process that was seen; the kernel keeps no peak of it."""

    def __init__(self) -> None:
        self.peak_mib = 0.0
        self.sample()

    def sample(self) -> None:
        """Look again."""
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("RssAnon:"):
                self.peak_mib = max(self.peak_mib, int(line.split()[1]) / 1024)


def temperature_c(root: Path = THERMAL_ROOT) -> float | None:
    """Return the temperature of the hottest processor zone in degrees Celsius, or None where there is none.

    Args:
        root: Directory of the kernel's thermal zones, each with ``type`` and ``temp`` (millidegrees).
    """
    hottest: float | None = None
    for zone in sorted(root.glob("thermal_zone*")):
        try:
            name = (zone / "type").read_text(encoding="utf-8").strip().lower()
            if not name.startswith(CPU_ZONES):
                continue
            value = int((zone / "temp").read_text(encoding="ascii")) / 1000
        except (OSError, ValueError):  # a zone may be asleep (EAGAIN), as the GPU's is on a Jetson
            continue
        hottest = value if hottest is None else max(hottest, value)
    return hottest


def clock_synced() -> bool:
    """Return whether the kernel calls the wall clock synchronised (adjtimex(2)); False where it cannot be known."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return False
    timex = _Timex()
    state = int(adjtimex(ctypes.byref(timex)))
    return state not in (-1, _TIME_ERROR) and not timex.status & _STA_UNSYNC


@dataclass(frozen=True, slots=True)
class Throttle:
    """Whether the processor runs slower than it could, and why.

    Attributes:
        hot: Because of heat.
        under_voltage: The supply is too weak.
    """

    hot: bool = False
    under_voltage: bool = False


def throttle(sys: Path = SYS) -> Throttle | None:
    """Return what firmware and kernel say of the clock; None where neither says anything.

    A Raspberry Pi's firmware tells through its node in sysfs, and an under-voltage through ``rpi_volt`` of hwmon as well;
    neither needs the device /dev/vcio, which a hardened service cannot open. Elsewhere the kernel's cooling devices tell.

    Args:
        sys: Where sysfs is mounted.
    """
    for path in sorted(sys.glob("devices/platform/soc*/soc*:firmware/get_throttled")):
        bits = _number(path, base=16)
        if bits is not None:
            # The clock is capped for either reason; without an under-voltage it is heat.
            hot = bits & (_THROTTLED | _SOFT_LIMIT) or (bits & _CAPPED and not bits & _UNDER_VOLTAGE)
            return Throttle(bool(hot), bool(bits & _UNDER_VOLTAGE))
    volts = [
        _number(path / "in0_lcrit_alarm")
        for path in sys.glob("class/hwmon/hwmon*")
        if _text(path / "name") == "rpi_volt"
    ]
    states = [
        _number(path / "cur_state") or 0
        for path in sys.glob("class/thermal/cooling_device*")
        if (_text(path / "type") or "").lower().startswith(SLOWING)
    ]
    if not volts and not states:
        return None
    return Throttle(any(state > 0 for state in states), 1 in volts)


def memory_available(proc: Path = PROC) -> float | None:
    """Return the share of memory that can be had without swapping: MemAvailable / MemTotal of ``/proc/meminfo``."""
    values = {}
    for line in (_text(proc / "meminfo") or "").splitlines():
        name, _, rest = line.partition(":")
        if name in ("MemTotal", "MemAvailable"):
            values[name] = rest.split()[:1]
    try:
        return int(values["MemAvailable"][0]) / int(values["MemTotal"][0])
    except (KeyError, IndexError, ValueError, ZeroDivisionError):
        return None


def memory_stalled(proc: Path = PROC) -> float | None:
    """Return the percent of the last ten seconds in which a task waited for memory: ``/proc/pressure/memory``, avg10."""
    for line in (_text(proc / "pressure" / "memory") or "").splitlines():
        if line.startswith("some "):
            for field in line.split():
                name, _, value = field.partition("=")
                if name == "avg10":
                    try:
                        return float(value)
                    except ValueError:
                        return None
    return None


def battery_percent(sys: Path = SYS) -> float | None:
    """Return how full the batteries are that the machine runs on; None where it has none, or they are being charged.

    Batteries of mice and the like (scope Device) are not the machine's.
    """
    found = []
    for path in sorted(sys.glob("class/power_supply/*")):
        mine = _text(path / "type") in ("Battery", "UPS") and _text(path / "scope") != "Device"
        if mine and _text(path / "status") == "Discharging":
            capacity = _number(path / "capacity")
            if capacity is not None:
                found.append(capacity)
    return sum(found) / len(found) if found else None


def cpu_seconds(pid: int | None = None, proc: Path = PROC) -> float:
    """Return the processor time that a process (default: this one) has used, all threads; 0.0 where it is gone.

    Source: fields 14 and 15 of ``/proc/<pid>/stat``, in clock ticks (proc_pid_stat(5)).
    """
    text = _text(proc / str(pid or "self") / "stat") or ""
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    try:
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (IndexError, ValueError):
        return 0.0


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _number(path: Path, *, base: int = 10) -> int | None:
    try:
        return int(_text(path) or "", base)
    except ValueError:
        return None
