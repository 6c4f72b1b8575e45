"""The whole page: one file, no script, nothing loaded from anywhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from edge import __version__
from edge.answer.page.facts import file_name, origin, trust, work
from edge.answer.page.markup import Html, tag
from edge.answer.page.places import places
from edge.answer.page.standing import standing
from edge.answer.page.timeline import timeline
from edge.answer.page.view import View
from edge.answer.page.watch import watches
from edge.answer.page.words import DASH, clock
from edge.answer.result import lines
from edge.messages import Answer

_LONG_CHARS = 120  # of a heading; beyond, it is set smaller


def page(view: View) -> bytes:
    """Return a clip as one HTML document, UTF-8.

    It holds its pictures and its style, and no script. Its Content-Security-Policy allows nothing else: not even a
    style that somebody smuggled in, since the one it has is named by its hash.

    Args:
        view: What to show; at least one answer.
    """
    first = _first(view)
    style = _style()
    hashed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashed}'; base-uri 'none'; form-action 'none'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="generator", content=f"edgeclip {__version__}"),
        tag("title", f"{first.headline} · {file_name(view.report.video.path)}", lang=view.lang),
        Html(f"<style>{style}</style>"),
    )
    body = tag("body", tag("main", *_sections(view, first)))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n".encode()


def _sections(view: View, first: Answer) -> list[Html]:
    answers = view.report.answers
    shown = [_header(view, first)]
    shown += [_asked(view, answer) for answer in answers if answer.kind == "ask" and answer is not first]
    shown += [watches(answer, view.lang) for answer in answers if answer.watches]
    shown.append(timeline(view))
    shown += places(view, first)
    shown += [work(view.report), origin(view), trust(view.report)]
    return shown


def _first(view: View) -> Answer:
    """Return the answer that heads the page: the first summary, else the first of all."""
    answers = view.report.answers
    return next((answer for answer in answers if answer.kind == "summary"), answers[0])


def _header(view: View, first: Answer) -> Html:
    video = view.report.video
    parts = [
        tag(
            "p",
            tag("b", "edgeclip"),
            tag("span", file_name(video.path), dir="auto"),
            tag("span", f"{clock(video.start)} {DASH} {clock(video.end)}"),
            class_="source",
        )
    ]
    if view.report.note:
        parts.append(
            tag("p", tag("b", "Do not rely on this. "), view.report.note, class_="warning", role="note")
        )
    if first.kind != "summary" and view.words(first.prompt):
        parts.append(tag("p", view.words(first.prompt), class_="question", dir="auto"))
    if first.result is None:
        parts.append(_heading(first.text or first.headline, view.lang))
    else:
        parts += [_heading("The answer"), _result(first.result, view.lang)]
    if first.summary:
        parts.append(tag("p", first.summary, class_="lead", dir="auto", lang=view.lang))
    parts.append(standing(first))
    parts.append(_figures(view, first))
    return tag("header", *parts)


def _heading(words: str, lang: str | None = None) -> Html:
    return tag("h1", words, class_="long" if len(words) > _LONG_CHARS else None, dir="auto", lang=lang)


def _asked(view: View, answer: Answer) -> Html:
    heading = f"ask-{answer.prompt}"
    return tag(
        "section",
        tag("h2", view.words(answer.prompt) or "A question", id=heading, dir="auto"),
        tag("p", answer.text, class_="lead", dir="auto", lang=view.lang)
        if answer.result is None
        else _result(answer.result, view.lang),
        standing(answer),
        aria_labelledby=heading,
    )


def _result(result: Mapping[str, Any], lang: str | None) -> Html:
    """Return an object under an asker's schema: each place with its value."""
    rows = [
        tag("tr", tag("th", place, scope="row", dir="auto"), tag("td", value, dir="auto", lang=lang))
        for place, value in lines(result)
    ]
    return tag("table", tag("tbody", *rows), class_="result")


def _figures(view: View, first: Answer) -> Html:
    """Return the numbers that a reader wants first."""
    report, counts = view.report, view.report.counts
    offered = report.answers[0].provenance.pairs_offered
    figures = [(f"{view.length_s:.0f} s", "of video")]
    if counts.pairs == offered:
        figures.append((f"{counts.frames:,}", _noun(counts.frames, "frame", "frames") + " looked at"))
    else:
        figures.append(
            (f"{counts.pairs / offered:.0%}".replace("%", " %"), "of the frames shown to the model")
        )
    kinds = {answer.kind for answer in report.answers}
    if first.counts is not None:
        figures.append((f"{first.counts.people}", _noun(first.counts.people, "person", "people")))
        figures.append((f"{first.counts.vehicles}", _noun(first.counts.vehicles, "vehicle", "vehicles")))
        figures.append((f"{first.counts.animals}", _noun(first.counts.animals, "animal", "animals")))
    elif "summary" in kinds:
        events = sum(len(answer.events) for answer in report.answers)
        figures.append((f"{events}", _noun(events, "event", "events")))
    if "spatial" in kinds:
        objects = sum(len(answer.objects) for answer in report.answers)
        figures.append((f"{objects}", _noun(objects, "object", "objects") + " placed"))
    figures.append((f"{report.seconds.total:.0f} s", "of work"))
    tiles = [tag("li", tag("b", number), " ", tag("span", what)) for number, what in figures]
    return tag("ul", *tiles, class_="figures")


def _noun(count: int, one: str, many: str) -> str:
    return one if count == 1 else many


@cache
def _style() -> str:
    return files("edge.answer.page").joinpath("page.css").read_text(encoding="utf-8")
