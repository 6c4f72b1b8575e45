r"""The patterns that an asker's schema may hold: characters, classes and counts, from ``^`` to ``$``. Pure.

A pattern becomes an automaton whose states the model's tokens are held against. What makes some patterns explode there
(or somewhere else, in a program that checks the answer) is choice: where a text may be read in several ways, all of them
are followed. So only patterns that can be read in one way are taken: no groups, no alternatives, no open ends, and what
may come a varying number of times must not be mistaken for what follows it. Such a pattern has as many states as it has
characters. It is written anew from what was understood, so that no two readers take it differently.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

CHARS_MAX = 200
"""Characters of a pattern."""
LENGTH_MAX = 600
"""Characters that a pattern may let the model write."""

_DIGIT = (("0", "9"),)
_WORD = (("A", "Z"), ("_", "_"), ("a", "z"), *_DIGIT)
_ANY = ((" ", "~"), ("\x80", "\U0010ffff"))
_NAMED = {"d": _DIGIT, "w": _WORD, "s": ((" ", " "),)}
_ITSELF = frozenset(r"\.^$*+?()[]{}|/-" + '"')  # after a backslash
_COUNT = re.compile(r"\{([0-9]{1,4})(?:(,)([0-9]{1,4}))?\}")


class PatternError(ValueError):
    """A pattern that is not taken; the message says why."""


@dataclass(frozen=True, slots=True)
class Item:
    """One character of a set, so many times.

    Attributes:
        ranges: The set, first and last character of each range.
    """

    ranges: tuple[tuple[str, str], ...]
    least: int = 1
    most: int = 1

    @property
    def any(self) -> bool:
        """Whether it stands for any character but control characters."""
        return self.ranges == _ANY

    def meets(self, other: Item) -> bool:
        """Whether some character belongs to both."""
        return any(a <= d and c <= b for a, b in self.ranges for c, d in other.ranges)

    def text(self) -> str:
        """Return it as a regular expression that every dialect reads alike."""
        inside = "".join(_char(a) if a == b else f"{_char(a)}-{_char(b)}" for a, b in self.ranges)
        chosen = r"[^\x00-\x1f\x7f]" if self.any else f"[{inside}]"
        return chosen if (self.least, self.most) == (1, 1) else f"{chosen}{{{self.least},{self.most}}}"


def read(pattern: str) -> tuple[Item, ...]:
    """Understand a pattern.

    Raises:
        PatternError: It is not one of those that the module's docstring describes.
    """
    if len(pattern) > CHARS_MAX:
        raise PatternError(f"it has more than {CHARS_MAX} characters")
    if not (pattern.startswith("^") and pattern.endswith("$")) or re.search(r"(?<!\\)(\\\\)*\\\$$", pattern):
        raise PatternError("it must begin with ^ and end with $")
    items = tuple(_items(pattern[1:-1]))
    if sum(item.most for item in items) > LENGTH_MAX:
        raise PatternError(f"it lets the model write more than {LENGTH_MAX} characters")
    for at, item in enumerate(items):
        if item.least != item.most and any(item.meets(other) for other in _following(items[at + 1 :])):
            raise PatternError(
                "what may come a varying number of times must not share a character with what follows it"
            )
    return items


def text(items: tuple[Item, ...]) -> str:
    """Return the pattern that was understood."""
    return f"^{''.join(item.text() for item in items)}$"


def _following(items: tuple[Item, ...]) -> Iterator[Item]:
    """Yield what may come next: every item up to the first that must come."""
    for item in items:
        yield item
        if item.least:
            return


def _items(body: str) -> Iterator[Item]:
    at = 0
    while at < len(body):
        ranges, at = _one(body, at)
        least = most = 1
        if body[at : at + 1] == "?":
            least, at = 0, at + 1
        elif count := _COUNT.match(body, at):
            least = int(count[1])
            most = int(count[3]) if count[2] else least
            at = count.end()
        if body[at : at + 1] in {"*", "+"}:
            raise PatternError("* and + have no end; give a count, such as {1,20}")
        if body[at : at + 1] in {"?", "{"}:
            raise PatternError("a count is {3} or {1,20}, once")
        if least > most:
            raise PatternError("a count begins above its end")
        if most:
            yield Item(ranges, least, most)


def _one(body: str, at: int) -> tuple[tuple[tuple[str, str], ...], int]:
    """Return the set of characters at a place, and the place behind it."""
    char = body[at]
    if char == "[":
        return _class(body, at + 1)
    if char == ".":
        return _ANY, at + 1
    if char == "\\" and body[at + 1 : at + 2] in _NAMED:
        return _NAMED[body[at + 1]], at + 2
    if char in "()|":
        raise PatternError("groups and alternatives are not supported; an enum may do")
    if char in "*+?{}^$":
        raise PatternError("it is not understood")
    found, at = _literal(body, at)
    return ((found, found),), at


def _class(body: str, at: int) -> tuple[tuple[tuple[str, str], ...], int]:
    if body[at : at + 1] == "^":
        raise PatternError("a class says what is in it, not what is not")
    ranges: list[tuple[str, str]] = []
    while body[at : at + 1] != "]":
        if body[at : at + 1] == "\\" and body[at + 1 : at + 2] in _NAMED:
            ranges += _NAMED[body[at + 1]]
            at += 2
            continue
        first, at = _literal(body, at)
        last = first
        if body[at : at + 1] == "-" and body[at + 1 : at + 2] not in {"]", ""}:
            last, at = _literal(body, at + 1)
        if first > last:
            raise PatternError("a range begins after its end")
        if any(char in "[&~" for char in (first, last)):  # nested classes and set operations of some dialects
            raise PatternError("a class holds characters and ranges, and no [, & or ~")
        ranges.append((first, last))
    if not ranges:
        raise PatternError("a class is empty")
    return tuple(sorted(set(ranges))), at + 1


def _literal(body: str, at: int) -> tuple[str, int]:
    char = body[at : at + 1]
    if char == "\\":
        char = body[at + 1 : at + 2]
        if char not in _ITSELF:
            raise PatternError(r"after a backslash it knows d, w, s and punctuation")
        at += 1
    if not char or not printable(char):
        raise PatternError("it is not closed, or holds a control character")
    return char, at + 1


def printable(text: str) -> bool:
    """Whether a text holds neither control characters nor halves of a surrogate pair."""
    return not any(
        char < " " or "\x7f" <= char <= "\x9f" or "\ud800" <= char <= "\udfff" or char in "\u2028\u2029"
        for char in text
    )


def _char(char: str) -> str:
    """Return a character as it stands in a class."""
    return char if char.isalnum() or char in " _" else f"\\{char}" if char.isascii() else char
