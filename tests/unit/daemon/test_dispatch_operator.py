"""What operators do to clips: pauses keep the time whole, questions come between chunks and cost no clip."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from edge.daemon.dispatch import Dispatcher
from edge.daemon.effects import Ask, Begin, ClipEnded, Effect, End, More, Unasked
from edge.daemon.questions import WAITING_MAX
from edge.daemon.recording import Now
from edge.records import Prompt, Span
from tests.clips import FPS, MONO_0, PAIRS, PROMPTS, SECONDS, UTC_0, make_pair, make_stats

ASK = Ask("k", "c", "latest", PROMPTS[:1])


def start(*, live: bool = True) -> Dispatcher:
    dispatcher = Dispatcher(device="d", epoch="e", seconds=SECONDS, fps=FPS, prompts=PROMPTS, backlog=2)
    dispatcher.add("c", origin_mono_ns=MONO_0, first_seq=0, paced=live, live=live)
    dispatcher.tick(at(0))
    return dispatcher


def at(seconds: float) -> Now:
    ns = round(seconds * 1e9)
    return Now(MONO_0 + ns, UTC_0 + ns, synced=True)


def show(dispatcher: Dispatcher, seq: int, *indices: int) -> list[Effect]:
    effects: list[Effect] = []
    for index in indices:
        effects += dispatcher.pair("c", seq, make_pair(seq, index), at(seq * SECONDS + index / 2))
    return effects


def close(dispatcher: Dispatcher, seq: int) -> list[Effect]:
    return dispatcher.closed("c", seq, make_stats(PAIRS), at((seq + 1) * SECONDS))


T = TypeVar("T")


def of(kind: type[T], effects: list[Effect]) -> list[T]:
    return [effect for effect in effects if isinstance(effect, kind)]


def test_a_clip_that_was_paused_in_part_is_shown_in_part_and_says_so() -> None:
    dispatcher = start()
    dispatcher.model_ready()
    show(dispatcher, 0, 0)
    dispatcher.pause("c")
    show(dispatcher, 0, 1, 2)
    dispatcher.resume("c")
    show(dispatcher, 0, 3)
    close(dispatcher, 0)
    (more,) = of(More, dispatcher.need_pairs())
    assert [pair.index for pair in more.pairs] == [0, 3]
    (end,) = of(End, dispatcher.need_pairs())
    assert end.stats.gaps == (Span(0.5, 1.5, "paused"),)
    assert (end.stats.pairs, end.stats.ticks_empty) == (2, 4)


def test_a_clip_that_was_paused_as_a_whole_is_announced_and_the_next_one_begins() -> None:
    dispatcher = start()
    dispatcher.model_ready()
    dispatcher.pause("c")
    effects = show(dispatcher, 0, *range(PAIRS)) + close(dispatcher, 0)
    (ended,) = of(ClipEnded, effects)
    assert (ended.outcome, ended.reason, ended.seconds) == ("skipped", "paused", SECONDS)
    assert of(Begin, effects) == []
    assert dispatcher.clips_in_hand("c") == 1


def test_a_paused_camera_whose_process_is_gone_is_paused_and_not_lost() -> None:
    dispatcher = start()
    dispatcher.pause("c")
    dispatcher.capture_lost("c")
    (ended,) = of(ClipEnded, dispatcher.tick(at(SECONDS + 2.5)))
    assert ended.reason == "paused"


def test_a_file_at_full_speed_stands_still_while_it_is_paused() -> None:
    dispatcher = start(live=False)
    assert dispatcher.wants("c")
    dispatcher.pause("c")
    assert not dispatcher.wants("c")
    dispatcher.resume("c")
    assert dispatcher.wants("c")


def test_a_question_is_asked_at_once_of_an_idle_model_and_the_next_clip_waits_for_it() -> None:
    dispatcher = start()
    dispatcher.model_ready()
    assert dispatcher.ask(ASK) == [ASK]
    assert show(dispatcher, 0, 0) == []
    dispatcher.asked()
    assert len(of(Begin, dispatcher.model_ready())) == 1


def test_a_question_waits_for_the_chunk_in_hand_and_no_longer() -> None:
    dispatcher = start()
    dispatcher.model_ready()
    show(dispatcher, 0, 0)  # begun
    assert of(More, dispatcher.need_pairs())
    show(dispatcher, 0, 1)
    assert dispatcher.ask(ASK) == []
    assert dispatcher.need_pairs() == [ASK]
    dispatcher.asked()
    (more,) = of(More, dispatcher.need_pairs())
    assert [pair.index for pair in more.pairs] == [1]


def test_a_question_that_the_model_dies_of_is_not_asked_again_and_costs_the_clip_nothing() -> None:
    dispatcher = start()
    for _ in range(5):
        dispatcher.model_ready()
        show(dispatcher, 0, 0)
        dispatcher.need_pairs()
        dispatcher.ask(ASK)
        assert dispatcher.need_pairs() == [ASK]
        assert dispatcher.model_lost("killed") == [Unasked("k", "killed")]
    assert len(of(Begin, dispatcher.model_ready())) == 1


def test_a_clip_in_its_last_attempt_is_not_put_at_risk() -> None:
    dispatcher = start()
    dispatcher.model_ready()
    show(dispatcher, 0, 0)
    dispatcher.model_lost("killed")
    dispatcher.ask(ASK)
    assert dispatcher.model_ready() == [ASK]  # nothing is with the model yet
    dispatcher.asked()
    assert of(Begin, dispatcher.model_ready())
    dispatcher.ask(replace(ASK, key="later"))
    assert of(More, dispatcher.need_pairs())


def test_questions_that_wait_are_given_up_when_the_service_stops() -> None:
    dispatcher = start()
    for number in range(WAITING_MAX):
        assert not dispatcher.questions_full
        dispatcher.ask(replace(ASK, key=str(number)))
    assert dispatcher.questions_full
    gone = of(Unasked, dispatcher.stop(at(1)))
    assert [one.key for one in gone] == [str(number) for number in range(WAITING_MAX)]


def test_other_prompts_hold_for_clips_that_are_not_begun() -> None:
    dispatcher = start()
    dispatcher.model_ready()
    (begin,) = of(Begin, show(dispatcher, 0, 0))
    dispatcher.reconfigure([Prompt("new", "ask", "New?", 64)], backlog=1)
    dispatcher.model_lost("killed")
    (again,) = of(Begin, dispatcher.model_ready())
    assert again.prompts == begin.prompts == PROMPTS
