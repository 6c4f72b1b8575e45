"""How right answers are: each score is a ratio of sums over clips, so its spread over clips can be drawn again. Pure.

An event is told by its sprite (colour and kind), what it does (the verb), and when. The rest of its words (from which
side, which way, how slowly) are its attributes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, TypeVar

import numpy as np

from edge.demo.world.vocabulary import COLOURS, KINDS

TOLERANCE_S: Final = 0.5
OVERLAP: Final = 0.5
"""Intersection over union from which on a box is right."""
RESAMPLES: Final = 1000

_T = TypeVar("_T")

Tally = dict[str, tuple[float, float]]
"""By score: what was right, and out of how much."""

_INVERSE: Final = {"right of": "left of", "below": "above"}
_SYMMETRIC: Final = frozenset({"next to"})
_ADVERBS: Final = frozenset({"slowly"})
_SLACK_S: Final = 1e-6  # times are tenths, written in decimal


@dataclass(frozen=True, slots=True)
class Said:
    """An event in words and time.

    Attributes:
        what: Such as "a red car enters from the left".
        start_s: When it begins.
        end_s: When it is over.
    """

    what: str
    start_s: float
    end_s: float

    @property
    def words(self) -> tuple[str, ...]:
        """Its words, without case and punctuation."""
        return tuple(word.strip(".,").lower() for word in self.what.split())

    @property
    def colour(self) -> str:
        """The colour of its sprite, the first that is named, or ""."""
        return next((word for word in self.words if word in COLOURS), "")

    @property
    def kind(self) -> str:
        """The kind of its sprite, the first that is named, or ""."""
        return next((word for word in self.words if word in KINDS), "")

    @property
    def deed(self) -> tuple[str, ...]:
        """What follows the sprite."""
        place = next((i for i, word in enumerate(self.words) if word in KINDS), -1)
        return self.words[place + 1 :]

    @property
    def verb(self) -> str:
        """What it does, in one word, or ""."""
        return next((word for word in self.deed if word not in _ADVERBS), "")


@dataclass(frozen=True, slots=True)
class Seen:
    """A labelled box, x1, y1, x2, y2 on any scale."""

    label: str
    box: tuple[float, float, float, float]


Triple = tuple[str, str, str]
"""Subject, relation, object."""


def events(true: Sequence[Said], told: Sequence[Said]) -> Tally:
    """Mark the events of one clip.

    An event is right when sprite, verb, beginning and end are, each time within half a second, and is matched once.
    Attributes are marked on events whose kind and verb and time are right: the colour, and the rest of the words.
    Order: of two true events that begin more than half a second apart and were told, whether they were told in order.
    """
    pairs = match(
        true, told, lambda a, b: (a.colour, a.kind, a.verb) == (b.colour, b.kind, b.verb) and near(a, b)
    )
    right = len(pairs)
    alike = match(true, told, lambda a, b: (a.kind, a.verb) == (b.kind, b.verb) and near(a, b))
    attributes = [
        same
        for one, other in alike
        for same in (true[one].colour == told[other].colour, true[one].deed == told[other].deed)
    ]
    orders = [
        (true[a].start_s < true[b].start_s) == (x < y)
        for (a, x), (b, y) in combinations(pairs, 2)
        if abs(true[a].start_s - true[b].start_s) > TOLERANCE_S
    ]
    tally: Tally = {
        "event_precision": (right, len(told)),
        "event_recall": (right, len(true)),
        "event_f1": (2 * right, len(true) + len(told)),
        "attributes": (sum(attributes), len(attributes)),
        "order": (sum(orders), len(orders)),
    }
    if not true:
        tally["stories"] = (float(bool(told)), 1)
    return tally


def near(one: Said, other: Said) -> bool:
    """Whether two events begin and end within half a second of each other."""
    limit = TOLERANCE_S + _SLACK_S
    return abs(one.start_s - other.start_s) <= limit and abs(one.end_s - other.end_s) <= limit


def match(true: Sequence[_T], told: Sequence[_T], fits: Callable[[_T, _T], bool]) -> list[tuple[int, int]]:
    """Pair as many as fit, each at most once, by augmenting paths (Kuhn 1955).

    Returns:
        Pairs of indices into ``true`` and ``told``, in the order of ``true``.
    """
    taken: dict[int, int] = {}

    def seek(one: int, tried: set[int]) -> bool:
        for other in range(len(told)):
            if other not in tried and fits(true[one], told[other]):
                tried.add(other)
                if other not in taken or seek(taken[other], tried):
                    taken[other] = one
                    return True
        return False

    for one in range(len(true)):
        seek(one, set())
    return sorted((one, other) for other, one in taken.items())


def overlap(one: Seen, other: Seen) -> float:
    """Return the intersection over union of two boxes, 0..1; 0 where one has no area."""
    width = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    height = min(one.box[3], other.box[3]) - max(one.box[1], other.box[1])
    both = max(0.0, width) * max(0.0, height)
    areas = [
        max(0.0, seen.box[2] - seen.box[0]) * max(0.0, seen.box[3] - seen.box[1]) for seen in (one, other)
    ]
    return both / (sum(areas) - both) if both else 0.0


def boxes(true: Sequence[Seen], told: Sequence[Seen]) -> Tally:
    """Mark the objects of one clip: which are there at all, and which of the true ones have their box."""
    named = match(true, told, lambda a, b: a.label == b.label)
    placed = match(true, told, lambda a, b: a.label == b.label and overlap(a, b) >= OVERLAP)
    return {
        "objects_f1": (2 * len(named), len(true) + len(told)),
        "boxes": (len(placed), len(true)),
    }


def relations(true: Sequence[Triple], told: Sequence[Triple]) -> Tally:
    """Mark how objects stand to each other; "a left of b" and "b right of a" are the same."""
    wanted, found = Counter(map(_canonical, true)), Counter(map(_canonical, told))
    right = (wanted & found).total()
    return {"relations": (2 * right, wanted.total() + found.total())}


def counts(true: Mapping[str, int], told: Mapping[str, int]) -> Tally:
    """Mark how many of each group are listed; groups that are neither there nor listed do not count."""
    groups = [group for group in true.keys() | told.keys() if true.get(group, 0) or told.get(group, 0)]
    return {"counts": (sum(true.get(group, 0) == told.get(group, 0) for group in groups), len(groups))}


def question(topic: str, true: str, told: str) -> Tally:
    """Mark the answer to a question: its words, and a time within half a second."""
    if topic == "time":
        wanted, found = _seconds(true), _seconds(told)
        right = found is not None and wanted is not None and abs(found - wanted) <= TOLERANCE_S + _SLACK_S
    else:
        right = true.strip().lower() == told.strip().lower()
    return {f"question_{topic}": (float(right), 1)}


@dataclass(frozen=True, slots=True)
class Score:
    """A score with the interval in which 95 % of the resamples of clips lie; nan where nothing was asked."""

    value: float
    low: float
    high: float
    of: float


def score(tallies: Sequence[Tally], *, seed: int = 0) -> dict[str, Score]:
    """Add clips up and draw them again with replacement (Efron 1979, percentile interval).

    Args:
        tallies: Of each clip.
        seed: Of the draws.
    """
    names = sorted({name for tally in tallies for name in tally})
    return {name: _with_interval(name, (tallies,), seed) for name in names}


def lost(before: Sequence[Tally], after: Sequence[Tally], name: str, *, seed: int = 0) -> Score:
    """Return by how much one score of the same clips is lower in a second way of showing them.

    Both are of the same clips in each draw, so what makes a clip hard for both does not widen the interval.

    Args:
        before: Of each clip, shown in the one way.
        after: Of each clip, shown in the other.
        name: Of the score.
        seed: Of the draws.
    """
    return _with_interval(name, (before, after), seed)


def _with_interval(name: str, ways: Sequence[Sequence[Tally]], seed: int) -> Score:
    """Return a score, or by how much the last of two ways is lower than the first."""
    clips = len(ways[0])
    picks = np.random.default_rng(seed).integers(0, max(1, clips), (RESAMPLES, clips))
    value, of, drawn, asked = 0.0, 0.0, np.zeros(RESAMPLES), np.ones(RESAMPLES, bool)
    for sign, tallies in zip((1, -1), ways, strict=False):
        sums = np.array([tally.get(name, (0.0, 0.0)) for tally in tallies], np.float64)
        total, sampled = sums.sum(0), sums[picks].sum(1)
        value += sign * float(total[0] / total[1]) if total[1] else float("nan")
        of = float(total[1])
        asked &= sampled[:, 1] > 0
        drawn += sign * sampled[:, 0] / np.where(sampled[:, 1] > 0, sampled[:, 1], 1.0)
    if not asked.any():
        return Score(value, value, value, of)
    low, high = np.percentile(drawn[asked], (2.5, 97.5)).tolist()
    return Score(value, low, high, of)


def _canonical(triple: Triple) -> Triple:
    subject, relation, other = triple
    if relation in _INVERSE:
        return other, _INVERSE[relation], subject
    if relation in _SYMMETRIC and other < subject:
        return other, relation, subject
    return triple


def _seconds(text: str) -> float | None:
    for word in text.split():
        try:
            return float(word.strip(".,s"))
        except ValueError:
            continue
    return None
