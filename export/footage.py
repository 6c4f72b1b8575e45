"""Frames to verify with: drawn ones, or the first ones of a video file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge.errors import EmptyVideoError, VideoError

FPS: Final = 8.0  # the rate of the whole project


def draw(count: int, height: int, width: int) -> NDArray[np.uint8]:
    """Draw a scene with shading, fine texture and two boxes that move: shape (count, height, width, 3)."""
    rng = np.random.default_rng([count, height, width])
    rows, columns = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    base = np.stack([180 * columns, 160 * rows, 90 + 80 * np.sin(9 * (rows + columns))], -1)
    base += rng.normal(0, 12, base.shape)
    frames = np.repeat(base[None], count, 0)
    for k, frame in enumerate(frames):
        at = (k + 1) / (count + 1)
        top, left = int(0.2 * height), int(at * 0.7 * width)
        frame[top : top + height // 3 + 1, left : left + width // 4 + 1] = (220, 40, 30)
        top, left = int(at * 0.6 * height), int(0.55 * width)
        frame[top : top + height // 5 + 1, left : left + width // 5 + 1] = (30, 60, 230)
    clipped: NDArray[np.uint8] = np.clip(frames, 0, 255).astype(np.uint8)
    return clipped


def read_video(path: Path, count: int) -> NDArray[np.uint8]:
    """Read a video's first frames on the grid of 8 a second: at each tick the last picture at or before it.

    Args:
        path: Anything that PyAV opens.
        count: How many at most; a shorter video gives fewer.

    Returns:
        Shape (n, H, W, 3), n >= 2; a video of one picture gives it twice.

    Raises:
        VideoError: It cannot be opened or decoded, or (EmptyVideoError) holds no picture.
    """
    import av

    found: list[NDArray[np.uint8]] = []
    try:
        with av.open(str(path)) as container:
            start_s = shown = None
            for frame in container.decode(video=0) if container.streams.video else ():
                if frame.time is None:
                    continue
                start_s = frame.time if start_s is None else start_s
                while shown is not None and len(found) < count and len(found) / FPS < frame.time - start_s:
                    found.append(_rgb(shown, found))
                if len(found) == count:
                    break
                shown = frame
            if shown is None:
                raise EmptyVideoError(f"{path} holds no picture", next_step="Give another file with --video.")
            if len(found) < count and len(found) / FPS <= shown.time - start_s:
                found.append(_rgb(shown, found))
    except (av.FFmpegError, OSError) as error:
        raise VideoError(
            f"{path} cannot be decoded", evidence=[str(error)], next_step="Give another file with --video."
        ) from error
    return np.stack(found if len(found) > 1 else found * 2)


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a picture as RGB, shape (H, W, 3).

    Raises:
        VideoError: It cannot be read.
    """
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except OSError as error:
        raise VideoError(
            f"{path} cannot be read as a picture",
            evidence=[str(error)],
            next_step="Give another file with --image.",
        ) from error


def _rgb(frame: Any, earlier: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Convert a frame, at the size of those before it: a stream may change its size."""
    height, width = earlier[0].shape[:2] if earlier else (frame.height, frame.width)
    picture: NDArray[np.uint8] = frame.to_ndarray(format="rgb24", width=width, height=height)
    return picture
