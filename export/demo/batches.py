"""Clips and their lessons as arrays: ids, positions and patches that are the engine's own, and what lies in each cell.

A batch's clips have one size and length, so their prompts are the same up to the pictures: the ids before the first
question stand once for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.capture.gate import Gate
from edge.capture.keyframe import KeyFrames
from edge.config import AnswerSettings
from edge.demo.world import Scene, Stage, Truth, draw_scene, frames, render, truth
from edge.demo.world.draw import SIZES
from edge.demo.world.place import places
from edge.demo.world.sight import CELL, LISTED, NEAR
from edge.demo.world.truth import retold
from edge.model.layout import merged_grid, question_ids, timestamp, vision_piece
from edge.model.manifest import MANIFEST, TOKENIZER, Manifest
from edge.model.preprocess import patchify, still_size
from edge.model.tokenizer import Tokenizer
from edge.records import Size
from export.demo.codec import round_trip
from export.demo.crowd import crowd
from export.demo.labels import CAMERA, FPS, PAIR_CLASSES, cell_labels, pair_labels, pair_time, still_labels
from export.demo.lessons import NUMBERS, Lesson, lessons
from export.demo.schedule import Plan

CODED_SHARE: Final = 0.5
"""Of the clips go through the video encoder, as all do in use."""
_CHOSEN: Final = 0.7
"""Of key frames show the moment that the service would choose: somebody has just come and still moves, nearly always. At a
moment drawn by chance next to nothing moves, and where all stands, the clip's end tells as much as the key frame."""
_CLOSE: Final = 0.5
"""Of clips in which two come close show them then: whether they are next to each other is decided there."""
_ALIKE: Final = 0.4
"""Of clips that should show two, have two of one kind or of one colour, which are easily taken for each other."""
_THRESHOLDS: Final = (0.25, 0.5, 1.0, 1.0, 1.5)
_NUMBERS: Final = frozenset(NUMBERS)
_TRIES: Final = 200
_NUMBER_WEIGHT: Final = 0.3
"""Weight of a time or a side beside a word: there are more of them, and the last step of each can only be guessed, while how
two things stand to each other is one word."""
_CHOICES: Final = ('"relations":[', '"answer":"')
"""What stands in front of a choice: how things stand to each other, and a watch's verdict."""
_CHOICE_WEIGHT: Final = 4.0
"""Weight of what comes after it beside other words: one or two of its tokens are not copied."""
_LENGTH_POWER: Final = 0.25
"""A token of an answer of n weighs n to minus this: a box must not drown in JSON, nor a "yes" in boxes."""
_CROWDS: Final = 6  # so much more costs a token of a clip than one of a crowd


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """A key frame: the picture, uint8, shape (h, w, 3), its tick, and what it shows, see `labels.still_labels`."""

    picture: NDArray[np.uint8]
    tick: int
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip of the world.

    Attributes:
        frames: uint8, shape (pairs, 2, H, W, 3).
        kept: Which pairs of a minute these are told to be; of a crowd all.
        cells: See `labels.cell_labels`.
        happened: See `labels.pair_labels`; no rows for a crowd.
        lessons: What it is asked, one time after the other.
        still: The key frame; None where there is none.
    """

    frames: NDArray[np.uint8]
    kept: tuple[int, ...]
    cells: NDArray[np.int64]
    happened: NDArray[np.int64]
    lessons: tuple[tuple[Lesson, ...], ...]
    still: KeyFrame | None = None


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
        # By id: whether a token is a whole number, of seconds or of a side.
        words = [self.tokenizer.decode([token]) for token in used]
        self._numeric = np.array([word in _NUMBERS for word in words])
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
        weights: NDArray[np.float64] = np.where(self._numeric[said], _NUMBER_WEIGHT, 1.0)
        weights *= len(said) ** -_LENGTH_POWER
        text = self.tokenizer.decode(said[:-1])
        for choice in _CHOICES:
            before, found, _ = text.partition(choice)
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


def cells_of(stage: Stage) -> int:
    """Return the visual tokens of a pair in a stage of the world."""
    return _cells(SIZES[stage])


def _cells(size: Size) -> int:
    return size.height // CELL * (size.width // CELL)


def make(source: Source, number: int, plan: Plan) -> Batch:
    """Make a batch; it depends on nothing but the arguments."""
    if source.layout not in _layouts:
        _layouts[source.layout] = Layout(source.layout)
    layout = _layouts[source.layout]
    draw = make_crowd if plan.phase.seeing else make_clip
    count = plan.clips * _CROWDS if plan.phase.seeing else plan.clips
    if plan.phase.seeing and plan.still:
        count = max(1, count * cells_of(source.stage) // _cells(layout.still))
    rngs = [np.random.default_rng([source.seed, source.rank, number, index]) for index in range(count)]
    return layout.batch([draw(source.stage, plan, rng, layout.still) for rng in rngs])


def make_crowd(stage: Stage, plan: Plan, rng: np.random.Generator, size: Size) -> Clip:
    """Draw pairs that have nothing to do with each other, of a key frame's size where the plan says so."""
    scene = crowd(int(rng.integers(2**62)), stage, plan.pairs, fps=FPS, size=size if plan.still else None)
    pictures = _pictures(scene, rng)
    none = np.zeros((0, len(PAIR_CLASSES)), np.int64)
    every = tuple(range(plan.pairs))
    return Clip(pictures, every, cell_labels(scene, every), none, ())


def make_clip(stage: Stage, plan: Plan, rng: np.random.Generator, size: Size) -> Clip:
    """Draw one clip of the training split, with as many sprites as the plan allows and wants, and its key frame, of a size."""
    phase = plan.phase
    seen = 2 if rng.random() < phase.together else 0
    alike = seen > 0 and rng.random() < _ALIKE
    for _ in range(_TRIES):
        seconds = 2 * plan.pairs / FPS
        scene = draw_scene(int(rng.integers(2**62)), stage, seconds=seconds, fps=FPS)
        if alike and not _two_alike(scene):
            continue
        shown = (places(scene).within >= LISTED).sum(0) >= seen  # enough at each tick
        moments = np.flatnonzero(shown[::2] if plan.still else shown[-1:])
        if (phase.sprites is None or len(scene.sprites) <= phase.sprites) and len(moments):
            break
    pictures = _pictures(scene, rng)
    still = 2 * _moment(pictures, moments, _close(scene)[::2], rng) if plan.still else None
    kept = through_gate(pictures, rng) if plan.gated else tuple(range(plan.pairs))
    true = at_pairs(truth(scene), kept, first=plan.first)
    return Clip(
        pictures[list(kept)],
        tuple(plan.first + pair for pair in kept),
        cell_labels(scene, kept),
        pair_labels(true, kept, first=plan.first),
        tuple(
            lessons(true, rng, count=phase.questions, full=phase.full, still=still) for _ in range(phase.uses)
        )
        if phase.questions
        else (),
        None if still is None else _key_frame(true, still, rng, plan.first, size),
    )


def _two_alike(scene: Scene) -> bool:
    """Whether two sprites are of one kind or of one colour."""
    return any(
        one.kind == other.kind or one.colour == other.colour for one, other in combinations(scene.sprites, 2)
    )


def _close(scene: Scene) -> NDArray[np.bool_]:
    """Return at which ticks two that can be seen are at most twice as far apart as what is next to each other."""
    where = places(scene)
    side = min(scene.size.height, scene.size.width)
    found = np.zeros(scene.ticks, bool)
    for one, other in combinations(range(len(scene.sprites)), 2):
        first, second = where.boxes[one], where.boxes[other]
        gaps = np.maximum(first[:, :2], second[:, :2]) - np.minimum(first[:, 2:], second[:, 2:])
        found |= (where.within[[one, other]] >= LISTED).all(0) & (gaps.max(1) < 2 * NEAR * side)
    return found


def _moment(
    pictures: NDArray[np.uint8],
    moments: NDArray[np.int64],
    close: NDArray[np.bool_],
    rng: np.random.Generator,
) -> int:
    """Return the pair whose first picture is the key frame.

    Args:
        pictures: Of the whole clip, shape (pairs, 2, H, W, 3).
        moments: Pairs of which one may be drawn; where there is none, any.
        close: In which pairs two are close to each other.
        rng: Of the choice.
    """
    if close.any() and rng.random() < _CLOSE:
        return int(rng.choice(np.flatnonzero(close)))
    if rng.random() < _CHOSEN:
        looks = KeyFrames(FPS)
        return max(pair for pair, (first, _) in enumerate(pictures) if looks.see(first))
    return int(rng.choice(moments)) if len(moments) else int(rng.integers(len(pictures)))


def _key_frame(true: Truth, tick: int, rng: np.random.Generator, first: int, size: Size) -> KeyFrame:
    """Return a key frame as the service shows one: sharper than the clip, and as a camera's encoder left it."""
    picture = render(replace(true.scene, size=size), tick)
    coded = round_trip(picture[None], FPS, crf=int(rng.integers(16, 28)))
    return KeyFrame(coded[0], 2 * first + tick, still_labels(true, tick))


def through_gate(pictures: NDArray[np.uint8], rng: np.random.Generator) -> tuple[int, ...]:
    """Return which pairs, of shape (pairs, 2, H, W, 3), the gate keeps of a camera that it has never seen before.

    Its threshold is drawn: the governor raises it where work piles up.
    """
    _, _, height, width, _ = pictures.shape
    gate: Gate[int] = Gate(Size(height, width), fps=FPS, threshold=float(rng.choice(_THRESHOLDS)))
    last = len(pictures) - 1
    kept = [each for index, pair in enumerate(pictures) for each in gate.see(pair, index, last=index == last)]
    return tuple(each.item for each in kept + gate.end())


def at_pairs(true: Truth, kept: Sequence[int], *, first: int = 0) -> Truth:
    """Return the truth with every time moved to that of the nearest pair that is shown, in a clip that begins at ``first``.

    The model reads the time in front of each pair, so it can copy what it is to say; no frame inside a pair has a name, and
    of what begins in the same pair nobody can tell which came first: their words decide.
    """
    times = np.array([pair_time(index) for index in kept])

    def moved(at_s: float) -> float:
        return round(pair_time(first + kept[int(np.abs(times - at_s).argmin())]), 1)

    events = [replace(each, start_s=moved(each.start_s), end_s=moved(each.end_s)) for each in true.events]
    return retold(true, tuple(sorted(events, key=lambda each: (each.start_s, each.end_s, each.what))))


def _pictures(scene: Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
    pictures = np.stack(list(frames(scene)))
    if rng.random() < CODED_SHARE:
        pictures = round_trip(pictures, FPS, crf=int(rng.integers(16, 28)))
    return pictures.reshape(-1, 2, *pictures.shape[1:])
