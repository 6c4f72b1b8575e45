"""A clip of the demo world, encoded and read back by the capture path: the right picture at every tick."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.capture.file import FileClip
from edge.demo.world import Scene, Stage, draw_scene, encode, frames, truth
from edge.records import Size
from tests.media import bicubic, same_size

CODING_LEVELS = 6.0  # mean absolute error of x264 at crf 20 and of 4:2:0, with noise that it smooths away
TOLD_APART = 40  # levels: pixels that change by more from tick to tick tell the ticks apart


def filmed(scene: Scene, path: Path) -> NDArray[np.uint8]:
    """Encode a scene and read its clip: shape (ticks, h, w, 3)."""
    encode(scene, path)
    with FileClip(
        path, start_s=0, seconds=scene.seconds, fps=scene.fps, size_for=same_size, resize=bicubic
    ) as clip:
        pairs = list(clip.pairs())
        stats = clip.stats()
    assert stats.seconds == scene.seconds
    assert (stats.ticks, stats.ticks_repeated, stats.ticks_empty) == (scene.ticks, 0, 0)
    assert stats.gaps == ()
    return np.concatenate([pair.frames for pair in pairs])[: scene.ticks]


def error(seen: NDArray[np.uint8], drawn: NDArray[np.uint8], where: NDArray[np.bool_]) -> float:
    return float(np.abs(seen.astype(int) - drawn)[where].mean())


@pytest.mark.parametrize(
    ("seed", "stage", "size"), [(1, "a", Size(64, 64)), (11, "c", Size(96, 128)), (2, "b", Size(96, 128))]
)
def test_capture_shows_the_picture_of_every_tick(tmp_path: Path, seed: int, stage: Stage, size: Size) -> None:
    scene = replace(draw_scene(seed, stage, size=size), shake=0.0)
    drawn = list(frames(scene))
    still = list(frames(replace(scene, noise=0.0)))
    seen = filmed(scene, tmp_path / "clip.mp4")
    assert truth(scene).events
    everywhere = np.ones(drawn[0].shape, bool)
    compared = 0
    for tick in range(scene.ticks):
        assert error(seen[tick], drawn[tick], everywhere) < CODING_LEVELS
        for other in (tick - 1, tick + 1):
            if 0 <= other < scene.ticks:
                moved = np.abs(still[tick].astype(int) - still[other]) > TOLD_APART
                if moved.sum() > 150:
                    assert error(seen[tick], still[tick], moved) < error(seen[tick], still[other], moved)
                    compared += 1
    assert compared > 20
