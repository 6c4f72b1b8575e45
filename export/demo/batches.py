"""Clips and their lessons as arrays: ids, positions and patches that are the engine's own, and what lies in each cell.

A batch's clips have one size and length, so their prompts are the same up to the pictures: the ids before the first
question stand once for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.demo.world import Stage, Truth, draw_scene, render, truth
from edge.demo.world.draw import SIZES
from edge.demo.world.sight import CELL
from edge.demo.world.vocabulary import COLOURS, KINDS
from edge.model.layout import merged_grid, question_ids, timestamp, vision_piece
from edge.model.manifest import MANIFEST, TOKENIZER, Manifest
from edge.model.preprocess import patchify
from edge.model.tokenizer import Tokenizer
from edge.records import Size
from export.demo.codec import round_trip
from export.demo.lessons import Lesson, lessons
from export.demo.schedule import Plan

FPS: Final = 8.0
CODED_SHARE: Final = 0.5
"""Of the clips go through the video encoder, as all do in use."""
CLASSES: Final = (1 + len(KINDS), 1 + len(COLOURS))
"""Values of a cell's label: which kind lies in it, and in which colour; 0 for none."""
FINE: Final = 4
"""A cell is cut into FINE x FINE parts, in each of which something lies or not: what a box rests on."""
_TRIES: Final = 200


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip of the world.

    Attributes:
        frames: uint8, shape (pairs, 2, H, W, 3).
        cells: int64, shape (pairs * cells of a pair, 2 + FINE ** 2): kind, colour, and which parts are taken.
        lessons: What it is asked.
    """

    frames: NDArray[np.uint8]
    cells: NDArray[np.int64]
    lessons: tuple[Lesson, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """B clips of N pairs with Q questions about them.

    Attributes:
        patches: uint8, shape (B * N, P, C).
        rows: Patches down.
        columns: Patches across.
        clip_ids: int64, shape (L,): the prompt up to the last pair.
        clip_positions: int64, shape (3, L).
        visual: int64, shape (N * P / 4,): where in ``clip_ids`` the visual tokens stand.
        next_pos: Position of a question's first token.
        owner: int64, shape (Q,): the clip that a question is about.
        ids: int64, shape (Q, S): question, answer, end of turn, padding.
        lengths: int64, shape (Q, 2): tokens of the question, and of the question with its answer and the end of turn.
        cells: int64, shape (B, N * P / 4, 2 + FINE ** 2), as in `Clip`.
    """

    patches: NDArray[np.uint8]
    rows: int
    columns: int
    clip_ids: NDArray[np.int64]
    clip_positions: NDArray[np.int64]
    visual: NDArray[np.int64]
    next_pos: int
    owner: NDArray[np.int64]
    ids: NDArray[np.int64]
    lengths: NDArray[np.int64]
    cells: NDArray[np.int64]


class Layout:
    """Places tokens as the engine of a bundle does.

    Args:
        directory: Holds the bundle's manifest.json and tokenizer.json.
    """

    def __init__(self, directory: Path) -> None:
        self.manifest = Manifest.model_validate_json((directory / MANIFEST).read_bytes())
        self.tokenizer = Tokenizer(directory / TOKENIZER, vocab_used=self.manifest.tokens.vocab_used)

    def question(self, lesson: Lesson) -> tuple[list[int], list[int]]:
        """Return the ids of a question, and of its answer with the end of turn."""
        asked = question_ids("", lesson.prompt, self.manifest, self.tokenizer)
        return asked, [*self.tokenizer.encode_words(lesson.answer), self.manifest.tokens.eos[0]]

    def clip(
        self, pairs: int, size: Size
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], int]:
        """Return ids, positions and places of visual tokens of a clip from its start, and the position after it."""
        text, place, length = self.manifest.prompt.user_open, 0, 0
        ids, positions, visual = [], [], []
        grid = merged_grid(size, self.manifest)
        for index in range(pairs):
            before = self.tokenizer.encode(text + timestamp((2 * index + 0.5) / FPS, self.manifest))
            piece = vision_piece(before, self.manifest.tokens.video_pad, grid, place, self.manifest)
            ids.append(piece.ids)
            positions.append(piece.positions)
            visual.append(np.arange(piece.visual.start, piece.visual.stop) + length)
            text, place, length = "", piece.next_pos, length + len(piece.ids)
        return np.concatenate(ids), np.concatenate(positions, axis=1), np.concatenate(visual), place

    def batch(self, clips: list[Clip]) -> Batch:
        """Put clips of one size and length together."""
        pairs, _, height, width, _ = clips[0].frames.shape
        size = Size(height, width)
        clip_ids, positions, visual, next_pos = self.clip(pairs, size)
        spelt = [
            (owner, *self.question(lesson)) for owner, clip in enumerate(clips) for lesson in clip.lessons
        ]
        lengths = np.array([(len(asked), len(asked) + len(said)) for _, asked, said in spelt], np.int64)
        lengths = lengths.reshape(-1, 2)
        ids = np.full((len(spelt), int(lengths.max(initial=0))), self.manifest.tokens.eos[1], np.int64)
        for row, (_, asked, said) in zip(ids, spelt, strict=True):
            row[: len(asked) + len(said)] = [*asked, *said]
        patch = self.manifest.vision.patch_size
        return Batch(
            patches=np.concatenate([patchify(clip.frames, self.manifest.vision) for clip in clips]),
            rows=height // patch,
            columns=width // patch,
            clip_ids=clip_ids,
            clip_positions=positions,
            visual=visual,
            next_pos=next_pos,
            owner=np.array([owner for owner, _, _ in spelt], np.int64),
            ids=ids,
            lengths=lengths,
            cells=np.stack([clip.cells for clip in clips]),
        )


@dataclass(frozen=True, slots=True)
class Source:
    """Where batches come from: all that a worker process needs to know.

    Attributes:
        layout: Directory of the manifest and the tokenizer.
        stage: The world's stage.
        seed: Of the training.
    """

    layout: Path
    stage: Stage
    seed: int


_layouts: dict[Path, Layout] = {}  # once a process


def cells_of(stage: Stage) -> int:
    """Return the visual tokens of a pair in a stage of the world."""
    return SIZES[stage].height // CELL * (SIZES[stage].width // CELL)


def make(source: Source, step: int, plan: Plan) -> Batch:
    """Make the batch of one step; it depends on nothing but the arguments."""
    if source.layout not in _layouts:
        _layouts[source.layout] = Layout(source.layout)
    clips = [
        make_clip(source, plan, np.random.default_rng([source.seed, step, index]))
        for index in range(plan.clips)
    ]
    return _layouts[source.layout].batch(clips)


def make_clip(source: Source, plan: Plan, rng: np.random.Generator) -> Clip:
    """Draw one clip of the training split, with at most as many sprites as the plan allows."""
    for _ in range(_TRIES):
        seconds = 2 * plan.pairs / FPS if plan.questions else None
        scene = draw_scene(int(rng.integers(2**62)), source.stage, seconds=seconds, fps=FPS)
        if plan.sprites is None or len(scene.sprites) <= plan.sprites:
            break
    moments: Sequence[int] = range(plan.pairs)
    if not plan.questions:  # single moments of a whole clip
        moments = sorted(rng.choice(scene.ticks // 2, plan.pairs, replace=False).tolist())
    pictures = np.stack([render(scene, 2 * moment + second) for moment in moments for second in (0, 1)])
    if rng.random() < CODED_SHARE:
        pictures = round_trip(pictures, FPS, crf=int(rng.integers(16, 28)))
    true = truth(scene)
    return Clip(
        pictures.reshape(plan.pairs, 2, *pictures.shape[1:]),
        cell_labels(true, moments),
        lessons(true, rng, count=plan.questions, full=plan.full) if plan.questions else (),
    )


def cell_labels(true: Truth, pairs: Iterable[int]) -> NDArray[np.int64]:
    """Return what lies in each cell in the second picture of each of some pairs; for the shape see `Clip`."""
    found = []
    for pair in pairs:
        labels = true.cells(2 * pair + 1)
        rows, columns, parts = labels.shape
        fine = true.cells(2 * pair + 1, cell=CELL // FINE)[..., 0] > 0
        taken = fine.reshape(rows, FINE, columns, FINE).transpose(0, 2, 1, 3)
        found.append(
            np.concatenate(
                [labels.reshape(-1, parts), taken.reshape(rows * columns, FINE**2)], axis=1, dtype=np.int64
            )
        )
    return np.concatenate(found)
