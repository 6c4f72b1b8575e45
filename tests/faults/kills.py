"""Kill -9 of the daemon, again and again at random moments, while answers flow to a real broker.

    python -m tests.faults.kills --kills 1000 --answers 2000

Whatever the moment: every committed answer reaches a subscriber with a durable session, none is invented, each camera's
come in order, duplicates share their id, no number of a clip is used twice, every clip ends once and is counted once,
and no child outlives its supervisor. The last line is the result in JSON. SIGTERM ends the killing early; what was seen so
far is judged.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from edge.deliver.inspection import inspect_outbox
from edge.deliver.outbox import CoverageRow
from tests.broker import Mosquitto, Received, Subscriber, eventually
from tests.media import film, steady

FPS = 8
SECONDS = 2.0
FAST = "door"  # a file read as fast as the model works
PACED = "yard"  # a file played at its own pace: its clips are times
ANSWER_S = 0.05  # of the stand-in
LATE_S = 5.0  # at most, on a machine that starves: from a clip's beginning until its first pair opens it
EARLY = 0.3  # of the lives end at any moment after their start, the others some time after their first clip's beginning
EARLY_S = 1.2
FLOW_S = 0.6
DIE_S = 20.0  # a limit for a broken program


@dataclass(frozen=True, slots=True)
class Result:
    """What a campaign saw; all of it held its promises, or there would be none.

    Attributes:
        answers: Different answers that the subscriber received.
        duplicates: Messages that it received again.
        unsure: Messages whose commit was in hand when the process died.
        barren: Lives that ended before they had committed anything.
    """

    kills: int
    answers: int
    skipped: int
    duplicates: int
    clips: int
    interrupted: int
    unsure: int
    barren: int
    children: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Death:
    time: datetime
    children: int


class Cradle:
    """Starts lives of the daemon, one at a time, from a process that is warm; a context manager.

    Args:
        directory: For the daemon's log and cache.
        config: Its configuration.
        journal: Where the witness writes.
    """

    def __init__(self, directory: Path, config: Path, journal: Path) -> None:
        with (directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.life", str(config), str(journal)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                bufsize=1,
                env={
                    **os.environ,
                    "CACHE_DIRECTORY": str(directory / "cache"),
                    "STAND_IN_ANSWER_S": str(ANSWER_S),
                },
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=DIE_S)

    def start(self, life: int) -> int:
        """Return the process id of a new daemon."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{life}\n")
        return self._line()

    def end(self) -> int:
        """Wait for the daemon's end and return its exit code, negative for a signal."""
        return self._line()

    def _line(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


class Campaign:
    """Lives and deaths of one daemon in one directory.

    Args:
        directory: For everything.
        kills: How many.
        answers: At least so many must have arrived; further lives are lived until they have.
        seed: Of the moments.
    """

    def __init__(self, directory: Path, *, kills: int, answers: int, seed: int) -> None:
        self._directory = directory
        self._kills = kills
        self._answers = answers
        self._random = random.Random(seed)
        self._deaths: list[_Death] = []
        self._journal = directory / "journal"
        self._counted = 0
        self._enough = False
        self._ids: set[str] = set()
        self._config = directory / "edge.toml"

    def run(self) -> Result:
        """Kill, let a last life end in order, and hold what was received against what was committed."""
        begun_s = time.monotonic()
        reel = film(self._directory / "reel.mp4", steady(4 * FPS, fps=FPS))
        with (
            Mosquitto(self._directory / "broker", persistence=True) as broker,
            Subscriber(broker, "edgeclip/v1/d/#", keep="witness") as subscriber,
        ):
            self._config.write_text(_config(broker, reel), encoding="utf-8")
            with Cradle(self._directory, self._config, self._journal) as cradle:
                self._live_and_die_often(cradle, subscriber)
                self._live_to_the_end(cradle)
            received = self._received(subscriber)
        return self._judge(received, time.monotonic() - begun_s)

    def stop(self, *_signal: object) -> None:
        """Kill no more."""
        self._enough = True

    # --- Lives -------------------------------------------------------------------------------------------------------

    def _live_and_die_often(self, cradle: Cradle, subscriber: Subscriber) -> None:
        while not self._enough and (
            len(self._deaths) < self._kills or self._count(subscriber) < self._answers
        ):
            self._live_and_die(cradle)
            if len(self._deaths) % 50 == 0:
                sys.stderr.write(f"{len(self._deaths)} kills, {self._count(subscriber)} answers\n")

    def _live_and_die(self, cradle: Cradle) -> None:
        daemon = psutil.Process(cradle.start(len(self._deaths)))
        if self._random.random() < EARLY:
            time.sleep(self._random.uniform(0, EARLY_S))
        else:
            opens = f'[{len(self._deaths)}, "opened"'
            eventually(lambda: opens in self._news(), "the first clip begins", within_s=DIE_S)
            time.sleep(self._random.uniform(0, FLOW_S))
        children = daemon.children(recursive=True)
        died = datetime.now(UTC)
        daemon.kill()
        assert cradle.end() == -signal.SIGKILL, (self._directory / "log").read_text()[-4000:]
        eventually(
            lambda: not any(map(_lives, children)), "the children died with the supervisor", within_s=DIE_S
        )
        self._deaths.append(_Death(died, len(children)))

    def _news(self) -> str:
        """Return the journal's last lines."""
        if not self._journal.exists():
            return ""
        with self._journal.open("rb") as journal:
            journal.seek(max(0, self._journal.stat().st_size - 4096))
            return journal.read().decode()

    def _live_to_the_end(self, cradle: Cradle) -> None:
        daemon = psutil.Process(cradle.start(len(self._deaths)))
        try:
            eventually(lambda: self._ends(len(self._deaths)) >= 4, "the last life answers", within_s=DIE_S)
            daemon.terminate()
            code = cradle.end()
        except BaseException:
            daemon.kill()
            raise
        assert code == 0, (self._directory / "log").read_text()[-4000:]

    def _ends(self, life: int) -> int:
        return sum(1 for entry in self._entries() if entry[:2] == [life, "ended"])

    def _entries(self) -> list[list[Any]]:
        return [json.loads(line) for line in self._journal.read_text().splitlines()]

    def _received(self, subscriber: Subscriber) -> list[dict[str, Any]]:
        """Return answers and announcements in the order of their arrival, once all that was committed is there."""
        committed = {key for _, verb, what in self._entries() if verb == "has" for _, key in what}
        eventually(
            lambda: committed <= {message["id"] for message in _messages(subscriber.received)},
            "every committed message is received",
            progress=lambda: len(subscriber.received),
        )
        return _messages(subscriber.received)

    def _count(self, subscriber: Subscriber) -> int:
        """Return how many different answers have arrived."""
        received = subscriber.received
        new, self._counted = received[self._counted :], len(received)
        self._ids |= {message["id"] for message in _messages(new) if "prompt" in message}
        return len(self._ids)

    # --- The verdict -------------------------------------------------------------------------------------------------

    def _judge(self, received: list[dict[str, Any]], seconds: float) -> Result:
        entries = self._entries()
        put = {key: camera for _, verb, what in entries if verb == "puts" for camera, key in what}
        had = {key for _, verb, what in entries if verb == "has" for _, key in what}
        acked = {key for _, verb, what in entries if verb == "acked" for key in what}
        by_id: dict[str, dict[str, Any]] = {}
        for message in received:
            assert by_id.setdefault(message["id"], message) == message, "one id, two messages"
        assert acked <= by_id.keys(), "acknowledged, but not received"
        assert had <= by_id.keys(), "committed, but not received"
        assert by_id.keys() <= put.keys(), "received, but never made"
        work = Counter(
            (message["camera"], message["seq"], message.get("prompt", "skipped"))
            for message in by_id.values()
        )
        assert set(work.values()) == {1}, "the same work under two ids"
        _assert_order(entries, list(by_id.values()))
        inspection = inspect_outbox(self._directory / "outbox.db")
        assert (inspection.stats.pending, inspection.stats.dropped, inspection.open_clips) == (0, 0, ())
        clips = self._assert_ledger(entries, list(by_id.values()), inspection.coverage)
        lively = {life for life, verb, _ in entries if verb == "has"}
        return Result(
            kills=len(self._deaths),
            answers=sum("prompt" in message for message in by_id.values()),
            skipped=sum("prompt" not in message for message in by_id.values()),
            duplicates=len(received) - len(by_id),
            clips=clips,
            interrupted=sum(message.get("reason") == "interrupted" for message in by_id.values()),
            unsure=len(put.keys() - had),
            barren=len(self._deaths) + 1 - len(lively),
            children=sum(death.children for death in self._deaths),
            seconds=round(seconds, 1),
        )

    def _assert_ledger(
        self, entries: list[list[Any]], messages: list[dict[str, Any]], coverage: dict[str, CoverageRow]
    ) -> int:
        """Every clip has a number of its own, ends once, and its time is counted once, under the right heading."""
        opened = defaultdict(list)
        for life, verb, what in entries:
            if verb == "opened":
                opened[what[0]].append((life, what[1]))
        ends: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
        for message in messages:  # a clip's last prompt ends it; an announcement does, too
            if message.get("prompt") != "summary":
                assert message["seq"] not in ends[message["camera"]], "a clip ended twice"
                ends[message["camera"]][message["seq"]] = message
        for camera, seen in ends.items():
            row = coverage[camera]
            count = len(seen)
            assert sorted(seen) == list(range(count)), f"{camera}: a clip has no end"
            numbers = [seq for _, seq in opened[camera]]
            # A process may die between the commit of an opened clip and its line in the journal.
            assert numbers == sorted(set(numbers)), f"{camera}: a number was used twice"
            assert set(numbers) <= set(range(count))
            lengths: Counter[str] = Counter()
            for message in seen.values():
                lengths[message.get("status", "skipped")] += round(_length(message) * 1000)
            told = [row.answered_s, row.partial_s, row.skipped_s, row.total_s]
            heard = [lengths["answered"], lengths["partial"], lengths["skipped"], sum(lengths.values())]
            assert all(abs(a - b / 1000) < 0.002 * count for a, b in zip(told, heard, strict=True)), (
                f"{camera}: the ledger says {told} s, subscribers heard {heard} ms"
            )
            assert row.in_hand_s == 0
        self._assert_clock(opened[PACED], ends[PACED])
        return sum(map(len, ends.values()))

    def _assert_clock(self, opened: list[tuple[int, int]], ends: dict[int, dict[str, Any]]) -> None:
        """Clips of one life touch each other, reach to its death, and do not reach into the next life."""
        lives: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for life, seq in opened:  # without one whose line in the journal was cut off
            lives[life].append(ends[seq])
        for before, after in pairwise(ends[seq] for seq in sorted(ends)):
            assert _time(before, "t_end") <= _time(after, "t_start"), "two clips of one camera overlap"
        for life, clips in lives.items():
            for before, after in pairwise(clips):
                assert before["t_end"] == after["t_start"], f"life {life}: a hole between two clips"
            if 0 <= life < len(self._deaths):
                covered = _time(clips[-1], "t_end") + timedelta(seconds=LATE_S)
                assert covered >= self._deaths[life].time, f"life {life}: time before its death is in no clip"


def _assert_order(entries: list[list[Any]], arrivals: list[dict[str, Any]]) -> None:
    """First arrivals of each camera come in the order in which they were committed."""
    order: dict[str, int] = {}
    for _, verb, what in entries:
        if verb == "puts":
            for _, key in what:
                order[key] = len(order)  # a commit that was cut off may be made again, later
    for camera in (FAST, PACED):
        places = [order[message["id"]] for message in arrivals if message["camera"] == camera]
        assert places == sorted(places), f"{camera}: out of order"


def _config(broker: Mosquitto, reel: Path) -> str:
    lines = ["[device]", 'id = "d"', "[bundle]", 'path = "bundle"', "[clip]", f"seconds = {SECONDS}"]
    lines += ["[mqtt]", f'host = "{broker.host}"', f"port = {broker.port}", "[outbox]", 'path = "outbox.db"']
    for camera in (FAST, PACED):
        pace = "true" if camera == PACED else "false"
        lines += ["[[camera]]", f'id = "{camera}"', f'source = "{reel}"', "loop = true", f"realtime = {pace}"]
    return "\n".join([*lines, ""])


def _messages(received: Iterable[Received]) -> list[dict[str, Any]]:
    """Return the answers and announcements among what was received; what is retained is no answer."""
    levels = ("state", "health", "availability")
    return [
        json.loads(item.payload)
        for item in received
        if not item.retain and item.topic.rpartition("/")[2] not in levels
    ]


def _lives(process: psutil.Process) -> bool:
    """Whether a process runs; one that only waits for its parent's notice does not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _time(message: dict[str, Any], key: str) -> datetime:
    return datetime.fromisoformat(message[key])


def _length(message: dict[str, Any]) -> float:
    return (_time(message, "t_end") - _time(message, "t_start")).total_seconds()


def main() -> None:
    """Run a campaign from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--answers", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="kept; default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.directory or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        campaign = Campaign(directory, kills=options.kills, answers=options.answers, seed=options.seed)
        signal.signal(signal.SIGTERM, campaign.stop)
        sys.stdout.write(json.dumps(asdict(campaign.run())) + "\n")


if __name__ == "__main__":
    main()
