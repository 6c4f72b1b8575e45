"""The daemon's decisions: full coverage whatever dies, in whatever order things happen."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge.dispatch import ATTEMPTS, GRACE_S, PAIRS_AT_ONCE, Dispatcher
from edge.effects import Answered, Begin, ClipEnded, ClipOpened, ClockStepped, Effect, End, More
from edge.messages import Answer, Confidence, Latency, Provenance, message_id
from edge.recording import STEP_S, Now
from edge.records import ClipPlan, ClipStats, Pair, Prompt, Size, Span

SECONDS = 2.0
FPS = 4.0
TICKS = 8
PAIRS = 4
BACKLOG = 2
PAIR_NS = 500_000_000
CLIP_NS = 2_000_000_000
MONO_0 = 7_000_000_000_000
UTC_0 = 1_800_000_000_000_000_000
FIRST_SEQ = 5
PROMPTS = (Prompt("summary", "summary", "What?", 64), Prompt("spatial", "spatial", "Where?", 64))
SIZE = Size(2, 2)


def make_answer(plan: ClipPlan, stats: ClipStats, prompt: str) -> Answer:
    return Answer(
        id=message_id(plan.clip_id, prompt),
        clip_id=plan.clip_id,
        seq=plan.seq,
        device="d",
        camera=plan.camera,
        prompt=prompt,
        kind="summary",
        t_start=plan.t_start,
        t_end=plan.t_start + timedelta(seconds=stats.seconds),
        clock_synced=plan.clock_synced,
        status="partial" if stats.gaps or stats.ticks_empty else "answered",
        gaps=(),
        headline="h",
        confidence=Confidence(value=1.0),
        provenance=Provenance(
            model="m",
            bundle="b",
            recipe="r",
            note="",
            software="s",
            frames=0,
            frames_repeated=0,
            pairs=stats.pairs,
            pairs_offered=stats.pairs,
            fps_effective=8.0,
            frame_height=2,
            frame_width=2,
            tokens_in=1,
            tokens_out=1,
            rung=0,
            latency=Latency(capture=0, vision=0, prefill=0, decode=0),
            temperature_c=None,
            energy_j=None,
            truncated=False,
            repaired=False,
        ),
    )


def make_pair(seq: int, index: int, camera: int = 0, side: int = 2) -> Pair:
    """Make a pair whose pixels say where it comes from."""
    frames = np.zeros((2, side, side, 3), np.uint8)
    frames[..., 0], frames[..., 1], frames[..., 2] = seq % 251, index, camera
    return Pair(index, (2 * index + 0.5) / FPS, frames)


def make_stats(pairs: int, *, seconds: float = SECONDS, gaps: tuple[Span, ...] = ()) -> ClipStats:
    ticks = math.ceil(seconds * FPS)
    return ClipStats(seconds, ticks, 2 * pairs, 0, max(0, ticks - 2 * pairs), pairs, 0.0, gaps, 0.0)


@dataclass
class Camera:
    """A capture process that may die: what it has made lies in its pipe."""

    name: str
    number: int
    live: bool
    paced: bool
    length: int | None = None  # pairs of a file
    pipe: deque[tuple[str, int, object]] = field(default_factory=deque)
    alive: bool = True
    made: int = 0  # pairs of the grid that are behind it, made or not
    own: int = 0  # of the clip in hand, what this process made
    blind: list[Span] = field(default_factory=list)
    over: bool = False

    def make(self, *, seen: bool) -> None:
        """Pass one pair of the grid; close the clip with its last one."""
        if self.over:
            return
        seq, index = FIRST_SEQ + self.made // PAIRS, self.made % PAIRS
        if seen or not self.paced:
            self.pipe.append(("pair", seq, make_pair(seq, index, self.number)))
            self.own += 1
        else:
            self.blind.append(Span(index * 0.5, index * 0.5 + 0.5, "camera away"))
        self.made += 1
        finished = self.made == self.length
        if index == PAIRS - 1 or finished:
            seconds = (index + 1) * 2 / FPS
            stats = make_stats(self.own, seconds=seconds, gaps=tuple(self.blind))
            # What a predecessor delivered of the clip is not counted.
            self.pipe.append(("closed", seq, replace(stats, ticks_empty=2 * len(self.blind))))
            self.own, self.blind = 0, []
        if finished:
            self.over = True
            self.pipe.append(("finished", 0, None))


class Service(RuleBasedStateMachine):
    """Capture, inference and clock in every order; what may not happen is asserted where effects are carried out."""

    @initialize(
        kinds=st.lists(st.sampled_from(["live", "paced file", "fast file"]), min_size=1, max_size=3),
        length=st.integers(1, 30),
    )
    def begin(self, kinds: list[str], length: int) -> None:
        self.mono_ns, self.wall_ns = MONO_0, 0
        self.stepped = False
        self.dispatcher = Dispatcher(
            device="d", epoch="e", seconds=SECONDS, fps=FPS, prompts=PROMPTS, backlog=BACKLOG
        )
        self.cameras = [
            Camera(f"c{n}", n, kind == "live", kind != "fast file", None if kind == "live" else length)
            for n, kind in enumerate(kinds)
        ]
        self.opened: dict[str, list[ClipOpened]] = {camera.name: [] for camera in self.cameras}
        self.ended: dict[str, dict[int, ClipEnded]] = {camera.name: {} for camera in self.cameras}
        self.answers: dict[str, list[str]] = {}
        self.begun: dict[str, int] = {}
        self.inbox: deque[Begin | More | End] = deque()
        self.model = "loading"
        self.plan: ClipPlan | None = None
        self.shown: list[Pair] = []
        self.todo: list[str] = []
        for camera in self.cameras:
            self.dispatcher.add(
                camera.name,
                origin_mono_ns=MONO_0,
                first_seq=FIRST_SEQ,
                paced=camera.paced,
                live=camera.live,
            )
        self.carry_out(self.dispatcher.tick(self.now))

    @property
    def now(self) -> Now:
        return Now(self.mono_ns, UTC_0 + self.mono_ns - MONO_0 + self.wall_ns, synced=True)

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case ClipOpened():
                    rows = self.opened[effect.camera]
                    assert effect.seq == FIRST_SEQ + len(rows)  # consecutive, never reused
                    if rows:
                        before = self.ended[effect.camera].get(rows[-1].seq)
                        end = before.t_end if before else self.end_of(rows[-1])
                        step_s = abs((effect.t_start - end).total_seconds())
                        assert step_s == 0 or (self.stepped and step_s > STEP_S)  # they touch exactly
                    rows.append(effect)
                case Answered(answer=answer):
                    self.note(answer)
                case ClipEnded():
                    assert effect.seq not in self.ended[effect.camera]  # exactly once
                    assert any(row.clip_id == effect.clip_id for row in self.opened[effect.camera])
                    assert (effect.reason is None) == (effect.outcome != "skipped")
                    assert 0 <= effect.seconds <= SECONDS
                    assert effect.t_end == effect.t_start + timedelta(seconds=effect.seconds)
                    if effect.answer:
                        self.note(effect.answer)
                        assert sorted(self.answers[effect.clip_id]) == ["spatial", "summary"]
                    if effect.reason == "backlog":
                        assert self.plan is None or effect.clip_id != self.plan.clip_id
                        assert self.cameras[int(effect.camera[1])].paced
                    assert (effect.outcome == "skipped") == (not self.answers.get(effect.clip_id))
                    self.ended[effect.camera][effect.seq] = effect
                case ClockStepped():
                    assert self.stepped
                    assert abs(effect.step_s) > STEP_S
                case Begin() | More() | End():
                    self.inbox.append(effect)

    def end_of(self, row: ClipOpened) -> datetime:
        """Return when a clip ends that was recorded and is not over: as long as it is whole."""
        camera = self.cameras[int(row.camera[1])]
        whole = camera.length is None or (row.seq - FIRST_SEQ + 1) * PAIRS <= camera.length
        assert whole
        return row.t_start + timedelta(seconds=SECONDS)

    def note(self, answer: Answer) -> None:
        prompts = self.answers.setdefault(answer.clip_id, [])
        assert answer.prompt not in prompts
        prompts.append(answer.prompt)
        assert answer.seq not in self.ended[answer.camera]
        assert all(  # in the order of the recording
            seq <= answer.seq for seq, end in self.ended[answer.camera].items() if end.answer is not None
        )

    # --- capture ---

    @rule(seen=st.lists(st.booleans() | st.just(value=True), min_size=1, max_size=12))
    def time_passes(self, seen: list[bool]) -> None:
        for one in seen:
            self.mono_ns += PAIR_NS
            passed = (self.mono_ns - MONO_0) // PAIR_NS
            for camera in self.cameras:
                if camera.alive and camera.paced:
                    while camera.made < passed and not camera.over:
                        camera.make(seen=one)

    @rule(step_ms=st.integers(-3_600_000, 3_600_000) | st.integers(-40, 40))
    def wall_clock_is_set(self, step_ms: int) -> None:
        self.wall_ns += step_ms * 1_000_000
        self.stepped = True

    @rule(number=st.integers(0, 2), count=st.integers(1, 6))
    def a_file_is_read(self, number: int, count: int) -> None:
        camera = self.cameras[number % len(self.cameras)]
        for _ in range(count):
            if camera.alive and not camera.paced and len(camera.pipe) < 4:
                camera.make(seen=True)

    @rule(number=st.integers(0, 2), count=st.integers(1, 20))
    def events_arrive(self, number: int, count: int) -> None:
        self.deliver(self.cameras[number % len(self.cameras)], count)

    def deliver(self, camera: Camera, count: int) -> None:
        for _ in range(count):
            if not camera.pipe or not self.dispatcher.wants(camera.name):
                return
            kind, seq, what = camera.pipe.popleft()
            if camera.alive:
                self.dispatcher.connected(camera.name)
            if kind == "pair":
                assert isinstance(what, Pair)
                self.carry_out(self.dispatcher.pair(camera.name, seq, what, self.now))
            elif kind == "closed":
                assert isinstance(what, ClipStats)
                self.carry_out(self.dispatcher.closed(camera.name, seq, what, self.now))
            else:
                self.carry_out(self.dispatcher.finished(camera.name, self.now))

    @rule(number=st.integers(0, 2), lost=st.integers(0, 4))
    def capture_dies(self, number: int, lost: int) -> None:
        camera = self.cameras[number % len(self.cameras)]
        if not camera.alive or (camera.over and not camera.pipe):
            return
        camera.alive = False
        for _ in range(min(lost, len(camera.pipe))):  # what was only half written
            camera.pipe.pop()
        while camera.pipe and self.dispatcher.wants(camera.name):
            self.deliver(camera, 1)
        if camera.pipe:
            camera.pipe.clear()
        self.dispatcher.capture_lost(camera.name)

    @rule(number=st.integers(0, 2))
    def capture_comes_back(self, number: int) -> None:
        camera = self.cameras[number % len(self.cameras)]
        ended = camera.name in self.finished()
        if camera.alive or ended:
            return
        resume = self.dispatcher.resume_tick(camera.name)
        assert resume % 2 == 0
        camera.alive, camera.over, camera.own, camera.blind = True, False, 0, []
        camera.made = resume // 2
        if camera.length is not None and camera.made >= camera.length:
            camera.over = True
            camera.pipe.append(("finished", 0, None))
            return
        passed = (self.mono_ns - MONO_0) // PAIR_NS
        while camera.paced and camera.made < passed and not camera.over:  # it joins at "now"
            camera.make(seen=False)

    def finished(self) -> list[str]:
        return [camera.name for camera in self.cameras if camera.over and camera.alive and not camera.pipe]

    @rule()
    def the_loop_turns(self) -> None:
        self.carry_out(self.dispatcher.tick(self.now))

    # --- inference ---

    @rule(steps=st.integers(1, 12))
    def inference_works(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        if self.model == "loading":
            self.model = "idle"
            self.carry_out(self.dispatcher.model_ready())
        elif self.model == "answering":
            assert self.plan is not None
            if self.todo:
                self.carry_out(self.dispatcher.answered(make_answer(self.plan, self.stats, self.todo.pop(0))))
            else:
                self.model, self.plan = "idle", None
                self.carry_out(self.dispatcher.model_ready())
        elif self.inbox:
            self.receive(self.inbox.popleft())

    def receive(self, message: Begin | More | End) -> None:
        match message:
            case Begin(plan, prompts):
                assert self.model == "idle"
                assert prompts
                assert not {prompt.name for prompt in prompts} & set(self.answers.get(plan.clip_id, []))
                self.begun[plan.clip_id] = self.begun.get(plan.clip_id, 0) + 1
                assert self.begun[plan.clip_id] <= ATTEMPTS
                assert plan.seq not in self.ended[plan.camera]
                assert plan.size == SIZE
                self.model, self.plan, self.shown = "reading", plan, []
                self.todo = [prompt.name for prompt in prompts]
                self.carry_out(self.dispatcher.need_pairs())
            case More(pairs):
                assert self.model == "reading"
                assert self.plan is not None
                assert 0 < len(pairs) <= PAIRS_AT_ONCE
                camera = int(self.plan.camera[1])
                for pair in pairs:  # of this clip alone, in order, and none from the future
                    assert pair.frames[0, 0, 0].tolist() == [self.plan.seq % 251, pair.index, camera]
                    assert not self.shown or pair.index > self.shown[-1].index
                    self.shown.append(pair)
                self.carry_out(self.dispatcher.need_pairs())
            case End(stats, end_mono_ns):
                assert self.model == "reading"
                assert self.plan is not None
                assert stats.pairs == len(self.shown)  # also in a second attempt
                camera = int(self.plan.camera[1])
                assert (end_mono_ns is not None) == self.cameras[camera].paced
                assert sum(gap.end_s - gap.start_s for gap in stats.gaps) <= stats.seconds + 1e-9
                empty = math.ceil(stats.seconds * FPS - 1e-6) - 2 * stats.pairs
                assert stats.ticks_empty == empty
                assert bool(stats.gaps) == bool(empty)
                if not self.cameras[camera].paced:
                    assert stats.gaps == ()  # a file read at full speed loses nothing
                self.model, self.stats = "answering", stats

    @rule()
    @precondition(lambda self: self.model not in ("loading", "dead"))
    def inference_dies(self) -> None:
        self.model, self.plan = "dead", None
        self.inbox.clear()
        self.carry_out(self.dispatcher.model_lost("killed"))

    @rule()
    @precondition(lambda self: self.model == "dead")
    def inference_starts(self) -> None:
        self.model = "loading"

    @rule()
    @precondition(lambda self: self.model == "answering")
    def the_model_fails(self) -> None:
        self.model, self.plan = "loading", None  # says "ready" next
        self.inbox.clear()
        self.carry_out(self.dispatcher.model_failed("the text is no answer"))

    # --- what always holds ---

    @invariant()
    def every_moment_lies_in_one_clip(self) -> None:
        for camera in self.cameras:
            rows, ended = self.opened[camera.name], self.ended[camera.name]
            assert set(ended) <= {row.seq for row in rows}
            if camera.live:  # from the origin until now, but for the grace of a loop that has not turned
                late_ns = round((GRACE_S + SECONDS) * 1e9)
                assert rows
                if self.mono_ns - MONO_0 > late_ns:
                    self.carry_out(self.dispatcher.tick(self.now))
                    assert len(rows) * CLIP_NS + late_ns >= self.mono_ns - MONO_0

    @invariant()
    def memory_is_bounded(self) -> None:
        for camera in self.cameras:
            whole = BACKLOG + 1 + 1  # that wait, in hand, and being recorded
            assert self.dispatcher.clips_in_hand(camera.name) <= whole
        assert self.dispatcher.held_pairs() <= PAIRS * (BACKLOG + 2) * len(self.cameras)

    @invariant()
    def the_ledger_and_the_dispatcher_agree(self) -> None:
        for camera in self.cameras:
            in_hand = len(self.opened[camera.name]) - len(self.ended[camera.name])
            assert self.dispatcher.clips_in_hand(camera.name) == in_hand

    def teardown(self) -> None:
        if not hasattr(self, "dispatcher"):
            return
        self.the_loop_turns()
        before = self.mono_ns
        self.carry_out(self.dispatcher.stop(self.now))
        for _ in range(3):
            self.step()  # the clip in hand gets a little time
        self.carry_out(self.dispatcher.abandon())
        assert self.dispatcher.settled
        assert self.dispatcher.all_ended
        assert self.dispatcher.held_pairs() == 0
        for camera in self.cameras:
            rows, ended = self.opened[camera.name], self.ended[camera.name]
            assert sorted(ended) == [row.seq for row in rows]  # 100 %
            if camera.live:
                covered_ns = sum(round(end.seconds * 1e9) for end in ended.values())
                assert covered_ns >= min(before - MONO_0, len(rows) * CLIP_NS)


TestService = Service.TestCase
TestService.settings = settings(
    max_examples=150,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


# --- The same promises, one at a time ----------------------------------------------------------------------------------


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
    (end,) = dispatcher.need_pairs()
    assert isinstance(end, End)
    assert dispatcher.answered(make_answer(begin.plan, end.stats, "summary")) == [
        Answered(make_answer(begin.plan, end.stats, "summary"))
    ]
    dispatcher.model_lost("killed")
    (again,) = dispatcher.model_ready()
    assert isinstance(again, Begin)
    assert [prompt.name for prompt in again.prompts] == ["spatial"]
    assert ended(dispatcher.model_lost("killed")) == [
        (5, "partial", None)
    ]  # it has one answer: it is not lost


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
