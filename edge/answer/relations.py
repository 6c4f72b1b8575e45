"""How the objects of an answer stand to each other: what the model said is held against their boxes, the rest is worked out. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from edge.answer import places
from edge.messages import MAX_RELATIONS, Relation, SeenObject
from edge.records import Size


def holds(subject: str, word: str, other: str, objects: Sequence[SeenObject], size: Size) -> bool:
    """Return whether a relation is between two different objects, and their boxes show nothing else.

    Args:
        subject: Label of the one.
        word: How it stands to the other.
        other: Label of that.
        objects: Of the answer. Several may have one label; it is enough that two of them stand so.
        size: Of the picture.
    """
    ones, others = ([seen for seen in objects if seen.label == label] for label in (subject, other))
    between = [(one, two) for one in ones for two in others if one is not two]
    if word not in places.SHOWN:
        return bool(between)
    return any(
        one.written is None
        or two.written is None
        or not (one.valid and two.valid)
        or word in places.standing(one.written, two.written, size)
        for one, two in between
    )


def worked_out(objects: Sequence[SeenObject], told: Sequence[Relation], size: Size) -> list[Relation]:
    """Return how objects stand to each other of which the model said nothing that holds, the closest first.

    A small model that has just written two boxes to the fiftieth of the picture still takes left for right now and then;
    arithmetic does not, and takes no tokens.

    Args:
        objects: Of the answer; what has no valid box stands nowhere.
        told: What the model said.
        size: Of the picture.
    """
    known = {frozenset((each.subject, each.object)) for each in told if each.valid}
    placed = [(seen, seen.written) for seen in objects if seen.valid and seen.written is not None]
    found = []
    for at_one, at_other in places.closest([box for _, box in placed], size):
        (one, box), (other, other_box) = placed[at_one], placed[at_other]
        if frozenset((one.label, other.label)) in known:
            continue
        chances = [seen.box_confidence for seen in (one, other) if seen.box_confidence is not None]
        found += [
            Relation(
                subject=one.label,
                relation=word,
                object=other.label,
                source="boxes",
                confidence=min(chances) if len(chances) == 2 else None,  # both
            )
            for word in places.standing(box, other_box, size)
        ]
    return found[: MAX_RELATIONS - len(told)]
