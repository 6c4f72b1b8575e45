"""The order of the stages for one clip: pairs to the model, then one answer per prompt. Shell and daemon both use it.

The daemon also asks on the way, of what was seen so far, and of a finished clip whose context it keeps.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from edge.answer.assemble import Author, Work, Written, assemble
from edge.answer.confidence import Chances
from edge.answer.schema import model_schema
from edge.errors import AnswerError, EmptyVideoError, ModelError, SchemaError
from edge.host.sensors import temperature_c
from edge.messages import Answer, KeyFrame, Verdict, WatchBody, Watched
from edge.model.sampling import Sampling
from edge.records import ALL, ClipPlan, ClipStats, Effort, Pair, Prompt, Question, Size, Still

if TYPE_CHECKING:
    from edge.model.engine import Engine, Fork, Reply, Stream

_STAMP = 32  # tokens around a still: its markers and its time, generously
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
        reserve_tokens: Rows for what `ask` may be asked beside the prompts.

    Raises:
        SchemaError: An asker's schema needs a longer answer than its prompt allows.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        device: str,
        plan: ClipPlan,
        prompts: Sequence[Prompt],
        effort: Effort = ALL,
        reserve_tokens: int = 0,
    ) -> None:
        self.plan = _at(plan, effort, engine)
        self.effort = effort
        self.prompts = tuple(prompts)
        for prompt in self.prompts:
            _check_end(prompt, engine)
        self._engine = engine
        self._device = device
        self._seed = uuid.UUID(plan.clip_id).int % 2**32  # the same work done twice says the same
        self._reserve_tokens = max(_reserve(self.prompts), reserve_tokens)
        self._stream: Stream | None = None
        self._stats: ClipStats | None = None  # once the clip is finished
        self._shown: list[int] = []  # indices of the pairs
        self._gated = 0
        self._still: Still | None = None
        model = engine.bundle.manifest.model
        self._sampling = Sampling.recommended(engine.bundle.manifest.generation)
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

    @property
    def held_bytes(self) -> int:
        """Memory that the clip takes for later questions: its context and its key frame."""
        still = 0 if self._still is None else self._still.rgb.nbytes
        return still + (0 if self._stream is None else self._stream.held_bytes)

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
        self._shown += [pair.index for pair in pairs]
        self._gated += sum(pair.gated for pair in pairs)

    def finish(
        self,
        stats: ClipStats,
        *,
        end_mono_ns: int | None = None,
        on_token: Callable[[int], None] | None = None,
        keep: bool = False,
        still: Still | None = None,
    ) -> Iterator[Answer]:
        """Ask every prompt, and yield each answer as soon as it is ready.

        Args:
            stats: What was counted of the clip.
            end_mono_ns: CLOCK_MONOTONIC of the clip's end where it happened live; it dates ``latency.after_end``.
            on_token: Called with every token of an answer as it is written.
            keep: Leave the context after the last answer, for `ask`, until `close`.
            still: The key frame, for prompts that ask where things are; without it their boxes refer to the last pair.

        Raises:
            EmptyVideoError: No pair was pushed; at the call, not at the first answer. The daemon announces such a clip
                as skipped (``no_video``).
            ModelError: The engine failed.
            AnswerError: An answer could not be read; the answers before it have been yielded.
        """
        self._stats = stats
        self._still = still
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
            SchemaError: The asker's schema needs a longer answer than the prompt allows.
        """
        _check_end(prompt, self._engine)
        if self._stream is None:
            raise EmptyVideoError(f"clip {self.plan.seq} of {self.plan.camera} holds no picture yet")
        table = _Table(self._stream.fork(), self._still)
        if self._stats is not None:
            return self._ask(self._stream, table, prompt, self._stats, on_token=on_token)
        answer = self._ask(self._stream, table, prompt, self._seen(), on_token=on_token)
        return answer.model_copy(update={"status": "partial"})

    def close(self) -> None:
        """Free the context, and the key frame."""
        self._still = None
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
            table = _Table(stream.fork(), self._still)
            for prompt in self.prompts:
                yield self._ask(stream, table, prompt, stats, end_mono_ns=end_mono_ns, on_token=on_token)
            done = True
        finally:
            if not (done and keep):
                stream.close()  # frees the context

    def _ask(
        self,
        stream: Stream,
        table: _Table,
        prompt: Prompt,
        stats: ClipStats,
        *,
        end_mono_ns: int | None = None,
        on_token: Callable[[int], None] | None,
    ) -> Answer:
        point, key_frame = table.point(prompt)
        replies: list[Reply] = []
        schema = model_schema(prompt.kind, seconds=stats.seconds)
        if prompt.schema:
            schema = json.loads(prompt.schema)

        def reply_to(text: str) -> Reply:
            replies.append(
                point.ask(
                    text,
                    schema=schema,
                    max_tokens=prompt.max_tokens,
                    sampling=self._sampling if prompt.sampled else None,
                    seed=self._seed,
                    on_token=on_token,
                )
            )
            return replies[-1]

        watches = [watched(question, reply_to) for question in prompt.questions]
        text = "" if prompt.kind == "watch" else reply_to(prompt.text).text
        written = Written(
            text=text,
            logprobs=[logprob for reply in replies for logprob in reply.logprobs],
            tokens_in=max(reply.tokens_in for reply in replies),
            tokens_out=sum(len(reply.tokens) for reply in replies),
            truncated=any(reply.finish != "stop" for reply in replies),
            pieces=replies[0].pieces,
            chances=replies[0].chances,
        )
        timing = stream.timing
        work = Work(
            pairs=timing.pairs,
            vision_s=timing.vision_s + table.vision_s,
            prefill_s=timing.prefill_s + sum(reply.prefill_s for reply in replies),
            decode_s=sum(reply.decode_s for reply in replies),
            after_end_s=None if end_mono_ns is None else (time.monotonic_ns() - end_mono_ns) / 1e9,
            temperature_c=temperature_c(),
            tokens=timing.tokens,
            shown=self._shown,
            key_frame=key_frame,
        )
        return assemble(
            written,
            device=self._device,
            plan=self.plan,
            stats=stats,
            prompt=prompt,
            author=self._author,
            effort=self.effort,
            work=work,
            watches=watches,
        )

    def _seen(self) -> ClipStats:
        """Return what can be said of a clip that is not finished: what was seen up to the last pair that was shown."""
        pairs = len(self._shown) + self._gated
        ticks = 2 * (self._shown[-1] + 1) if self._shown else 0
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


class _Table:
    """The end of a clip as it is put before each prompt: with the key frame, where the prompt wants it, or without.

    Args:
        fork: The point behind the last pair.
        still: The key frame.
    """

    def __init__(self, fork: Fork, still: Still | None) -> None:
        self._fork = fork
        self._still = still
        self._shown: dict[int, Fork] = {}
        self.vision_s = 0.0

    def point(self, prompt: Prompt) -> tuple[Fork, KeyFrame | None]:
        """Return from where a prompt is asked, and what is shown there beside the clip."""
        still, tokens = self._still, prompt.still_tokens
        if still is None or not tokens:
            return self._fork, None
        begun = time.perf_counter()
        if tokens not in self._shown:
            self._shown[tokens] = self._fork.show(still.rgb, tokens=tokens, time_s=still.time_s)
            self.vision_s += time.perf_counter() - begun
        shown = self._shown[tokens]
        size = shown.still
        if size is None:
            return shown, None
        return shown, KeyFrame(
            time=round(still.time_s, 3),
            height=size.height,
            width=size.width,
            tokens=shown.tokens - self._fork.tokens,
        )


def watched(question: Question, reply_to: Callable[[str], Reply]) -> Watched:
    """Ask one question of a watch, and once more after a yes.

    The second look does not know of the first one, so it cannot lean on it. Only two yes make one.

    Args:
        question: What is watched for.
        reply_to: Asks the model a text.

    Raises:
        AnswerError: A reply is not of a watch's form.
    """
    seen, first, chance = _verdict(reply_to(question.text))
    check = None
    if first == "yes" and question.check:
        seen, check, chance = _verdict(reply_to(question.check))
    return Watched(
        rule=question.rule,
        question=question.question,
        answer="unsure" if check is not None and check != "yes" else first,
        first=first,
        check=check,
        seen=seen,
        confidence=chance,
    )


def _verdict(reply: Reply) -> tuple[str, Verdict, float]:
    """Return what was seen, the verdict and its probability; a reply that ran out of room has decided nothing."""
    try:
        body = WatchBody.model_validate_json(reply.text)
    except ValidationError as error:
        raise AnswerError(
            "the model's reply to a watch is not yes, no or unsure",
            evidence=[f"it begins: {reply.text[:80]!a}"],
            next_step="Give another bundle.",
        ) from error
    chance = Chances(reply.pieces, reply.chances).number("answer") or 0.0
    return body.seen, body.answer if reply.finish == "stop" else "unsure", chance


def _check_end(prompt: Prompt, engine: Engine) -> None:
    """Refuse an asker's schema whose answers may not end in time; our own always do."""
    if prompt.schema and not engine.closes(json.loads(prompt.schema), prompt.max_tokens):
        raise SchemaError(
            "the schema needs a longer answer than the question may have",
            evidence=[f"{prompt.name}: {prompt.max_tokens} tokens, names and punctuation among them"],
            next_step="Ask for less: fewer or shorter names, lists and texts that may be shorter.",
        )


def _reserve(prompts: Sequence[Prompt]) -> int:
    return max(_reserve_one(prompt) for prompt in prompts)


def _reserve_one(prompt: Prompt) -> int:
    texts = [prompt.text, *(text for each in prompt.questions for text in (each.text, each.check))]
    still = prompt.still_tokens + _STAMP if prompt.still_tokens else 0
    return still + reserve_tokens(max(len(text.encode()) for text in texts), prompt.max_tokens)


def reserve_tokens(text_bytes: int, max_tokens: int) -> int:
    """Return rows of the arena that a question of so many bytes and its answer can take; a token is at least one byte."""
    return text_bytes + max_tokens + _MARKERS + _CLOSING
