"""A point in a clip from which questions are asked: show a still, ask, ask again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.model.decoder import Arena, Decoder, Mark
from edge.model.generate import Finish, budget, generate
from edge.model.grammar import Grammars
from edge.model.heap import trim
from edge.model.layout import Piece, merged_grid, question_ids, text_piece, timestamp, vision_piece
from edge.model.manifest import Manifest
from edge.model.pages import Turns
from edge.model.preprocess import scale, still_size
from edge.model.sampling import Sampling
from edge.model.tokenizer import Tokenizer
from edge.model.vision import VisionTower
from edge.records import Size


@dataclass(frozen=True, slots=True)
class Parts:
    """What an engine is made of, as its streams and forks use it."""

    manifest: Manifest
    tokenizer: Tokenizer
    grammars: Grammars
    vision: VisionTower
    decoder: Decoder
    turns: Turns


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model answered, and what it took.

    Attributes:
        text: The answer; under a schema it is valid JSON.
        tokens: Its tokens, forced ones included, without the end id.
        logprobs: Natural logarithms of the probabilities of the tokens that the model was free to choose.
        finish: ``stop``: the model ended it; ``closed``: the budget ran out and the grammar was led to its end;
            ``length``: the budget ran out in free text.
        tokens_in: The whole context before the answer.
        prefill_s: Seconds of work on the question.
        decode_s: Seconds of work on the answer.
        pieces: The bytes of each token.
        chances: For each token the logarithm of its probability, None where it was no free choice.
    """

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Finish
    tokens_in: int
    prefill_s: float
    decode_s: float
    pieces: tuple[bytes, ...] = ()
    chances: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """Tokens ready for the decoder: embeddings (n, hidden), positions (3, n), and the position that follows."""

    embeds: NDArray[np.float32]
    positions: NDArray[np.int64]
    next_pos: int


def embedded(decoder: Decoder, piece: Piece, visual: NDArray[np.float32] | None = None) -> Run:
    """Look up the embeddings of a piece and put those of the vision tower, shape (V, hidden), in their places."""
    embeds = decoder.embed(piece.ids)
    if visual is not None:
        embeds[piece.visual] = visual
    return Run(embeds, piece.positions, piece.next_pos)


class Fork:
    """A marked point of a clip.

    Questions of one fork, and forks of one clip, do not see one another. They share the rows behind their points, so a
    still that was shown is prefilled again (from its kept embeddings) when another fork has answered in between.

    Args:
        parts: The engine's parts.
        arena: The clip's context.
        mark: The point.
        text: Text before the question that is not tokenised yet.
        shown: The still's tokens, and the fork to which they were appended; None for a fork of the stream.
        still: The still's size.
    """

    def __init__(
        self,
        parts: Parts,
        arena: Arena,
        mark: Mark,
        text: str,
        shown: tuple[Fork, Run] | None = None,
        *,
        still: Size | None = None,
    ) -> None:
        self._parts = parts
        self._arena = arena
        self._mark = mark
        self._text = text
        self._shown = shown
        self._still = still

    @property
    def tokens(self) -> int:
        """Tokens in the context at this point."""
        return self._mark.length

    @property
    def still(self) -> Size | None:
        """Size at which a still was shown last, if any was."""
        return self._still

    def show(
        self, image: NDArray[np.uint8], *, tokens: int | None = None, time_s: float | None = None
    ) -> Fork:
        """Append a still and return the point behind it; this fork stays what it is.

        Args:
            image: RGB, uint8, shape (H, W, 3); it is scaled to the model's limits for images.
            tokens: At most so many for the picture itself; None: as many as the model's limits allow.
            time_s: Moment of the clip that it shows, which is then written before it as before a pair of frames.

        Raises:
            StaleForkError: The clip has gone on or was closed.
            ContextFullError: The still does not fit the stream's reserve.
            ModelError: onnxruntime failed.
        """
        parts, manifest = self._parts, self._parts.manifest
        self._arena.check(self._mark)
        size = still_size(Size(*image.shape[:2]), manifest, tokens)
        still = scale(image, size)
        stamp = "" if time_s is None else timestamp(time_s, manifest)
        before = parts.tokenizer.encode(self._text + stamp)
        grid = merged_grid(size, manifest)
        piece = vision_piece(before, manifest.tokens.image_pad, grid, self._mark.next_pos, manifest)
        self._arena.need(len(piece.ids), after=self._mark)
        parts.turns.begin("seeing")
        visual = parts.vision.encode(np.stack([still, still])[None])[0]
        trim()  # its patches and their copies leave 32 MiB of free pages behind, just before the most is needed
        run = embedded(parts.decoder, piece, visual)
        with self._arena.exclusive():
            self._return()
            self._arena.prefill(run.embeds, run.positions, run.next_pos, logits=False)
            return Fork(parts, self._arena, self._arena.mark(), "", (self, run), still=size)

    def ask(
        self,
        prompt: str,
        *,
        schema: dict[str, Any] | None,
        max_tokens: int,
        sampling: Sampling | None = None,
        seed: int = 0,
        circles: bool = False,
        on_token: Callable[[int], None] | None = None,
    ) -> Reply:
        """Ask a question about everything up to this point.

        Args:
            prompt: The question; white space around it is left out.
            schema: JSON Schema of the answer, or None for free text.
            max_tokens: Budget of the answer, >= 1. Under a schema the answer is closed in time to be complete; only a
                budget below the schema's shortest answer is exceeded, by as much as that takes.
            sampling: How tokens are chosen; None is greedy.
            seed: Of the chance in sampling.
            circles: Let the answer go round in circles, as a comparison with another implementation must.
            on_token: Told of every token of the answer as it is certain.

        Raises:
            StaleForkError: The clip has gone on or was closed.
            ContextFullError: Question and budget do not fit the stream's reserve.
            ModelError: onnxruntime failed, the schema cannot be used, or another answer is under way.
        """
        parts, arena = self._parts, self._arena
        arena.check(self._mark)
        question = question_ids(self._text, prompt, parts.manifest, parts.tokenizer)
        constraint = None if schema is None else parts.grammars.constraint(schema)
        arena.need(len(question) + budget(constraint, max_tokens), after=self._mark)
        with arena.exclusive():
            started = time.perf_counter()
            self._return()
            asked = 0.0

            def feed(
                tokens: Sequence[int], ids: NDArray[np.int64] | None, mask: NDArray[np.bool_] | None
            ) -> NDArray[np.float32]:
                nonlocal asked
                opening = not asked
                if opening and parts.decoder.prefill_session is not None and len(tokens) > 1:
                    run = embedded(parts.decoder, text_piece(list(tokens[:-1]), arena.next_pos))
                    arena.prefill(run.embeds, run.positions, run.next_pos, logits=False)
                    tokens = tokens[-1:]
                parts.turns.begin("writing")
                if len(tokens) == 1:
                    logits = arena.step(tokens[0], ids, mask)
                else:
                    run = embedded(parts.decoder, text_piece(list(tokens), arena.next_pos))
                    logits = arena.prefill(run.embeds, run.positions, run.next_pos, ids=ids, mask=mask)
                if opening:
                    asked = time.perf_counter() - started
                return logits

            generated = generate(
                feed,
                question,
                tokens=parts.manifest.tokens,
                constraint=constraint,
                max_tokens=max_tokens,
                sampling=sampling or Sampling.greedy(),
                rng=np.random.default_rng(seed),
                circles=circles,
                on_token=on_token,
            )
            spent = time.perf_counter() - started
        return Reply(
            text=parts.tokenizer.decode(generated.tokens),
            tokens=generated.tokens,
            logprobs=generated.logprobs,
            finish=generated.finish,
            tokens_in=self._mark.length + len(question),
            prefill_s=asked,
            decode_s=spent - asked,
            pieces=tuple(parts.grammars.bytes_of([token]) for token in generated.tokens),
            chances=generated.chances,
        )

    def _return(self) -> None:
        """Bring the arena back to this point."""
        if self._shown is not None and self._mark.overwritten:
            parent, run = self._shown
            parent._return()  # noqa: SLF001 - a fork of the same chain
            self._arena.prefill(run.embeds, run.positions, run.next_pos, logits=False)
            self._mark = self._arena.mark()
        else:
            self._arena.rewind(self._mark)
