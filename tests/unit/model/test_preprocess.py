"""Sizes, scaling and patch order; the comparison with transformers is in tests/parity."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import VideoError
from edge.model.manifest import Pixels
from edge.model.preprocess import image_size, patchify, scale, video_size
from edge.records import Size
from tests.unit.model import example

VISION = example.manifest().vision
VIDEO = Pixels(minimum=4096, maximum=25_165_824)


@pytest.mark.parametrize(
    ("ticks", "source", "expected"),
    [
        (480, Size(720, 1280), Size(160, 288)),
        (480, Size(480, 640), Size(192, 256)),
        (120, Size(720, 1280), Size(320, 608)),
        (60, Size(720, 1280), Size(480, 832)),
        (480, Size(576, 768), Size(192, 256)),
    ],
)
def test_a_clips_budget_is_shared_among_its_frames(ticks: int, source: Size, expected: Size) -> None:
    assert video_size(source, ticks, VIDEO, VISION) == expected


@given(st.integers(2, 5000), st.integers(2, 5000), st.integers(1, 2400))
@settings(deadline=None)
def test_every_size_is_whole_patches_and_within_the_budget(height: int, width: int, ticks: int) -> None:
    if max(height, width) > 40 * min(height, width):
        return
    size = video_size(Size(height, width), ticks, VIDEO, VISION)
    assert size.height % 32 == size.width % 32 == 0
    assert min(size.height, size.width) >= 32
    smallest = min(size.height, size.width) == 32  # one patch block is the least, even where it is too much
    assert (
        smallest or max(ticks, 2) * size.height * size.width <= VIDEO.maximum + 2 * size.height * size.width
    )


def test_a_single_tick_is_sized_as_the_pair_that_it_becomes() -> None:
    assert video_size(Size(240, 320), 1, VIDEO, VISION) == video_size(Size(240, 320), 2, VIDEO, VISION)


def test_a_still_is_enlarged_to_the_least_that_the_model_knows() -> None:
    assert image_size(Size(64, 64), Pixels(minimum=65_536, maximum=1 << 24), VISION) == Size(256, 256)
    assert image_size(Size(720, 1280), Pixels(minimum=65_536, maximum=1 << 24), VISION) == Size(704, 1280)


@pytest.mark.parametrize("source", [Size(32, 32 * 201), Size(10_000, 40)])
def test_a_sliver_is_refused(source: Size) -> None:
    with pytest.raises(VideoError, match="cannot be shown"):
        video_size(source, 480, VIDEO, VISION)
    with pytest.raises(VideoError, match="cannot be shown"):
        image_size(source, VIDEO, VISION)


def test_scaling_leaves_a_picture_of_the_right_size_alone() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    assert scale(rgb, Size(64, 96)) is rgb
    assert scale(rgb[:, ::-1], Size(32, 32)).shape == (32, 32, 3)
    assert (scale(np.full((70, 50, 3), 77, np.uint8), Size(32, 64)) == 77).all()


def test_a_patch_holds_the_pixels_of_its_place_in_block_order() -> None:
    frames = np.random.default_rng(1).integers(0, 256, (2, 2, 64, 96, 3), np.uint8)
    patches = patchify(frames, VISION)
    assert patches.shape == (2, 24, 1536)
    place = 0
    for block_row in range(2):
        for block_column in range(3):
            for row in range(2):
                for column in range(2):
                    y, x = 16 * (2 * block_row + row), 16 * (2 * block_column + column)
                    expected = frames[:, :, y : y + 16, x : x + 16].transpose(0, 4, 1, 2, 3).reshape(2, -1)
                    np.testing.assert_array_equal(patches[:, place], expected)
                    place += 1
