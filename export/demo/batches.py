"""Clips and their lessons as arrays: ids, positions and patches that are the engine's own, and what lies in each cell.

A batch's clips have one size and length, so their prompts are the same up to the pictures: the ids before the first
question stand once for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.config import AnswerSettings
from edge.demo.world import Stage
from edge.model.layout import merged_grid, question_ids, timestamp, vision_piece
from edge.model.manifest import MANIFEST, TOKENIZER, Manifest
from edge.model.preprocess import patchify, still_size
from edge.model.tokenizer import Tokenizer
from edge.records import Size
from export.demo.labels import CAMERA, FPS, FRAME, pair_time
from export.demo.lessons import SIDES, Lesson
from export.demo.schedule import Plan, cells_of
from export.demo.taught import Clip, KeyFrame, make_clip, make_crowd, make_gathering

_SIDES: Final = frozenset(SIDES)
_SIDE_WEIGHT: Final = 0.3
"""Weight of a side of a box beside a word: there are more of them, and the last step of each can only be guessed, while a verdict
is one word. A box's first side weighs as much as a word: it is where one thing is taken for another. So does a time: it is
chosen among those of the pairs."""
_CHOICE: Final = '"answer":"'
"""What stands in front of a choice: a watch's verdict."""
_CHOICE_WEIGHT: Final = 4.0
"""Weight of what comes after it beside other words: one or two of its tokens are not copied."""
_LENGTH_POWER: Final = 0.25
"""A token of an answer of n weighs n to minus this: a box must not drown in JSON, nor a "yes" in boxes."""
_CROWDS: Final = 6  # so much more costs a token of a clip than one of a crowd


@dataclass(frozen=True, slots=True)
class Asked:
    """Q questions about the clips of a batch, all with the key frame or all without.

    Attributes:
        shown: The key frame is shown before them.
        owner: int64, shape (Q,): the clip that a question is about; the shortest question comes first.
        ids: int64, shape (Q, S): question, answer, end of turn, padding.
        lengths: int64, shape (Q, 2): tokens of the question, and of the question with its answer and the end of turn.
        weights: float32, shape (Q, S): of each token in what is learnt; 0 outside of the answers.
    """

    shown: bool
    owner: NDArray[np.int64]
    ids: NDArray[np.int64]
    lengths: NDArray[np.int64]
    weights: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Stills:
    """The key frames of B clips.

    Attributes:
        patches: uint8, shape (B, P, C).
        rows: Patches down.
        columns: Patches across.
        ids: int64, shape (B, T): what stands between the clip and a question, the key frame's time in front.
        positions: int64, shape (3, T).
        visual: int64, shape (P / 4,): where in each row of ``ids`` the visual tokens stand.
        next_pos: Position of a question's first token.
        labels: int64, shape (B, len(`PAIR_CLASSES`)).
    """

    patches: NDArray[np.uint8]
    rows: int
    columns: int
    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    visual: NDArray[np.int64]
    next_pos: int
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """B clips of N pairs, and what is asked of them at each use.

    Attributes:
        patches: uint8, shape (B * N, P, C).
        rows: Patches down.
        columns: Patches across.
        clip_ids: int64, shape (L,): the prompt up to the last pair.
        clip_positions: int64, shape (3, L).
        visual: int64, shape (N * P / 4,): where in ``clip_ids`` the visual tokens stand.
        ends: int64, shape (N,): where in ``clip_ids`` each pair ends.
        next_pos: Position of a question's first token.
        asked: For each use; what is asked with the key frame stands apart.
        cells: int64, shape (B, N * P / 4, `labels.CELL_WIDTH`).
        happened: int64, shape (B, N, len(`labels.PAIR_CLASSES`)); N is 0 for crowds.
    """

    patches: NDArray[np.uint8]
    rows: int
    columns: int
    clip_ids: NDArray[np.int64]
    clip_positions: NDArray[np.int64]
    visual: NDArray[np.int64]
    ends: NDArray[np.int64]
    next_pos: int
    asked: tuple[tuple[Asked, ...], ...]
    cells: NDArray[np.int64]
    happened: NDArray[np.int64]
    stills: Stills | None


class Layout:
    """Places tokens as the engine of a bundle does.

    Args:
        directory: Holds the bundle's manifest.json and tokenizer.json.

    Attributes:
        still: Size at which the service shows a camera's key frame.
    """

    def __init__(self, directory: Path) -> None:
        self.manifest = Manifest.model_validate_json((directory / MANIFEST).read_bytes())
        self.tokenizer = Tokenizer(directory / TOKENIZER, self.manifest.tokens)
        used = range(self.manifest.tokens.vocab_used)
        # By id: whether a token is a side of a box.
        words = [self.tokenizer.decode([token]) for token in used]
        self._sides = np.array([word in _SIDES for word in words])
        self._commas = np.array([word.endswith(",") for word in words])
        self._spelt = np.array([len(word) for word in words])
        self.still = still_size(CAMERA, self.manifest, AnswerSettings().key_frame_tokens)

    def question(self, lesson: Lesson) -> tuple[list[int], list[int]]:
        """Return the ids of a question, and of its answer with the end of turn."""
        asked = question_ids("", lesson.prompt, self.manifest, self.tokenizer)
        return asked, [*self.tokenizer.encode_words(lesson.answer), self.manifest.tokens.eos[0]]

    def clip(
        self, kept: Sequence[int], size: Size
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], int]:
        """Return ids, positions, places of visual tokens and of the pairs' ends, and the position after the clip."""
        text, place, length = self.manifest.prompt.user_open, 0, 0
        ids, positions, visual, ends = [], [], [], []
        grid = merged_grid(size, self.manifest)
        for index in kept:
            before = self.tokenizer.encode(text + timestamp(pair_time(index), self.manifest))
            piece = vision_piece(before, self.manifest.tokens.video_pad, grid, place, self.manifest)
            ids.append(piece.ids)
            positions.append(piece.positions)
            visual.append(np.arange(piece.visual.start, piece.visual.stop) + length)
            text, place, length = "", piece.next_pos, length + len(piece.ids)
            ends.append(length - 1)
        return (
            np.concatenate(ids),
            np.concatenate(positions, axis=1),
            np.concatenate(visual),
            np.array(ends),
            place,
        )

    def stills(self, shown: Sequence[KeyFrame], start: int) -> Stills:
        """Place the key frames of a batch's clips, all of one size, behind the clips' last position."""
        height, width, _ = shown[0].picture.shape
        grid = merged_grid(Size(height, width), self.manifest)
        times = [self.tokenizer.encode(timestamp(each.tick / FPS, self.manifest)) for each in shown]
        pieces = [
            vision_piece(before, self.manifest.tokens.image_pad, grid, start, self.manifest)
            for before in times
        ]
        piece = pieces[0]  # every time is as many tokens as the next
        patch = self.manifest.vision.patch_size
        return Stills(
            patches=patchify(
                np.stack([np.stack([each.picture] * 2) for each in shown]), self.manifest.vision
            ),
            rows=height // patch,
            columns=width // patch,
            ids=np.stack([each.ids for each in pieces]),
            positions=piece.positions,
            visual=np.arange(piece.visual.start, piece.visual.stop),
            next_pos=piece.next_pos,
            labels=np.stack([each.labels for each in shown]),
        )

    def asked(self, lessons: Sequence[Sequence[Lesson]]) -> tuple[Asked, ...]:
        """Spell what each clip is asked."""
        return tuple(
            self._asked(lessons, shown)
            for shown in (False, True)
            if any(lesson.shown == shown for each in lessons for lesson in each)
        )

    def _asked(self, lessons: Sequence[Sequence[Lesson]], shown: bool) -> Asked:  # noqa: FBT001  # names a field
        spelt = [
            (owner, *self.question(lesson))
            for owner, each in enumerate(lessons)
            for lesson in each
            if lesson.shown == shown
        ]
        spelt.sort(key=lambda one: len(one[1]) + len(one[2]))
        lengths = np.array([(len(asked), len(asked) + len(said)) for _, asked, said in spelt], np.int64)
        lengths = lengths.reshape(-1, 2)
        ids = np.full((len(spelt), int(lengths.max(initial=0))), self.manifest.tokens.eos[1], np.int64)
        weights = np.zeros(ids.shape, np.float32)
        for row, weight, (_, asked, said) in zip(ids, weights, spelt, strict=True):
            end = len(asked) + len(said)
            row[:end] = [*asked, *said]
            weight[len(asked) : end] = self._weigh(said)
        return Asked(shown, np.array([owner for owner, _, _ in spelt], np.int64), ids, lengths, weights)

    def _weigh(self, said: list[int]) -> NDArray[np.float64]:
        """Return the weight of each token of an answer in what is learnt."""
        # A count or a time stands behind a colon, a box's first side behind its bracket, and only the other sides behind a comma.
        later = np.concatenate([[False], self._commas[said[:-1]]])
        weights: NDArray[np.float64] = np.where(self._sides[said] & later, _SIDE_WEIGHT, 1.0)
        weights *= len(said) ** -_LENGTH_POWER
        text = self.tokenizer.decode(said[:-1])
        before, found, _ = text.partition(_CHOICE)
        if found:
            weights[np.cumsum(self._spelt[said]) > len(before + found)] *= _CHOICE_WEIGHT
        return weights

    def batch(self, clips: list[Clip]) -> Batch:
        """Put clips of one size together, of which the same pairs are shown."""
        _, _, height, width, _ = clips[0].frames.shape
        clip_ids, positions, visual, ends, next_pos = self.clip(clips[0].kept, Size(height, width))
        patch = self.manifest.vision.patch_size
        stills = [clip.still for clip in clips if clip.still is not None]
        return Batch(
            patches=np.concatenate([patchify(clip.frames, self.manifest.vision) for clip in clips]),
            rows=height // patch,
            columns=width // patch,
            clip_ids=clip_ids,
            clip_positions=positions,
            visual=visual,
            ends=ends,
            next_pos=next_pos,
            asked=tuple(self.asked(each) for each in zip(*(clip.lessons for clip in clips), strict=True)),
            cells=np.stack([clip.cells for clip in clips]),
            happened=np.stack([clip.happened for clip in clips]),
            stills=self.stills(stills, next_pos) if stills else None,
        )


@dataclass(frozen=True, slots=True)
class Source:
    """Where batches come from: all that a worker process needs to know.

    Attributes:
        layout: Directory of the manifest and the tokenizer.
        stage: The world's stage.
        seed: Of the training.
        rank: Of the learning process: each has clips of its own, of the same lengths as the others', so that none waits for another.
    """

    layout: Path
    stage: Stage
    seed: int
    rank: int = 0


_layouts: dict[Path, Layout] = {}  # once a process


def make(source: Source, number: int, plan: Plan) -> Batch:
    """Make a batch; it depends on nothing but the arguments."""
    if source.layout not in _layouts:
        _layouts[source.layout] = Layout(source.layout)
    layout = _layouts[source.layout]
    draw = make_crowd if plan.phase.seeing else make_gathering if plan.crowd else make_clip
    count = plan.clips * _CROWDS if plan.phase.seeing else plan.clips
    if plan.phase.seeing and plan.still:
        count = max(1, count * cells_of(FRAME) // cells_of(layout.still))
    rngs = [np.random.default_rng([source.seed, source.rank, number, index]) for index in range(count)]
    return layout.batch([draw(plan, rng, layout.still) for rng in rngs])
