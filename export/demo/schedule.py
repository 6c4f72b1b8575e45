"""What is taught when, and how fast: short clips of one sprite first, the longest last. Pure, a function of the share done."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

PEAK: Final = 1.5e-3
"""Learning rate at its highest."""
WARM_UP: Final = 100
FLOOR: Final = 0.02
"""Of the highest rate, at the end."""
TEXT_A_PAIR: Final = 9
"""Tokens of a pair beside its visual ones: a timestamp, and one to each side of the picture."""
TOKENS_A_QUESTION: Final = 120
"""With its answer, about."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the training.

    Attributes:
        until: Share of the whole training at which it ends.
        pairs: Lengths of clips, in pairs, each as likely as the next.
        sprites: Sprites that may be in one clip at most, None as many as the world's stage has.
        cells: Weight of the auxiliary loss.
        full: Share of the prompts that are as long as in use; a short clip costs less than such a prompt.
        questions: Asked of every clip; with 0 nothing but the cells is taught, on single moments of many clips.
    """

    until: float
    pairs: tuple[int, ...]
    sprites: int | None
    cells: float
    full: float
    questions: int


_LONG: Final = (
    Phase(0.05, (2,), None, 1.0, 0.0, 0),
    Phase(0.12, (4, 8, 12), 1, 1.0, 0.1, 2),
    Phase(0.30, (16, 24, 32), None, 0.7, 0.2, 4),
    Phase(0.60, (32, 48, 64, 96), None, 0.4, 0.5, 4),
    Phase(1.00, (64, 120, 180, 240, 240), None, 0.2, 0.7, 6),
)
STAGES: Final = {
    "a": (
        Phase(0.08, (2,), None, 1.0, 0.0, 0),
        Phase(0.30, (4, 8, 12), 1, 1.0, 0.1, 2),
        Phase(0.50, (8, 16, 24), None, 0.7, 0.2, 3),
        Phase(0.75, (16, 24, 32, 48), None, 0.4, 0.4, 4),
        Phase(1.00, (16, 32, 48, 64), None, 0.2, 0.7, 4),
    ),
    "b": _LONG,
    "c": _LONG,
}
"""Every stage begins with seeing alone: a moment costs a thirtieth of a clip that is asked about, so the vision tower is shown
a hundred thousand scenes in minutes. Stages b and c begin again with short clips, whatever weights they start from."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: how many clips of how many pairs, and what its phase says of them."""

    pairs: int
    clips: int
    sprites: int | None
    cells: float
    full: float
    questions: int


def phase(stage: str, share: float) -> Phase:
    """Return the phase in which a share of the training lies."""
    return next((each for each in STAGES[stage] if share < each.until), STAGES[stage][-1])


def plan(stage: str, share: float, rng: np.random.Generator, *, cells: int, tokens: int) -> Plan:
    """Choose one step.

    Args:
        stage: ``a``, ``b`` or ``c``.
        share: Of the training that is done, 0..1.
        rng: Of the choice.
        cells: Visual tokens of a pair.
        tokens: About so many tokens a step.
    """
    now = phase(stage, share)
    pairs = int(rng.choice(now.pairs))
    clips = max(1, round(tokens / (pairs * (TEXT_A_PAIR + cells) + now.questions * TOKENS_A_QUESTION)))
    return Plan(pairs, clips, now.sprites, now.cells, now.full, now.questions)


def rate(step: int, share: float, *, peak: float = PEAK) -> float:
    """Return the learning rate: a linear start, then half a cosine."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    return peak * min(1.0, (step + 1) / WARM_UP) * (FLOOR + (1 - FLOOR) * cosine)
