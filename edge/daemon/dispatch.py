"""Which clip is recorded, waits, is worked on or over: the daemon's decisions; pure, with the time as an argument.

Every second of a camera's video lies in one clip, and every clip ends once: answered, partial or skipped. Events of
the capture and inference processes go in, and effects come out for the supervisor to carry out in order.

    capture:    opened, pair, closed, capture_lost, finished        the clip being recorded, one per camera
    clock:      tick                                                closes what a dead capture process left open
    inference:  model_ready -> Begin; need_pairs -> More.. End; answered..; model_ready ...
                model_failed, model_lost                            the clip is tried once more, then given up
    governor:   govern                                          how much is done for the clips that are begun from now on
    operator:   pause, resume                                       pictures are passed over, clips go on
                ask -> Ask; asked                                   between two chunks of the clip in hand
                stop, abandon                                       the service ends

The model may begin with a clip that is still being recorded, unless a whole one waits. Pairs stay in memory until
their clip needs no further attempt: a clip of 60 s at 256x192 holds 70 MB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edge.answer.prompts import for_camera
from edge.daemon.effects import Answered, Ask, Begin, Effect
from edge.daemon.hand import ATTEMPTS, Hand
from edge.daemon.lane import Lane, away, ended, next_lane
from edge.daemon.orders import Orders
from edge.daemon.recording import Now, Recording, Timeline
from edge.messages import Answer, SkipReason
from edge.records import ClipStats, Pair, Prompt, Size, Still

GRACE_LOST_S = (
    2.0  # after a clip's end, when a live camera's capture process is gone: the past will not come back
)
GRACE_S = 20.0  # after a clip's end, for a process that should close it, and for a file, which waits


class Dispatcher:
    """Decides for all cameras; see the module's docstring.

    Args:
        device: Name of this device, for the clips' ids.
        epoch: State epoch of the outbox, for the clips' ids.
        seconds: Length of a clip.
        fps: Ticks per second.
        prompts: What every clip is asked.
        backlog: Whole clips per camera that may wait, beside the one the model has in hand.
    """

    def __init__(
        self, *, device: str, epoch: str, seconds: float, fps: float, prompts: Sequence[Prompt], backlog: int
    ) -> None:
        self._device = device
        self._epoch = epoch
        self._seconds = seconds
        self._fps = fps
        self._prompts = tuple(prompts)
        self._backlog = backlog
        self._lanes: dict[str, Lane] = {}
        self._hand = Hand()
        self._turns = 0
        self._stopping = False
        self._orders = Orders()
        self._now_ns = 0  # CLOCK_MONOTONIC when last told
        self._rest_until_ns: int | None = None  # no clip is begun before
        self.lost_clips = 0  # skipped because the model could not keep up

    # --- what others may ask ---

    @property
    def busy(self) -> bool:
        """Whether a clip is in hand."""
        return self._hand.clip is not None

    @property
    def settled(self) -> bool:
        """Whether every clip that began has ended."""
        return self._hand.clip is None and all(
            not lane.waiting and lane.open is None for lane in self._lanes.values()
        )

    @property
    def all_ended(self) -> bool:
        """Whether no camera will deliver anything more."""
        return all(lane.ended for lane in self._lanes.values())

    def clips_in_hand(self, camera: str) -> int:
        """Return how many clips of a camera are being recorded, wait, or are worked on."""
        lane = self._lanes.get(camera)
        if lane is None:
            return 0
        clip = self._hand.clip
        hand = clip is not None and clip is not lane.open and clip.plan.camera == camera
        return len(lane.waiting) + (lane.open is not None) + hand

    def missing_s(self, camera: str, now: Now) -> float:
        """Return for how long a live camera's time has lain in no clip; 0 unless clips fail to be opened on time."""
        lane = self._lanes.get(camera)
        if lane is None or lane.ended or not lane.eager:
            return 0.0
        late_s = (now.mono_ns - lane.timeline.start_mono_ns(lane.next_seq)) / 1e9
        return late_s if late_s > GRACE_S else 0.0

    def late_clips(self, now: Now) -> float:
        """Return for how long the oldest whole clip has waited for the model, in lengths of a clip."""
        return max((lane.late_s(now) for lane in self._lanes.values()), default=0.0) / self._seconds

    def wants(self, camera: str) -> bool:
        """Whether the camera's events should be read on; a lossless source waits while its clips cannot be begun."""
        lane = self._lanes[camera]
        if not lane.lossless or self._stopping:
            return True
        return len(lane.waiting) < self._backlog and not lane.paused and self._orders.works

    def paused(self, camera: str) -> bool:
        """Whether the camera is paused."""
        return camera in self._lanes and self._lanes[camera].paused

    @property
    def questions_full(self) -> bool:
        """Whether as many questions wait as may wait."""
        return self._hand.questions.full

    def resume_tick(self, camera: str) -> int:
        """Return the first tick, counted from the camera's origin, that was not delivered yet."""
        lane = self._lanes[camera]
        ticks = round(self._seconds * self._fps)
        if lane.open is None:
            return (lane.next_seq - lane.timeline.first_seq) * ticks
        return (lane.open.plan.seq - lane.timeline.first_seq) * ticks + lane.open.next_tick

    def held_pairs(self) -> int:
        """Return how many pairs are held in memory."""
        hand = {id(clip): clip for clip in (self._hand.clip,) if clip}
        for lane in self._lanes.values():
            hand |= {id(clip): clip for clip in (*lane.waiting, lane.open) if clip}
        return sum(clip.held for clip in hand.values())

    # --- capture ---

    def add(self, camera: str, *, origin_mono_ns: int, first_seq: int, paced: bool, live: bool) -> None:
        """Take up a camera.

        Args:
            camera: Its id.
            origin_mono_ns: CLOCK_MONOTONIC of tick 0 of its first clip.
            first_seq: Number of that clip.
            paced: Whether its grid follows the clock; otherwise it is lossless, and read no faster than the model works.
            live: Whether it has no end.
        """
        timeline = Timeline(
            origin_mono_ns=origin_mono_ns, first_seq=first_seq, seconds=self._seconds, paced=paced
        )
        self._lanes[camera] = Lane(camera, timeline, eager=live, lossless=not paced, next_seq=first_seq)

    def connected(self, camera: str) -> None:
        """Note that a capture process speaks again."""
        self._lanes[camera].connected = True

    def opened(self, camera: str, source_size: Size) -> None:
        """Note that the source delivers, and at what size."""
        self._lanes[camera].source_size = source_size

    def pair(self, camera: str, seq: int, pair: Pair, now: Now) -> list[Effect]:
        """Take a pair of clip ``seq``; of a clip that is over already it is dropped, its gap is in the statistics."""
        lane = self._lanes[camera]
        self._now_ns = now.mono_ns
        effects, clip = self._reach(lane, seq, now)
        if clip is not None and lane.paused:
            clip.withhold([pair.index])
        elif clip is not None:
            clip.offer(pair, lane.source_size)
            if not (self._orders.works or lane.lossless or clip is self._hand.clip):
                clip.spare(self._orders.reason)
            effects += self._feed()
        return effects

    def gated(self, camera: str, seq: int, indices: Sequence[int], now: Now) -> list[Effect]:
        """Take that the gate dropped pairs of clip ``seq``."""
        lane = self._lanes[camera]
        effects, clip = self._reach(lane, seq, now)
        if clip is not None and lane.paused:
            clip.withhold(indices)
        elif clip is not None:
            clip.gate(indices)
        return effects

    def closed(
        self, camera: str, seq: int, stats: ClipStats, now: Now, *, still: Still | None = None
    ) -> list[Effect]:
        """Take the end of clip ``seq``, with its key frame."""
        lane = self._lanes[camera]
        effects, clip = self._reach(lane, seq, now)
        if clip is not None:
            clip.take_still(still)
            effects += self._close(lane, clip, stats, stats.seconds, now)
        return effects

    def capture_lost(self, camera: str) -> None:
        """Note that the capture process is gone; the clip goes on with a gap."""
        lane = self._lanes[camera]
        lane.connected = False
        if lane.open is not None:
            lane.open.capture_lost()

    def finished(self, camera: str, now: Now) -> list[Effect]:
        """Take the end of a file, or that the camera was given up; what was recorded of its last clip stands."""
        lane = self._lanes[camera]
        lane.ended = True
        effects: list[Effect] = []
        if lane.open is not None:
            effects += self._close(lane, lane.open, None, lane.recorded_s(lane.open, self._fps), now)
        return effects

    def tick(self, now: Now) -> list[Effect]:
        """Open what must have begun, close what should have been closed, and end the model's rest."""
        effects: list[Effect] = []
        self._now_ns = now.mono_ns
        if self._rest_until_ns is not None and now.mono_ns >= self._rest_until_ns:
            self._rest_until_ns = None
            effects += self._feed()
        for lane in self._lanes.values():
            if lane.ended or not lane.timeline.paced:
                continue
            if lane.open is None and lane.eager and now.mono_ns >= lane.timeline.start_mono_ns(lane.next_seq):
                effects += self._open(lane, now)
            hopeless = lane.eager and not lane.connected
            grace_ns = round((GRACE_LOST_S if hopeless else GRACE_S) * 1e9)
            while (clip := lane.open) and now.mono_ns >= lane.timeline.end_mono_ns(clip.plan.seq) + grace_ns:
                effects += self._close(lane, clip, None, self._seconds, now)
        return effects

    # --- inference ---

    def model_ready(self) -> list[Effect]:
        """The model has nothing in hand, or has ended its work on it."""
        effects = self._attempt_over("the model gave no answer") if self._hand.ready() else []
        return effects + self._feed()

    def need_pairs(self) -> list[Effect]:
        """The model has worked off what it was given."""
        self._hand.need_pairs()
        return self._feed()

    def answered(self, answer: Answer) -> list[Effect]:
        """Take an answer to one prompt; the last one ends the clip."""
        clip = self._hand.clip
        if clip is None or not self._hand.answering or answer.clip_id != clip.plan.clip_id:
            return []
        if answer.prompt in clip.answered:
            return []
        clip.answered.add(answer.prompt)
        clip.partial |= answer.status == "partial"
        if any(prompt.name not in clip.answered for prompt in clip.prompts):
            return [Answered(answer)]
        self._hand.clip = None
        return [self._end(clip, "partial" if clip.partial else "answered", answer=answer)]

    def model_failed(self, detail: str) -> list[Effect]:
        """The model could not do this clip; it will say when it is ready for another."""
        self._hand.failed()
        return self._attempt_over(detail)

    def model_lost(self, detail: str) -> list[Effect]:
        """The inference process is gone. If a question was with it, that may be why, and the clip is not charged."""
        self._hand.lost()
        return self._hand.questions.lose(detail) + self._attempt_over(detail)

    # --- governor ---

    def govern(self, orders: Orders) -> list[Effect]:
        """Follow the governor: for clips that are begun from now on, and at once where none may be begun any more."""
        self._orders = orders
        if not orders.rests:
            self._rest_until_ns = None
        effects: list[Effect] = []
        if not orders.works:
            for lane in self._lanes.values():
                if lane.lossless:
                    continue
                while lane.waiting:
                    effects.append(self._skip(lane.waiting.popleft(), orders.reason, orders.detail))
                if lane.open is not None and lane.open is not self._hand.clip:
                    lane.open.spare(orders.reason)
        return effects + self._feed()

    # --- operator ---

    def pause(self, camera: str) -> None:
        """Show the model nothing more of a camera. Clips go on: their paused time is a gap, or they are skipped.

        What was recorded before is still answered. A file at full speed stands still.
        """
        self._lanes[camera].paused = True

    def resume(self, camera: str) -> None:
        """Show the model the camera's pictures again."""
        self._lanes[camera].paused = False

    def ask(self, ask: Ask) -> list[Effect]:
        """Let the model answer a question as soon as it waits for work; `asked` or `Unasked` follows."""
        self._hand.questions.put(ask)
        return self._feed()

    def asked(self) -> None:
        """The model has answered the question that it had; it says next what it waits for."""
        self._hand.questions.answered()

    def reconfigure(self, prompts: Sequence[Prompt], *, backlog: int) -> None:
        """Take other prompts, for clips that the model has not begun, and another bound of the backlog."""
        self._prompts = tuple(prompts)
        self._backlog = backlog

    # --- the end ---

    def stop(self, now: Now) -> list[Effect]:
        """End recording. What the model works on may still be answered; all that waits is skipped."""
        self._stopping = True
        effects = self._hand.questions.give_up("the service is stopping")
        for lane in self._lanes.values():
            lane.ended = True
            if (clip := lane.open) is not None:
                effects += self._close(
                    lane, clip, None, lane.elapsed_s(clip, now, self._fps), now, reason="shutdown"
                )
            while lane.waiting:
                effects.append(self._skip(lane.waiting.popleft(), "shutdown", "the service is stopping"))
        if self._hand.clip is not None and not self._hand.busy:
            effects += self.abandon()
        return effects

    def abandon(self) -> list[Effect]:
        """Give up what is still in hand; to be called after `stop`."""
        clip, self._hand.clip = self._hand.clip, None
        effects = self._hand.questions.lose("the service is stopping")
        if clip is None:
            return effects
        return [*effects, self._give_up(clip, "shutdown", "the service is stopping")]

    # --- within ---

    def _reach(self, lane: Lane, seq: int, now: Now) -> tuple[list[Effect], Recording | None]:
        """Return clip ``seq``, opened if it is its turn; None if it is over. Clips that were left out are closed."""
        effects: list[Effect] = []
        while not lane.ended:
            clip = lane.open
            if clip is not None and clip.plan.seq == seq:
                return effects, clip
            if clip is not None and clip.plan.seq < seq:
                effects += self._close(lane, clip, None, self._seconds, now)
            elif clip is None and lane.next_seq <= seq:
                effects += self._open(lane, now)
            else:
                break
        return effects, None

    def _open(self, lane: Lane, now: Now) -> list[Effect]:
        return lane.begin(self._device, self._epoch, seconds=self._seconds, fps=self._fps, now=now)

    def _close(
        self,
        lane: Lane,
        clip: Recording,
        stats: ClipStats | None,
        seconds: float,
        now: Now,
        *,
        reason: str = "no report from capture",
    ) -> list[Effect]:
        """End the recording of the lane's open clip, and open the next one where there surely is one."""
        lane.open = None
        clip.close(stats, seconds=seconds, reason=reason)
        lane.timeline.end(clip.t_end)
        effects: list[Effect] = []
        if clip.failed:
            effects.append(self._give_up(clip, "inference_failed", "the model failed on it twice"))
        elif clip is not self._hand.clip:
            if clip.spared:
                effects.append(self._skip(clip, clip.spared, self._orders.detail))
            elif clip.count:
                lane.waiting.append(clip)
            elif self._stopping:
                effects.append(self._skip(clip, "shutdown", "the service is stopping"))
            elif clip.paused or lane.paused:
                effects.append(self._skip(clip, "paused", "the camera is paused"))
            else:
                effects.append(self._skip(clip, "no_video", away(clip)))
        while len(lane.waiting) > self._backlog and not lane.lossless:
            effects.append(self._overflow(lane.waiting.popleft()))
        if lane.eager and not lane.ended and now.mono_ns >= lane.timeline.start_mono_ns(lane.next_seq):
            effects += self._open(lane, now)
        return effects + self._feed()

    def _feed(self) -> list[Effect]:
        """Give the model a question if one waits, a clip if it has none, and pairs if it waits for them."""
        hand = self._hand
        if (ask := hand.question()) is not None:
            return [ask]
        if hand.idle:
            clip = hand.clip or self._choose()
            if clip is None:
                return []
            camera, orders = clip.plan.camera, self._orders
            hand.begin(clip, stride=orders.stride(camera))
            clip.prompts = clip.prompts or for_camera(self._prompts, camera)
            asked = [prompt for prompt in clip.prompts if prompt.name not in clip.answered]
            return [Begin(clip.plan, orders.prompts(camera, asked), orders.effort(camera))]
        if hand.clip is None:
            return []
        given = hand.serve(self._lanes[hand.clip.plan.camera].timeline)
        return [] if given is None else [given]

    def _choose(self) -> Recording | None:
        """Return the next clip; None if there is none, or none may be begun."""
        orders = self._orders
        if self._stopping or self._rest_until_ns is not None or not orders.works:
            return None
        lane = next_lane(self._lanes.values(), early=not orders.rests)
        if lane is None:
            return None
        self._turns += 1
        lane.turn = self._turns
        return lane.waiting.popleft() if lane.waiting else lane.open

    def _attempt_over(self, detail: str) -> list[Effect]:
        """Keep the clip in hand for another attempt, or give it up."""
        clip = self._hand.clip
        if clip is None or not clip.attempts:
            return []
        if clip.attempts < ATTEMPTS and not self._stopping:
            return []
        self._hand.clip = None
        if self._stopping:
            return [self._give_up(clip, "shutdown", "the service is stopping")]
        clip.failed = True
        clip.free()
        return [self._give_up(clip, "inference_failed", detail)] if clip.closed else []

    def _give_up(self, clip: Recording, reason: SkipReason, detail: str) -> Effect:
        """End a clip that will get no more answers: partial if it has some, skipped otherwise; announced either way."""
        if clip.answered:
            return self._end(clip, "partial", reason=reason, detail=detail)
        return self._skip(clip, reason, detail)

    def _overflow(self, clip: Recording) -> Effect:
        """Give up a clip for newer ones."""
        if self._orders.rests:
            return self._skip(clip, self._orders.reason, self._orders.detail)
        self.lost_clips += 1
        return self._skip(clip, "backlog", f"{self._backlog} newer clips wait for the model")

    def _skip(self, clip: Recording, reason: SkipReason, detail: str) -> Effect:
        return self._end(clip, "skipped", reason=reason, detail=detail)

    def _end(
        self,
        clip: Recording,
        outcome: Literal["answered", "partial", "skipped"],
        *,
        answer: Answer | None = None,
        reason: SkipReason | None = None,
        detail: str = "",
    ) -> Effect:
        clip.free()
        if self._orders.rests and outcome != "skipped":
            self._rest_until_ns = self._now_ns + round(self._seconds * 1e9)
        return ended(clip, outcome, answer=answer, reason=reason, detail=detail)
