"""A clip's view for the tests of the page: every text field filled with one text, whatever that is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from edge.answer import report
from edge.answer.page.view import Asked, Seen, View, moments
from edge.answer.report import ClipReport, Memory, Seconds, Video
from edge.messages import (
    EVENT_CHARS,
    HEADLINE_CHARS,
    LABEL_CHARS,
    SEEN_CHARS,
    SUMMARY_CHARS,
    TEXT_CHARS,
    Answer,
    Box,
    Confidence,
    Counts,
    Event,
    Evidence,
    Gap,
    KeyFrame,
    Latency,
    Provenance,
    Relation,
    SeenObject,
    Watched,
)
from edge.records import Still

HOSTILE = (
    "<script>window.ran = 1; alert(1)</script>",
    '"><img src=x onerror="window.ran = 1">',
    "</style><style>body { display: none }</style><svg onload=alert(1)>",
    "</title></head><body onload=alert(1)><iframe src='javascript:alert(1)'></iframe>",
    "' autofocus onfocus='alert(1)' x='",
    "&lt;script&gt; &#60;b&#62; &amp;amp; &quot; &nosuch; &",
    "<!-- <!doctype html> ]]> <![CDATA[ <?xml ?> -->",
    "\u202eright to left\u202c \u2066isolated\u2069 \u200f\u061c",
    "one\ntwo\r\nthree\tfour\u2028five\x85six\x1b[2Jseven\x00eight",
    "W" * 200,
    "مرحبا بالعالم " * 8,
    "😀👩‍👩‍👧‍👦🏳️‍🌈" * 12,
    "Z" + "\u0301" * 50 + " \u0e49" * 60,
    "https://evil.example/" + "a" * 100 + " javascript:alert(1) data:text/html,<script>alert(1)</script>",
    "\ufeff\ufffe\u200b\u00ad{{7*7}} ${7*7} url(https://evil.example/x) expression(alert(1))",
)


KINDS = ("summary", "spatial", "watch", "ask")


def picture(width: int = 64, height: int = 48, seed: int = 0) -> Any:
    """Return noise, the costliest picture there is."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def answer(kind: Any, words: str, **fields: Any) -> Answer:
    """Return an answer all of whose texts are ``words``, cut to each field's length."""
    made: dict[str, Any] = {
        "events": (
            Event(
                what=words[:EVENT_CHARS],
                start=0,
                end=12,
                valid=True,
                confidence=0.4,
                evidence=Evidence(first=0, last=47, pairs=12),
            ),
            Event(what=words[:EVENT_CHARS], start=40, end=40, valid=True),
            Event(what=words[:EVENT_CHARS], start=55, end=60, valid=True),
            Event(what=words[:EVENT_CHARS], start=50, end=2, valid=False),
        )
        if kind == "summary"
        else (),
        "objects": (
            seen(words[:LABEL_CHARS], 0.1, 0.3, 0.3, 0.9),
            seen(words[:LABEL_CHARS], 0.6, 0.0, 0.999, 0.4),
            seen(words[:LABEL_CHARS], 0.9, 0.9, 0.9, 0.9, valid=False),
        )
        if kind == "spatial"
        else (),
        "relations": (
            Relation(subject=words[:LABEL_CHARS], relation=words[:LABEL_CHARS], object=words[:LABEL_CHARS]),
        )
        if kind == "spatial"
        else (),
        "summary": words[:SUMMARY_CHARS] if kind == "summary" else "",
        "text": words[:TEXT_CHARS] if kind == "ask" else "",
        "counts": Counts(people=3, vehicles=1, animals=0) if kind == "summary" else None,
        "nearest": words[:LABEL_CHARS] if kind == "spatial" else "",
        "free": Box(x1=0.0, y1=0.9, x2=1.0, y2=1.0) if kind == "spatial" else None,
        "key_frame": KeyFrame(time=31.5, height=480, width=640, tokens=300) if kind == "spatial" else None,
        "watches": (
            Watched(
                rule="door",
                question=words,
                answer="unsure",
                first="yes",
                check="no",
                seen=words[:SEEN_CHARS],
                confidence=0.8,
            ),
            Watched(
                rule="car",
                question=words,
                answer="yes",
                first="yes",
                check="yes",
                seen=words[:SEEN_CHARS],
                confidence=0.9,
            ),
            Watched(rule="dog", question=words, answer="no", first="no", confidence=0.7),
        )
        if kind == "watch"
        else (),
        "gaps": (Gap(start=20, end=27.5, reason=words),),
        "status": "partial",
    } | fields
    return Answer(
        id=kind, clip_id="c", seq=0, device="d", camera="file", prompt=kind, kind=kind,
        t_start=datetime(2026, 11, 1, tzinfo=UTC), t_end=datetime(2026, 11, 1, 0, 1, tzinfo=UTC),
        clock_synced=False, headline=words[:HEADLINE_CHARS], confidence=Confidence(value=0.5, fields={"headline": 0.25}),
        provenance=provenance(words), **made,
    )  # fmt: skip


def formed(words: str) -> Answer:
    """Return the answer to a question with a schema of the asker's, every name and text of it ``words``."""
    one, other = f"{words[:60]} 1", f"{words[:60]} 2"
    held: Any = {one: [words, {one: None}], "open": True, other: []}
    made = answer("ask", words, text="", result=held)
    return made.model_copy(update={"id": "form", "prompt": "form"})


def seen(label: str, x1: float, y1: float, x2: float, y2: float, *, valid: bool = True) -> SeenObject:
    """Return an object."""
    return SeenObject(label=label, box=Box(x1=x1, y1=y1, x2=x2, y2=y2), valid=valid)


def provenance(words: str) -> Provenance:
    """Return where an answer comes from."""
    return Provenance(
        model=words, bundle="0" * 64, recipe=words, note=words, software=words, frames=480, frames_repeated=3,
        pairs=240, pairs_offered=240, fps_effective=8, frame_height=192, frame_width=256, tokens_in=9, tokens_out=5,
        rung=2, latency=Latency(capture=0, vision=0, prefill=0, decode=0), temperature_c=51.0, energy_j=2981.7, energy_source="estimated", throttled=True, rung_name="fewer frames", rung_causes=("heat", "budget"),
        truncated=True, repaired=True,
    )  # fmt: skip


def view(
    words: str, *answers: Answer, shots: int = 8, size: tuple[int, int] = (64, 48), note: str | None = None
) -> View:
    """Return a view of a minute with all kinds of answers, or with the given ones."""
    made = ClipReport(
        video=Video(path=f"/home/somebody/{words.replace('/', '-')}", seconds=79.5, start=0, end=60, width=768, height=576),
        model=words, recipe=words, bundle="f" * 64, note=words if note is None else note, fps=8, frame_width=256,
        frame_height=192,
        counts=report.Counts(
            frames=480, frames_repeated=3, frames_empty=2, frames_decoded=600, packets_damaged=2, pairs=240,
            tokens_video=13640, tokens_in=13900, tokens_out=90,
        ),
        seconds=Seconds(load=1, video=2, vision=3, prefill=4, text=5, total=16),
        memory=Memory(peak_mib=800, anonymous_mib=300),
        answers=answers or (*(answer(kind, words) for kind in KINDS), formed(words)),
    )  # fmt: skip
    width, height = size
    return View(
        report=made,
        asked=tuple(Asked(kind, words) for kind in KINDS),
        seen=tuple(Seen(index) for index in range(240)),
        film=tuple(Still(60 * (i + 0.5) / shots, picture(width, height, i)) for i in range(shots)),
        stills=tuple(Still(at_s, picture(width, height, 9)) for at_s in moments(made)),
        places={item.id: Still(59.9, picture(width, height, 10)) for item in made.answers},
    )
