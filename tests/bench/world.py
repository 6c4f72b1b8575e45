"""How fast the demo world draws, renders, encodes and tells the truth, on one core.

usage: python -m tests.bench.world [--rounds 3]

After one warm-up, the median of the rounds for each size; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from edge.demo.world import Scene, Stage, draw_scene, encode, frames, truth
from edge.records import Size

SCENES = 4
WORLDS: tuple[tuple[Stage, Size], ...] = (
    ("a", Size(64, 64)),
    ("b", Size(64, 64)),
    ("b", Size(96, 128)),
    ("c", Size(128, 192)),
    ("c", Size(192, 256)),
)


def median_s(work: Callable[[int], object], rounds: int) -> float:
    """Return the median of the wall seconds of rounds, after one warm-up; every round is on fresh scenes."""
    taken = []
    for number in range(rounds + 1):
        began = time.perf_counter()
        work(number)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def measure(stage: Stage, size: Size, rounds: int) -> dict[str, float]:
    """Return milliseconds a scene and frames a second."""

    def scenes(number: int) -> list[Scene]:
        return [draw_scene(number * SCENES + place, stage, size=size) for place in range(SCENES)]

    drawn = [scenes(number) for number in range(rounds + 1)]
    pictures = sum(scene.ticks for scene in drawn[-1])

    def render(number: int) -> None:
        for scene in drawn[number]:
            for _ in frames(scene):
                pass

    def tell(number: int) -> None:
        for scene in drawn[number]:
            truth(scene)

    def label(number: int) -> None:
        for scene in drawn[number]:
            true = truth(scene)
            for tick in range(0, scene.ticks, 2):
                true.cells(tick)

    render_s = median_s(render, rounds)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip.mp4"
        encode_s = median_s(lambda number: encode(drawn[number][0], file), 1)
    return {
        "draw_ms": 1e3 * median_s(scenes, rounds) / SCENES,
        "truth_ms": 1e3 * median_s(tell, rounds) / SCENES,
        "cells_ms_per_scene": 1e3 * median_s(label, rounds) / SCENES,
        "render_fps": statistics.median(sum(s.ticks for s in row) for row in drawn[1:]) / render_s,
        "frames_per_scene": pictures / SCENES,
        "render_and_encode_s": encode_s,
    }


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    found = {}
    for stage, size in WORLDS:
        name = f"{stage} {size.height}x{size.width}"
        found[name] = measure(stage, size, rounds)
        row = "  ".join(f"{key} {value:.4g}" for key, value in found[name].items())
        sys.stdout.write(f"{name:>10}  {row}\n")
        sys.stdout.flush()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps({"worlds": found, "peak_rss_mib": peak}) + "\n")


if __name__ == "__main__":
    main()
