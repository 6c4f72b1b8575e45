"""How long after a clip's end its answers come when the whole service watches a video as if it were a camera.

usage: python -m tests.bench.live VIDEO BUNDLE [--gate off] [--tokens 150]

The video is played at its own pace; its first clip of a minute is what counts. Random words go on to the limit of an answer,
320 tokens by default, where trained ones end; `--tokens` sets another. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from edge.deliver.topics import Topics
from tests.broker import Mosquitto, Subscriber, eventually
from tests.service import EDGE, Heard, Service

CLIP_S = 60.0
LIMIT_S = 400.0


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.live", description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--gate", choices=("auto", "off"), default="auto")
    parser.add_argument("--tokens", type=int, help="the most an answer may have; as shipped without it")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "broker").mkdir()
        (home / "bundle").symlink_to(args.bundle.resolve())
        sources: dict[str, dict[str, object]] = {"cam": {"source": str(args.video.resolve())}}
        with Mosquitto(home / "broker") as broker, Subscriber(broker, "edgeclip/v1/d/#") as subscriber:
            last = Topics("edgeclip", "d").answer("cam", "spatial")
            more = f'[gate]\nmode = "{args.gate}"\n'
            if args.tokens:
                more += "".join(
                    f'[[prompt]]\nname = "{kind}"\nkind = "{kind}"\nmax_tokens = {args.tokens}\n'
                    for kind in ("summary", "spatial")
                )
            with Service(home, broker, sources, seconds=CLIP_S, more=more, command=EDGE, governed=True):
                # Topics alone are looked at meanwhile: this process shares the machine with what it measures.
                eventually(
                    lambda: any(item.topic == last for item in subscriber.received),
                    "the first clip is answered",
                    within_s=LIMIT_S,
                )
            heard = Heard(item for item in subscriber.received if not item.retain)
            first = [answer for answer in heard.answers if answer["seq"] == 0]
    rows = []
    for answer in first:
        made = answer["provenance"]
        late_s = made["latency"]["after_end"]
        work_s = sum(made["latency"][stage] for stage in ("capture", "vision", "prefill", "decode"))
        rows.append(
            {
                "prompt": answer["prompt"],
                "after_end_s": late_s,
                "work_s": work_s,
                "pairs": made["pairs"],
                "rung": made["rung_name"],
                "tokens": [made["tokens_in"], made["tokens_out"]],
                "latency": made["latency"],
            }
        )
        sys.stdout.write(
            f"{answer['prompt']:>8}: {late_s:.1f} s after the clip's end, {work_s:.1f} s of work, "
            f"{made['pairs']} of {made['pairs_offered']} pairs, {made['tokens_out']} tokens, rung {made['rung_name']}\n"
        )
    sys.stdout.write(json.dumps({"gate": args.gate, "tokens": args.tokens, "answers": rows}) + "\n")


if __name__ == "__main__":
    main()
