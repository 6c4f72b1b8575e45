"""One decoded picture, upright, and its conversion to RGB at model size; only chosen pictures are converted.

Before PyAV 19 every converted frame keeps megabytes of scaler state alive, so one reformatter serves all of them.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from edge.capture.clip import NS, Chosen
from edge.capture.events import Resize, Scale
from edge.records import Pair, Size

FULL_PIXELS = (
    1920 * 1080
)  # a still is shown to the model at a fifth of that, and six megabytes travel and wait with a clip


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a stored picture is turned upright: transposed first, then flipped."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def upright(self, size: Size) -> Size:
        """Return the size that a picture of ``size`` has when upright (or back again: it is its own inverse)."""
        return Size(size.width, size.height) if self.transpose else size

    def apply(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn a picture, shape (H, W, 3), upright; contiguous."""
        if self.transpose:
            rgb = rgb.transpose(1, 0, 2)
        if self.flip_rows:
            rgb = rgb[::-1]
        if self.flip_columns:
            rgb = rgb[:, ::-1]
        return np.ascontiguousarray(rgb)


def orientation_of(matrix: bytes) -> Orientation:
    """Read a display matrix: nine native int32, of which [0], [1], [3], [4] turn and mirror.

    Layout: FFmpeg, libavutil/display.h: x' = a x + c y, y' = b x + d y with y pointing down. Angles between the
    quarters, which no camera writes, are rounded to the next one.
    """
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix[:36])
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(transpose=True, flip_rows=b < 0, flip_columns=c < 0)
    return Orientation(flip_rows=d < 0, flip_columns=a < 0)


@dataclass(frozen=True, slots=True)
class Decoded:
    """One picture as the decoder gave it.

    Attributes:
        pts_ns: Presentation time as the source claims it, or None.
        duration_ns: How long it claims to stand, 0 where it does not say.
        arrival_ns: CLOCK_MONOTONIC when the decoder returned it.
        cost_s: Seconds of work that decoding took since the picture before.
        size: Size when upright.
        orientation: How it is turned upright.
        frame: PyAV's frame.
    """

    pts_ns: int | None
    duration_ns: int
    arrival_ns: int
    cost_s: float
    size: Size
    orientation: Orientation
    frame: VideoFrame


class Wrapper:
    """Makes `Decoded` of PyAV's frames of one stream.

    Args:
        base: The stream's time base: flushed frames have lost theirs.
        timed: Whether the stream's presentation times mean anything.
    """

    def __init__(self, base: Fraction, *, timed: bool = True) -> None:
        self._base = base
        self._timed = timed
        self._rotation: int | None = None
        self._orientation = Orientation()

    def wrap(self, frame: Any, *, arrival_ns: int, cost_s: float) -> Decoded:
        """Wrap one frame."""
        # Asking for side data ties a frame into a reference cycle, and megabytes wait for the garbage collector.
        # The angle comes without, so the matrix is read only where that changes.
        if frame.rotation != self._rotation:
            self._rotation = frame.rotation
            matrix = frame.side_data.get(SideData.DISPLAYMATRIX)
            self._orientation = orientation_of(bytes(matrix)) if matrix is not None else Orientation()
        return Decoded(
            pts_ns=self._ns(frame.pts) if self._timed else None,
            duration_ns=self._ns(frame.duration) or 0,
            arrival_ns=arrival_ns,
            cost_s=cost_s,
            size=self._orientation.upright(Size(frame.height, frame.width)),
            orientation=self._orientation,
            frame=frame,
        )

    def _ns(self, value: int | None) -> int | None:
        # Integer arithmetic: a picture at 3/24 s lies exactly on the tick at 1/8 s.
        return None if value is None else value * self._base.numerator * NS // self._base.denominator


def _array(frame: Any) -> NDArray[np.uint8]:
    array: NDArray[np.uint8] = frame.to_ndarray()  # of rgb24: uint8, (H, W, 3)
    return array


class Converter:
    """Makes RGB of chosen pictures; the last one is kept, since ticks repeat pictures.

    Args:
        scale: ``"exact"``: the whole picture to RGB, turned, then ``resize``, as the reference does it. ``"fast"``:
            swscale brings it to size in the same pass; a fifth of the time, and one to two levels of 255 away on
            average (``python -m tests.bench.scaling VIDEO``).
        resize: See ``edge.capture.events.Resize``.
    """

    def __init__(self, scale: Scale, resize: Resize) -> None:
        self._scale = scale
        self._resize = resize
        self._reformatter = VideoReformatter()
        self._last: tuple[Decoded, Size, NDArray[np.uint8]] | None = None
        self._seen: tuple[Decoded, Size, NDArray[np.uint8]] | None = None

    def rgb(self, picture: Decoded, size: Size) -> NDArray[np.uint8]:
        """Return the picture as uint8, shape (size.height, size.width, 3), RGB, upright."""
        if self._last is None or self._last[0] is not picture or self._last[1] != size:
            self._last = (picture, size, self._convert(picture, size))
        return self._last[2]

    def pair(self, chosen: Chosen[Decoded], size: Size, *, score: float = 0.0, gated: int = 0) -> Pair:
        """Return a pair of the grid with its pictures converted."""
        frames = np.stack([self.rgb(chosen.first, size), self.rgb(chosen.second, size)])
        return Pair(chosen.index, chosen.time_s, frames, score, gated)

    def full(self, picture: Decoded) -> NDArray[np.uint8]:
        """Return the picture as it is, RGB and upright; one of more than `FULL_PIXELS` is scaled down to them."""
        pixels = picture.size.height * picture.size.width
        share = min(1.0, math.sqrt(FULL_PIXELS / pixels))
        size = Size(int(picture.size.height * share), int(picture.size.width * share))
        return self._scaled(picture, size, Interpolation.AREA)

    def glance(self, chosen: Chosen[Decoded], size: Size) -> NDArray[np.uint8]:
        """Return a pair's pictures for the gate, shape (2, height, width, 3): to compare, not for the model."""
        return np.stack([self._glance(chosen.first, size), self._glance(chosen.second, size)])

    def _glance(self, picture: Decoded, size: Size) -> NDArray[np.uint8]:
        if self._seen is None or self._seen[0] is not picture or self._seen[1] != size:
            self._seen = (picture, size, self._scaled(picture, size, Interpolation.AREA))
        return self._seen[2]

    def _scaled(self, picture: Decoded, size: Size, how: Interpolation) -> NDArray[np.uint8]:
        stored = picture.orientation.upright(size)
        frame = self._reformatter.reformat(
            picture.frame, stored.width, stored.height, "rgb24", interpolation=how
        )
        return picture.orientation.apply(_array(frame))

    def _convert(self, picture: Decoded, size: Size) -> NDArray[np.uint8]:
        if self._scale == "fast":
            return self._scaled(picture, size, Interpolation.BICUBIC)
        frame = self._reformatter.reformat(picture.frame, format="rgb24")
        rgb = picture.orientation.apply(_array(frame))
        return rgb if picture.size == size else self._resize(rgb, size)
