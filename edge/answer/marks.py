"""What of a spatial answer can be drawn on a picture, and with which number and colour; page and picture share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge.messages import Box, BoxProblem, Relation, SeenObject

# Okabe and Ito, Color Universal Design (2008), without black and with their yellow last: told apart by most eyes. The
# number says the same, so that nobody depends on the colour.
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00", "#0072b2", "#f0e442")


@dataclass(frozen=True, slots=True)
class Mark:
    """One object: its number in the answer, from 1, and the colour of its box.

    Attributes:
        drawn: Whether its box is one: an impossible or repeated box is named and not drawn.
        problem: Why it is none.
    """

    number: int
    label: str
    box: Box
    colour: str
    drawn: bool
    problem: BoxProblem = ""


@dataclass(frozen=True, slots=True)
class Arrow:
    """A relation between two boxes that are drawn."""

    subject: Mark
    relation: str
    object: Mark


def marks(objects: Sequence[SeenObject]) -> tuple[Mark, ...]:
    """Return the objects with their numbers and colours, in the order of the answer."""
    return tuple(
        Mark(
            number,
            item.label,
            item.box,
            COLOURS[(number - 1) % len(COLOURS)],
            drawn=item.valid,
            problem=item.problem,
        )
        for number, item in enumerate(objects, start=1)
    )


def arrow(relation: Relation, found: Sequence[Mark]) -> Arrow | None:
    """Return a relation as an arrow, or None where a name belongs to no drawn box, to several, or both to one."""
    subject, target = _only(relation.subject, found), _only(relation.object, found)
    if subject is None or target is None or subject is target:
        return None
    return Arrow(subject, relation.relation, target)


def centre(box: Box) -> tuple[float, float]:
    """Return the middle of a box on 0..1, x and y."""
    return (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2


def _only(label: str, found: Sequence[Mark]) -> Mark | None:
    fitting = [mark for mark in found if mark.drawn and mark.label.casefold() == label.casefold()]
    return fitting[0] if len(fitting) == 1 else None
