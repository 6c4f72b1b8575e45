"""What a person reads, and that nothing a model or a file name says can steer the terminal."""

from datetime import UTC, datetime
from typing import Any

import pytest

from edge.answer import report as reports
from edge.answer.report import ClipReport, Memory, Seconds, Video
from edge.answer.text import Style, plain, render_answer, render_report
from edge.messages import (
    Answer,
    Box,
    Confidence,
    Counts,
    Event,
    Gap,
    Latency,
    Provenance,
    Relation,
    SeenObject,
    Watched,
)

PROVENANCE = Provenance(
    model="toy", bundle="0" * 64, recipe="int8", note="", software="edgeclip 0", frames=480, frames_repeated=0,
    pairs=240, pairs_offered=240, fps_effective=8, frame_height=192, frame_width=256, tokens_in=9, tokens_out=5,
    rung=0, latency=Latency(capture=0, vision=0, prefill=0, decode=0), temperature_c=None, energy_j=None,
    truncated=True, repaired=False,
)  # fmt: skip


def answer(kind: Any = "summary", **fields: Any) -> Answer:
    return Answer(
        id="i", clip_id="c", seq=0, device="d", camera="file", prompt=kind, kind=kind,
        t_start=datetime(2026, 11, 1, tzinfo=UTC), t_end=datetime(2026, 11, 1, 0, 1, tzinfo=UTC),
        clock_synced=True, status="answered", gaps=fields.pop("gaps", ()), headline=fields.pop("headline", "H"),
        confidence=Confidence(value=0.5), provenance=PROVENANCE, **fields,
    )  # fmt: skip


def report(*answers: Answer, note: str = "", seconds: float | None = 79.5, path: str = "a.mp4") -> str:
    made = ClipReport(
        video=Video(path=path, seconds=seconds, start=0, end=60, width=768, height=576),
        model="toy", recipe="int8", bundle="f" * 64, note=note, fps=8, frame_width=256, frame_height=192,
        counts=reports.Counts(
            frames=480, frames_repeated=3, frames_empty=0, frames_decoded=600, packets_damaged=2, pairs=240, tokens_video=13640,
            tokens_in=13900, tokens_out=90,
        ),
        seconds=Seconds(load=1, video=2, vision=3, prefill=4, text=5, total=16),
        memory=Memory(peak_mib=800, anonymous_mib=300),
        answers=answers,
    )  # fmt: skip
    return render_report(made)


def test_a_person_reads_what_happened_where_and_at_what_cost() -> None:
    text = report(
        answer(
            headline="A car stops",
            summary="It leaves later.",
            events=(
                Event(what="stops", start=0, end=30, valid=True),
                Event(what="flies", start=9, end=2, valid=False),
            ),
        ),
        answer(
            "spatial",
            objects=(SeenObject(label="car", box=Box(x1=0.1, y1=0.2, x2=0.3, y2=0.4), valid=True),),
            relations=(Relation(subject="car", relation="left of", object="tree"),),
        ),
    )
    assert "A car stops" in text
    assert "    0.0 -  30.0 s  |====================                    |  stops" in text
    assert "flies  (impossible times)" in text
    assert "car - left of - tree" in text
    assert "0.0 - 60.0 s of a.mp4, which is 79.5 s long; not looked at: 60.0 - 79.5 s" in text
    assert "480 frames at 8 a second (3 repeated), 240 pairs of 256 x 192 pixels, 13,640 tokens" in text
    assert "load 1.0, video decode 2.0, vision 3.0, prefill 4.0, text 5.0" in text
    assert "peak 800 MiB, of which 300 MiB anonymous" in text
    assert "cut short by its budget" in text
    assert "2 packets of the video could not be decoded" in text


def test_the_note_of_an_untrustworthy_model_comes_before_its_words() -> None:
    text = report(answer(headline="A car stops"), note="random weights")
    assert text.index("random weights") < text.index("A car stops")


def test_gaps_are_named_once() -> None:
    gap = Gap(start=10, end=20, reason="camera away")
    text = report(answer(gaps=(gap,)), answer("spatial", gaps=(gap,)))
    assert text.count("10.0 - 20.0 s of the clip: camera away") == 1


def test_nothing_steers_the_terminal() -> None:
    evil = "\x1b[2J\x07\u202eab\x9b31m\r\n[bold]c"
    text = report(
        answer(
            headline=evil,
            summary=evil,
            events=(Event(what=evil, start=0, end=1, valid=True),),
            objects=(SeenObject(label=evil, box=Box(x1=0, y1=0, x2=1, y2=1), valid=False),),
            relations=(Relation(subject=evil, relation=evil, object=evil),),
            gaps=(Gap(start=0, end=1, reason=evil),),
        ),
        answer("ask", text=evil),
        note=evil,
        path=evil,
    )
    assert not set(text) & set("\x1b\x07\x9b\r\u202e")
    assert "[bold]c" in text


def test_a_terminal_that_can_gets_bars_to_the_half_cell_under_one_axis() -> None:
    events = tuple(
        Event(what=what, start=start, end=end, valid=start <= end)
        for what, start, end in (
            ("walks", 0, 30),
            ("stops", 30.75, 30.75),
            ("waits", 45, 60),
            ("flies", 9, 2),
        )
    )
    lines = render_answer(answer(events=events), seconds=60, width=110, style=Style(bars=True)).split("\n")
    head = lines.index("Events")
    assert lines[head + 1 : head + 6] == [
        f"    0.0 -  30.0 s  ▕{'█' * 20}{' ' * 20}▏  walks",
        f"   30.8 -  30.8 s  ▕{' ' * 20}▐{' ' * 19}▏  stops",
        f"   45.0 -  60.0 s  ▕{' ' * 30}{'█' * 10}▏  waits",
        f"    9.0 -   2.0 s  ▕{' ' * 40}▏  flies  (impossible times)",
        f"{' ' * 20}0{' ' * 18}30{' ' * 17}60 s",
    ]


def test_words_that_do_not_fit_beside_a_bar_go_on_below_it() -> None:
    event = Event(what="a person in a dark jacket walks by and is gone", start=0, end=60, valid=True)
    text = render_answer(answer(events=(event,)), seconds=60, width=72)
    assert max(len(line) for line in text.split("\n")) <= 72
    assert f"|  a person in a dark jacket\n{' ' * 47}walks by and is gone\n" in text


def test_counts_room_and_watches_are_told() -> None:
    box = Box(x1=0, y1=0.9, x2=1, y2=1)
    bad = SeenObject(label="car", box=box, valid=False, problem="out_of_range")
    text = render_answer(
        answer(counts=Counts(people=3, vehicles=1, animals=0), objects=(bad,), nearest="dog", free=box),
        seconds=60,
    )
    assert "Counted: people 3, vehicles 1, animals 0" in text
    assert "y  90.0 .. 100.0 %  car  (a box beyond the picture)" in text
    assert "  nearest: dog\n  x   0.0 .. 100.0 %  y  90.0 .. 100.0 %  free" in text
    watched = answer(
        "watch",
        watches=(
            Watched(
                rule="door",
                question="A parcel?",
                answer="unsure",
                first="yes",
                check="no",
                seen="A man\nleaves.",
                confidence=0.8,
            ),
            Watched(rule="dog", question="A dog?\x1b[2J", answer="no", first="no", confidence=0.7),
        ),
    )
    assert render_answer(watched, seconds=60).split("\n") == [
        "H",
        "",
        "unsure  A parcel?  (confidence 0.80, no at a second look)",
        "        A man leaves.",
        "no      A dog?[2J  (confidence 0.70)",
    ]


def test_colours_come_only_where_they_are_wanted() -> None:
    shown = answer(events=(Event(what="walks", start=0, end=30, valid=True),))
    assert "\x1b[36m" in render_answer(shown, seconds=60, style=Style(colour=True))
    assert "\x1b" not in render_answer(shown, seconds=60, style=Style(bars=True))


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a\tb\nc", "a b c"),
        ("é😀", "é😀"),
        ("\ud800x", "x"),
        ("a" + "\u0301" * 9 + "b", "a" + "\u0301" * 4 + "b"),
    ],
)
def test_plain(raw: str, shown: str) -> None:
    assert plain(raw) == shown
