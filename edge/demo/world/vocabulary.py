"""The words of the world: what there is in it, in which colours, how it moves, and what is kept from training."""

from __future__ import annotations

from typing import Final, Literal

Stage = Literal["a", "b", "c"]
"""``a``: up to 16 s, one or two sprites. ``b``: 60 s. ``c``: more sprites; hiding, carrying, crossing, flashes."""

Split = Literal["train", "held_out"]

KINDS: Final = ("person", "car", "bicycle", "dog", "parcel", "circle", "square", "triangle")
COLOURS: Final = ("red", "green", "blue", "yellow", "white", "black", "purple")
MOTIONS: Final = ("left", "right", "top", "bottom", "none")
"""Where a sprite comes from; ``none``: it is there from the start, or flashes."""

RGB: Final[dict[str, tuple[int, int, int]]] = {
    "red": (212, 40, 36),
    "green": (32, 176, 64),
    "blue": (44, 84, 220),
    "yellow": (244, 212, 44),
    "white": (246, 246, 246),
    "black": (18, 18, 22),
    "purple": (156, 52, 188),
}

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "people": ("person",),
    "vehicles": ("car", "bicycle"),
    "animals": ("dog",),
    "parcels": ("parcel",),
    "shapes": ("circle", "square", "triangle"),
}
"""What is counted together, by the plural that names it."""

_PRIME_STEPS: Final = (3, 5)
_EVERY: Final = 8


def held_out(kind: str, colour: str, motion: str) -> bool:
    """Whether a combination never occurs in training.

    One in eight: those whose places k, c, m in `KINDS`, `COLOURS` and `MOTIONS` make ``k + 3 c + 5 m`` a multiple of 8.
    So every kind still occurs in training in every colour and with every motion, and every colour with every motion:
    only the three together are new.
    """
    by_colour, by_motion = _PRIME_STEPS
    place = KINDS.index(kind) + by_colour * COLOURS.index(colour) + by_motion * MOTIONS.index(motion)
    return place % _EVERY == 0


def group_of(kind: str) -> str:
    """Return the group in which a kind is counted, a key of `GROUPS`."""
    return next(group for group, kinds in GROUPS.items() if kind in kinds)


def a(label: str) -> str:
    """Return a label with its indefinite article."""
    return f"{'an' if label[0] in 'aeiou' else 'a'} {label}"


def listed(words: list[str]) -> str:
    """Return ``x``, ``x and y`` or ``x, y and z``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def plural(kind: str) -> str:
    """Return the plural of a kind."""
    return "people" if kind == "person" else f"{kind}s"
