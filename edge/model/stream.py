"""One clip on its way into the model, pair by pair, while it is still being recorded."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edge.errors import ContextFullError, ModelError
from edge.model.decoder import Arena, Mark
from edge.model.fork import Fork, Parts, Run, embedded
from edge.model.layout import clip_rows, merged_grid, timestamp, vision_piece
from edge.records import Pair, Size

RESERVE_TOKENS = 2048
"""Rows kept for what follows a clip: a still of 1280 x 720 takes 882, a question with its answer some 600."""


@dataclass(slots=True)
class Timing:
    """What a stream has cost so far.

    Attributes:
        vision_s: Seconds in preprocessing and the vision tower.
        prefill_s: Seconds in the decoder.
        tokens: Tokens in the context and on their way there.
        pairs: Pairs pushed.
    """

    vision_s: float = 0.0
    prefill_s: float = 0.0
    tokens: int = 0
    pairs: int = 0


class Stream:
    """One clip; a context manager.

    Text is held back until the next vision block and tokens until a chunk is full, so how pairs are grouped into calls
    changes nothing. `close` frees the context at once and makes all forks stale; without it, memory is freed with the
    last fork.

    Args:
        parts: The engine's parts.
        size: Size of the frames.
        ticks: Ticks of the full clip.
        reserve_tokens: Rows for stills, a question and its answer.

    Raises:
        ContextFullError: The model's context is too short for such a clip.
    """

    def __init__(self, parts: Parts, size: Size, ticks: int, *, reserve_tokens: int = RESERVE_TOKENS) -> None:
        manifest = parts.manifest
        rows = clip_rows(size, ticks, manifest, parts.tokenizer) + reserve_tokens
        if rows > manifest.text.context:
            raise ContextFullError(
                "the clip does not fit the model's context",
                evidence=[
                    f"{ticks} frames of {size.width} x {size.height}, with {reserve_tokens} tokens in reserve: {rows}",
                    f"the model's context: {manifest.text.context}",
                ],
                next_step="Take shorter clips or fewer frames a second.",
            )
        self.timing = Timing()
        self._parts = parts
        self._size = size
        self._grid = merged_grid(size, manifest)
        self._pairs_most = -(-ticks // manifest.vision.temporal_patch_size)
        self._arena: Arena | None = parts.decoder.arena(rows)
        self._text = manifest.prompt.user_open
        self._next_pos = 0
        self._waiting: list[Run] = []
        self._forked: Mark | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the context; forks become stale."""
        if self._arena is not None:
            self._arena.end_epoch()
        self._arena = None
        self._forked = None
        self._waiting.clear()

    @property
    def held_bytes(self) -> int:
        """Memory that the clip's context takes; 0 once it is closed."""
        return 0 if self._arena is None else self._arena.held_bytes

    def push(self, pairs: Sequence[Pair]) -> None:
        """Encode pairs and append them; what fills a chunk is prefilled at once. Forks made before become stale.

        Raises:
            ContextFullError: More pairs than the stream was opened for; none of these was taken.
            ModelError: A frame has another size than the stream, the stream is closed, or onnxruntime failed; after
                onnxruntime failed the stream is closed.
        """
        self._open_arena()
        self._check(pairs)
        self._parts.turns.begin("seeing")
        batch = self._parts.vision.batch(self._size)
        for at in range(0, len(pairs), batch):
            group = pairs[at : at + batch]
            started = time.perf_counter()
            visual = self._parts.vision.encode(np.stack([pair.frames for pair in group]))
            self.timing.vision_s += time.perf_counter() - started
            for pair, embeds in zip(group, visual, strict=True):
                self._append(pair.time_s, embeds)
            self._prefill(flush=False)

    def fork(self) -> Fork:
        """Prefill what waits and mark this point. More pairs may follow; this fork is stale then.

        Raises:
            ModelError: The stream is closed, or onnxruntime failed.
        """
        arena = self._open_arena()
        self._prefill(flush=True)
        if self._forked is None:
            self._forked = arena.mark()
        return Fork(self._parts, arena, self._forked, self._text)

    def _open_arena(self) -> Arena:
        if self._arena is None:
            raise ModelError("the stream is closed", next_step="Open another one.")
        return self._arena

    def _check(self, pairs: Sequence[Pair]) -> None:
        if self.timing.pairs + len(pairs) > self._pairs_most:
            raise ContextFullError(
                "more pairs were pushed than the clip has",
                evidence=[f"{self.timing.pairs} and {len(pairs)} more, room for {self._pairs_most}"],
                next_step="Open the stream with the ticks of the full clip.",
            )
        expected = (2, self._size.height, self._size.width, 3)
        for pair in pairs:
            if pair.frames.shape != expected or pair.frames.dtype != np.uint8:
                raise ModelError(
                    "a pair of frames does not fit the stream",
                    evidence=[f"expected uint8 {expected}, found {pair.frames.dtype} {pair.frames.shape}"],
                    next_step="Scale frames to the size that the stream was opened with.",
                )

    def _append(self, time_s: float, visual: NDArray[np.float32]) -> None:
        parts, manifest = self._parts, self._parts.manifest
        before = parts.tokenizer.encode(self._text + timestamp(time_s, manifest))
        piece = vision_piece(before, manifest.tokens.video_pad, self._grid, self._next_pos, manifest)
        self._waiting.append(embedded(parts.decoder, piece, visual))
        self._text = ""
        self._next_pos = piece.next_pos
        self.timing.tokens += len(piece.ids)
        self.timing.pairs += 1

    def _prefill(self, *, flush: bool) -> None:
        """Run whole chunks of what waits, or all of it."""
        arena, chunk = self._open_arena(), self._parts.decoder.chunk
        waiting = sum(len(run.embeds) for run in self._waiting)
        ready = waiting if flush else waiting // chunk * chunk
        if not ready:
            return
        started = time.perf_counter()
        embeds = np.concatenate([run.embeds for run in self._waiting])
        positions = np.concatenate([run.positions for run in self._waiting], axis=1)
        with arena.exclusive():
            if self._forked is not None:
                arena.rewind(self._forked)  # an answer may stand behind the mark
                arena.end_epoch()
                self._forked = None
            try:
                arena.prefill(
                    embeds[:ready], positions[:, :ready], self._next_pos, logits=False, more=not flush
                )
            except ModelError:
                self.close()
                raise
        rest = Run(embeds[ready:].copy(), positions[:, ready:].copy(), self._next_pos)
        self._waiting = [rest] if len(rest.embeds) else []
        self.timing.prefill_s += time.perf_counter() - started
