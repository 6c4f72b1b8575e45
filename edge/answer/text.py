"""Answers and reports as text for a person at a terminal.

Whatever a model or a file name brought in passes `plain`: no control character, no escape sequence, no character that
turns the direction of writing reaches the terminal.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edge.answer import result
from edge.answer.report import ClipReport
from edge.messages import Answer, Box, Event, SeenObject, Watched

_BAR = 24  # characters of the timeline
_BAR_WIDE = 40  # where the terminal is wide enough
_WIDE = 100
_AXIS = 20  # columns before the bars
_MARKS_MAX = 4  # upon one letter; more reach over the lines around it
_LABEL = 11  # width of the left column of facts
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, slots=True)
class Style:
    """What a terminal can show beyond plain characters: block elements, colours."""

    bars: bool = False
    colour: bool = False

    def paint(self, code: str, text: str) -> str:
        """Return the text in a colour or weight (ECMA-48, 8.3.117), where there are any."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and text else text


PLAIN = Style()
PROBLEMS = {
    "": "impossible or repeated box",
    "degenerate": "a box without an area",
    "duplicate": "the same box again",
    "out_of_range": "a box beyond the picture",
}
"""What is wrong with a box, in words; the first one where only that is known."""

BOLD, DIM, YELLOW, CYAN = "1", "2", "33", "36"  # for `Style.paint`


def plain(text: str) -> str:
    """Return the text as one line that steers nothing.

    Line breaks and tabs become blanks; control characters, those that turn the direction of writing and marks stacked
    beyond four upon one letter are left out.
    """
    kept = []
    stacked = 0
    for char in text:
        if char in "\t\n\v\f\r\x85\u2028\u2029":
            kept.append(" ")
            continue
        category = unicodedata.category(char)
        stacked = stacked + 1 if category in {"Mn", "Me"} else 0
        if category not in {"Cc", "Cs"} and char not in _TURNING and stacked <= _MARKS_MAX:
            kept.append(char)
    return "".join(kept)


def render_report(report: ClipReport, *, width: int = 100, style: Style = PLAIN) -> str:
    """Return what ``edge summarize`` and ``edge ask`` print without ``--json``.

    Args:
        report: The report.
        width: Columns of the terminal.
        style: What the terminal can show.
    """
    parts = [style.paint(YELLOW, _wrap(f"note: {report.note}", width))] if report.note else []
    length = report.video.end - report.video.start
    parts += [render_answer(answer, seconds=length, width=width, style=style) for answer in report.answers]
    parts.append("\n".join(style.paint(DIM, line) for line in _facts(report, width)))
    return "\n\n".join(parts)


def render_answer(answer: Answer, *, seconds: float, width: int = 100, style: Style = PLAIN) -> str:
    """Return one answer as text, without provenance.

    Args:
        answer: The answer.
        seconds: Length of its clip, for the timeline.
        width: Columns of the terminal.
        style: What the terminal can show.
    """
    if answer.result is not None:
        return "\n".join(
            _wrap(f"{place}: {value}", width, " " * 4) for place, value in result.lines(answer.result)
        )
    if answer.kind == "ask":
        return _wrap(answer.text, width)
    parts = [style.paint(BOLD, _wrap(answer.headline, width))]
    if answer.summary:
        parts.append(_wrap(answer.summary, width))
    if answer.counts is not None:
        counts = answer.counts
        parts.append(f"Counted: people {counts.people}, vehicles {counts.vehicles}, animals {counts.animals}")
    if answer.watches:
        parts.append("\n".join(_watched(watched, width, style) for watched in answer.watches))
    if answer.events:
        parts.append("\n".join(_timeline(answer.events, seconds, width, style)))
    if answer.objects:
        lines = [*(_object(item) for item in answer.objects), *_room(answer)]
        parts.append("\n".join([style.paint(BOLD, "Objects"), *lines]))
    if answer.relations:
        lines = [
            _wrap(f"  {relation.subject} - {relation.relation} - {relation.object}", width, " " * 4)
            for relation in answer.relations
        ]
        parts.append("\n".join([style.paint(BOLD, "Relations"), *lines]))
    return "\n\n".join(parts)


def _watched(watched: Watched, width: int, style: Style) -> str:
    remark = f"confidence {watched.confidence:.2f}"
    if watched.check is not None:
        remark += f", {watched.check} at a second look"
    line = _wrap(f"{watched.answer:<6}  {watched.question}  ({remark})", width, " " * 8)
    seen = f"\n{_wrap(' ' * 8 + watched.seen, width, ' ' * 8)}" if watched.seen else ""
    return style.paint(BOLD, line[:6]) + line[6:] + seen


def _wrap(text: str, width: int, indent: str = "") -> str:
    return textwrap.fill(
        plain(text), max(20, width), subsequent_indent=indent, break_on_hyphens=False, break_long_words=True
    )


def _timeline(events: Sequence[Event], seconds: float, width: int, style: Style) -> Iterator[str]:
    """Yield one line per event, its bar under one axis; what does not fit beside the bar goes on below it."""
    cells = _BAR_WIDE if width >= _WIDE else _BAR
    left, right = ("▕", "▏") if style.bars else ("|", "|")
    yield style.paint(BOLD, "Events")
    for event in events:
        when = f"  {event.start:5.1f} - {event.end:5.1f} s  "
        bar = (_blocks if style.bars else _dashes)(event, seconds, cells)
        remark = "" if event.valid else "  (impossible times)"
        margin = len(when) + cells + 4
        words = _wrap(f"{event.what}{remark}", width - margin).split("\n")
        yield f"{when}{left}{style.paint(CYAN, bar)}{right}  {words[0]}"
        yield from (" " * margin + line for line in words[1:])
    yield style.paint(DIM, _axis(_AXIS, cells, seconds))


def _axis(left: int, cells: int, seconds: float) -> str:
    """Return the line under the bars: where they begin, their middle and end, in seconds."""
    line = [" "] * (left + cells + 8)
    for cell, at_s in ((0, 0.0), (cells // 2, seconds / 2), (cells, seconds)):
        label = f"{at_s:.3g}" + (" s" if cell == cells else "")
        begin = left + cell - len(label) // 2 * (cell > 0)
        line[begin : begin + len(label)] = label
    return "".join(line).rstrip()


def _dashes(event: Event, seconds: float, cells: int) -> str:
    first, last = _ends(event, seconds, cells)
    return " " * first + "=" * (last - first) + " " * (cells - last)


def _blocks(event: Event, seconds: float, cells: int) -> str:
    """Return the bar in half cells, so that it is twice as exact."""
    first, last = _ends(event, seconds, 2 * cells)
    filled = [first <= half < last for half in range(2 * cells)]
    return "".join(" ▐▌█"[2 * filled[cell] + filled[cell + 1]] for cell in range(0, 2 * cells, 2))


def _ends(event: Event, seconds: float, steps: int) -> tuple[int, int]:
    """Return where a bar begins and ends; it is at least one step long, and empty where the times are impossible."""
    if not event.valid or seconds <= 0:
        return 0, 0
    first = min(steps - 1, int(event.start / seconds * steps))
    return first, max(first + 1, min(steps, round(event.end / seconds * steps)))


def _room(answer: Answer) -> Iterator[str]:
    """Yield what was worked out from the boxes."""
    if answer.nearest:
        yield f"  nearest: {plain(answer.nearest)}"
    if answer.free is not None and answer.objects:
        box = answer.free
        yield f"  {_extent(box)}  free"


def _extent(box: Box) -> str:
    return f"x {box.x1 * 100:5.1f} .. {box.x2 * 100:5.1f} %  y {box.y1 * 100:5.1f} .. {box.y2 * 100:5.1f} %"


def _object(item: SeenObject) -> str:
    remark = "" if item.valid else f"  ({PROBLEMS[item.problem]})"
    return f"  {_extent(item.box)}  {plain(item.label)}{remark}"


def _facts(report: ClipReport, width: int) -> Iterator[str]:
    """Yield the lines under the answers: what was looked at, by whom, at what cost."""
    counts, seconds, memory = report.counts, report.seconds, report.memory
    made = report.answers[-1].provenance

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
            f"{counts.pairs_gated} of {made.pairs_offered} pairs held nothing new and were dropped: "
            f"{counts.tokens_saved:,} tokens saved",
        )
    if made.rung:
        yield fact(
            "rung", f"{made.rung} ({made.rung_name}): less was done because of {', '.join(made.rung_causes)}"
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
    if made.energy_j is not None:
        yield fact("energy", f"{made.energy_j:,.0f} J of the whole machine, {made.energy_source}")
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
