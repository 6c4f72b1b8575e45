"""The daemon as a process for tests: started with a configuration, heard through its log, killed in parts or whole."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jsonschema
import psutil

from edge.deliver.inspection import inspect_outbox
from edge.deliver.outbox import CoverageRow
from edge.messages import published_schema
from tests.broker import Mosquitto, Received, Subscriber, eventually

STAND_IN = (sys.executable, "-m", "tests.stand_in")
EDGE = (sys.executable, "-m", "edge", "run")
END_S = 30.0  # a limit for a broken program
_PROCESS = re.compile(r"edge: INFO: (inference|capture \S+): process (\d+)")


class Service:
    """One run of the daemon; a context manager that leaves no process behind.

    Args:
        directory: For configuration, outbox and log; a second run in it goes on where the first one ended.
        broker: Where it publishes.
        sources: Videos or addresses, with more keys of ``[[camera]]``, by camera.
        seconds: Length of a clip.
        more: Further sections of the configuration.
        governed: Whether the governor may do less, which on a busy machine it might.
        command: What to run, without the configuration.
        env: Added to the environment.
    """

    def __init__(
        self,
        directory: Path,
        broker: Mosquitto,
        sources: dict[str, dict[str, object]],
        *,
        seconds: float = 2.0,
        more: str = "",
        governed: bool = False,
        command: Sequence[str] = STAND_IN,
        env: dict[str, str] | None = None,
    ) -> None:
        self.outbox = directory / "outbox.db"
        self._config = directory / "edge.toml"
        self._config.write_text(_config(broker, sources, seconds, governed=governed) + more, encoding="utf-8")
        self._command = command
        self._env = {**os.environ, "CACHE_DIRECTORY": str(directory / "cache"), **(env or {})}
        self._lines: list[str] = []
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [*self._command, str(self._config)], env=self._env, stderr=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        family = psutil.Process(self._process.pid).children(recursive=True) if self.running else []
        self._process.kill()
        self._process.wait(END_S)
        _, alive = psutil.wait_procs(family, END_S)
        assert not alive, "a process outlived the service"
        self._reader.join(END_S)
        assert self._process.stderr is not None
        self._process.stderr.close()
        if error is not None:
            sys.stderr.write(self.log)

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        self._lines.extend(iter(self._process.stderr.readline, ""))

    @property
    def log(self) -> str:
        """What it wrote to standard error so far."""
        return "".join(self._lines)

    @property
    def running(self) -> bool:
        """Whether the supervisor lives."""
        return self._process is not None and self._process.poll() is None

    def pids(self, name: str) -> list[int]:
        """Return the process ids that a child has had, ``inference`` or ``capture <camera>``."""
        return [int(pid) for who, pid in _PROCESS.findall(self.log) if who == name]

    def wait_for(self, text: str, *, times: int = 1) -> None:
        """Wait until the log says something."""
        eventually(
            lambda: self.log.count(text) >= times or not self.running, f"the log says {text!r}", within_s=60
        )
        assert self.log.count(text) >= times, self.log

    def hit(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor alone."""
        assert self._process is not None
        self._process.send_signal(number)

    def end(self, number: signal.Signals | None = signal.SIGTERM) -> int:
        """Ask it to stop (or only wait for its end), and return the exit code."""
        assert self._process is not None
        if number is not None:
            self.hit(number)
        code = self._process.wait(END_S)
        self._reader.join(END_S)
        return code

    def coverage(self) -> CoverageRow:
        """Return the ledger's totals of the only camera; the service has ended."""
        inspection = inspect_outbox(self.outbox)
        (row,) = inspection.coverage.values()
        return row


def _config(
    broker: Mosquitto, sources: dict[str, dict[str, object]], seconds: float, *, governed: bool
) -> str:
    lines = ["[device]", 'id = "d"', "[bundle]", 'path = "bundle"', "[clip]", f"seconds = {seconds}"]
    for name, keys in sources.items():
        lines += [
            "[[camera]]",
            f'id = "{name}"',
            *(f"{key} = {json.dumps(value)}" for key, value in keys.items()),
        ]
    lines += ["[mqtt]", f'host = "{broker.host}"', f"port = {broker.port}"]
    return "\n".join(
        [
            *lines,
            "[outbox]",
            'path = "outbox.db"',
            "[health]",
            "every_s = 1.0",
            *([] if governed else ["[governor]", "enabled = false"]),
            "",
        ]
    )


class Heard:
    """What a subscriber received from device ``d``, each message held against its published schema.

    Args:
        received: From `tests.broker.Subscriber`.
        camera: Whose clips.
    """

    def __init__(self, received: Iterable[Received], camera: str = "cam") -> None:
        base = "edgeclip/v1/d"
        self.answers: list[dict[str, Any]] = []
        self.skipped: list[dict[str, Any]] = []
        self.alerts: list[dict[str, Any]] = []
        self.watches: list[dict[str, Any]] = []
        self.health: list[dict[str, Any]] = []
        self.availability: list[str] = []
        for item in received:
            topic = item.topic.removeprefix(f"{base}/")
            if topic == "availability":
                self.availability.append(item.payload)
            elif topic == "health":
                self.health.append(_valid(item, "health"))
            elif topic == f"{camera}/skipped":
                self.skipped.append(_valid(item, "skipped"))
            elif topic.startswith(f"{camera}/alert/") and topic.endswith("/state"):
                self.watches.append(_valid(item, "watch"))
            elif topic.startswith(f"{camera}/alert/"):
                self.alerts.append(_valid(item, "alert"))
            elif topic.startswith(f"{camera}/") and topic != f"{camera}/state":
                self.answers.append(_valid(item, "answer"))

    def answered(self, prompt: str = "summary") -> list[dict[str, Any]]:
        """Return the answers to one prompt."""
        return [answer for answer in self.answers if answer["prompt"] == prompt]

    def clips(self) -> list[dict[str, Any]]:
        """Return every clip's answer or announcement by its number; each clip has exactly one end.

        An answer that came twice has the same id, and is one; what is announced of the rest of a clip ends it.
        """
        ends: dict[int, dict[str, Any]] = {}
        for end in (*self.answered(), *self.skipped):
            before = ends.setdefault(end["seq"], end)
            rest = before.get("prompt") in end.get("answered", ())
            assert rest or before["id"] == end["id"], "a clip ended twice"
            ends[end["seq"]] = end
        return [ends[seq] for seq in sorted(ends)]

    def assert_whole(self) -> None:
        """Every second from the first clip to the last lies in exactly one clip."""
        clips = self.clips()
        assert [clip["seq"] for clip in clips] == list(range(len(clips)))
        assert all(before["t_end"] == after["t_start"] for before, after in pairwise(clips))

    @property
    def seconds(self) -> float:
        """Length of all clips together."""
        return sum(length(clip) for clip in self.clips())


def length(clip: dict[str, Any]) -> float:
    """Return the length of a clip in seconds."""
    times = [datetime.fromisoformat(clip[key]) for key in ("t_start", "t_end")]
    return (times[1] - times[0]).total_seconds()


def _valid(item: Received, schema: str) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(item.payload)
    jsonschema.Draft202012Validator(published_schema(schema)).validate(message)
    return message


__all__ = ["EDGE", "STAND_IN", "Heard", "Mosquitto", "Service", "Subscriber", "eventually", "length"]
