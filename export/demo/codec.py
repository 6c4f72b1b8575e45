"""Frames through a real H.264 encoder: to a file for the capture path, or there and back in memory."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_CODEC: Final = "libx264"


def encode(frames: Iterable[NDArray[np.uint8]], fps: float, target: Path | io.BytesIO, *, crf: int) -> None:
    """Write an MP4 with one picture a tick, the same bytes on every machine.

    Args:
        frames: Pictures of one even size, uint8, shape (H, W, 3), at least one.
        fps: Pictures per second.
        target: File or buffer.
        crf: x264's constant rate factor: 16 hardly loses anything, 28 visibly.
    """
    import av

    rate = Fraction(fps).limit_denominator(1000)
    where = str(target) if isinstance(target, Path) else target
    with av.open(where, "w", format="mp4") as container:
        options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
        stream: Any = container.add_stream(_CODEC, rate=rate, options=options)
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(frames):
            if number == 0:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def round_trip(frames: NDArray[np.uint8], fps: float, *, crf: int) -> NDArray[np.uint8]:
    """Return frames, shape (n, H, W, 3), as a decoder gives them after encoding."""
    import av
    from av.video.reformatter import VideoReformatter

    buffer = io.BytesIO()
    encode(frames, fps, buffer, crf=crf)
    buffer.seek(0)
    turn = (
        VideoReformatter()
    )  # one for all: a frame's own makes its tables anew, which takes as long as decoding
    with av.open(buffer) as container:
        container.streams.video[0].thread_count = 1
        pictures = [turn.reformat(frame, format="rgb24").to_ndarray() for frame in container.decode(video=0)]
    return np.stack(pictures)
