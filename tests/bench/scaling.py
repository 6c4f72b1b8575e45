"""What ``scale = "exact"`` costs against ``"fast"``, and how far their pixels are apart, on a real video.

usage: python -m tests.bench.scaling VIDEO [--size HEIGHTxWIDTH] [--seconds 60] [--rounds 3]

Both are run in turn (A B A B ...) after one warm-up each; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import get_args

import numpy as np

from edge.capture.events import Scale
from edge.capture.file import FileClip
from edge.capture.playback import Playback
from edge.model.preprocess import scale
from edge.records import Size

FPS = 8.0


def clip_of(video: Path, size: Size, seconds: float, how: Scale) -> FileClip:
    """Open the first clip of a video at a fixed model size."""
    return FileClip(
        video, start_s=0, seconds=seconds, fps=FPS, size_for=lambda _size: size, resize=scale, scale=how
    )


def seconds_of(video: Path, size: Size, seconds: float, how: Scale) -> tuple[float, int]:
    """Return wall seconds for one clip, decoding included, and its ticks."""
    began = time.perf_counter()
    with clip_of(video, size, seconds, how) as clip:
        for _ in clip.pairs():
            pass
        return time.perf_counter() - began, clip.stats().ticks


def decode_s(video: Path, seconds: float) -> float:
    """Return seconds for decoding alone."""
    began = time.perf_counter()
    with Playback(str(video)) as playback:
        for at_ns, _ in playback.pictures(0):
            if at_ns > seconds * 1e9:
                break
    return time.perf_counter() - began


def difference(video: Path, size: Size, seconds: float) -> tuple[float, float]:
    """Return the mean and the 99th percentile of the absolute difference, in levels of 255."""
    counts = np.zeros(256, np.int64)
    with clip_of(video, size, seconds, "exact") as exact, clip_of(video, size, seconds, "fast") as fast:
        for one, other in zip(exact.pairs(), fast.pairs(), strict=True):
            counts += np.bincount(np.abs(one.frames.astype(np.int16) - other.frames).ravel(), minlength=256)
    levels = np.arange(256)
    share = np.cumsum(counts) / counts.sum()
    return float((counts * levels).sum() / counts.sum()), float(levels[np.searchsorted(share, 0.99)])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video", type=Path)
    parser.add_argument("--size", default="192x256", help="model size, HEIGHTxWIDTH")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    size = Size(*map(int, given.size.split("x")))
    kinds: tuple[Scale, ...] = get_args(Scale)
    took: dict[str, list[float]] = {how: [] for how in kinds}
    ticks = 0
    for turn in range(given.rounds + 1):
        for how in kinds:
            wall_s, ticks = seconds_of(given.video, size, given.seconds, how)
            if turn:
                took[how].append(wall_s)
    alone_s = statistics.median(decode_s(given.video, given.seconds) for _ in range(given.rounds))
    mean, p99 = difference(given.video, size, given.seconds)
    result = {
        "video": given.video.name,
        "size": given.size,
        "ticks": ticks,
        "exact_s": round(statistics.median(took["exact"]), 3),
        "fast_s": round(statistics.median(took["fast"]), 3),
        "decode_s": round(alone_s, 3),
        "difference_mean": round(mean, 3),
        "difference_p99": p99,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    for key, value in result.items():
        sys.stdout.write(f"{key:16} {value}\n")
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
