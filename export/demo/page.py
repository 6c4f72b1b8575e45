"""An HTML page of examined clips: a strip of pictures with boxes, truth and answer side by side; stands by itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from edge.messages import Answer
from export.demo.exam import Film

_PICTURES: Final = 6
_ZOOM: Final = 2
_TRUE: Final = (60, 255, 60)
_TOLD: Final = (255, 60, 60)
_HEAD: Final = """<!doctype html><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px/1.4 sans-serif; max-width: 1600px; margin: 1em auto; padding: 0 1em }}
td, th {{ vertical-align: top; text-align: left; padding: .2em 1em .2em 0; width: 50% }}
table {{ width: 100%; border-bottom: 1px solid #ccc; margin-bottom: 1em }}
</style><h1>{title}</h1><p>Left: the truth, green boxes. Right: the answer, red boxes in the last picture.</p>
"""


def draw(examples: Iterable[tuple[Film, Sequence[Answer]]], recipe: str) -> str:
    """Return the page.

    Args:
        examples: Clips with the answers to `exam.prompts_of` them.
        recipe: Of the bundle that answered.
    """
    parts = [_HEAD.format(title=escape(f"Demo model, {recipe}: examples"))]
    for film, answers in examples:
        rows = [("Truth", "Answer"), (film.true.headline, answers[0].headline)]
        rows.append((film.true.summary, answers[0].summary))
        true = [f"{event.start_s:.1f} to {event.end_s:.1f} s: {event.what}" for event in film.true.events]
        told = [f"{event.start:.1f} to {event.end:.1f} s: {event.what}" for event in answers[0].events]
        rows.append(("\n".join(true) or "no events", "\n".join(told) or "no events"))
        stand = [f"{each.subject} {each.relation} {each.object}" for each in film.true.relations()]
        said = [f"{each.subject} {each.relation} {each.object}" for each in answers[1].relations]
        rows.append(("\n".join(stand), "\n".join(said)))
        for question, answer in zip(film.questions, answers[2:], strict=True):
            rows.append((f"{question.text}\n{question.answer}", f"\n{answer.text}"))
        parts.append(f'<img alt="" src="data:image/png;base64,{_strip(film, answers[1])}"><table>')
        parts += [f"<tr><td>{_lines(left)}</td><td>{_lines(right)}</td></tr>" for left, right in rows]
        parts.append("</table>")
    return "\n".join(parts) + "\n"


def _lines(text: str) -> str:
    return escape(text).replace("\n", "<br>")


def _strip(film: Film, answer: Answer) -> str:
    """Return pictures from the clip's beginning to its end as PNG in base64, with boxes in the last."""
    places = np.linspace(0, len(film.pairs) - 1, _PICTURES).round().astype(int)
    strip = np.concatenate([film.pairs[int(place)].frames[1] for place in places], axis=1)
    height, width = strip.shape[0] * _ZOOM, strip.shape[1] * _ZOOM
    picture = Image.fromarray(strip).resize((width, height), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(picture)
    one = width / _PICTURES
    boxes = [(_TRUE, [side / 1000 for side in sight.box]) for sight in film.true.sights()]
    boxes += [
        (_TOLD, [seen.box.x1, seen.box.y1, seen.box.x2, seen.box.y2]) for seen in answer.objects if seen.valid
    ]
    for colour, (x1, y1, x2, y2) in boxes:
        left = width - one
        pen.rectangle((left + x1 * one, y1 * height, left + x2 * one, y2 * height), outline=colour)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
