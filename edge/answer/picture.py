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
    line = max(2, round(max(picture.size) / 320))
    font = _font(max(13, round(max(picture.size) / 46)))
    drawn = [mark for mark in found if mark.drawn]
    for mark in drawn:
        left, right = round(mark.box.x1 * (width - 1)), round(mark.box.x2 * (width - 1))
        top, bottom = round(mark.box.y1 * (height - 1)), round(mark.box.y2 * (height - 1))
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=_HALO, width=line + 2)
        draw.rectangle((left, top, right, bottom), outline=mark.colour, width=line)
    for relation in relations:
        found_arrow = arrow(relation, found)
        if found_arrow is not None:
            (x1, y1), (x2, y2) = centre(found_arrow.subject.box), centre(found_arrow.object.box)
            _arrow(draw, (x1 * width, y1 * height), (x2 * width, y2 * height), line)
    for mark in drawn:
        _label(draw, mark, font, picture.size)


def _arrow(
    draw: ImageDraw.ImageDraw, start: tuple[float, float], end: tuple[float, float], line: int
) -> None:
    for colour, more in ((_HALO, 2), (_INK, 0)):
        draw.line((start, end), fill=colour, width=line + more)
        radius = 2 * line + more
        draw.ellipse((end[0] - radius, end[1] - radius, end[0] + radius, end[1] + radius), fill=colour)


def _label(
    draw: ImageDraw.ImageDraw,
    mark: Mark,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: tuple[int, int],
) -> None:
    """Write number and label above the box, or inside it where there is no room above; always within the picture."""
    words = plain(mark.label)
    words = words if len(words) <= _LABEL_CHARS else f"{words[: _LABEL_CHARS - 1]}…"
    caption = f"{mark.number} {words}"
    left, top, right, bottom = draw.textbbox((0, 0), caption, font=font)
    pad = 4
    wide, high = right - left + 2 * pad, bottom - top + 2 * pad
    x = max(0.0, min(mark.box.x1 * size[0], size[0] - wide))
    y = mark.box.y1 * size[1] - high
    if y < 0:
        y = min(mark.box.y1 * size[1], size[1] - high)
    draw.rectangle((x, y, x + wide, y + high), fill=_HALO)
    draw.rectangle((x, y, x + 3, y + high), fill=mark.colour)
    draw.text((x + pad + 2 - left, y + pad - top), caption, font=font, fill=_INK)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    for name in _FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)
