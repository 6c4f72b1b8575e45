"""A picture with an answer's boxes drawn on it, and pictures as files within a number of bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from edge.answer.marks import Mark, arrow, centre, marks
from edge.answer.text import plain
from edge.messages import Relation, SeenObject

Form = Literal["png", "jpeg"]

DRAWN_PX = 640  # a smaller picture is enlarged first: a label of 14 pixels would cover a model-sized one
_QUALITIES = (85, 75, 60, 45, 30)
_SMALLEST_PX = 32
_LABEL_CHARS = 32
_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf")  # Pillow's own knows little beyond Latin
_INK = (255, 255, 255)
_HALO = (16, 18, 20)


def annotated(
    rgb: NDArray[np.uint8],
    objects: Sequence[SeenObject],
    relations: Sequence[Relation] = (),
    *,
    form: Form = "png",
    max_bytes: int | None = None,
) -> bytes:
    """Draw an answer's boxes, their numbers and labels, and its relations where they are clear; encode the picture.

    Labels are only ever drawn, as one line each. Impossible and repeated boxes are left out.

    Args:
        rgb: The picture that the boxes refer to, uint8, shape (H, W, 3).
        objects: The answer's objects.
        relations: The answer's relations.
        form: ``png`` or ``jpeg``.
        max_bytes: Of a JPEG: see `jpeg`.

    Returns:
        The encoded picture.
    """
    picture = Image.fromarray(np.ascontiguousarray(rgb), "RGB")
    longest = max(picture.size)
    if longest < DRAWN_PX:
        factor = DRAWN_PX / longest
        picture = picture.resize(
            (max(1, round(picture.width * factor)), max(1, round(picture.height * factor))),
            Image.Resampling.LANCZOS,
        )
    _draw(picture, marks(objects), relations)
    return _png(picture) if form == "png" else _within(picture, max_bytes)


def jpeg(rgb: NDArray[np.uint8], *, longest_px: int | None = None, max_bytes: int | None = None) -> bytes:
    """Encode a picture, as well as it can be within ``max_bytes``.

    Args:
        rgb: uint8, shape (H, W, 3).
        longest_px: A larger picture is scaled down to it first.
        max_bytes: Quality gives way first, then size, down to 32 pixels.
    """
    picture = Image.fromarray(np.ascontiguousarray(rgb), "RGB")
    if longest_px is not None:
        picture.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    return _within(picture, max_bytes)


def _png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True)
    return out.getvalue()


def _within(picture: Image.Image, max_bytes: int | None) -> bytes:
    while True:
        for quality in _QUALITIES:
            out = io.BytesIO()
            picture.save(out, "JPEG", quality=quality, optimize=True)
            if max_bytes is None or out.tell() <= max_bytes:
                return out.getvalue()
        if max(picture.size) <= _SMALLEST_PX:
            return out.getvalue()
        picture = picture.resize(
            (max(1, picture.width // 2), max(1, picture.height // 2)), Image.Resampling.LANCZOS
        )


def _draw(picture: Image.Image, found: Sequence[Mark], relations: Sequence[Relation]) -> None:
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    line = max(2, round(max(picture.size) / 280))
    size = max(13, round(max(picture.size) / 46))
    drawn = [mark for mark in found if mark.drawn]
    for mark in drawn:
        left, right = round(mark.box.x1 * (width - 1)), round(mark.box.x2 * (width - 1))
        top, bottom = round(mark.box.y1 * (height - 1)), round(mark.box.y2 * (height - 1))
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=_HALO, width=line + 2)
        draw.rectangle((left, top, right, bottom), outline=mark.colour, width=line)
    arrows = [made for relation in relations if (made := arrow(relation, found)) is not None]
    for made in arrows:
        (x1, y1), (x2, y2) = centre(made.subject.box), centre(made.object.box)
        _arrow(draw, (x1 * width, y1 * height), (x2 * width, y2 * height), line)
    for made in arrows:  # over all lines
        (x1, y1), (x2, y2) = centre(made.subject.box), centre(made.object.box)
        middle = (x1 + x2) / 2 * width, (y1 + y2) / 2 * height
        _caption(draw, _cut(made.relation), middle, _font(round(size * 0.8)), picture.size, centred=True)
    for mark in drawn:
        at = mark.box.x1 * width, mark.box.y1 * height
        _caption(draw, f"{mark.number} {_cut(mark.label)}", at, _font(size), picture.size, colour=mark.colour)


def _arrow(
    draw: ImageDraw.ImageDraw, start: tuple[float, float], end: tuple[float, float], line: int
) -> None:
    """Draw a line that ends in a dot at what the relation is to."""
    for colour, more in ((_HALO, 2), (_INK, 0)):
        draw.line((start, end), fill=colour, width=line + more)
        radius = 2 * line + more
        draw.ellipse((end[0] - radius, end[1] - radius, end[0] + radius, end[1] + radius), fill=colour)


def _caption(
    draw: ImageDraw.ImageDraw,
    words: str,
    at: tuple[float, float],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: tuple[int, int],
    *,
    colour: str | None = None,
    centred: bool = False,
) -> None:
    """Write a line on a dark ground: around a point, or above it, and below where there is no room; in the picture."""
    left, top, right, bottom = draw.textbbox((0, 0), words, font=font)
    pad = 4
    wide, high = right - left + 2 * pad, bottom - top + 2 * pad
    x, y = (at[0] - wide / 2, at[1] - high / 2) if centred else (at[0], at[1] - high)
    if y < 0:
        y = at[1]
    x, y = max(0.0, min(x, size[0] - wide)), max(0.0, min(y, size[1] - high))
    draw.rectangle((x, y, x + wide, y + high), fill=_HALO)
    if colour is not None:
        draw.rectangle((x, y, x + 3, y + high), fill=colour)
    draw.text((x + pad + (2 if colour else 0) - left, y + pad - top), words, font=font, fill=_INK)


def _cut(words: str) -> str:
    said = plain(words)
    return said if len(said) <= _LABEL_CHARS else f"{said[: _LABEL_CHARS - 1]}…"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    for name in _FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)
