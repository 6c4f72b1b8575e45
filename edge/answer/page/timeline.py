"""The clip from left to right: its pictures, what the model was shown, and the events as bars over one axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge.answer.page.markup import Html, join, percent, tag
from edge.answer.page.pictures import image
from edge.answer.page.view import Seen, View
from edge.answer.page.words import clock, plural, span
from edge.messages import Answer, Event
from edge.records import Still

_STEPS_S = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300)
_SPANS_MAX = 7
_LANE_PX = 30
_BAR_PX = 22
_SHOWN_PX = 20
_BADGE_PX = 11  # radius
_CHARS = 125  # that fit into the page's full width, roughly; a label is cut to its share of them
_TICK_S = 0.2  # an event at a single moment still has the picture beside it


def timeline(view: View) -> Html:
    """Return the section with film, axis and events; the events' own cards follow it."""
    events = [(answer, event) for answer in view.report.answers for event in answer.events]
    possible = [event for _, event in events if event.valid]
    return tag(
        "section",
        tag("h2", "What happened" if _told(view) else "The clip", id="time"),
        tag(
            "figure",
            _film(view),
            _axis(view.length_s),
            _shown(view),
            _lanes([event for _, event in events], view.length_s) if possible else Html(""),
            tag("figcaption", _caption(view, events)),
            class_="timeline",
        ),
        _cards(view, [event for _, event in events]),
        aria_labelledby="time",
    )


def _told(view: View) -> bool:
    """Return whether anybody asked what happened."""
    return any(answer.kind == "summary" for answer in view.report.answers)


def _film(view: View) -> Html:
    if not view.film:
        return Html("")
    share = 160_000 // len(view.film)
    frames = [
        tag(
            "li",
            image(shot, f"The clip at {clock(shot.time_s)}", max_bytes=share),
            tag("span", clock(shot.time_s)),
        )
        for shot in view.film
    ]
    return tag("ol", *frames, class_="film")


def _axis(length_s: float) -> Html:
    marks = []
    for at_s in _ticks(length_s):
        x = percent(at_s / length_s)
        anchor = "start" if at_s == 0 else "end" if at_s == length_s else "middle"
        marks.append(tag("line", x1=x, x2=x, y1=0, y2=6))
        marks.append(tag("text", clock(at_s), x=x, y=20, text_anchor=anchor))
    return tag("svg", *marks, class_="axis", width="100%", height=24, aria_hidden="true")


def _shown(view: View) -> Html:
    """Return the lane of the pairs that the model was shown, each as high as much had changed in it."""
    counts = view.report.counts
    offered = view.report.answers[0].provenance.pairs_offered
    bars = []
    for start, end, _ in _gaps(view.report.answers):
        x, width = percent(start / view.length_s), percent((end - start) / view.length_s)
        bars.append(tag("rect", class_="unseen", x=x, y=0, width=width, height=_SHOWN_PX))
    pair_share = 2 / view.report.fps / view.length_s
    for first, last, height in _runs(view.seen):
        x, width = percent(first * pair_share), percent((last + 1 - first) * pair_share)
        bars.append(tag("rect", class_="shown", x=x, y=_SHOWN_PX - height, width=width, height=height))
    if counts.pairs < offered:
        said = (
            f"Shown to the model: {counts.pairs:,} of {plural(offered, 'pair')} of frames; in the others the gate found "
            "nothing new. The higher a bar, the more had changed."
        )
    else:
        said = f"Shown to the model: {plural(counts.pairs, 'pair')} of frames"
    return tag(
        "div",
        tag("span", said),
        tag("svg", *bars, width="100%", height=_SHOWN_PX, aria_hidden="true"),
        class_="lane",
    )


def _runs(seen: Sequence[Seen]) -> list[tuple[int, int, int]]:
    """Return the pairs as bars: first and last pair, height; neighbours of one height are one bar."""
    bars: list[tuple[int, int, int]] = []
    for pair in seen:
        # The eye should find a person's share of the picture, a hundredth, beside a whole one.
        height = round(_SHOWN_PX * (1 if pair.score is None else max(0.2, pair.score**0.5)))
        if bars and bars[-1][1:] == (pair.index - 1, height):
            bars[-1] = (bars[-1][0], pair.index, height)
        else:
            bars.append((pair.index, pair.index, height))
    return bars


def _lanes(events: Sequence[Event], length_s: float) -> Html:
    possible = [(number, event) for number, event in enumerate(events, start=1) if event.valid]
    drawn = [_bar(number, event, length_s, _LANE_PX * lane) for lane, (number, event) in enumerate(possible)]
    height = _LANE_PX * len(possible)
    grid = [
        tag("line", class_="grid", x1=percent(at_s / length_s), x2=percent(at_s / length_s), y1=0, y2=height)
        for at_s in _ticks(length_s)
    ]
    return tag("svg", *grid, *drawn, class_="events", width="100%", height=height, aria_hidden="true")


def _bar(number: int, event: Event, length_s: float, top: float) -> Html:
    """Return one event as a bar with its number, and its words on the side that has room for them."""
    start, end = event.start / length_s, min(1.0, event.end / length_s)
    middle = top + _LANE_PX / 2
    shift = _BADGE_PX if start < 0.97 else -_BADGE_PX
    after, before, inside = 1 - max(end, start + 0.03), start, end - start - 0.03
    room = max(after, before, inside)
    place: dict[str, str | int]
    if room == after:
        place = {"x": percent(max(end, start + 0.02)), "dx": 12}
    elif room == inside:
        place = {"x": percent(start), "dx": 2 * _BADGE_PX + 8, "class_": "label inside"}
    else:
        place = {"x": percent(start), "dx": -8, "text_anchor": "end"}
    label = _cut(event.what, int(room * _CHARS))
    return tag(
        "g",
        tag("rect", class_="bar", x=percent(start), y=top + (_LANE_PX - _BAR_PX) / 2, width=percent(end - start),
            height=_BAR_PX, rx=4),
        tag("circle", class_="badge", cx=percent(start), cy=middle, r=_BADGE_PX, transform=f"translate({shift} 0)"),
        tag("text", str(number), class_="number", x=percent(start), y=middle + 4, dx=shift, text_anchor="middle"),
        tag("text", label, y=middle + 4, **({"class_": "label"} | place)),
    )  # fmt: skip


def _caption(view: View, events: Sequence[tuple[Answer, Event]]) -> Html:
    said = []
    if events:
        said.append(f"{plural(len(events), 'event')} in {clock(view.length_s)}. ")
    elif _told(view):
        said.append("The model named no event. ")
    impossible = sum(not event.valid for _, event in events)
    if impossible:
        said.append(f"{impossible} of them with impossible times, which no bar can show. ")
    for start, end, reason in _gaps(view.report.answers):
        said += [f"Not seen: {span(start, end)} (", tag("bdi", reason), "). "]
    return join(*said)


def _cards(view: View, events: Sequence[Event]) -> Html:
    if not events:
        return Html("")
    cards = []
    for number, event in enumerate(events, start=1):
        shot = _picture_of(view, event)
        when = span(event.start, event.end)
        cards.append(
            tag(
                "li",
                image(shot, f"The clip at {clock(shot.time_s)}", max_bytes=640_000 // len(events))
                if shot
                else Html(""),
                tag(
                    "div",
                    tag("p", tag("b", str(number), class_="badge"), tag("span", when), class_="when"),
                    tag("p", event.what, class_="what", dir="auto", lang=view.lang),
                    _basis(event),
                ),
                class_="card" if event.valid else "card doubtful",
            )
        )
    return tag("ol", *cards, class_="cards")


def _basis(event: Event) -> Html:
    """Return what an event rests on."""
    if not event.valid:
        return tag("p", "impossible times, as the model wrote them", class_="flag")
    if event.evidence is None:
        return tag("p", "the model was shown nothing of this span", class_="flag")
    said = [f"rests on {plural(event.evidence.pairs, 'pair')} of frames"]
    if event.confidence is not None:
        said.append(f"confidence {event.confidence:.2f}")
    return tag("p", ", ".join(said), class_="basis")


def _picture_of(view: View, event: Event) -> Still | None:
    if not event.valid:
        return None
    middle = (event.start + event.end) / 2
    near = min(view.stills, key=lambda shot: abs(shot.time_s - middle), default=None)
    if near is None or not event.start - _TICK_S <= near.time_s <= event.end + _TICK_S:
        return None
    return near


def _gaps(answers: Sequence[Answer]) -> list[tuple[float, float, str]]:
    return sorted({(gap.start, gap.end, gap.reason) for answer in answers for gap in answer.gaps})


def _ticks(length_s: float) -> Iterator[float]:
    """Yield the times on the axis: round ones, and the end."""
    step = next((step for step in _STEPS_S if length_s / step <= _SPANS_MAX), _STEPS_S[-1])
    at_s = 0.0
    while at_s < length_s - step / 2:
        yield at_s
        at_s += step
    yield length_s


def _cut(text: str, chars: int) -> str:
    if len(text) <= chars:
        return text
    return f"{text[: chars - 1].rstrip()}…" if chars > 8 else ""
