"""The order of the stages for one clip: pairs to the model, then one answer per prompt. Shell and daemon both use it.

The daemon also asks on the way, of what was seen so far, and of a finished clip whose context it keeps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edge.answer.assemble import Author, Work, Written, assemble
from edge.answer.schema import model_schema
from edge.errors import EmptyVideoError, ModelError
from edge.host.sensors import temperature_c
from edge.messages import Answer
from edge.records import ALL, ClipPlan, ClipStats, Effort, Pair, Prompt, Size

if TYPE_CHECKING:
    from edge.model.engine import Engine, Fork, Stream

_MARKERS = 64  # tokens around a prompt's own: turn markers and the empty thought, generously
_CLOSING = 256  # an answer may take more than its budget where even the shortest one does


class ClipJob:
    """One clip from its first pair to its last answer.

    The arena is opened with the first pair, sized for the plan's full length, and filled while the clip is still being
    recorded. All prompts are asked from one fork after the last pair.

    Args:
        engine: What runs the model; one job at a time may use it.
        device: Name of this device in the answers.
        plan: What is known of the clip.
        prompts: What to ask, in order; at least one.
        effort: How much is done: pairs of the plan's size are made smaller where it asks for that, and answers say so.
        seed: For sampling; greedy decoding, which is the default, does not use it.
        reserve_tokens: Rows for what `ask` may be asked beside the prompts.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        device: str,
        plan: ClipPlan,
        prompts: Sequence[Prompt],
        effort: Effort = ALL,
        seed: int = 0,
        reserve_tokens: int = 0,
    ) -> None:
        self.plan = _at(plan, effort, engine)
        self.effort = effort
        self.prompts = tuple(prompts)
        self._engine = engine
        self._device = device
        self._seed = seed
        self._reserve_tokens = max(_reserve(self.prompts), reserve_tokens)
        self._stream: Stream | None = None
        self._stats: ClipStats | None = None  # once the clip is finished
        self._pairs = self._gated = 0
        self._end_tick = 0  # behind the last pair
        model = engine.bundle.manifest.model
        self._author = Author(
            model=f"{model.id}@{model.revision}" if model.revision else model.id,
            bundle=engine.bundle.hash,
            recipe=engine.bundle.manifest.recipe.name,
            note=model.note,
        )

    @property
    def stream(self) -> Stream | None:
        """The clip's stream, for its counters; None before the first pair."""
        return self._stream

    def push(self, pairs: Sequence[Pair]) -> None:
        """Give the next pairs to the model, in the order of their index.

        Raises:
            ModelError: The engine failed, or the clip is finished.
        """
        if self._stats is not None:
            raise ModelError(
                f"clip {self.plan.seq} of {self.plan.camera} is finished and takes no more pairs"
            )
        if not pairs:
            return
        if self._stream is None:
            self._stream = self._engine.stream(
                self.plan.size,
                round(self.plan.seconds * self.plan.fps),
                reserve_tokens=self._reserve_tokens,
            )
        self._stream.push([_sized(pair, self.plan.size) for pair in pairs])
        self._pairs += len(pairs)
        self._gated += sum(pair.gated for pair in pairs)
        self._end_tick = 2 * (pairs[-1].index + 1)

    def finish(
        self,
        stats: ClipStats,
        *,
        end_mono_ns: int | None = None,
        on_token: Callable[[int], None] | None = None,
        keep: bool = False,
    ) -> Iterator[Answer]:
        """Ask every prompt, and yield each answer as soon as it is ready.

        Args:
            stats: What was counted of the clip.
            end_mono_ns: CLOCK_MONOTONIC of the clip's end where it happened live; it dates ``latency.after_end``.
            on_token: Called with every token of an answer as it is written.
            keep: Leave the context after the last answer, for `ask`, until `close`.

        Raises:
            EmptyVideoError: No pair was pushed; at the call, not at the first answer. The daemon announces such a clip
                as skipped (``no_video``).
            ModelError: The engine failed.
            AnswerError: An answer could not be read; the answers before it have been yielded.
        """
        self._stats = stats
        if self._stream is None:
            raise EmptyVideoError(
                f"clip {self.plan.seq} of {self.plan.camera} holds no picture",
                next_step="Check that the source delivers video at that time.",
            )
        return self._answers(self._stream, stats, end_mono_ns=end_mono_ns, on_token=on_token, keep=keep)

    def ask(self, prompt: Prompt, *, on_token: Callable[[int], None] | None = None) -> Answer:
        """Ask about a finished clip that was kept, or about what was seen so far; then the answer is ``partial``.

        A question on the way flushes what waits for a full chunk, so the rest of the clip is cut up otherwise, which
        changes its answers by no more than rounding does.

        Raises:
            EmptyVideoError: Nothing was seen yet.
            ModelError: The engine failed, or the context is not there any more.
            AnswerError: The answer could not be read.
        """
        if self._stream is None:
            raise EmptyVideoError(f"clip {self.plan.seq} of {self.plan.camera} holds no picture yet")
        if self._stats is not None:
            return self._ask(self._stream, self._stream.fork(), prompt, self._stats, on_token=on_token)
        seen = self._seen()
        answer = self._ask(self._stream, self._stream.fork(), prompt, seen, on_token=on_token)
        return answer.model_copy(update={"status": "partial"})

    def close(self) -> None:
        """Free the context."""
        if self._stream is not None:
            self._stream.close()

    def _answers(
        self,
        stream: Stream,
        stats: ClipStats,
        *,
        end_mono_ns: int | None,
        on_token: Callable[[int], None] | None,
        keep: bool,
    ) -> Iterator[Answer]:
        done = False
        try:
            fork = stream.fork()
            for prompt in self.prompts:
                yield self._ask(stream, fork, prompt, stats, end_mono_ns=end_mono_ns, on_token=on_token)
            done = True
        finally:
            if not (done and keep):
                stream.close()  # frees the context

    def _ask(
        self,
        stream: Stream,
        fork: Fork,
        prompt: Prompt,
        stats: ClipStats,
        *,
        end_mono_ns: int | None = None,
        on_token: Callable[[int], None] | None,
    ) -> Answer:
        reply = fork.ask(
            prompt.text,
            schema=model_schema(prompt.kind, seconds=stats.seconds),
            max_tokens=prompt.max_tokens,
            seed=self._seed,
            on_token=on_token,
        )
        return assemble(
            Written(
                text=reply.text,
                logprobs=reply.logprobs,
                tokens_in=reply.tokens_in,
                tokens_out=len(reply.tokens),
                truncated=reply.finish != "stop",
            ),
            device=self._device,
            plan=self.plan,
            stats=stats,
            prompt=prompt,
            author=self._author,
            effort=self.effort,
            work=Work(
                pairs=stream.timing.pairs,
                vision_s=stream.timing.vision_s,
                prefill_s=stream.timing.prefill_s + reply.prefill_s,
                decode_s=reply.decode_s,
                after_end_s=None if end_mono_ns is None else (time.monotonic_ns() - end_mono_ns) / 1e9,
                temperature_c=temperature_c(),
                tokens=stream.timing.tokens,
            ),
        )

    def _seen(self) -> ClipStats:
        """Return what can be said of a clip that is not finished: what was seen up to the last pair that was shown."""
        pairs = self._pairs + self._gated
        ticks = self._end_tick
        return ClipStats(
            seconds=min(ticks / self.plan.fps, self.plan.seconds),
            ticks=ticks,
            frames_decoded=2 * pairs,
            ticks_repeated=0,
            ticks_empty=ticks - 2 * pairs,
            pairs=pairs,
            late_max_s=0.0,
            gaps=(),
            decode_s=0.0,
            pairs_gated=self._gated,
        )


def _at(plan: ClipPlan, effort: Effort, engine: Engine) -> ClipPlan:
    """Return the plan with the frame size that the effort leaves."""
    if effort.area == 1.0:
        return plan
    from edge.model.preprocess import shrunk

    return replace(plan, size=shrunk(plan.size, effort.area, engine.bundle.manifest.vision))


def _sized(pair: Pair, size: Size) -> Pair:
    """Return the pair with frames of that size."""
    if pair.frames.shape[1:3] == (size.height, size.width):
        return pair
    from edge.model.preprocess import scale

    return replace(pair, frames=np.stack([scale(frame, size) for frame in pair.frames]))


def _reserve(prompts: Sequence[Prompt]) -> int:
    return max(reserve_tokens(len(prompt.text.encode()), prompt.max_tokens) for prompt in prompts)


def reserve_tokens(text_bytes: int, max_tokens: int) -> int:
    """Return rows of the arena that a question of so many bytes and its answer can take; a token is at least one byte."""
    return text_bytes + max_tokens + _MARKERS + _CLOSING
