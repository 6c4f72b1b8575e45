"""The key frame is the fullest sharp moment of a clip, and few pictures are converted on the way to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.capture.keyframe import KeyFrames

FPS = 8.0
RNG = np.random.default_rng(7)
GROUND = RNG.integers(90, 130, (96, 128, 3), dtype=np.uint8)


def picture(things: int, *, light: int = 0, blurred: bool = False) -> NDArray[np.uint8]:
    """Return the ground with so many bright things on it."""
    made = GROUND.astype(np.int16) + light + RNG.integers(-3, 4, GROUND.shape)
    for thing in range(things):
        made[24:56, 8 + 24 * thing : 24 + 24 * thing] = 220
    if blurred:
        made = (made + np.roll(made, 2, 1) + np.roll(made, 4, 1) + np.roll(made, 6, 1)) // 4
    return made.clip(0, 255).astype(np.uint8)


def chosen(key_frames: KeyFrames, pictures: list[NDArray[np.uint8]]) -> list[int]:
    """Return which pictures were taken, one after the other; the last one is the key frame."""
    key_frames.begin()
    return [at for at, each in enumerate(pictures) if key_frames.see(each)]


def settled() -> KeyFrames:
    key_frames = KeyFrames(FPS)
    chosen(key_frames, [picture(0) for _ in range(40)])
    return key_frames


def test_the_fullest_moment_is_taken() -> None:
    found = chosen(settled(), [picture(n) for n in (0, 1, 1, 3, 2, 4, 4, 1, 0)])
    assert found[-1] == 5


def test_a_still_clip_keeps_its_beginning() -> None:
    found = chosen(settled(), [picture(0) for _ in range(60)])
    assert found[-1] < 5
    assert len(found) < 4


def test_a_blurred_picture_gives_way_to_a_sharp_one() -> None:
    found = chosen(settled(), [picture(0), picture(3, blurred=True), picture(3), picture(3, blurred=True)])
    assert found[-1] == 2


def test_light_is_no_thing() -> None:
    found = chosen(settled(), [picture(0), picture(2), picture(0, light=40), picture(1, light=40)])
    assert found[-1] == 1


def test_what_stays_fades_into_the_background_over_minutes() -> None:
    key_frames = settled()
    chosen(key_frames, [picture(3) for _ in range(4 * 1200)])  # twenty minutes
    found = chosen(key_frames, [picture(3), picture(3), picture(4), picture(3)])
    assert found[-1] == 2


def test_another_size_begins_anew() -> None:
    key_frames = settled()
    assert chosen(key_frames, [np.zeros((64, 64, 3), np.uint8)]) == [0]
