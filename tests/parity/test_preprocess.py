"""Sizes, patches and tables against transformers' video and image processors, on the released limits."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.errors import VideoError
from edge.model.layout import rope_rows
from edge.model.manifest import Pixels, Text, Vision
from edge.model.preprocess import image_size, patchify, scale, video_size
from edge.model.vision import tables
from edge.records import Size
from export.reference.libraries import import_libraries

VISION = Vision(
    patch_size=16, temporal_patch_size=2, merge_size=2, channels=3, positions=48, head_dim=64, rope_theta=1e4
)
VIDEO = Pixels(minimum=4096, maximum=25_165_824)
IMAGE = Pixels(minimum=65_536, maximum=16_777_216)
TEXT = Text(hidden=1024, context=262_144, rope_theta=1e7, rope_dims=64, mrope_section=(11, 11, 10))


@given(st.integers(2, 2400), st.integers(1, 4000), st.integers(1, 4000), st.sampled_from([VIDEO, IMAGE]))
@settings(deadline=None, max_examples=500)
def test_video_sizes_are_transformers(frames: int, height: int, width: int, pixels: Pixels) -> None:
    import_libraries()
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize

    try:
        expected = smart_resize(
            frames, height, width, factor=32, min_pixels=pixels.minimum, max_pixels=pixels.maximum
        )
    except ValueError:
        with pytest.raises(VideoError):
            video_size(Size(height, width), frames, pixels, VISION)
    else:
        assert video_size(Size(height, width), frames, pixels, VISION) == Size(*expected)


@given(st.integers(1, 6000), st.integers(1, 6000))
@settings(deadline=None, max_examples=300)
def test_image_sizes_are_transformers(height: int, width: int) -> None:
    import_libraries()
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    try:
        expected = smart_resize(height, width, factor=32, min_pixels=IMAGE.minimum, max_pixels=IMAGE.maximum)
    except ValueError:
        with pytest.raises(VideoError):
            image_size(Size(height, width), IMAGE, VISION)
    else:
        assert image_size(Size(height, width), IMAGE, VISION) == Size(*expected)


def picture(count: int, height: int, width: int) -> NDArray[np.uint8]:
    """Smooth shapes with hard edges and some noise, like footage."""
    rng = np.random.default_rng(height * width + count)
    y, x = np.mgrid[:height, :width]
    frames = []
    for at in range(count):
        waves = 90 * np.sin(x / 23 + at)[..., None] * np.cos(y / 17)[..., None] * [1, 0.5, -0.7] + 120
        waves[(x // 40 + y // 56 + at) % 3 == 0] += 60
        frames.append(np.clip(waves + rng.normal(0, 6, waves.shape), 0, 255).astype(np.uint8))
    return np.stack(frames)


def restored(values: Any) -> NDArray[np.float64]:
    """Undo the processor's normalisation: 0..255."""
    return np.asarray((values.double().numpy() + 1.0) * 127.5)


@pytest.mark.parametrize(
    ("count", "height", "width", "pixels"),
    [
        (2, 240, 320, VIDEO),
        (5, 120, 90, VIDEO),
        (7, 576, 768, Pixels(minimum=4096, maximum=7 * 192 * 256)),
        (16, 360, 640, Pixels(minimum=4096, maximum=16 * 160 * 288)),
        (3, 40, 20, VIDEO),
    ],
)
def test_patches_of_a_video_are_the_processors(count: int, height: int, width: int, pixels: Pixels) -> None:
    processor = import_libraries().transformers.Qwen3VLVideoProcessor(
        size={"shortest_edge": pixels.minimum, "longest_edge": pixels.maximum},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        cap_pixels_per_frame=False,
        do_sample_frames=False,
    )
    frames = picture(count, height, width)
    theirs = processor(videos=[frames.transpose(0, 3, 1, 2)], return_tensors="pt")
    size = video_size(Size(height, width), count, pixels, VISION)
    scaled = np.stack([scale(frame, size) for frame in frames])
    if count % 2:
        scaled = np.concatenate([scaled, scaled[-1:]])
    ours = patchify(scaled.reshape(-1, 2, *scaled.shape[1:]), VISION)
    assert theirs["video_grid_thw"].tolist() == [[len(ours), size.height // 16, size.width // 16]]
    expected = restored(theirs["pixel_values_videos"]).reshape(ours.shape)
    assert np.abs(expected - ours).mean() < 1
    if (height, width) == (size.height, size.width):
        np.testing.assert_array_equal(ours, np.rint(expected))


@pytest.mark.parametrize(("height", "width"), [(100, 180), (600, 800), (301, 1000)])
def test_patches_of_a_still_are_the_processors(height: int, width: int) -> None:
    processor = import_libraries().transformers.Qwen2VLImageProcessor(
        size={"shortest_edge": IMAGE.minimum, "longest_edge": IMAGE.maximum},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        patch_size=16,
    )
    frame = picture(1, height, width)[0]
    theirs = processor(images=[frame.transpose(2, 0, 1)], return_tensors="pt")
    size = image_size(Size(height, width), IMAGE, VISION)
    still = scale(frame, size)
    ours = patchify(np.stack([still, still])[None], VISION)
    assert theirs["image_grid_thw"].tolist() == [[1, size.height // 16, size.width // 16]]
    assert np.abs(restored(theirs["pixel_values"]).reshape(ours.shape) - ours).mean() < 1


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (10, 18), (12, 16), (48, 48), (60, 4)])
def test_vision_tables_are_transformers(rows: int, columns: int) -> None:
    import_libraries()
    import torch
    from transformers.models.qwen3_5 import modeling_qwen3_5 as modeling
    from transformers.vision_utils import get_vision_interpolation_indices_and_weights as look_up
    from transformers.vision_utils import get_vision_position_ids as places

    grid = torch.tensor([[1, rows, columns]])
    index, weight = look_up(grid, VISION.positions, align_corners=True, spatial_merge_size=2)
    config = import_libraries().transformers.models.qwen3_5.configuration_qwen3_5.Qwen3_5VisionConfig(
        hidden_size=768, num_heads=12
    )
    cos, sin = modeling.Qwen3_5VisionRotaryEmbedding(config)(torch.zeros(1), places(grid, 2))
    ours = tables(rows, columns, VISION)
    np.testing.assert_array_equal(ours.pos_index, index.numpy().T)
    np.testing.assert_allclose(ours.pos_weight, weight.numpy().T, atol=1e-6)
    np.testing.assert_allclose(ours.rope_cos, cos.numpy()[:, :32], atol=1e-5)
    np.testing.assert_allclose(ours.rope_sin, sin.numpy()[:, :32], atol=1e-5)


def test_rotary_rows_are_transformers() -> None:
    import_libraries()
    import torch
    from transformers.models.qwen3_5 import modeling_qwen3_5 as modeling

    config = import_libraries().transformers.models.qwen3_5.configuration_qwen3_5.Qwen3_5TextConfig(
        head_dim=256,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": TEXT.rope_theta,
            "partial_rotary_factor": 0.25,
            "mrope_section": list(TEXT.mrope_section),
            "mrope_interleaved": True,
        },
    )
    positions = np.random.default_rng(0).integers(0, 16_000, (3, 500))
    cos, sin = modeling.Qwen3_5TextRotaryEmbedding(config)(
        torch.zeros(1), torch.from_numpy(positions)[:, None]
    )
    ours = rope_rows(positions, TEXT)
    # One unit in the last place of a frequency is 1e-3 of an angle of 16,000.
    np.testing.assert_allclose(ours[0], cos[0, :, :32].numpy(), atol=2e-3)
    np.testing.assert_allclose(ours[1], sin[0, :, :32].numpy(), atol=2e-3)
    assert np.abs(ours[0] - cos[0, :, :32].numpy()).mean() < 1e-5
