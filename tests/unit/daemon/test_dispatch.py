"""The daemon's decisions, one promise at a time; `test_dispatch_machine` holds them in every order of events."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from edge.daemon.dispatch import Dispatcher
from edge.daemon.effects import Answered, Begin, ClipEnded, ClipOpened, ClockStepped, Effect, End, More
from edge.daemon.recording import Now
from edge.records import ClipStats, Span
from tests.clips import (
    BACKLOG,
    FIRST_SEQ,
    FPS,
    MONO_0,
    PAIRS,
    PROMPTS,
    SECONDS,
    TICKS,
    UTC_0,
    make_answer,
    make_pair,
    make_stats,
)


def start(*, paced: bool = True, live: bool = True, backlog: int = BACKLOG, cameras: int = 1) -> Dispatcher:
    dispatcher = Dispatcher(device="d", epoch="e", seconds=SECONDS, fps=FPS, prompts=PROMPTS, backlog=backlog)
    for n in range(cameras):
        dispatcher.add(f"c{n}", origin_mono_ns=MONO_0, first_seq=FIRST_SEQ, paced=paced, live=live)
    dispatcher.tick(at(0))
    return dispatcher


def at(seconds: float, *, wall_s: float = 0.0) -> Now:
    ns = round(seconds * 1e9)
    return Now(MONO_0 + ns, UTC_0 + ns + round(wall_s * 1e9), synced=True)


def record(
    dispatcher: Dispatcher, seq: int, *, camera: int = 0, pairs: Iterator[int] | None = None
) -> list[Effect]:
    effects: list[Effect] = []
    name, begin_s = f"c{camera}", (seq - FIRST_SEQ) * SECONDS
    count = 0
    for index in pairs or range(PAIRS):
        effects += dispatcher.pair(name, seq, make_pair(seq, index, camera), at(begin_s + (index + 1) / 2))
        count += 1
    return effects + dispatcher.closed(name, seq, make_stats(count), at(begin_s + SECONDS))


def ended(effects: list[Effect]) -> list[tuple[int, str, str | None]]:
    return [(e.seq, e.outcome, e.reason) for e in effects if isinstance(e, ClipEnded)]


def test_the_oldest_waiting_clip_is_skipped_and_never_the_one_in_hand() -> None:
    dispatcher = start()
    dispatcher.model_ready()
    effects = record(dispatcher, 5)  # taken in hand while it is recorded
    assert [e.plan.seq for e in effects if isinstance(e, Begin)] == [5]
    assert ended(record(dispatcher, 6)) == []
    assert ended(record(dispatcher, 7)) == []
    assert ended(record(dispatcher, 8)) == [(6, "skipped", "backlog")]
    assert ended(record(dispatcher, 9)) == [(7, "skipped", "backlog")]


def test_a_clip_is_tried_again_from_its_first_pair_when_inference_dies_and_only_once() -> None:
    dispatcher = start()
    dispatcher.model_ready()
    record(dispatcher, 5)
    first = dispatcher.need_pairs()
    assert [pair.index for e in first if isinstance(e, More) for pair in e.pairs] == [0, 1, 2, 3]
    assert dispatcher.model_lost("killed") == []
    again = dispatcher.model_ready()
    assert [e.plan.seq for e in again if isinstance(e, Begin)] == [5]
    second = dispatcher.need_pairs()
    assert [pair.index for e in second if isinstance(e, More) for pair in e.pairs] == [0, 1, 2, 3]
    assert dispatcher.held_pairs() == 0  # nobody will need them a third time
    assert ended(dispatcher.model_lost("killed")) == [(5, "skipped", "inference_failed")]


def test_what_was_answered_before_inference_died_is_not_asked_again() -> None:
    dispatcher = start()
    dispatcher.model_ready()
    (begin,) = (e for e in record(dispatcher, 5) if isinstance(e, Begin))
    dispatcher.need_pairs()
    (last,) = dispatcher.need_pairs()
    assert isinstance(last, End)
    assert dispatcher.answered(make_answer(begin.plan, last.stats, "summary")) == [
        Answered(make_answer(begin.plan, last.stats, "summary"))
    ]
    dispatcher.model_lost("killed")
    (again,) = dispatcher.model_ready()
    assert isinstance(again, Begin)
    assert [prompt.name for prompt in again.prompts] == ["spatial"]
    (end,) = dispatcher.model_lost("killed")
    assert isinstance(end, ClipEnded)  # it has one answer: it is not lost
    assert (end.seq, end.outcome, end.reason) == (5, "partial", "inference_failed")
    assert end.answered == ("summary",)


def test_a_clip_that_failed_twice_while_it_is_recorded_ends_with_its_recording() -> None:
    dispatcher = start()
    dispatcher.model_ready()
    dispatcher.pair("c0", 5, make_pair(5, 0), at(0.5))
    dispatcher.model_lost("killed")
    dispatcher.model_ready()
    assert ended(dispatcher.model_lost("killed")) == []
    dispatcher.pair("c0", 5, make_pair(5, 1), at(1.0))
    assert dispatcher.held_pairs() == 0
    (end, _) = (
        e for e in dispatcher.closed("c0", 5, make_stats(2), at(2)) if isinstance(e, ClipEnded | ClipOpened)
    )
    assert isinstance(end, ClipEnded)
    assert (end.reason, end.seconds) == ("inference_failed", SECONDS)


def test_a_replaced_capture_process_leaves_a_gap_and_its_successor_cannot_hide_it() -> None:
    dispatcher = start()
    dispatcher.model_ready()
    dispatcher.pair("c0", 5, make_pair(5, 0), at(0.5))
    dispatcher.capture_lost("c0")
    assert dispatcher.resume_tick("c0") == 2
    dispatcher.connected("c0")
    dispatcher.pair("c0", 5, make_pair(5, 3), at(2))
    told = ClipStats(SECONDS, TICKS, 9, 1, 4, 1, 0.0, (Span(0.0, 1.5, "joined"),), 0.0)
    dispatcher.closed("c0", 5, told, at(2))
    dispatcher.need_pairs()
    (end,) = dispatcher.need_pairs()
    assert isinstance(end, End)
    assert end.stats.pairs == 2
    assert end.stats.ticks_empty == 4
    assert end.stats.gaps == (Span(0.5, 1.5, "joined"),)  # not from 0: the first pair was seen


def test_a_dead_camera_still_makes_clips_which_are_announced() -> None:
    dispatcher = start()
    dispatcher.capture_lost("c0")
    assert ended(dispatcher.tick(at(2))) == []
    assert ended(dispatcher.tick(at(4.1))) == [(5, "skipped", "no_video")]
    assert ended(dispatcher.tick(at(8.1))) == [(6, "skipped", "no_video"), (7, "skipped", "no_video")]
    assert dispatcher.resume_tick("c0") == 3 * TICKS


def test_pairs_of_a_clip_that_is_over_change_nothing() -> None:
    dispatcher = start()
    dispatcher.capture_lost("c0")
    dispatcher.tick(at(4.1))
    dispatcher.connected("c0")
    assert dispatcher.pair("c0", 5, make_pair(5, 3), at(4.2)) == []
    assert dispatcher.closed("c0", 5, make_stats(1), at(4.2)) == []
    assert dispatcher.held_pairs() == 0


def test_pairs_of_another_size_become_a_gap() -> None:
    dispatcher = start()
    dispatcher.model_ready()
    for index, side in enumerate([2, 2, 4, 4]):
        dispatcher.pair("c0", 5, make_pair(5, index, side=side), at(index / 2))
    dispatcher.closed("c0", 5, make_stats(4), at(2))
    dispatcher.need_pairs()
    (end,) = dispatcher.need_pairs()
    assert isinstance(end, End)
    assert [(gap.start_s, gap.end_s) for gap in end.stats.gaps] == [(1.0, 2.0)]


def test_cameras_are_served_in_turn_and_whole_clips_first() -> None:
    dispatcher = start(cameras=3)
    for seq in (5, 6):
        for camera in range(3):
            record(dispatcher, seq, camera=camera)
    for camera in range(3):
        dispatcher.pair(f"c{camera}", 7, make_pair(7, 0, camera), at(4.5))
    order = []
    for _ in range(6):
        (begin,) = dispatcher.model_ready()
        assert isinstance(begin, Begin)
        order.append((begin.plan.camera, begin.plan.seq))
        dispatcher.need_pairs()
        (end,) = dispatcher.need_pairs()
        assert isinstance(end, End)
        for prompt in PROMPTS:
            dispatcher.answered(make_answer(begin.plan, end.stats, prompt.name))
    assert order == [("c0", 5), ("c1", 5), ("c2", 5), ("c0", 6), ("c1", 6), ("c2", 6)]
    (begin,) = dispatcher.model_ready()
    assert isinstance(begin, Begin)
    assert (begin.plan.camera, begin.plan.seq) == ("c0", 7)  # now one that is still being recorded


def test_a_file_at_full_speed_waits_for_the_model_and_loses_nothing() -> None:
    dispatcher = start(paced=False, live=False)
    assert dispatcher.wants("c0")
    record(dispatcher, 5)
    assert dispatcher.wants("c0")
    record(dispatcher, 6)
    assert not dispatcher.wants("c0")
    dispatcher.model_ready()  # takes clip 5
    assert dispatcher.wants("c0")


def test_the_short_last_clip_of_a_file_ends_where_the_file_does() -> None:
    dispatcher = start(paced=False, live=False)
    dispatcher.pair("c0", 5, make_pair(5, 0), at(0.1))
    effects = dispatcher.closed("c0", 5, make_stats(1, seconds=0.5), at(0.2))
    effects += dispatcher.finished("c0", at(0.3))
    effects += dispatcher.model_ready()
    dispatcher.need_pairs()
    (end,) = dispatcher.need_pairs()
    assert isinstance(end, End)
    assert (end.stats.seconds, end.stats.gaps, end.end_mono_ns) == (0.5, (), None)
    assert dispatcher.all_ended
    assert not dispatcher.settled


def test_stopping_answers_what_is_in_hand_and_announces_the_rest() -> None:
    dispatcher = start(cameras=2)
    dispatcher.model_ready()
    (begin,) = (e for e in dispatcher.pair("c0", 5, make_pair(5, 0), at(0.5)) if isinstance(e, Begin))
    dispatcher.pair("c1", 5, make_pair(5, 0, 1), at(0.5))
    effects = dispatcher.stop(at(0.5))
    (skipped,) = (e for e in effects if isinstance(e, ClipEnded))
    assert (skipped.camera, skipped.reason, skipped.seconds) == ("c1", "shutdown", 0.5)
    dispatcher.need_pairs()
    (end,) = dispatcher.need_pairs()
    assert isinstance(end, End)
    assert (end.stats.seconds, end.stats.gaps) == (0.5, ())
    dispatcher.answered(make_answer(begin.plan, end.stats, "summary"))
    assert ended(dispatcher.answered(make_answer(begin.plan, end.stats, "spatial"))) == [
        (5, "answered", None)
    ]
    assert dispatcher.settled
    assert dispatcher.abandon() == []


def test_the_wall_clock_is_followed_at_a_clip_s_beginning_only_when_it_was_set() -> None:
    dispatcher = start()
    opened: list[Effect] = []
    for seq, wall_s in ((5, 0.02), (6, 0.04), (7, 3600.0), (8, 3600.03)):
        now = at((seq - FIRST_SEQ + 1) * SECONDS, wall_s=wall_s)
        opened += dispatcher.closed("c0", seq, make_stats(0), now)
    starts = [e.t_start for e in opened if isinstance(e, ClipOpened)]
    assert [(b - a).total_seconds() for a, b in itertools.pairwise(starts)] == [2.0, 3602.0, 2.0]
    assert [round(e.step_s) for e in opened if isinstance(e, ClockStepped)] == [3600]


def test_an_answer_that_nobody_waits_for_changes_nothing() -> None:
    dispatcher = start()
    dispatcher.model_ready()
    (begin,) = (e for e in dispatcher.pair("c0", 5, make_pair(5, 0), at(0.5)) if isinstance(e, Begin))
    early = make_answer(begin.plan, make_stats(1), "summary")
    assert dispatcher.answered(early) == []  # the clip is still being recorded
    dispatcher.closed("c0", 5, make_stats(1), at(2))
    dispatcher.need_pairs()
    (end,) = dispatcher.need_pairs()
    assert isinstance(end, End)
    answer = make_answer(begin.plan, end.stats, "summary")
    assert dispatcher.answered(answer) == [Answered(answer)]
    assert dispatcher.answered(answer) == []  # again
    assert not dispatcher.settled


def test_stopping_does_not_wait_for_a_model_that_is_not_there() -> None:
    dispatcher = start()
    dispatcher.model_ready()
    dispatcher.pair("c0", 5, make_pair(5, 0), at(0.5))
    dispatcher.model_lost("killed")
    assert ended(dispatcher.stop(at(1))) == [(5, "skipped", "shutdown")]
    assert dispatcher.settled


def test_time_in_no_clip_would_show() -> None:
    dispatcher = start()
    assert dispatcher.missing_s("c0", at(10)) == 0
    assert (
        dispatcher.missing_s("c0", at(62)) == 60
    )  # the loop has not turned for a minute: clip 5 is all there is
    dispatcher.tick(at(62))
    assert dispatcher.missing_s("c0", at(62)) == 0
