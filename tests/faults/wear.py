"""Bytes that the outbox writes to the disk in a day, for one camera with two answers to a clip.

    python -m tests.faults.wear --clips 1440

A day's clips, compressed: each is opened, answered twice, and acknowledged by a real broker as it comes. Counted are the
pages that the kernel has to write for this process (`/proc/self/io`), so run it on the disk in question; what the file
system adds for its own journal is not in it. The last line is the result in JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from edge.deliver.outbox import ClipRow, Outbox, Outgoing
from tests.broker import Mosquitto, eventually
from tests.faults.brokers import PROMPTS, TOPICS, publishing

CLIPS_A_DAY = 24 * 60
PAYLOAD = 1600  # bytes, as an answer of the default prompts has
BUDGET_MIB = 96.0  # a day: 34 GiB a year, where a small card stands some TiB


@dataclass(frozen=True, slots=True)
class Wear:
    """What was measured; ``mib_a_day`` is of 1,440 clips."""

    clips: int
    answers: int
    kib_a_clip: float
    mib_a_day: float
    seconds: float


def measure(directory: Path, *, clips: int) -> Wear:
    """Let clips come and go, and count."""
    begun_s = time.monotonic()
    with (
        Mosquitto(directory / "broker") as broker,
        Outbox(directory / "outbox.db", max_bytes=1 << 26) as outbox,
        publishing(broker, outbox) as publisher,
    ):
        before = _written()
        for seq in range(clips):
            clip = f"clip-{seq}"
            outbox.open_clip(ClipRow(clip, "door", seq, "2026-01-01T00:00:00+00:00", 60.0, clock_synced=True))
            first, last = (_message(prompt, seq) for prompt in PROMPTS)
            outbox.add([first])
            publisher.wake()
            eventually(lambda: outbox.stats().pending == 0, "it is acknowledged")
            outbox.commit(clip, "answered", 60.0, [last])
            publisher.wake()
            eventually(lambda: outbox.stats().pending == 0, "it is acknowledged")
    written = _written() - before  # the last checkpoint, too
    return Wear(
        clips=clips,
        answers=clips * len(PROMPTS),
        kib_a_clip=round(written / clips / 1024, 1),
        mib_a_day=round(written / clips * CLIPS_A_DAY / 2**20, 1),
        seconds=round(time.monotonic() - begun_s, 1),
    )


def _message(prompt: str, seq: int) -> Outgoing:
    payload = json.dumps({"schema": "edgeclip.answer/1", "seq": seq, "text": "x" * PAYLOAD}).encode()
    return Outgoing(f"{prompt}-{seq:032}", TOPICS.answer("door", prompt), payload, "door", seq)


def _written() -> int:
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(dict(line.split(": ") for line in lines)["write_bytes"])


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clips", type=int, default=CLIPS_A_DAY)
    parser.add_argument("--directory", type=Path, help="on the disk in question; default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        result = measure(Path(name), clips=options.clips)
    sys.stdout.write(json.dumps(asdict(result)) + "\n")


if __name__ == "__main__":
    main()
