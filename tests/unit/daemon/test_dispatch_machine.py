"""The dispatcher in every order of events: full coverage whatever dies, memory bounded, nothing shown twice."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge.daemon.dispatch import GRACE_S, Dispatcher
from edge.daemon.effects import (
    Answered,
    Ask,
    Begin,
    ClipEnded,
    ClipOpened,
    ClockStepped,
    Effect,
    End,
    More,
    Unasked,
)
from edge.daemon.hand import ATTEMPTS, PAIRS_AT_ONCE
from edge.daemon.recording import STEP_S, Now
from edge.messages import Answer
from edge.records import ClipPlan, ClipStats, Pair, Span
from tests.clips import (
    BACKLOG,
    CLIP_NS,
    FIRST_SEQ,
    FPS,
    MONO_0,
    PAIR_NS,
    PAIRS,
    PROMPTS,
    SECONDS,
    SIZE,
    UTC_0,
    make_answer,
    make_pair,
    make_stats,
)


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
    gated: int = 0  # of these, what the gate dropped
    blind: list[Span] = field(default_factory=list)
    over: bool = False

    def make(self, *, seen: bool, kept: bool = True) -> None:
        """Pass one pair of the grid, which the gate may drop if it is not the first; close the clip with its last one."""
        if self.over:
            return
        seq, index = FIRST_SEQ + self.made // PAIRS, self.made % PAIRS
        if (seen or not self.paced) and self.own and not kept:
            self.pipe.append(("gated", seq, (index,)))
            self.own += 1
            self.gated += 1
        elif seen or not self.paced:
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
            stats = replace(stats, ticks_empty=2 * len(self.blind), pairs_gated=self.gated)
            self.pipe.append(("closed", seq, stats))
            self.own, self.gated, self.blind = 0, 0, []
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
        self.inbox: deque[Begin | More | End | Ask] = deque()
        self.questions: set[str] = set()  # that were put and have no reply
        self.given_up: set[str] = set()
        self.number = 0
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
                    assert (effect.reason is None) == (effect.answer is not None)
                    told = self.answers.get(effect.clip_id, []) if effect.reason else []
                    assert sorted(effect.answered) == sorted(told)
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
                case Unasked():
                    self.questions.remove(effect.key)
                    self.given_up.add(effect.key)
                case Begin() | More() | End() | Ask():
                    assert not self.inbox  # one at a time, when it waits
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

    @rule(
        seen=st.lists(st.tuples(st.booleans() | st.just(value=True), st.booleans()), min_size=1, max_size=12)
    )
    def time_passes(self, seen: list[tuple[bool, bool]]) -> None:
        for one, kept in seen:
            self.mono_ns += PAIR_NS
            passed = (self.mono_ns - MONO_0) // PAIR_NS
            for camera in self.cameras:
                if camera.alive and camera.paced:
                    while camera.made < passed and not camera.over:
                        camera.make(seen=one, kept=kept)

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
            elif kind == "gated":
                assert isinstance(what, tuple)
                self.carry_out(self.dispatcher.gated(camera.name, seq, what, self.now))
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
        camera.alive, camera.over, camera.own, camera.gated, camera.blind = (
            True,
            False,
            0,
            0,
            [],
        )
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

    def receive(self, message: Begin | More | End | Ask) -> None:
        match message:
            case Ask():
                assert self.model in ("idle", "reading")
                assert (message.key in self.questions) != (message.key in self.given_up)  # exactly one reply
                self.questions.discard(message.key)
                self.dispatcher.asked()
                again = self.dispatcher.model_ready if self.model == "idle" else self.dispatcher.need_pairs
                self.carry_out(again())
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
                assert stats.pairs - stats.pairs_gated == len(self.shown)  # also in a second attempt
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
        if self.inbox and isinstance(self.inbox[0], Ask) and self.plan is not None:
            self.begun[self.plan.clip_id] -= 1  # the question may be why
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

    # --- operator ---

    @rule(number=st.integers(0, 2), pause=st.booleans())
    def a_camera_is_paused_or_resumed(self, number: int, *, pause: bool) -> None:
        name = self.cameras[number % len(self.cameras)].name
        if pause:
            self.dispatcher.pause(name)
        else:
            self.dispatcher.resume(name)

    @rule()
    def somebody_asks(self) -> None:
        if self.dispatcher.questions_full:
            return
        self.number += 1
        key = str(self.number)
        self.questions.add(key)
        self.carry_out(self.dispatcher.ask(Ask(key, "c0", "latest", PROMPTS[:1])))

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
        assert not self.questions
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
