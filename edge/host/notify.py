"""What the service tells systemd: ready, stopping, reloading, a status line, and that it is alive.

Without ``NOTIFY_SOCKET`` (outside systemd) everything here does nothing.
"""

from __future__ import annotations

import os
import time

from sdnotify import SystemdNotifier

NOTIFY_SOCKET = "NOTIFY_SOCKET"
WATCHDOG_USEC = "WATCHDOG_USEC"
WATCHDOG_PID = "WATCHDOG_PID"


class Notifier:
    """Speaks sd_notify(3) to the service manager; cheap enough to be called from a loop."""

    def __init__(self) -> None:
        self._systemd = SystemdNotifier() if os.environ.get(NOTIFY_SOCKET) else None
        self._status = ""

    def close(self) -> None:
        """Close the socket."""
        if self._systemd is not None and self._systemd.socket is not None:
            self._systemd.socket.close()
        self._systemd = None

    def ready(self) -> None:
        """Say that the service works, after the start or after a reload."""
        self._send("READY=1")

    def stopping(self) -> None:
        """Say that the service is ending by its own will."""
        self._send("STOPPING=1")

    def reloading(self) -> None:
        """Say that a reload began; `ready` ends it.

        systemd 253 and later with ``Type=notify-reload`` want the time; older ones ignore it.
        """
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def status(self, text: str) -> None:
        """Show a line in ``systemctl status``; the same line twice is sent once."""
        line = " ".join(text.split())  # a line break would begin another assignment
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def watchdog(self) -> None:
        """Say that the service is alive."""
        self._send("WATCHDOG=1")

    def _send(self, state: str) -> None:
        if self._systemd is not None:
            self._systemd.notify(state.encode("ascii", "replace").decode("ascii"))


def watchdog_interval_s() -> float | None:
    """Return how often `Notifier.watchdog` should be called: half of systemd's limit, None without a watchdog."""
    limit_us = os.environ.get(WATCHDOG_USEC, "")
    for_pid = os.environ.get(WATCHDOG_PID, "")
    if not limit_us.isdigit() or int(limit_us) == 0 or (for_pid and for_pid != str(os.getpid())):
        return None
    return int(limit_us) / 2e6
