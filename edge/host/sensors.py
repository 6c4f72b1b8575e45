"""What this machine says of itself: memory, temperature, and whether its clock can be trusted (Linux)."""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path

MIB = 2**20
THERMAL_ROOT = Path("/sys/class/thermal")
# Names of processor zones: Raspberry Pi and most ARM boards, Jetson, Intel, AMD and ACPI machines.
CPU_ZONES = ("cpu", "soc", "x86_pkg_temp", "k10temp", "acpitz")

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
