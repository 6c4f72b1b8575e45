"""Answers and reports as text for a person at a terminal.

Whatever a model or a file name brought in passes `plain`: no control character, no escape sequence, no character that
turns the direction of writing reaches the terminal.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterator

from edge.answer.report import ClipReport
from edge.messages import Answer, Event, SeenObject

_BAR = 24  # characters of the timeline
_LABEL = 11  # width of the left column of facts
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def plain(text: str) -> str:
    """Return the text with blanks for line breaks and tabs, and without anything else that could steer a terminal."""
    spaced = "".join(" " if char in "\t\n\v\f\r\x85\u2028\u2029" else char for char in text)
    return "".join(
        char for char in spaced if unicodedata.category(char) not in {"Cc", "Cs"} and char not in _TURNING
    )


def render_report(report: ClipReport, *, width: int = 100) -> str:
    """Return what ``edge summarize`` and ``edge ask`` print without ``--json``.

    Args:
        report: The report.
        width: Columns of the terminal.
    """
    parts = [_warning(report.note, width)] if report.note else []
    length = report.video.end - report.video.start
    parts += [render_answer(answer, seconds=length, width=width) for answer in report.answers]
    parts.append("\n".join(_facts(report, width)))
    return "\n\n".join(parts)


def render_answer(answer: Answer, *, seconds: float, width: int = 100) -> str:
    """Return one answer as text, without provenance.

    Args:
        answer: The answer.
        seconds: Length of its clip, for the timeline.
        width: Columns of the terminal.
    """
    if answer.kind == "ask":
        return _wrap(answer.text, width)
    parts = [_wrap(answer.headline, width)]
    if answer.summary:
        parts.append(_wrap(answer.summary, width))
    if answer.events:
        parts.append("\n".join(["Events", *(_event(event, seconds) for event in answer.events)]))
    if answer.objects:
        parts.append("\n".join(["Objects", *(_object(item) for item in answer.objects)]))
    if answer.relations:
        lines = (
            f"  {plain(relation.subject)} - {plain(relation.relation)} - {plain(relation.object)}"
            for relation in answer.relations
        )
        parts.append("\n".join(["Relations", *lines]))
    return "\n\n".join(parts)


def _warning(note: str, width: int) -> str:
    return _wrap(f"note: {note}", width)


def _wrap(text: str, width: int, indent: str = "") -> str:
    return textwrap.fill(
        plain(text), max(20, width), subsequent_indent=indent, break_on_hyphens=False, break_long_words=True
    )


def _event(event: Event, seconds: float) -> str:
    remark = "" if event.valid else "  (impossible times)"
    return f"  {event.start:5.1f} - {event.end:5.1f} s  |{_bar(event, seconds)}|  {plain(event.what)}{remark}"


def _bar(event: Event, seconds: float) -> str:
    if not event.valid or seconds <= 0:
        return " " * _BAR
    first = min(_BAR - 1, int(event.start / seconds * _BAR))
    last = max(first + 1, min(_BAR, round(event.end / seconds * _BAR)))
    return " " * first + "=" * (last - first) + " " * (_BAR - last)


def _object(item: SeenObject) -> str:
    box = item.box
    remark = "" if item.valid else "  (impossible or repeated box)"
    return (
        f"  x {box.x1 * 100:5.1f} .. {box.x2 * 100:5.1f} %  y {box.y1 * 100:5.1f} .. {box.y2 * 100:5.1f} %  "
        f"{plain(item.label)}{remark}"
    )


def _facts(report: ClipReport, width: int) -> Iterator[str]:
    """Yield the lines under the answers: what was looked at, by whom, at what cost."""
    counts, seconds, memory = report.counts, report.seconds, report.memory

    def fact(label: str, text: str) -> str:
        return _wrap(f"{label:<{_LABEL}}{text}", width, " " * _LABEL)

    yield fact("looked at", _span(report))
    frames = f"{counts.frames} frames at {report.fps:g} a second"
    extra = [
        f"{count} {what}"
        for count, what in ((counts.frames_repeated, "repeated"), (counts.frames_empty, "missing"))
        if count
    ]
    if extra:
        frames += f" ({', '.join(extra)})"
    yield fact(
        "frames",
        f"{frames}, {counts.pairs} pairs of {report.frame_width} x {report.frame_height} pixels, "
        f"{counts.tokens_video:,} tokens",
    )
    if counts.pairs_gated:
        yield fact(
            "gate",
            f"{counts.pairs_gated} of {counts.pairs + counts.pairs_gated} pairs held nothing new and were dropped: "
            f"{counts.tokens_saved:,} tokens saved",
        )
    if counts.packets_damaged:
        yield fact("damaged", f"{counts.packets_damaged} packets of the video could not be decoded")
    gaps = {(gap.start, gap.end, gap.reason) for answer in report.answers for gap in answer.gaps}
    for start, end, reason in sorted(gaps):
        yield fact("not seen", f"{start:.1f} - {end:.1f} s of the clip: {reason}")
    for answer in report.answers:
        yield fact(
            answer.prompt,
            f"confidence {answer.confidence.value:.2f} (not calibrated), {answer.provenance.tokens_out} tokens"
            + (", cut short by its budget" if answer.provenance.truncated else "")
            + (", characters removed" if answer.provenance.repaired else ""),
        )
    yield fact("model", f"{report.model}, {report.recipe}, bundle {report.bundle[:12]}")
    yield fact(
        "time",
        f"{seconds.total:.1f} s: load {seconds.load:.1f}, video decode {seconds.video:.1f}, "
        f"vision {seconds.vision:.1f}, prefill {seconds.prefill:.1f}, text {seconds.text:.1f}",
    )
    yield fact(
        "memory", f"peak {memory.peak_mib:,.0f} MiB, of which {memory.anonymous_mib:,.0f} MiB anonymous"
    )


def _span(report: ClipReport) -> str:
    video = report.video
    seen = f"{video.start:.1f} - {video.end:.1f} s of {video.path}"
    if video.seconds is None:
        return seen
    # Within a tenth of a second a length and the last tick are the same moment.
    rest = [
        f"{start:.1f} - {end:.1f} s"
        for start, end in ((0.0, video.start), (video.end, video.seconds))
        if end - start > 0.1
    ]
    left = f"; not looked at: {', '.join(rest)}" if rest else ""
    return f"{seen}, which is {video.seconds:.1f} s long{left}"
