"""The order of the stages for one clip: pairs to the model, then one answer per prompt. Shell and daemon both use it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from edge.answer.assemble import Author, Work, Written, assemble
from edge.answer.schema import model_schema
from edge.errors import EmptyVideoError, ModelError
from edge.host.sensors import temperature_c
from edge.messages import Answer
from edge.records import ClipPlan, ClipStats, Pair, Prompt

if TYPE_CHECKING:
    from edge.model.engine import Engine, Stream

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
        seed: For sampling; greedy decoding, which is the default, does not use it.
    """

    def __init__(
        self, engine: Engine, *, device: str, plan: ClipPlan, prompts: Sequence[Prompt], seed: int = 0
    ) -> None:
        self.plan = plan
        self.prompts = tuple(prompts)
        self._engine = engine
        self._device = device
        self._seed = seed
        self._stream: Stream | None = None
        self._finished = False
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
        if self._finished:
            raise ModelError(
                f"clip {self.plan.seq} of {self.plan.camera} is finished and takes no more pairs"
            )
        if not pairs:
            return
        if self._stream is None:
            self._stream = self._engine.stream(
                self.plan.size,
                round(self.plan.seconds * self.plan.fps),
                reserve_tokens=_reserve(self.prompts),
            )
        self._stream.push(pairs)

    def finish(
        self,
        stats: ClipStats,
        *,
        end_mono_ns: int | None = None,
        on_token: Callable[[int], None] | None = None,
    ) -> Iterator[Answer]:
        """Ask every prompt, and yield each answer as soon as it is ready.

        Args:
            stats: What was counted of the clip.
            end_mono_ns: CLOCK_MONOTONIC of the clip's end where it happened live; it dates ``latency.after_end``.
            on_token: Called with every token of an answer as it is written.

        Raises:
            EmptyVideoError: No pair was pushed; at the call, not at the first answer. The daemon announces such a clip
                as skipped (``no_video``).
            ModelError: The engine failed.
            AnswerError: An answer could not be read; the answers before it have been yielded.
        """
        self._finished = True
        if self._stream is None:
            raise EmptyVideoError(
                f"clip {self.plan.seq} of {self.plan.camera} holds no picture",
                next_step="Check that the source delivers video at that time.",
            )
        return self._answers(self._stream, stats, end_mono_ns=end_mono_ns, on_token=on_token)

    def _answers(
        self,
        stream: Stream,
        stats: ClipStats,
        *,
        end_mono_ns: int | None,
        on_token: Callable[[int], None] | None,
    ) -> Iterator[Answer]:
        with stream:  # frees the context after the last answer
            fork = stream.fork()
            for prompt in self.prompts:
                reply = fork.ask(
                    prompt.text,
                    schema=model_schema(prompt.kind, seconds=stats.seconds),
                    max_tokens=prompt.max_tokens,
                    seed=self._seed,
                    on_token=on_token,
                )
                yield assemble(
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
                    work=Work(
                        pairs=stream.timing.pairs,
                        vision_s=stream.timing.vision_s,
                        prefill_s=stream.timing.prefill_s + reply.prefill_s,
                        decode_s=reply.decode_s,
                        after_end_s=None
                        if end_mono_ns is None
                        else (time.monotonic_ns() - end_mono_ns) / 1e9,
                        temperature_c=temperature_c(),
                    ),
                )


def _reserve(prompts: Sequence[Prompt]) -> int:
    """Return rows of the arena that the longest question and its answer can take; a token is at least one byte."""
    return max(len(prompt.text.encode()) + prompt.max_tokens for prompt in prompts) + _MARKERS + _CLOSING
