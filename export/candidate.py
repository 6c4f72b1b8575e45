"""The bundle's side of a comparison: prompts laid out and run by edge.model, with positions and logits in sight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.model.decoder import Arena
from edge.model.engine import Engine
from edge.model.layout import Piece, merged_grid, question_ids, text_piece, timestamp, vision_piece
from edge.records import Pair, Size

_NO_CLIP = Size(32, 32)


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt and what it shows, at model size.

    Attributes:
        prompt: The words.
        image: uint8, shape (H, W, 3), or None.
        pairs: A clip's pairs, all of one size, or none.
    """

    prompt: str
    image: NDArray[np.uint8] | None = None
    pairs: tuple[Pair, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """A prompt as the engine lays it out: token ids, shape (T,), and M-RoPE positions, shape (3, T)."""

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]


def clip_pairs(frames: NDArray[np.uint8], fps: float) -> tuple[Pair, ...]:
    """Make a clip's pairs of its frames, shape (n, H, W, 3); an odd last frame is taken twice, at its own time."""
    ticks = [min(tick, len(frames) - 1) for tick in range(len(frames) + len(frames) % 2)]
    return tuple(
        Pair(i, (first + second) / 2 / fps, frames[[first, second]])
        for i, (first, second) in enumerate(zip(ticks[::2], ticks[1::2], strict=True))
    )


def lay_out(engine: Engine, question: Question) -> Layout:
    """Return where every token of a question stands."""
    pieces = _pieces(engine, question)
    return Layout(
        np.concatenate([piece.ids for piece in pieces]),
        np.concatenate([piece.positions for piece in pieces], axis=1),
    )


def teacher_logits(engine: Engine, question: Question, answer: Sequence[int]) -> NDArray[np.float32]:
    """Put an answer into the bundle's mouth, and see what it would have said instead.

    Returns:
        The logits before each token of the answer, shape (n, V), all rows of the head.
    """
    arena, logits = _prefilled(engine, question, len(answer))
    return np.stack([logits.copy(), *_steps(arena, answer[:-1])])


def own_logits(engine: Engine, question: Question, count: int) -> tuple[list[int], NDArray[np.float32]]:
    """Have the bundle answer, always by its first choice, until it ends its turn or has said so much.

    Returns:
        The n tokens, at most ``count``, and the logits that chose them, shape (n, rows that tokens use).
    """
    tokens = engine.bundle.manifest.tokens
    arena, logits = _prefilled(engine, question, count)
    said: list[int] = []
    rows: list[NDArray[np.float32]] = []
    while True:
        rows.append(logits[: tokens.vocab_used].copy())
        said.append(int(rows[-1].argmax()))
        if len(said) == count or said[-1] in tokens.eos:
            return said, np.stack(rows)
        logits = arena.step(said[-1])


def greedy_answer(engine: Engine, question: Question, count: int) -> list[int]:
    """Ask as the service asks, greedily and without a schema; an end of turn stands as the first of the end ids."""
    size = Size(*question.pairs[0].frames.shape[1:3]) if question.pairs else _NO_CLIP
    with engine.stream(size, 2 * max(1, len(question.pairs))) as stream:
        stream.push(question.pairs)
        fork = stream.fork()
        if question.image is not None:
            fork = fork.show(question.image)
        reply = fork.ask(question.prompt, schema=None, max_tokens=count, circles=True)
    end = [engine.bundle.manifest.tokens.eos[0]] if reply.finish == "stop" else []
    return [*reply.tokens, *end]


def _prefilled(engine: Engine, question: Question, room: int) -> tuple[Arena, NDArray[np.float32]]:
    """Return an arena that holds a question, with room for an answer, and the logits behind it: a view."""
    pieces = _pieces(engine, question)
    arena = engine.parts.decoder.arena(sum(len(piece.ids) for piece in pieces) + room)
    embeds = [engine.parts.decoder.embed(piece.ids) for piece in pieces]
    shown = _visual_embeds(engine, question)
    for piece, rows in zip(pieces, embeds, strict=True):
        if piece.visual.stop:
            rows[piece.visual] = next(shown)
    logits = arena.prefill(
        np.concatenate(embeds),
        np.concatenate([piece.positions for piece in pieces], axis=1),
        pieces[-1].next_pos,
    )
    return arena, logits


def _pieces(engine: Engine, question: Question) -> list[Piece]:
    manifest, tokenizer = engine.bundle.manifest, engine.tokenizer
    text, place = manifest.prompt.user_open, 0
    pieces: list[Piece] = []
    for pair in question.pairs:
        before = tokenizer.encode(text + timestamp(pair.time_s, manifest))
        grid = merged_grid(Size(*pair.frames.shape[1:3]), manifest)
        pieces.append(vision_piece(before, manifest.tokens.video_pad, grid, place, manifest))
        text, place = "", pieces[-1].next_pos
    if question.image is not None:
        grid = merged_grid(Size(*question.image.shape[:2]), manifest)
        pieces.append(vision_piece(tokenizer.encode(text), manifest.tokens.image_pad, grid, place, manifest))
        text, place = "", pieces[-1].next_pos
    pieces.append(text_piece(question_ids(text, question.prompt, manifest, tokenizer), place))
    return pieces


def _visual_embeds(engine: Engine, question: Question) -> Iterator[NDArray[np.float32]]:
    for pair in question.pairs:
        yield engine.parts.vision.encode(pair.frames[None])[0]
    if question.image is not None:
        yield engine.parts.vision.encode(np.stack([question.image, question.image])[None])[0]


def _steps(arena: Arena, tokens: Sequence[int]) -> list[NDArray[np.float32]]:
    return [arena.step(token).copy() for token in tokens]
