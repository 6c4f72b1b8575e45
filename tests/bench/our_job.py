"""The whole job as `tests.bench.transformers_job` does it, with ours: one clip, one prefill, two answers of so many tokens.

usage: python -m tests.bench.our_job VIDEO BUNDLE [--seconds 60] [--tokens 150] [--threads 0] [--cache DIR]

Nothing is dropped, no still is shown and no grammar helps, so that all peers do the same work: the grid of `edge.capture`,
frames of the size of a whole clip, greedy words. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from edge.capture.file import FileClip
from edge.config import cache_directory
from edge.model.bundle import open_bundle
from edge.model.engine import Engine
from edge.model.preprocess import scale
from edge.records import Pair

FPS, SECONDS = 8.0, 60.0
PAIRS = 8  # taken up at once
PROMPTS = (
    "Summarise what happened in this video in three sentences, then list the events with their times.",
    "Where are the people at the end of the video? Name each with its box and its relation to the others.",
)
"""Of the whole job, whoever does it."""


def groups(pairs: Iterable[Pair]) -> Iterator[tuple[Pair, ...]]:
    """Yield pairs in groups."""
    waiting = iter(pairs)
    while group := tuple(islice(waiting, PAIRS)):
        yield group


def main() -> None:
    """Run the job and print its figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("video", type=Path)
    options.add_argument("bundle", type=Path)
    options.add_argument("--seconds", type=float, default=SECONDS)
    options.add_argument("--tokens", type=int, default=150)
    options.add_argument("--threads", type=int, default=0)
    options.add_argument("--cache", type=Path, default=cache_directory())
    given = options.parse_args()
    ticks, clock, begun = round(FPS * SECONDS), time.perf_counter, time.perf_counter()
    bundle = open_bundle(given.bundle, cache=given.cache)
    with Engine(bundle, threads=given.threads, cache=given.cache) as engine:
        load_s = clock() - begun
        with FileClip(
            given.video,
            start_s=0,
            seconds=given.seconds,
            fps=FPS,
            size_for=lambda source: engine.frame_size(source, ticks),
            resize=scale,
            scale="exact",
        ) as clip:
            count, stream = 0, None
            for pairs in groups(clip.pairs()):
                if stream is None:
                    stream = engine.stream(clip.size, ticks)
                stream.push(pairs)
                count += len(pairs)
            if stream is None:
                sys.exit("the video holds no picture")
            fork = stream.fork()
            mark = clock()
            replies = [
                fork.ask(prompt, schema=None, max_tokens=given.tokens, circles=True) for prompt in PROMPTS
            ]
            answers_s = clock() - mark
    total_s, timing = clock() - begun, stream.timing
    seconds = {
        "load": load_s,
        "video": total_s - load_s - answers_s - timing.vision_s - timing.prefill_s,
        "vision": timing.vision_s,
        "prefill": timing.prefill_s + sum(reply.prefill_s for reply in replies),
        "text": sum(reply.decode_s for reply in replies),
        "total": total_s,
    }
    result = {
        "peer": "edgeclip",
        "recipe": bundle.manifest.recipe.name,
        "pairs": count,
        "tokens_in": replies[0].tokens_in,
        "tokens_out": sum(len(reply.tokens) for reply in replies),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
