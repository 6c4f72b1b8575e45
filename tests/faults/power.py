"""Power loss: what the outbox wrote and synced, cut off at every point, with any of the unsynced writes lost or torn.

    python -m tests.faults.power --clips 120 --samples 8

strace records a scripted session. A disk after a power cut holds every write that was synced, and of the others any
subset, page by page or sector by sector; a new name holds once its directory was synced, and may hold before. From
every such state the outbox must open without complaint, with every message whose commit had returned and that nobody
had begun to acknowledge, with no message that was never put, the same epoch, and no number that was used. The last line
is the result in JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from edge.deliver.outbox import Outbox

CALLS = "openat,pwrite64,write,fsync,fdatasync,ftruncate,rename,unlink,close"
SECTOR, PAGE = 512, 4096  # what a disk writes whole, and what the kernel does
MEMORY = Path("/dev/shm")
_LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")
_BYTES = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')

Do = Literal["make", "write", "cut", "sync", "rename", "unlink", "say"]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the session did to its directory, or a line that it said.

    Attributes:
        file: Name in the directory; "" is the directory itself.
        offset: Of a write; the new size of a cut.
        data: What was written or said; the new name of a rename.
    """

    do: Do
    file: str = ""
    offset: int = 0
    data: bytes = b""


@dataclass(slots=True)
class Expectation:
    """What the lines that were said so far demand of the outbox."""

    epoch: str = ""
    busy: str = ""  # the verb of the call in hand
    used: int = 0  # numbers of clips taken, at least
    ended: int = 0
    sure: set[str] = field(default_factory=set)  # must be there
    known: set[str] = field(default_factory=set)  # may be there

    def hear(self, line: bytes) -> None:
        """Take one line of the session."""
        verb, *words = json.loads(line)
        self.busy = verb if verb in ("opens", "takes", "puts", "acks", "closes") else ""
        match verb:
            case "open":
                assert self.epoch in ("", words[0])
                self.epoch = words[0]
            case "took":
                self.used = words[0] + 1
            case "puts":
                self.known.update(words)
            case "has" | "ended":
                self.sure |= {word for word in words if not word.startswith("-")}
                gone = {word[1:] for word in words if word.startswith("-")}
                self.sure -= gone
                self.known -= gone
                self.ended += verb == "ended"
            case "acks":
                self.sure -= set(words)
            case "acked":
                self.known -= set(words)


def record(directory: Path, clips: int) -> list[Step]:
    """Run the session under strace and return its steps."""
    place = directory / "place"
    place.mkdir()
    trace = directory / "trace"
    strace = ("strace", "-f", "-xx", "-s", "1000000", "-o", str(trace), "-e", f"trace={CALLS}")
    subprocess.run(
        [*strace, sys.executable, "-m", "tests.faults.session", str(place), str(clips)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return list(_steps(trace, place))


def _steps(trace: Path, place: Path) -> Iterator[Step]:
    handles: dict[int, str] = {}
    with trace.open(encoding="ascii") as lines:
        for line in lines:
            match = _LINE.match(line)
            if match is None or int(match[3]) < 0:
                assert "resumed" not in line, "the session has one thread"
                continue
            call, arguments, result = match[1], match[2], int(match[3])
            texts = [bytes.fromhex(text.replace("\\x", "")) for text, _ in _BYTES.findall(arguments)]
            numbers = [int(word) for word in re.findall(r"(?<![\w\\])\d+", _BYTES.sub("", arguments))]
            names = [_name(text, place) for text in texts] if call in ("openat", "rename", "unlink") else []
            match call:
                case "openat" if names[0] is not None:
                    handles[result] = names[0]
                    if "O_CREAT" in arguments:
                        yield Step("make", names[0])
                    assert "O_TRUNC" not in arguments
                case "close":
                    handles.pop(numbers[0], None)
                case "write" if numbers[0] == 1:
                    yield Step("say", data=texts[0])
                case "pwrite64" if numbers[0] in handles:
                    assert len(texts[0]) == result, "written in part"
                    yield Step("write", handles[numbers[0]], numbers[-1], texts[0])
                case "write" if numbers[0] in handles:
                    raise AssertionError(f"a write without an offset: {line[:200]}")
                case "ftruncate" if numbers[0] in handles:
                    yield Step("cut", handles[numbers[0]], numbers[1])
                case "fsync" | "fdatasync" if numbers[0] in handles:
                    yield Step("sync", handles[numbers[0]])
                case "rename" if names[0] is not None:
                    yield Step("rename", names[0], data=(names[1] or "").encode())
                case "unlink" if names[0] is not None:
                    yield Step("unlink", names[0])


def _name(path: bytes, place: Path) -> str | None:
    """Return the name within the session's directory; None for another place and for what is never synced."""
    try:
        name = str(Path(path.decode()).relative_to(place))
    except ValueError:
        return None
    if name.endswith(("-shm", ".lock")):
        return None  # SQLite makes its shared index anew; the lock file is empty
    return "" if name == "." else name


class Disk:
    """Files as a power cut may leave them.

    Content is kept by file, names by directory: what was synced, and the steps since then, any of which may be lost.
    """

    def __init__(self) -> None:
        self._names: dict[str, int] = {}  # as programs see them
        self._sure_names: dict[str, int] = {}
        self._name_steps: list[tuple[str, int | None]] = []  # since the directory was synced
        self._content: list[bytearray] = []  # synced
        self._content_steps: list[list[Step]] = []

    def apply(self, step: Step) -> None:
        """Let a step of the session reach the kernel."""
        match step.do:
            case "make":
                if step.file not in self._names:
                    self._content.append(bytearray())
                    self._content_steps.append([])
                    self._rename(step.file, len(self._content) - 1)
            case "rename":
                self._rename(step.data.decode(), self._names[step.file])
                self._rename(step.file, None)
            case "unlink":
                self._rename(step.file, None)
            case "write" | "cut":
                self._content_steps[self._names[step.file]].append(step)
            case "sync" if step.file == "":
                self._sure_names = dict(self._names)
                self._name_steps.clear()
            case "sync":
                file = self._names[step.file]
                for unsynced in self._content_steps[file]:
                    _apply(self._content[file], unsynced)
                self._content_steps[file].clear()

    def _rename(self, name: str, file: int | None) -> None:
        self._name_steps.append((name, file))
        if file is None:
            self._names.pop(name, None)
        else:
            self._names[name] = file

    def states(self, samples: int, rng: random.Random) -> Iterator[dict[str, bytes]]:
        """Return the files after a power cut now: all unsynced steps lost, none lost, and so many random mixtures."""
        yield self._state(keep=0.0, grain=0, rng=rng)
        yield self._state(keep=1.0, grain=0, rng=rng)
        for _ in range(samples):
            yield self._state(keep=rng.random(), grain=rng.choice((0, SECTOR, PAGE)), rng=rng)

    def _state(self, *, keep: float, grain: int, rng: random.Random) -> dict[str, bytes]:
        names = dict(self._sure_names)
        kept = round(keep * len(self._name_steps))  # a journalling file system keeps the order of names
        for name, file in self._name_steps[:kept]:
            if file is None:
                names.pop(name, None)
            else:
                names[name] = file
        files = {}
        for name, file in names.items():
            content = bytearray(self._content[file])
            for step in self._content_steps[file]:
                for part in _parts(step, grain):
                    if rng.random() < keep:
                        _apply(content, part)
            files[name] = bytes(content)
        return files


def _apply(content: bytearray, step: Step) -> None:
    if step.do == "cut":
        del content[step.offset :]
        content.extend(bytes(step.offset - len(content)))
        return
    if len(content) < step.offset:
        content.extend(bytes(step.offset - len(content)))
    content[step.offset : step.offset + len(step.data)] = step.data


def _parts(step: Step, grain: int) -> Iterator[Step]:
    """Cut a write at the borders of sectors or pages."""
    if not grain or step.do == "cut":
        yield step
        return
    at = 0
    while at < len(step.data):
        end = at + grain - (step.offset + at) % grain
        yield Step("write", step.file, step.offset + at, step.data[at:end])
        at = end


@dataclass(frozen=True, slots=True)
class Result:
    """What was tried; all of it held."""

    steps: int
    syncs: int
    cuts: int
    states: int
    written_kib: int
    seconds: float


def replay(steps: list[Step], directory: Path, *, samples: int, every: int = 1, seed: int = 1) -> Result:
    """Cut the power after every step (or every so many) and open what is left.

    Args:
        steps: From `record`.
        directory: For the states, one after the other.
        samples: Random states at each cut.
        every: 1 for every step.
        seed: Of the random states.
    """
    begun_s = time.monotonic()
    rng = random.Random(seed)
    disk, expected = Disk(), Expectation()
    cuts = states = 0
    for number, step in enumerate(steps):
        if step.do == "say":
            expected.hear(step.data)
        else:
            disk.apply(step)
        if number % every == 0:
            cuts += 1
            for files in disk.states(samples, rng):
                states += 1
                _check(files, directory / "state", expected, rng)
    return Result(
        steps=len(steps),
        syncs=sum(step.do == "sync" for step in steps),
        cuts=cuts,
        states=states,
        written_kib=sum(len(step.data) for step in steps if step.do == "write") // 1024,
        seconds=round(time.monotonic() - begun_s, 1),
    )


def _check(files: dict[str, bytes], place: Path, expected: Expectation, rng: random.Random) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for name, content in files.items():
        (place / name).write_bytes(content)
    if rng.random() < 0.5:  # the index in shared memory is a file that nobody syncs
        (place / "outbox.db-shm").write_bytes(rng.randbytes(32768))
    with Outbox(place / "outbox.db", max_bytes=1 << 30) as outbox:
        assert outbox.notice == ""
        assert outbox.degraded == ""
        if expected.epoch:
            assert outbox.epoch == expected.epoch
        messages = {message.id for message in outbox.pending(1 << 20)}
        missing = expected.sure - messages
        if (
            expected.busy == "puts"
        ):  # the call in hand may have dropped the oldest, and says so when it returns
            lost = sum(loss.count for loss in outbox.losses())
            assert not missing or lost >= len(missing)
        else:
            assert not missing, f"committed and lost: {missing}"
        assert messages <= expected.known, "nobody put it"
        used = outbox.next_seq("cam")
        assert expected.used <= used <= expected.used + (expected.busy == "takes")
        rows = outbox.coverage()
        ended = 0.0 if not rows else rows["cam"].answered_s / 2
        assert expected.ended <= ended <= expected.ended + (expected.busy == "puts")
        assert ended + len(outbox.open_clips()) == used


def main() -> None:
    """Record and replay from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clips", type=int, default=120)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        steps = record(Path(directory), options.clips)
        result = replay(
            steps, Path(directory), samples=options.samples, every=options.every, seed=options.seed
        )
    sys.stdout.write(json.dumps(asdict(result)) + "\n")


if __name__ == "__main__":
    main()
