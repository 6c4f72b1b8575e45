"""One clip through all stages, with the real engine on the bundle inside the package."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing import Pipe
from typing import Any

import numpy as np
import pytest

from edge import messages
from edge.answer.prompts import check_text, prompt_from, watch_text
from edge.config import DEFAULT_PROMPTS, PromptSettings
from edge.daemon.children import InferenceJob
from edge.daemon.inference import ASK_BYTES, _Worker
from edge.demo.world import draw_scene, frames, render
from edge.errors import EmptyVideoError, ModelError
from edge.messages import SEEN_CHARS, Answer
from edge.model.bundle import open_bundle
from edge.model.engine import Engine
from edge.model.fork import Fork
from edge.pipeline import ClipJob, reserve_tokens
from edge.records import ClipPlan, ClipStats, Pair, Prompt, Question, Size, Span, Still
from edge.share import demo_bundle

SECONDS, FPS = 4.0, 8.0
SIZE = Size(96, 128)
SCENE = draw_scene(7, "b", seconds=SECONDS, fps=FPS, size=SIZE)
PLAN = ClipPlan(
    camera="yard",
    seq=0,
    clip_id=messages.clip_id("edge", "yard", "epoch", 0),
    t_start=datetime(2026, 11, 1, tzinfo=UTC),
    clock_synced=True,
    seconds=SECONDS,
    fps=FPS,
    size=SIZE,
    source_size=Size(240, 320),
)
STATS = ClipStats(
    seconds=SECONDS,
    ticks=32,
    frames_decoded=40,
    ticks_repeated=0,
    ticks_empty=0,
    pairs=16,
    late_max_s=0.1,
    gaps=(),
    decode_s=0.5,
)
PROMPTS = [prompt_from(settings.model_copy(update={"max_tokens": 60})) for settings in DEFAULT_PROMPTS]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(open_bundle(demo_bundle())) as opened:
        yield opened


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    shown = np.stack(list(frames(SCENE))).reshape(16, 2, SIZE.height, SIZE.width, 3)
    return [Pair(index, (2 * index + 0.5) / FPS, pair) for index, pair in enumerate(shown)]


def job(engine: Engine, prompts: Sequence[Prompt] = PROMPTS) -> ClipJob:
    return ClipJob(engine, device="edge", plan=PLAN, prompts=prompts)


def said(answer: Answer) -> dict[str, Any]:
    """What must not depend on how the work was cut up, or on other questions: the words, but not the seconds.

    Nor the probabilities: a question may widen the scales of an 8-bit cache, and what is asked after it reads the clip
    rounded a little otherwise.
    """
    found = answer.model_dump(exclude={"provenance": {"latency", "temperature_c"}, "confidence": True})
    return dict(_without(found, {"confidence", "box_confidence"}))


def _without(found: Any, names: set[str]) -> Any:
    if isinstance(found, dict):
        return {name: _without(each, names) for name, each in found.items() if name not in names}
    return [_without(each, names) for each in found] if isinstance(found, list | tuple) else found


def test_every_prompt_is_answered_in_order_from_one_look(engine: Engine, pairs: list[Pair]) -> None:
    work = job(engine)
    work.push(pairs)
    answers = list(work.finish(STATS))
    assert [(answer.prompt, answer.kind) for answer in answers] == [
        ("summary", "summary"),
        ("spatial", "spatial"),
    ]
    for answer in answers:
        assert answer.provenance.pairs == answer.provenance.pairs_offered == 16
        assert answer.provenance.bundle == engine.bundle.hash
        assert answer.provenance.note == engine.bundle.manifest.model.note != ""
        assert answer.provenance.tokens_in > 16 * 6
        assert answer.provenance.latency.after_end is None
        assert 0 < answer.confidence.value < 1
        assert all(0 <= event.start <= SECONDS and 0 <= event.end <= SECONDS for event in answer.events)


def test_the_grouping_of_pairs_changes_nothing(engine: Engine, pairs: list[Pair]) -> None:
    whole, single = job(engine), job(engine)
    whole.push(pairs)
    for pair in pairs:
        single.push([pair])
        single.push([])
    assert [said(answer) for answer in whole.finish(STATS)] == [
        said(answer) for answer in single.finish(STATS)
    ]


def test_an_answer_does_not_depend_on_the_questions_before_it(engine: Engine, pairs: list[Pair]) -> None:
    both, alone = job(engine), job(engine, PROMPTS[1:])
    for work in (both, alone):
        work.push(pairs)
    assert said(list(both.finish(STATS))[1]) == said(next(alone.finish(STATS)))


def test_each_answer_comes_as_soon_as_it_is_ready(engine: Engine, pairs: list[Pair]) -> None:
    work = job(engine)
    work.push(pairs)
    end = time.monotonic_ns()
    told: list[int] = []
    answers = work.finish(STATS, end_mono_ns=end, on_token=told.append)
    first = next(answers)
    assert 0 < len(told) <= first.provenance.tokens_out
    assert first.provenance.latency.after_end is not None
    second = next(answers)
    assert second.provenance.latency.after_end is not None
    assert second.provenance.latency.after_end > first.provenance.latency.after_end > 0


def test_a_gap_makes_every_answer_partial(engine: Engine, pairs: list[Pair]) -> None:
    work = job(engine)
    work.push(pairs[:8])
    stats = replace(STATS, ticks_empty=16, pairs=8, gaps=(Span(2.0, 4.0, "camera away"),))
    answers = list(work.finish(stats))
    assert {answer.status for answer in answers} == {"partial"}
    assert {answer.gaps for answer in answers} == {
        (messages.Gap(start=2.0, end=4.0, reason="camera away"),),
    }


def test_a_clip_without_a_picture_is_refused_at_once(engine: Engine) -> None:
    work = job(engine)
    work.push([])
    with pytest.raises(EmptyVideoError):
        work.finish(replace(STATS, ticks_empty=32, pairs=0))


def test_a_finished_clip_takes_no_more_pairs(engine: Engine, pairs: list[Pair]) -> None:
    work = job(engine)
    work.push(pairs)
    work.finish(STATS)
    with pytest.raises(ModelError, match="finished"):
        work.push(pairs)


def test_the_smallest_budget_still_gives_whole_answers(engine: Engine, pairs: list[Pair]) -> None:
    prompts = [
        prompt_from(
            PromptSettings.model_validate(
                {"name": kind, "kind": kind, "text": "Tell me what you see.", "max_tokens": 16}
            )
        )
        for kind in ("summary", "spatial", "ask")
    ]
    work = job(engine, prompts)
    work.push(pairs)
    answers = list(work.finish(STATS))
    assert [answer.kind for answer in answers] == ["summary", "spatial", "ask"]
    assert all(answer.headline for answer in answers)
    assert all(answer.provenance.truncated for answer in answers)


def watch(*, check: bool = True, still_tokens: int = 0) -> Prompt:
    again = check_text("Is it raining?") if check else ""
    first = Question("rain", "Is it raining?", watch_text("Is it raining?"), again, ())
    second = Question("door", "Is the door open?", watch_text("Is the door open?"), again, ())
    return Prompt("watch", "watch", "", 200, questions=(first, second), still_tokens=still_tokens)


def test_a_watch_answers_each_question_by_itself(engine: Engine, pairs: list[Pair]) -> None:
    prompts = [watch(), replace(watch(), name="other", questions=watch().questions[1:])]
    work = job(engine, prompts)
    work.push(pairs)
    both, alone = work.finish(STATS)
    assert [each.rule for each in both.watches] == ["rain", "door"]
    assert (both.watches[1].first, both.watches[1].answer) == (
        alone.watches[0].first,
        alone.watches[0].answer,
    )
    assert both.headline == ", ".join(f"{each.rule}: {each.answer}" for each in both.watches)
    assert both.confidence.fields == {each.rule: each.confidence for each in both.watches}
    for each in both.watches:
        assert 0 < each.confidence <= 1
        assert 0 < len(each.seen) <= SEEN_CHARS
        assert (each.check is None) == (each.first != "yes")
        assert each.answer in {each.first, "unsure"}


def test_a_watch_that_has_no_room_to_decide_is_unsure_and_marked(
    engine: Engine, pairs: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Fork.ask
    monkeypatch.setattr(Fork, "ask", lambda *args, **named: replace(ask(*args, **named), finish="closed"))
    work = job(engine, [watch()])
    work.push(pairs)
    (cut,) = work.finish(STATS)
    assert cut.provenance.truncated
    assert {each.answer for each in cut.watches} == {"unsure"}
    assert all(each.check is None for each in cut.watches)


def still(at_s: float = 2.5) -> Still:
    return Still(at_s, render(replace(SCENE, size=Size(240, 320)), round(at_s * FPS)))


def test_the_key_frame_is_shown_where_places_are_asked_for(engine: Engine, pairs: list[Pair]) -> None:
    spatial = replace(PROMPTS[1], still_tokens=64)
    work = job(engine, [PROMPTS[0], spatial, watch(still_tokens=64), PROMPTS[1]])
    work.push(pairs)
    summary, sharp, watched, plain = work.finish(STATS, still=still())
    assert summary.key_frame is plain.key_frame is None
    assert sharp.key_frame == watched.key_frame
    assert sharp.key_frame is not None
    cells = sharp.key_frame.height // 32 * (sharp.key_frame.width // 32)
    assert (sharp.key_frame.time, cells) == (2.5, 54)  # 6 x 9: as many as the budget takes in this shape
    assert 54 < sharp.key_frame.tokens < 54 + 32
    assert sharp.provenance.tokens_in == plain.provenance.tokens_in + sharp.key_frame.tokens
    alone = job(engine, [PROMPTS[0], PROMPTS[1]])
    alone.push(pairs)
    assert [said(answer) for answer in alone.finish(STATS)] == [said(summary), said(plain)]


def test_a_kept_clip_shows_its_key_frame_to_later_questions(engine: Engine, pairs: list[Pair]) -> None:
    spatial = replace(PROMPTS[1], still_tokens=64)
    work = job(engine, [spatial])
    work.push(pairs)
    (first,) = work.finish(STATS, still=still(), keep=True)
    assert said(work.ask(spatial)) == said(first)
    work.close()


def test_long_questions_fit_beside_the_clip(engine: Engine, pairs: list[Pair]) -> None:
    settings = PromptSettings(name="long", kind="ask", text="\N{SNOWMAN}" * 3000, max_tokens=16)
    work = job(engine, [prompt_from(settings)])
    work.push(pairs)
    (answer,) = work.finish(STATS)
    assert answer.provenance.tokens_in > 3000


QUESTION = prompt_from(PromptSettings(name="ask", kind="ask", text="What is there?", max_tokens=32))


def test_a_clip_that_is_kept_answers_questions_as_it_would_have_at_its_end(
    engine: Engine, pairs: list[Pair]
) -> None:
    kept, asked = job(engine), job(engine, [*PROMPTS, QUESTION])
    for work in (kept, asked):
        work.push(pairs)
    list(kept.finish(STATS, keep=True))
    later = kept.ask(QUESTION)
    assert said(later) == said(kept.ask(QUESTION)) == said(list(asked.finish(STATS))[2])
    kept.close()
    with pytest.raises(ModelError):
        kept.ask(QUESTION)
    with pytest.raises(ModelError):  # nobody asked to keep it
        asked.ask(QUESTION)


def test_a_question_on_the_way_sees_what_there_was_and_the_clip_goes_on(
    engine: Engine, pairs: list[Pair]
) -> None:
    work = job(engine)
    with pytest.raises(EmptyVideoError):
        work.ask(QUESTION)
    work.push(pairs[:6])
    early = work.ask(QUESTION)
    assert (early.status, early.provenance.pairs) == ("partial", 6)
    assert (early.t_end - early.t_start).total_seconds() == 6 * 2 / FPS
    work.push(pairs[6:])
    answers = list(work.finish(STATS))
    assert [(answer.status, answer.provenance.pairs) for answer in answers] == [("answered", 16)] * 2


def test_the_longest_question_fits_beside_a_clip_that_reserves_for_it(
    engine: Engine, pairs: list[Pair]
) -> None:
    text = "\N{SNOWMAN}" * messages.QUESTION_CHARS
    question = prompt_from(PromptSettings(name="ask", kind="ask", text=text, max_tokens=16))
    work = ClipJob(
        engine,
        device="edge",
        plan=PLAN,
        prompts=PROMPTS,
        reserve_tokens=reserve_tokens(ASK_BYTES, question.max_tokens),  # as the daemon does
    )
    work.push(pairs)
    list(work.finish(STATS, keep=True))
    assert work.ask(question).text
    work.close()


def test_finished_clips_stay_for_questions_as_long_as_their_memory_allows(
    engine: Engine, pairs: list[Pair]
) -> None:
    def finished(camera: str) -> ClipJob:
        work = ClipJob(engine, device="edge", plan=replace(PLAN, camera=camera), prompts=[watch()])
        work.push(pairs)
        list(work.finish(STATS, keep=True, still=still()))
        return work

    clips = [finished(camera) for camera in ("a", "b", "c")]
    one = clips[0].held_bytes
    assert one > still().rgb.nbytes
    ours, theirs = Pipe()
    job = InferenceJob(
        bundle=demo_bundle(),
        cache=demo_bundle(),
        threads=1,
        device="edge",
        ticks=32,
        keep_clips=3,
        keep_bytes=2 * one + one // 2,
    )
    worker = _Worker(theirs, engine, job)
    for clip in clips:
        worker._keep(clip)  # as it does after the last answer
    ours.close()
    theirs.close()
    with pytest.raises(ModelError, match="closed"):
        clips[0].ask(watch())
    assert [clip.ask(watch()).kind for clip in clips[1:]] == ["watch", "watch"]
    assert clips[0].held_bytes == 0
    for clip in clips:
        clip.close()
