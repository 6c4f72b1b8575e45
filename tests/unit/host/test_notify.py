"""systemd hears what it must; without systemd nothing happens."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.host.notify import Notifier, watchdog_interval_s


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket on which systemd would listen."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        server.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield server


def test_systemd_is_told_in_its_own_words(systemd: socket.socket) -> None:
    notifier = Notifier()
    notifier.ready()
    notifier.watchdog()
    notifier.status("3 clips\nREADY=1")
    notifier.stopping()
    heard = [systemd.recv(4096) for _ in range(4)]
    notifier.close()
    assert heard == [b"READY=1", b"WATCHDOG=1", b"STATUS=3 clips READY=1", b"STOPPING=1"]


def test_a_reload_carries_the_monotonic_time(systemd: socket.socket) -> None:
    notifier = Notifier()
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    first, second = systemd.recv(4096).decode().split("\n")
    notifier.close()
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_the_same_status_is_sent_once(systemd: socket.socket) -> None:
    notifier = Notifier()
    for text in ("idle", "idle", "busy", "naïve ☃"):
        notifier.status(text)
    notifier.ready()
    heard = [systemd.recv(4096) for _ in range(4)]
    notifier.close()
    assert heard == [b"STATUS=idle", b"STATUS=busy", b"STATUS=na?ve ?", b"READY=1"]


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notifier = Notifier()
    notifier.ready()
    notifier.watchdog()
    notifier.close()


@pytest.mark.parametrize(
    ("limit", "pid", "expected"),
    [
        ("60000000", str(os.getpid()), 30.0),
        ("60000000", "", 30.0),
        ("60000000", "1", None),
        ("", "", None),
        ("0", "", None),
        ("x", "", None),
    ],
)
def test_the_watchdog_is_fed_twice_within_its_limit(
    monkeypatch: pytest.MonkeyPatch, limit: str, pid: str, expected: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", limit)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    assert watchdog_interval_s() == expected
