"""Rasterises the pictograms of the demo world: `python -m export.demo.pictograms ICONS OUT`.

ICONS is a folder of SVG files of Material Design Icons (Apache-2.0), such as ``material/templates/.icons/material`` of
the package mkdocs-material. OUT is ``edge/demo/world/pictograms.npz``: for each kind of sprite uint8, shape (2, h, w),
the longer side `SIDE`: how much of a pixel the silhouette covers, and how bright it is painted (255: the sprite's
colour, 0: its shade, in which windows and lines are painted).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIDE: Final = 64
_OVER: Final = 16  # samples to a side of a pixel
_CURVE: Final = 24  # straight pieces of a curve
_BOX: Final = 24  # side of the icons' own box

ICONS: Final = {
    "person": "human-male",
    "car": "car-side",
    "bicycle": "bicycle",
    "dog": "dog-side",
    "parcel": "package-variant-closed",
}
_HOLES: Final = frozenset({"car", "parcel"})  # windows and lines, which nothing behind shows through
_FACES: Final = frozenset({"parcel"})  # its icon is drawn in lines: paint what lies between them

Point = complex
_TOKEN = re.compile(r"[a-zA-Z]|-?(?:\d+\.?\d*|\.\d+)")


def outlines(path: str) -> list[list[Point]]:
    """Return the closed outlines of an SVG path as polygons, x + iy.

    Follows SVG 1.1, section 8.3, for the commands that these icons use: m l h v c s a z.
    """
    tokens = _TOKEN.findall(path)
    found: list[list[Point]] = []
    at = start = handle = 0j
    command = ""
    place = 0

    def number() -> float:
        nonlocal place
        place += 1
        return float(tokens[place - 1])

    def point(relative: bool) -> Point:  # noqa: FBT001  # the two cases of every command
        return (at if relative else 0j) + complex(number(), number())

    while place < len(tokens):
        if tokens[place].isalpha():
            command = tokens[place]
            place += 1
        kind, relative = command.lower(), command.islower()
        last_handle, handle = handle, 0j
        if kind == "z":
            at = start
            continue
        if kind == "m":
            at = start = point(relative)
            found.append([at])
            command = "l" if relative else "L"
            continue
        pieces: list[Point]
        if kind == "l":
            pieces = [point(relative)]
        elif kind == "h":
            pieces = [complex(number() + (at.real if relative else 0), at.imag)]
        elif kind == "v":
            pieces = [complex(at.real, number() + (at.imag if relative else 0))]
        elif kind in "cs":
            first = point(relative) if kind == "c" else at + last_handle
            second, end = point(relative), point(relative)
            handle = end - second
            pieces = list(_cubic(at, first, second, end))
        elif kind == "a":
            radius, _, _ = number(), number(), number()
            large, sweep = number() > 0, number() > 0
            pieces = list(_arc(at, point(relative), radius, large=large, sweep=sweep))
        else:
            raise ValueError(f"the path uses {command}, which is not known here")
        found[-1] += pieces
        at = pieces[-1]
    return found


def raster(polygons: list[list[Point]]) -> NDArray[np.float64]:
    """Return the coverage 0..1 of what the outlines enclose by the even-odd rule, cropped, the longer side `SIDE`."""
    every = np.array([point for polygon in polygons for point in polygon])
    low, high = complex(every.real.min(), every.imag.min()), complex(every.real.max(), every.imag.max())
    span = high - low
    scale = SIDE * _OVER / max(span.real, span.imag)
    width, height = (max(1, round(side * scale / _OVER)) for side in (span.real, span.imag))
    fine = np.zeros((height * _OVER, width * _OVER), bool)
    for polygon in polygons:
        layer = Image.new("1", (fine.shape[1], fine.shape[0]))
        corners = [((p - low).real * scale, (p - low).imag * scale) for p in polygon]
        ImageDraw.Draw(layer).polygon(corners, fill=1)
        fine ^= np.asarray(layer)
    cover: NDArray[np.float64] = fine.reshape(height, _OVER, width, _OVER).mean((1, 3))
    return cover


def pictogram(kind: str, polygons: list[list[Point]]) -> NDArray[np.uint8]:
    """Return cover and tone of one kind, uint8, shape (2, h, w)."""
    ink = raster(polygons)
    if kind not in _HOLES:
        cover, tone = ink, np.ones_like(ink)
    else:
        # The longest outline is the silhouette; the others are windows, lines and wheels in it.
        cover = raster([max(polygons, key=_area)])
        tone = np.where(cover > 0, np.minimum(1, ink / np.maximum(cover, 1e-9)), 1)
        if kind in _FACES:
            tone = 1 - tone
    return np.rint(np.stack([cover, tone]) * 255).astype(np.uint8)


def shapes() -> dict[str, list[list[Point]]]:
    """Return the outlines of the plain shapes."""
    turns = np.exp(2j * np.pi * np.arange(180) / 180)
    return {
        "circle": [list(turns)],
        "square": [[-1 - 1j, 1 - 1j, 1 + 1j, -1 + 1j]],
        "triangle": [[-1 + 0.75j, 1 + 0.75j, -1j]],
    }


def _area(polygon: list[Point]) -> float:
    corners = np.array(polygon)
    return float(abs((corners.conj() * np.roll(corners, -1)).imag.sum()))


def _cubic(start: Point, first: Point, second: Point, end: Point) -> Iterator[Point]:
    for step in range(1, _CURVE + 1):
        t = step / _CURVE
        yield (1 - t) ** 3 * start + 3 * (1 - t) ** 2 * t * first + 3 * (1 - t) * t * t * second + t**3 * end


def _arc(start: Point, end: Point, radius: float, *, large: bool, sweep: bool) -> Iterator[Point]:
    """Yield a circle's arc: SVG 1.1, appendix F.6.5, with equal radii."""
    chord = (end - start) / 2
    radius = max(radius, abs(chord))
    off = (radius**2 - abs(chord) ** 2) ** 0.5 * (1 if large != sweep else -1)
    centre = (start + end) / 2 + (chord / abs(chord)) * 1j * off
    begin = np.angle(start - centre)
    turn = np.angle((end - centre) / (start - centre))
    if sweep and turn < 0:
        turn += 2 * np.pi
    elif not sweep and turn > 0:
        turn -= 2 * np.pi
    for step in range(1, _CURVE):
        yield centre + radius * np.exp(1j * (begin + turn * step / _CURVE))
    yield end


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m export.demo.pictograms", description=__doc__)
    parser.add_argument("icons", type=Path, help="folder of SVG files")
    parser.add_argument("out", type=Path, help="the sheet, .npz")
    options = parser.parse_args()
    drawn = {kind: pictogram(kind, polygons) for kind, polygons in shapes().items()}
    for kind, name in ICONS.items():
        svg = (options.icons / f"{name}.svg").read_text(encoding="utf-8")
        path = re.search(r'\sd="([^"]+)"', svg)
        if path is None:
            raise SystemExit(f"{name}.svg holds no path")
        drawn[kind] = pictogram(kind, outlines(path[1]))
    # The stub of savez knows keyword arguments only by name.
    np.savez_compressed(options.out, allow_pickle=False, **drawn)  # type: ignore[arg-type,unused-ignore]
    sys.stdout.write(f"{options.out}: {options.out.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
