"""What flows between the stages inside one machine: frozen records without behaviour.

What leaves the machine is in `edge.messages`. Times named ``*_s`` are seconds; those inside a clip count from the
clip's start. ``*_mono_ns`` is CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Size:
    """A picture's size in pixels."""

    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open interval [start_s, end_s) inside a clip, and why it is worth naming ("camera away", ...)."""

    start_s: float
    end_s: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two consecutive ticks of a clip at model size: the unit that the vision tower sees.

    Attributes:
        index: Position on the clip's grid; the pair holds ticks ``2 * index`` and ``2 * index + 1``.
        time_s: Mean of the two ticks' times, counted from the clip's start.
        frames: uint8, shape (2, height, width, 3), RGB. Where a clip ends on an odd tick the last frame is repeated.
        score: How much of the picture had changed since the pair before, 0..1; 1 for the first, 0 without a gate.
        gated: Pairs that the gate dropped between the pair before and this one.
    """

    index: int
    time_s: float
    frames: NDArray[np.uint8]
    score: float = 0.0
    gated: int = 0


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """What is known of a clip before its first frame.

    Attributes:
        seq: Consecutive number of the clip for this camera, from 0, never reused within a state epoch.
        clip_id: UUIDv5 of device, camera, state epoch and seq (`edge.messages.clip_id`).
        t_start: UTC of tick 0, anchored when the clip begins.
        clock_synced: Whether the kernel called the wall clock synchronised at that moment.
        seconds: Full length of the clip; a file's last clip may end earlier.
        fps: Ticks per second.
        size: Frame size at which pairs are made; it follows from the full length, also for short clips.
        source_size: Size of the camera's own pictures, after rotation metadata was applied.
    """

    camera: str
    seq: int
    clip_id: str
    t_start: datetime
    clock_synced: bool
    seconds: float
    fps: float
    size: Size
    source_size: Size


@dataclass(frozen=True, slots=True)
class ClipStats:
    """What was seen of a clip, counted when it ends.

    Attributes:
        seconds: Length that the clip really got (< the plan's for the last clip of a file).
        ticks: Ticks of the grid in that length: ``ceil(seconds * fps)``.
        frames_decoded: Pictures that the decoder delivered inside the clip.
        ticks_repeated: Ticks that show the same picture as the tick before (the camera was slower or late).
        ticks_empty: Ticks for which there was no picture at all (they are in ``gaps`` too and make no pair).
        pairs: Pairs that the clip had, whether the model was shown them or not.
        late_max_s: Largest age of a picture at its tick.
        gaps: Spans in which the source was away or nothing new came for longer than the limit.
        decode_s: Seconds of work spent on decoding, conversion, scaling and gating.
        pairs_gated: Pairs that the gate dropped, of ``pairs``.
        gate: The gate's threshold; None: it was off.
    """

    seconds: float
    ticks: int
    frames_decoded: int
    ticks_repeated: int
    ticks_empty: int
    pairs: int
    late_max_s: float
    gaps: tuple[Span, ...]
    decode_s: float
    pairs_gated: int = 0
    gate: float | None = None


@dataclass(frozen=True, slots=True)
class Still:
    """One sharp picture of a clip, in memory only.

    Attributes:
        time_s: When, counted from the clip's start.
        rgb: uint8, shape (height, width, 3), upright.
    """

    time_s: float
    rgb: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a watch.

    Attributes:
        rule: The operator's name for it.
        question: The operator's words.
        text: What the model is given.
        check: What it is given after a yes, or "" for no second look.
        cameras: Of which it is asked; empty: of all.
    """

    rule: str
    question: str
    text: str
    check: str
    cameras: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question that every clip is asked.

    Attributes:
        name: The operator's name for it; part of the topic and of the answer's id: ``[a-z0-9_-]{1,32}``.
        kind: ``summary``, ``spatial``, ``watch`` or ``ask``; it decides the schema of the model-written part.
        text: The words given to the model; a watch has its questions instead.
        max_tokens: Decoding budget; towards its end the grammar is steered to close the answer.
        questions: Of a watch.
        still_tokens: Size of the key frame that is shown with it; 0: none.
        sampled: Whether words are drawn as the model's card recommends; otherwise the most probable one is taken.
        schema: Of an ``ask`` whose asker gave a schema: what the model decodes under (`edge.answer.given`), as JSON.
    """

    name: str
    kind: str
    text: str
    max_tokens: int
    questions: tuple[Question, ...] = ()
    still_tokens: int = 0
    sampled: bool = False
    schema: str = ""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done for one clip.

    Attributes:
        rung: Index into `edge.host.governor.RUNGS`; 0: everything.
        name: The rung's.
        causes: Why it is not 0.
        area: Share of a frame's pixels that the model is shown.
    """

    rung: int = 0
    name: str = "full"
    causes: tuple[str, ...] = ()
    area: float = 1.0


ALL = Effort()
"""Everything is done."""


@dataclass(frozen=True, slots=True)
class Census:
    """What a bundle has to compute and to read, counted in its graphs; a multiply-add is two operations.

    Attributes:
        cell_block_ops: Matrix work of the vision tower for one cell of a pair, the 32 x 32 pixels that become a token,
            with weights in blocks of integers.
        cell_row_ops: The same with one scale per row of integers, which is faster.
        cell_float_ops: The same in floating point: the patch embedding.
        cells_float_ops: Of attention in the tower, per pair of cells of one pair.
        token_block_ops: Matrix work of the decoder for one token of a prompt, without the head; as above.
        token_row_ops: As above.
        token_float_ops: As above, small products, and the delta rule.
        context_float_ops: Of attention, per token and token before it.
        word_bytes: Weights and recurrent state that one written token reads, head included, and writes.
        context_bytes: Of the cache that it reads, per token before it.
    """

    cell_block_ops: float
    cell_row_ops: float
    cell_float_ops: float
    cells_float_ops: float
    token_block_ops: float
    token_row_ops: float
    token_float_ops: float
    context_float_ops: float
    word_bytes: float
    context_bytes: float
