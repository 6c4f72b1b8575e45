"""From RGB frames to the patches of the vision tower, equal to transformers' Qwen3-VL video and image processors."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge.errors import VideoError
from edge.model.manifest import Manifest, Pixels, Vision
from edge.records import Size

ASPECT_MAX = 200  # transformers 5.23.0, smart_resize: more is refused


def video_size(source: Size, ticks: int, pixels: Pixels, vision: Vision) -> Size:
    """Return the size at which the frames of a clip are shown to the model.

    The budget is one of total pixels, so more frames make smaller ones. This is `smart_resize` of transformers 5.23.0's
    ``models/qwen3_vl/video_processing_qwen3_vl.py`` without its ``cap_pixels_per_frame``: the released preprocessor
    settings do not ask for it, and it changes nothing for clips of more than 32 frames.

    Args:
        source: Size of the camera's pictures.
        ticks: Frames of the full clip, >= 1; a single one counts as the pair that it becomes.
        pixels: Limits on ticks x height x width.
        vision: Patch and merge sizes.

    Raises:
        VideoError: One side is more than 200 times the other.
    """
    factor, pair = _factor(vision), vision.temporal_patch_size
    frames = max(ticks, pair)
    height, width = source.height, source.width
    if height < factor or width < factor:
        scale = max(factor / height, factor / width)
        height, width = int(height * scale), int(width * scale)
    _check_aspect(height, width)
    return _fit(height, width, factor, pixels, frames=frames, counted=round(frames / pair) * pair)


def shrunk(size: Size, area: float, vision: Vision) -> Size:
    """Return about that share of a frame's area, in whole cells: what is shown when less is to be done.

    Args:
        size: As `video_size` gave it.
        area: Share of its pixels, 0 < area <= 1.
        vision: Patch and merge sizes.
    """
    factor, side = _factor(vision), math.sqrt(area)

    def cut(pixels: int) -> int:
        return max(factor, round(side * pixels / factor) * factor)

    return Size(cut(size.height), cut(size.width))


def image_size(source: Size, pixels: Pixels, vision: Vision) -> Size:
    """Return the size at which a still is shown: `smart_resize` of ``models/qwen2_vl/image_processing_qwen2_vl.py``.

    Raises:
        VideoError: One side is more than 200 times the other.
    """
    _check_aspect(source.height, source.width)
    return _fit(source.height, source.width, _factor(vision), pixels, frames=1, counted=1)


def still_size(source: Size, manifest: Manifest, tokens: int | None) -> Size:
    """Return the size at which a still is shown, pixels: within the model's limits for images, and within so many tokens.

    Args:
        source: Of the picture, pixels.
        manifest: The bundle's, with the model's limits for images.
        tokens: At most so many for the picture; None: as many as the model's limits allow.

    Raises:
        VideoError: One side is more than 200 times the other.
    """
    limits = manifest.image_pixels
    if tokens is not None:
        cell = manifest.vision.patch_size * manifest.vision.merge_size
        most = min(limits.maximum, max(tokens, 1) * cell * cell)
        limits = Pixels(minimum=min(limits.minimum, most), maximum=most)
    return image_size(source, limits, manifest.vision)


def scale(rgb: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Scale a picture with Pillow's antialiased bicubic filter, which torchvision's agrees with to a level or so.

    Args:
        rgb: Shape (H, W, 3).
        size: The wanted size; a picture that has it is returned as it is.

    Returns:
        Shape (size.height, size.width, 3).
    """
    if rgb.shape[:2] == (size.height, size.width):
        return rgb
    picture = Image.fromarray(np.ascontiguousarray(rgb), "RGB")
    return np.asarray(picture.resize((size.width, size.height), Image.Resampling.BICUBIC))


def patchify(frames: NDArray[np.uint8], vision: Vision) -> NDArray[np.uint8]:
    """Cut pairs of frames into patches, in the order of transformers' video processor.

    Patches of one merge block (2 x 2) are neighbours; inside a patch come channel, frame, row, column.

    Args:
        frames: Shape (N, 2, H, W, 3); H and W are multiples of patch x merge size.
        vision: Patch and merge sizes.

    Returns:
        Shape (N, P, 3 * 2 * patch * patch) with P = H * W / patch**2, C-contiguous.
    """
    pairs, two, height, width, channels = frames.shape
    patch, merge = vision.patch_size, vision.merge_size
    rows, columns = height // patch, width // patch
    blocks = frames.reshape(
        pairs, two, rows // merge, merge, patch, columns // merge, merge, patch, channels
    ).transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)
    return np.ascontiguousarray(blocks).reshape(pairs, rows * columns, channels * two * patch * patch)


def _factor(vision: Vision) -> int:
    return vision.patch_size * vision.merge_size


def _check_aspect(height: int, width: int) -> None:
    if max(height, width) > ASPECT_MAX * min(height, width):
        raise VideoError(
            f"a picture of {width} x {height} pixels cannot be shown to the model",
            evidence=[f"one side may be at most {ASPECT_MAX} times the other"],
            next_step="Crop the video to the part that matters.",
        )


def _fit(height: int, width: int, factor: int, pixels: Pixels, *, frames: int, counted: int) -> Size:
    fitted_height = round(height / factor) * factor
    fitted_width = round(width / factor) * factor
    total = counted * fitted_height * fitted_width
    if total > pixels.maximum:
        beta = math.sqrt(frames * height * width / pixels.maximum)
        fitted_height = max(factor, math.floor(height / beta / factor) * factor)
        fitted_width = max(factor, math.floor(width / beta / factor) * factor)
    elif total < pixels.minimum:
        beta = math.sqrt(pixels.minimum / (frames * height * width))
        fitted_height = math.ceil(height * beta / factor) * factor
        fitted_width = math.ceil(width * beta / factor) * factor
    return Size(fitted_height, fitted_width)
