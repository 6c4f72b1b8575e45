"""What boxes say of each other: which of them cannot be, how they stand, what is nearest, where there is room. Pure.

Boxes are x1, y1, x2, y2 on 0..1000 of the picture, as the model writes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from edge.messages import BoxProblem
from edge.records import Size

FULL = 1000
NEAR = 0.06  # of the picture's shorter side: what is no farther apart is next to
SAME = 0.9  # intersection over union from which on two boxes under one label are one

SHOWN = frozenset({"left of", "right of", "above", "below", "next to"})  # what `standing` says

Corners = tuple[int, int, int, int]


def problem(box: Corners, label: str, before: Sequence[tuple[str, Corners]]) -> BoxProblem:
    """Return what is wrong with a box, or "".

    Args:
        box: The box.
        label: Its label.
        before: Labels and boxes of the objects that were listed before it.
    """
    x1, y1, x2, y2 = box
    if max(box) > FULL:
        return "out_of_range"
    if x1 >= x2 or y1 >= y2:
        return "degenerate"
    if any(box == other or (label == name and overlap(box, other) >= SAME) for name, other in before):
        return "duplicate"
    return ""


def overlap(one: Corners, other: Corners) -> float:
    """Return intersection over union, 0 where there is none."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (_area(one) + _area(other) - width * height)


def standing(one: Corners, other: Corners, size: Size) -> tuple[str, ...]:
    """Return how one box stands to another: in which direction, and whether it is next to it.

    It is ``left of`` or ``right of`` where the two are farther apart, or overlap less, across than down, in pixels of the
    picture, and else ``above`` or ``below``, by their middles. What overlaps by more than `NEAR` is not next to the other
    but in front of it or behind, and no box tells which.

    Args:
        one: The box.
        other: The other one.
        size: Of the picture.
    """
    across, down = _gaps(one, other, size)
    if across > down:
        word = "left of" if one[0] + one[2] < other[0] + other[2] else "right of"
    else:
        word = "above" if one[1] + one[3] < other[1] + other[3] else "below"
    beside = abs(max(across, down)) <= NEAR * FULL * min(size.height, size.width)
    return (word, "next to") if beside else (word,)


def closest(boxes: Sequence[Corners], size: Size) -> list[tuple[int, int]]:
    """Return every two of the boxes, by index, those that are closest to each other first."""
    pairs = combinations(range(len(boxes)), 2)
    return sorted(pairs, key=lambda pair: max(_gaps(boxes[pair[0]], boxes[pair[1]], size)))


def _gaps(one: Corners, other: Corners, size: Size) -> tuple[int, int]:
    """Return how far apart two boxes are across and down, in thousandths of pixels; below 0 they overlap."""
    return (
        (max(one[0], other[0]) - min(one[2], other[2])) * size.width,
        (max(one[1], other[1]) - min(one[3], other[3])) * size.height,
    )


def nearest(boxes: Sequence[Corners]) -> int | None:
    """Return the index of the box that reaches lowest, the larger of two: who stands lower in a picture stands nearer."""
    return max(range(len(boxes)), key=lambda at: (boxes[at][3], _area(boxes[at])), default=None)


def free(boxes: Sequence[Corners]) -> Corners | None:
    """Return the largest rectangle that touches none of the boxes, None where they leave nothing."""
    lines = sorted({0, FULL, *(line for box in boxes for line in (box[0], box[2]))})
    best: Corners | None = None
    for left, right in combinations(lines, 2):
        top = 0
        within = sorted((box[1], box[3]) for box in boxes if box[0] < right and box[2] > left)
        for begin, end in (*within, (FULL, FULL)):
            found = (left, top, right, begin)
            if begin > top and (best is None or _area(found) > _area(best)):
                best = found
            top = max(top, end)
    return best


def _area(box: Corners) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])
