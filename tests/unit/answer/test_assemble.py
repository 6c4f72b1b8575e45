"""What becomes of the model's words: kept, flagged, counted."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema
import pytest

from edge import messages
from edge.answer.assemble import REPLACEMENT, Author, Work, Written, assemble
from edge.errors import AnswerError
from edge.messages import Answer
from edge.records import ClipPlan, ClipStats, Prompt, Size, Span

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
PLAN = ClipPlan(
    camera="door",
    seq=3,
    clip_id=messages.clip_id("edge", "door", "epoch", 3),
    t_start=START,
    clock_synced=True,
    seconds=60.0,
    fps=8.0,
    size=Size(192, 256),
    source_size=Size(480, 640),
)
STATS = ClipStats(
    seconds=60.0,
    ticks=480,
    frames_decoded=600,
    ticks_repeated=0,
    ticks_empty=0,
    pairs=240,
    late_max_s=0.1,
    gaps=(),
    decode_s=1.5,
)
WRITTEN = Written(text="", logprobs=(-0.5, -1.5), tokens_in=13_000, tokens_out=40, truncated=False)
WORK = Work(pairs=240, vision_s=2.0, prefill_s=3.0, decode_s=1.0, after_end_s=4.5, temperature_c=51.0)
AUTHOR = Author(model="Qwen/Qwen3.5-0.8B@abc", bundle="0" * 64, recipe="int8", note="toy")
SUMMARY: dict[str, Any] = {"headline": "A person walks", "summary": "From left to right.", "events": []}
SPATIAL: dict[str, Any] = {"headline": "Two cars", "objects": [], "relations": []}


def answer(kind: str, body: object, *, stats: ClipStats = STATS, written: Written = WRITTEN) -> Answer:
    text = body if isinstance(body, str) else json.dumps(body)
    return assemble(
        replace(written, text=text),
        device="pi",
        plan=PLAN,
        stats=stats,
        prompt=Prompt(name=f"my-{kind}", kind=kind, text="?", max_tokens=320),
        author=AUTHOR,
        work=WORK,
    )


def test_the_words_are_kept_and_the_clip_is_named() -> None:
    made = answer(
        "summary", SUMMARY | {"events": [{"what": 'walks; "quoted" & <b>', "start": 0.1, "end": 59.9}]}
    )
    assert (made.headline, made.summary) == ("A person walks", "From left to right.")
    assert made.events == (messages.Event(what='walks; "quoted" & <b>', start=0.1, end=59.9, valid=True),)
    assert made.id == messages.message_id(PLAN.clip_id, "my-summary")
    assert (made.clip_id, made.seq, made.device, made.camera) == (PLAN.clip_id, 3, "pi", "door")
    assert (made.t_start, made.t_end) == (START, START + timedelta(seconds=60))
    assert made.status == "answered"
    assert not made.provenance.repaired


def test_provenance_says_what_was_seen_and_what_it_took() -> None:
    stats = replace(STATS, ticks_repeated=48, ticks_empty=16, pairs=232)
    made = answer("summary", SUMMARY, stats=stats, written=replace(WRITTEN, truncated=True)).provenance
    assert (made.frames, made.frames_repeated, made.pairs, made.pairs_offered) == (464, 48, 240, 232)
    assert made.fps_effective == pytest.approx((464 - 48) / 60, abs=1e-3)
    assert (made.frame_height, made.frame_width) == (192, 256)
    assert (made.tokens_in, made.tokens_out, made.truncated) == (13_000, 40, True)
    assert (made.model, made.bundle, made.recipe, made.note) == (
        "Qwen/Qwen3.5-0.8B@abc",
        "0" * 64,
        "int8",
        "toy",
    )
    assert made.latency == messages.Latency(capture=1.5, vision=2.0, prefill=3.0, decode=1.0, after_end=4.5)
    assert made.temperature_c == 51.0


@pytest.mark.parametrize(
    ("start", "end", "valid"),
    [(0, 0, True), (0, 60, True), (12.5, 12.4, False), (59.0, 60.1, False), (600, 600, False)],
)
def test_an_impossible_span_is_flagged_and_kept(start: float, end: float, valid: bool) -> None:
    event = answer("summary", SUMMARY | {"events": [{"what": "x", "start": start, "end": end}]}).events[0]
    assert (event.start, event.end, event.valid) == (start, end, valid)


def test_a_span_beyond_a_short_last_clip_is_flagged() -> None:
    body = SUMMARY | {"events": [{"what": "x", "start": 0, "end": 30}]}
    made = answer("summary", body, stats=replace(STATS, seconds=19.5, ticks=156, pairs=78))
    assert made.t_end == START + timedelta(seconds=19.5)
    assert not made.events[0].valid


@pytest.mark.parametrize(
    ("box", "valid"),
    [
        ([0, 0, 1000, 1000], True),
        ([105, 220, 340, 990], True),
        ([300, 220, 300, 990], False),
        ([340, 220, 105, 990], False),
        ([105, 990, 340, 220], False),
    ],
)
def test_a_box_is_put_on_0_to_1_and_flagged_without_area(box: list[int], valid: bool) -> None:
    seen = answer("spatial", SPATIAL | {"objects": [{"label": "car", "bbox_2d": box}]}).objects[0]
    assert [seen.box.x1, seen.box.y1, seen.box.x2, seen.box.y2] == [value / 1000 for value in box]
    assert seen.valid is valid


def test_a_box_said_twice_is_valid_once() -> None:
    objects = [{"label": label, "bbox_2d": [1, 2, 3, 4]} for label in ("car", "car", "red car")]
    objects.append({"label": "car", "bbox_2d": [1, 2, 3, 5]})
    made = answer("spatial", SPATIAL | {"objects": objects})
    assert [item.valid for item in made.objects] == [True, False, False, True]


def test_a_free_answer_leads_with_its_beginning() -> None:
    made = answer("ask", {"text": "ä" * 400})
    assert made.text == "ä" * 400
    assert made.headline == "ä" * 255
    assert not made.provenance.repaired  # the text is whole


def test_characters_that_steer_a_terminal_are_taken_out_and_that_is_said() -> None:
    relation = {"subject": "a\x1b[31m", "relation": "on", "object": "\x85"}
    made = answer("spatial", SPATIAL | {"headline": "a\nb\x9b1m", "relations": [relation]})
    assert made.headline == "ab1m"
    assert made.relations == (
        messages.Relation(subject="a[31m", relation="on", object=REPLACEMENT, valid=False),
    )
    assert made.provenance.repaired


@pytest.mark.parametrize(
    "stats",
    [
        replace(STATS, gaps=(Span(10.0, 20.0, "camera away"),)),
        replace(STATS, ticks_empty=1),
    ],
)
def test_a_clip_that_was_not_seen_whole_is_partial(stats: ClipStats) -> None:
    made = answer("summary", SUMMARY, stats=stats)
    assert made.status == "partial"
    assert [(gap.start, gap.end, gap.reason) for gap in made.gaps] == [
        (gap.start_s, gap.end_s, gap.reason) for gap in stats.gaps
    ]


@pytest.mark.parametrize(
    ("logprobs", "value"),
    [((-0.5, -1.5), math.exp(-1)), ((0.0,), 1.0), ((), 0.0), ((-math.inf, 0.0), 0.0), ((math.nan,), 0.0)],
)
def test_confidence_is_the_geometric_mean_of_what_was_free(logprobs: tuple[float, ...], value: float) -> None:
    made = answer("summary", SUMMARY, written=replace(WRITTEN, logprobs=logprobs))
    assert made.confidence.value == pytest.approx(value, abs=1e-4)
    assert made.confidence.calibrated is False


@pytest.mark.parametrize(
    "text", ["", '{"headline":"a', "[]", '{"headline":"a"}', '{"headline":"","summary":"b","events":[]}']
)
def test_text_that_is_no_answer_is_refused_with_its_beginning(text: str) -> None:
    with pytest.raises(AnswerError) as caught:
        answer("summary", text)
    assert "my-summary" in caught.value.what
    assert "max_tokens" in caught.value.next_step


def test_an_object_under_a_schema_of_the_asker_s_is_kept_but_for_characters_of_no_line() -> None:
    body = {"open": True, "cars": [{"plate": "AB\x85 12\u2028"}, {"plate": None}], "none": []}
    written = replace(
        WRITTEN, text=json.dumps(body), pieces=(b'{"open":', b"true", b"}"), chances=(None, -0.5, None)
    )
    made = assemble(
        written,
        device="pi",
        plan=PLAN,
        stats=STATS,
        prompt=Prompt("mine", "ask", "?", 320, schema='{"type":"object"}'),
        author=AUTHOR,
        work=WORK,
    )
    assert made.result == {
        "open": True,
        "cars": [{"plate": "AB\ufffd 12\ufffd"}, {"plate": None}],
        "none": [],
    }
    assert (
        made.headline == "open: yes, cars[0].plate: AB\ufffd 12\ufffd, cars[1].plate: nothing, none: nothing"
    )
    assert (made.kind, made.text) == ("ask", "")
    assert made.provenance.repaired
    assert made.confidence.fields == {"open": pytest.approx(math.exp(-0.5), abs=1e-4)}
    jsonschema.validate(json.loads(made.payload()), messages.published_schema("answer"))
