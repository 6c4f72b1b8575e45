"""Where tokens stand: the pieces of a prompt, their M-RoPE positions and the rotary angles of each row. Pure.

A prompt is ``user_open``, then for each pair ``timestamp <|vision_start|> video_pad x n <|vision_end|>``, then
the question and ``user_close``. Text between two vision blocks is tokenised as one piece, as transformers' processor
does it. That processor (5.12 to 5.23) leaves the chat template's own ``<|vision_start|> ... <|vision_end|>`` standing
around all pairs of a video; Qwen's own processor and vLLM do not, and neither does this layout.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.model.manifest import Manifest, Text
from edge.model.tokenizer import Tokenizer
from edge.records import Size


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of tokens with their places.

    Attributes:
        ids: int64, shape (n,).
        positions: int64, shape (3, n): time, height and width of M-RoPE.
        next_pos: Position of the token that follows.
        visual: The slice of ``ids`` whose embeddings come from the vision tower, or an empty one.
    """

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    next_pos: int
    visual: slice


def merged_grid(size: Size, manifest: Manifest) -> tuple[int, int]:
    """Return rows and columns of the visual tokens of a frame (or pair) of this size."""
    cell = manifest.vision.patch_size * manifest.vision.merge_size
    return size.height // cell, size.width // cell


def text_piece(ids: list[int], start: int) -> Piece:
    """Place plain tokens from position ``start`` on: all three positions count up together."""
    run = np.arange(start, start + len(ids), dtype=np.int64)
    return Piece(
        np.asarray(ids, np.int64), np.broadcast_to(run, (3, len(ids))), start + len(ids), slice(0, 0)
    )


def question_ids(before: str, question: str, manifest: Manifest, tokenizer: Tokenizer) -> list[int]:
    """Return the ids of what follows the last vision block: the question and the turn of the assistant.

    The question is tokenised by itself, so that it cannot close the user's turn; the ids are those of the whole text,
    because what stands before and after it ends in a line break or begins with a special token.

    Args:
        before: Text that is not tokenised yet: ``user_open`` where nothing is shown, else "".
        question: Anybody's words; white space around them is left out.
        manifest: For the prompt's literal pieces.
        tokenizer: The bundle's.
    """
    return [
        *tokenizer.encode(before),
        *tokenizer.encode_words(question.strip()),
        *tokenizer.encode(manifest.prompt.user_close),
    ]


def vision_piece(before: list[int], pad: int, grid: tuple[int, int], start: int, manifest: Manifest) -> Piece:
    """Place ``before <|vision_start|> pad x n <|vision_end|>`` from position ``start`` on.

    The visual tokens share one time, and take rows and columns from there; the next token follows at
    ``max(rows, columns)`` further. Source: ``get_rope_index`` of transformers 5.23.0, ``models/qwen3_5``.

    Args:
        before: Ids of the text before the block, all of it since the last block.
        pad: ``video_pad`` or ``image_pad``.
        grid: Rows and columns of visual tokens.
        start: Position of the first id.
        manifest: For the special ids.
    """
    rows, columns = grid
    count, lead = rows * columns, len(before) + 1
    ids = [*before, manifest.tokens.vision_start, *[pad] * count, manifest.tokens.vision_end]
    at = start + lead
    cells = np.arange(count, dtype=np.int64)
    after = at + max(rows, columns)
    positions = np.concatenate(
        [
            np.broadcast_to(np.arange(start, at, dtype=np.int64), (3, lead)),
            at + np.stack([np.zeros_like(cells), cells // columns, cells % columns]),
            np.full((3, 1), after, np.int64),
        ],
        axis=1,
    )
    return Piece(np.asarray(ids, np.int64), positions, after + 1, slice(lead, lead + count))


def timestamp(time_s: float, manifest: Manifest) -> str:
    """Return the text before a pair; the time is the mean of its two ticks, in seconds of the clip."""
    return manifest.prompt.timestamp.format(time=time_s)


def clip_rows(size: Size, ticks: int, manifest: Manifest, tokenizer: Tokenizer) -> int:
    """Return how many tokens a clip of so many ticks takes at most, its opening included, without any question."""
    rows, columns = merged_grid(size, manifest)
    longest = len(tokenizer.encode(timestamp(99_999.9, manifest)))
    pairs = -(-ticks // manifest.vision.temporal_patch_size)
    return len(tokenizer.encode(manifest.prompt.user_open)) + pairs * (longest + rows * columns + 2)


def rope_rows(positions: NDArray[np.int64], text: Text) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return cosine and sine of every token's angles with the interleaved M-RoPE mix already made.

    Frequency j turns by the height position if j is in {1, 4, 7, ...}, by the width position if in {2, 5, 8, ...}, each
    as often as its section says, and by the time position otherwise. Source: ``recomposition_frequencies`` of
    transformers 5.23.0, ``models/qwen3_5``. The products are rounded to float32 as there.

    Args:
        positions: int64, shape (3, n).
        text: For the rotary dimensions R, theta and the sections.

    Returns:
        Two arrays float32, shape (n, R / 2).
    """
    half = text.rope_dims // 2
    exponent = np.arange(half, dtype=np.float32) / np.float32(half)
    frequency = np.float32(1) / np.float32(text.rope_theta) ** exponent
    axis = np.zeros(half, np.intp)
    for kind in (1, 2):
        axis[kind : 3 * text.mrope_section[kind] : 3] = kind
    angles = positions[axis].T.astype(np.float32) * frequency
    return np.cos(angles), np.sin(angles)
