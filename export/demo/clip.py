"""Draws the video inside the package: a minute of shapes that cross a yard. `python -m export.demo.clip OUT`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

HEIGHT: Final = 240
WIDTH: Final = 320
FPS: Final = 10  # not the service's 8: a camera's clock is never the grid's
SECONDS: Final = 60
SEED: Final = 7

_CODEC: Final = "libx264"
_OPTIONS: Final = {
    "crf": "27",
    "preset": "slow",
    "threads": "1",
}  # one thread: the same bytes on every machine


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape that moves on a straight line from ``start_s`` to ``end_s`` and is not there before and after.

    Attributes:
        kind: ``box`` or ``disc``.
        colour: RGB.
        size: Height and width in pixels.
        begin: Centre (y, x) at ``start_s``.
        end: Centre (y, x) at ``end_s``.
    """

    kind: str
    colour: tuple[int, int, int]
    size: tuple[int, int]
    start_s: float
    end_s: float
    begin: tuple[float, float]
    end: tuple[float, float]


SHAPES: Final = (
    Shape("box", (200, 40, 40), (34, 70), 4.0, 12.0, (170.0, -40.0), (170.0, 150.0)),  # a red box comes
    Shape("box", (200, 40, 40), (34, 70), 12.0, 31.0, (170.0, 150.0), (170.0, 150.0)),  # stands
    Shape("box", (200, 40, 40), (34, 70), 31.0, 37.0, (170.0, 150.0), (170.0, 360.0)),  # and leaves
    Shape(
        "disc", (240, 220, 60), (28, 28), 8.0, 45.0, (90.0, 340.0), (200.0, -20.0)
    ),  # a yellow disc crosses
    Shape("disc", (60, 90, 220), (20, 20), 40.0, 60.0, (60.0, 40.0), (60.0, 280.0)),  # a blue one, slowly
)


def frames() -> Iterator[NDArray[np.uint8]]:
    """Yield the pictures, uint8, shape (HEIGHT, WIDTH, 3), RGB."""
    ground = _ground()
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    for number in range(SECONDS * FPS):
        time_s = number / FPS
        picture = ground.copy()
        for shape in SHAPES:
            if shape.start_s <= time_s < shape.end_s:
                share = (time_s - shape.start_s) / (shape.end_s - shape.start_s)
                down = y - (shape.begin[0] + share * (shape.end[0] - shape.begin[0]))
                right = x - (shape.begin[1] + share * (shape.end[1] - shape.begin[1]))
                half = shape.size[0] / 2, shape.size[1] / 2
                if shape.kind == "box":
                    inside = (np.abs(down) <= half[0]) & (np.abs(right) <= half[1])
                else:
                    inside = (down / half[0]) ** 2 + (right / half[1]) ** 2 <= 1
                picture[inside] = shape.colour
        yield picture


def write(out: Path, *, seconds: float = SECONDS) -> Path:
    """Encode the video as H.264 in MP4.

    Args:
        out: The file.
        seconds: Length; a test needs no minute.
    """
    import av

    with av.open(str(out), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream(_CODEC, rate=FPS, options=dict(_OPTIONS))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number, picture in enumerate(frames()):
            if number >= seconds * FPS:
                break
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out


def _ground() -> NDArray[np.uint8]:
    """Return the yard: coarse noise, smoothed, brighter towards the horizon, with a wall and a path."""
    rng = np.random.default_rng(SEED)
    coarse = rng.normal(0.0, 14.0, (HEIGHT // 8 + 2, WIDTH // 8 + 2))
    rows, columns = np.arange(HEIGHT) / 8, np.arange(WIDTH) / 8
    top, left = rows.astype(int), columns.astype(int)
    down, right = (rows - top)[:, None], (columns - left)[None, :]
    noise = (
        coarse[np.ix_(top, left)] * (1 - down) * (1 - right)
        + coarse[np.ix_(top + 1, left)] * down * (1 - right)
        + coarse[np.ix_(top, left + 1)] * (1 - down) * right
        + coarse[np.ix_(top + 1, left + 1)] * down * right
    )
    colour = np.empty((HEIGHT, WIDTH, 3))
    colour[:] = (96, 120, 84)
    colour[:50] = (150, 142, 134)  # the wall
    colour[150:195] = (128, 124, 118)  # the path
    colour += noise[..., None] - np.linspace(0, 24, HEIGHT)[:, None, None]
    return colour.clip(0, 255).astype(np.uint8)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m export.demo.clip", description=__doc__)
    parser.add_argument("out", type=Path, help="the file, .mp4")
    out = write(parser.parse_args().out)
    sys.stdout.write(f"{out}: {out.stat().st_size / 1024:.0f} KiB\n")


if __name__ == "__main__":
    main()
