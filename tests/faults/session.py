"""A scripted session with an outbox; `tests.faults.power` records what it does to the disk.

    python -m tests.faults.session DIRECTORY CLIPS

Before and after every call a line goes to standard output: what is asked for, and that it is done.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from edge.deliver.outbox import ClipRow, Outbox, Outgoing

MAX_BYTES = 1 << 16  # small: the session meets its bound as well
LIVES = 2


def main() -> None:
    """Open clips, end them with messages, acknowledge some, drop some; close in order, and once more."""
    directory, clips = Path(sys.argv[1]), int(sys.argv[2])
    for life in range(LIVES):
        say("opens")
        with Outbox(directory / "outbox.db", max_bytes=MAX_BYTES) as outbox:
            say("open", outbox.epoch)
            for _ in range(clips // LIVES):
                work(outbox, life)
            say("closes")
        say("closed")


def work(outbox: Outbox, life: int) -> None:
    """Let a clip come and go, and two messages with it."""
    seq = outbox.next_seq("cam")
    say("takes", seq)
    outbox.open_clip(ClipRow(f"clip-{seq}", "cam", seq, "t", 2.0, clock_synced=True))
    say("took", seq)
    first = Outgoing(f"a-{seq}", "t/a", os.urandom(200 + seq * 997 % 6000), "cam", seq)
    last = Outgoing(f"b-{seq}", "t/b", os.urandom(100), "cam", seq)
    say("puts", first.id)
    say("has", first.id, *(f"-{gone.id}" for gone in outbox.add([first])))
    say("puts", last.id)
    dropped = outbox.commit(f"clip-{seq}", "answered", 2.0, [last])
    say("ended", last.id, *(f"-{gone.id}" for gone in dropped))
    if seq % 5 < 3 + life:
        ids = [message.id for message in outbox.pending(2)]
        say("acks", *ids)
        outbox.ack(*ids)
        say("acked", *ids)


def say(*words: object) -> None:
    """Write one line at once."""
    os.write(1, json.dumps(words).encode() + b"\n")


if __name__ == "__main__":
    main()
