"""Where things are: the picture that the boxes refer to, the boxes over it, and the same in words beside it."""

from __future__ import annotations

from collections.abc import Sequence

from edge.answer.marks import Arrow, Mark, arrow, centre, marks
from edge.answer.page.markup import Html, Value, join, percent, tag
from edge.answer.page.pictures import image
from edge.answer.page.standing import standing
from edge.answer.page.view import View
from edge.answer.page.words import DASH, clock, place, size
from edge.answer.text import PROBLEMS
from edge.messages import Answer, Box, Relation
from edge.records import Still

_DASHES = (None, "9 4", "3 3", "12 3 3 3")  # told apart without colour; the number says it too
_BADGE_PX = 11
_LABEL_CHARS = 22
_PLACES_BYTES = 500_000


def places(view: View, first: Answer) -> list[Html]:
    """Return one section per answer that has boxes or was asked for them.

    Args:
        view: What to show.
        first: The answer that heads the page, and is not said twice.
    """
    answers = [answer for answer in view.report.answers if answer.kind == "spatial" or answer.objects]
    return [
        _section(view, answer, index, len(answers), heads=answer is first)
        for index, answer in enumerate(answers)
    ]


def _section(view: View, answer: Answer, index: int, count: int, *, heads: bool) -> Html:
    shot = view.places.get(answer.id)
    found = marks(answer.objects)
    arrows = [(relation, arrow(relation, found)) for relation in answer.relations]
    drawn = [made for _, made in arrows if made is not None]
    letters = {id(made): chr(ord("A") + order) for order, made in enumerate(drawn)}
    heading = f"places{index}"
    parts = []
    if shot is not None:
        parts.append(
            tag(
                "figure",
                tag(
                    "div",
                    image(shot, _alt(found, shot), max_bytes=_PLACES_BYTES // count),
                    _overlay(found, drawn, answer.free, index),
                    class_="frame",
                ),
                tag("figcaption", _caption(answer, shot)),
                class_="scene",
            )
        )
    lang = view.lang
    items = [_item(mark, lang) for mark in found]
    words = (
        [tag("h3", "Objects"), tag("ol", *items, class_="objects")]
        if items
        else [tag("p", "No object was named.")]
    )
    if answer.relations:
        rows = [_relation(relation, letters.get(id(made)), lang) for relation, made in arrows]
        words += [tag("h3", "How they stand to each other"), tag("ul", *rows, class_="relations")]
    words += _room(answer, found, lang)
    return tag(
        "section",
        tag("h2", "Where things are", id=heading),
        *(
            []
            if heads
            else [tag("p", answer.headline, class_="lead", dir="auto", lang=lang), standing(answer)]
        ),
        tag("div", *parts, tag("div", *words), class_="places"),
        aria_labelledby=heading,
    )


def _caption(answer: Answer, shot: Still) -> str:
    at = clock(shot.time_s, exact=True)
    key_frame = answer.key_frame
    refer = ", to which the boxes refer" if answer.objects else ""
    if key_frame is None:
        return f"The last picture, at {at}{refer}."
    shown = size(key_frame.width, key_frame.height)
    return f"The sharp picture that the model was shown, at {at}{refer}; it saw it at {shown} pixels."


def _room(answer: Answer, found: Sequence[Mark], lang: str | None) -> list[Html]:
    """Return what was worked out from the boxes: what is nearest, where nothing stands."""
    said = []
    if answer.nearest:
        said.append(tag("p", "Nearest: ", tag("b", answer.nearest, dir="auto", lang=lang), class_="room"))
    if answer.free is not None and found:
        said.append(tag("p", f"Free: {place(answer.free)} (dotted in the picture)", class_="room"))
    return said


def _alt(found: Sequence[Mark], shot: Still) -> str:
    drawn = [f"{mark.number} {mark.label}, {place(mark.box)}" for mark in found if mark.drawn]
    return f"The clip at {clock(shot.time_s)}, with boxes around: {'; '.join(drawn) or 'nothing'}"


def _item(mark: Mark, lang: str | None) -> Html:
    return tag(
        "li",
        tag("b", str(mark.number), class_="badge"),
        tag("span", mark.label, class_="what", dir="auto", lang=lang),
        tag("span", place(mark.box), class_="where")
        if mark.drawn
        else tag("span", f"{PROBLEMS[mark.problem]}, not drawn", class_="flag"),
    )


def _relation(relation: Relation, letter: str | None, lang: str | None) -> Html:
    words = [
        tag("span", relation.subject, class_="end", dir="auto", lang=lang),
        # What was worked out is said in the page's own language.
        tag(
            "span",
            relation.relation,
            class_="link",
            dir="auto",
            lang=lang if relation.source == "model" else None,
        ),
        tag("span", relation.object, class_="end", dir="auto", lang=lang),
    ]
    if not relation.valid:
        words.append(tag("span", "(not between two of the objects)", class_="flag"))
    return tag("li", tag("b", letter or DASH, class_="letter"), tag("span", join(*_spaced(words))))


def _spaced(words: Sequence[Html]) -> list[str]:
    return [part for word in words for part in (word, " ")][:-1]


def _overlay(found: Sequence[Mark], arrows: Sequence[Arrow], free: Box | None, index: int) -> Html:
    tip = f"tip{index}"
    drawn = [mark for mark in found if mark.drawn]
    return tag(
        "svg",
        tag(
            "defs",
            tag(
                "marker",
                tag("path", d="M0 0L8 4L0 8z"),
                id=tip,
                markerWidth=8,
                markerHeight=8,
                refX=7,
                refY=4,
                orient="auto",
                markerUnits="userSpaceOnUse",
            ),
        ),
        tag("rect", class_="free", **_where(free)) if free is not None and found else Html(""),
        *(_box(mark) for mark in drawn),
        *(_line(made, order, tip) for order, made in enumerate(arrows)),
        *(_name(mark) for mark in drawn),
        width="100%",
        height="100%",
        aria_hidden="true",
    )


def _box(mark: Mark) -> Html:
    where = _where(mark.box)
    dash = _DASHES[(mark.number - 1) % len(_DASHES)]
    return join(
        tag("rect", class_="halo", **where),
        tag("rect", class_="box", stroke=mark.colour, stroke_dasharray=dash, **where),
    )


def _where(box: Box) -> dict[str, Value]:
    width, height = box.x2 - box.x1, box.y2 - box.y1
    return {
        "x": percent(box.x1), "y": percent(box.y1), "width": percent(width), "height": percent(height), "rx": 2
    }  # fmt: skip


def _line(made: Arrow, order: int, tip: str) -> Html:
    (x1, y1), (x2, y2) = centre(made.subject.box), centre(made.object.box)
    ends = {"x1": percent(x1), "y1": percent(y1), "x2": percent(x2), "y2": percent(y2)}
    x, y = percent((x1 + x2) / 2), percent((y1 + y2) / 2)
    return tag(
        "g",
        tag("line", class_="halo", **ends),
        tag("line", class_="arrow", marker_end=f"url(#{tip})", **ends),
        tag("rect", class_="letter", x=x, y=y, width=18, height=18, rx=3, transform="translate(-9 -9)"),
        tag("text", chr(ord("A") + order), class_="number", x=x, y=y, dy=4, text_anchor="middle"),
    )


def _name(mark: Mark) -> Html:
    """Return number and label above the box, or below its upper edge where there is no room above."""
    left = mark.box.x1 < 0.65
    x, shift = percent(mark.box.x1 if left else mark.box.x2), _BADGE_PX if left else -_BADGE_PX
    y, rise = percent(mark.box.y1), -_BADGE_PX - 1 if mark.box.y1 > 0.08 else _BADGE_PX + 1
    label = mark.label if len(mark.label) <= _LABEL_CHARS else f"{mark.label[: _LABEL_CHARS - 1]}…"
    return tag(
        "g",
        tag("circle", class_="badge", cx=x, cy=y, r=_BADGE_PX),
        tag("text", str(mark.number), class_="number", x=x, y=y, dy=4, text_anchor="middle"),
        tag(
            "text",
            label,
            class_="label",
            x=x,
            y=y,
            dy=4,
            dx=16 if left else -16,
            text_anchor="start" if left else "end",
        ),
        transform=f"translate({shift} {rise})",
    )
