"""Clips on which recipes are compared: the user's own, or drawn ones that are the same on every machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.errors import EdgeError
from edge.model.manifest import Manifest
from edge.model.preprocess import scale, video_size
from edge.records import Size
from export.candidate import Question, clip_pairs
from export.footage import FPS, read_video

FRAMES: Final = 16  # of each clip: two seconds
CLIPS: Final = 8  # of a folder, at most
PROMPTS: Final = (
    "Summarise what happened in this video in three sentences, then list the events with their times.",
    "Where is everything at the end of the video? Name each thing with its place and its relation to the others.",
)
_TICKS: Final = 480  # frames have the size that they would have in a clip of a minute
_SEEDS: Final = (3, 14, 15, 92)  # of the drawn scenes: any will do, but every machine should have the same
_DRAWN: Final = Size(240, 320)


@dataclass(frozen=True, slots=True)
class Clip:
    """A name for people, and frames at their own size, shape (n, H, W, 3)."""

    name: str
    frames: NDArray[np.uint8]


def clips(place: Path | None) -> list[Clip]:
    """Return what to show.

    Args:
        place: A video, a folder of videos, of which the first `CLIPS` by name are taken, or None for drawn scenes.

    Raises:
        EdgeError: There is nothing at the place.
        VideoError: A file cannot be decoded.
    """
    if place is None:
        return list(_drawn())
    files = sorted(path for path in place.iterdir() if path.is_file()) if place.is_dir() else [place]
    files = [path for path in files if not path.name.startswith(".")][:CLIPS]
    if not files or not place.exists():
        raise EdgeError(
            f"there are no clips at {place}",
            next_step="Give a video or a folder of videos with --clips, or leave it out for drawn ones.",
        )
    return [Clip(path.name, read_video(path, FRAMES)) for path in files]


def questions(found: Iterable[Clip], manifest: Manifest) -> list[Question]:
    """Ask about the clips, in turn what happened and where things are, at the sizes that the model would see."""
    asked = []
    for number, clip in enumerate(found):
        size = video_size(Size(*clip.frames.shape[1:3]), _TICKS, manifest.video_pixels, manifest.vision)
        scaled = np.stack([scale(frame, size) for frame in clip.frames])
        asked.append(Question(PROMPTS[number % len(PROMPTS)], pairs=clip_pairs(scaled, FPS)))
    return asked


def _drawn() -> Iterator[Clip]:
    from edge.demo.world import draw_scene, render

    for seed in _SEEDS:
        scene = draw_scene(seed, "c", seconds=20.0, fps=FPS, size=_DRAWN)
        middle = (scene.ticks - FRAMES) // 2
        shown = [render(scene, tick) for tick in range(middle, middle + FRAMES)]
        yield Clip(f"drawn scene {seed}", np.stack(shown))
