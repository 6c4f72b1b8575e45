"""How probable the model found each field of its answer: token probabilities folded along the JSON text. Pure.

A token's probability is its share among the tokens that the grammar allowed at that point, not among the whole
vocabulary. What the grammar forbids (another spelling of the key, a blank, a fenced block, thinking aloud) says nothing
about what was seen, and a model that would rather begin with a code fence is no less sure of its yes. It costs nothing
as well: only the allowed logits are summed, a handful at most places, where the whole vocabulary is 248,320. What it
hides is how much the model strained against the form; that belongs to a prompt's trial, not to an answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

Path = tuple[str | int, ...]

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_SCALAR = re.compile(rb"[^,\]}\s]+")


class Chances:
    """The probabilities of one answer's tokens, by the field in which each begins.

    Args:
        pieces: The bytes of each token; together they are compact JSON.
        logprobs: For each token the natural logarithm of its probability, None where there was no free choice.
    """

    def __init__(self, pieces: Sequence[bytes], logprobs: Sequence[float | None]) -> None:
        text = b"".join(pieces)
        starts = [0]
        for piece in pieces:
            starts.append(starts[-1] + len(piece))
        places = [
            (start, logprob) for start, logprob in zip(starts, logprobs, strict=False) if logprob is not None
        ]
        self._fields = {
            path: tuple(logprob for start, logprob in places if begin <= start < end)
            for path, begin, end in values(text)
        }

    def words(self, *path: str | int) -> float | None:
        """Return the geometric mean of a text's tokens, or None where nothing in it was a free choice."""
        return folded(self._fields.get(path, ()))

    def number(self, *path: str | int) -> float | None:
        """Return the probability of all tokens of a number or a word together."""
        found = self._fields.get(path, ())
        return _probability(sum(found)) if found else None

    def numbers(self, *path: str | int) -> float | None:
        """Return the geometric mean over the numbers of a list of the probability of each."""
        members = [sum(found) for name, found in self._fields.items() if name[:-1] == path and found]
        return folded(members)


def folded(logprobs: Sequence[float]) -> float | None:
    """Return the geometric mean of probabilities given as logarithms, None of none."""
    return _probability(sum(logprobs) / len(logprobs)) if logprobs else None


def values(text: bytes) -> Iterator[tuple[Path, int, int]]:
    """Yield path, begin and end of every string, number and literal of compact JSON, quotes included.

    Of text that is not JSON it yields what can be told before it goes wrong.
    """
    path: list[str | int] = []
    at = 0
    while at < len(text):
        byte = text[at : at + 1]
        if byte == b"{":
            path.append("")
        elif byte == b"[":
            path.append(0)
        elif byte in b"]}":
            if not path:
                return
            path.pop()
        elif byte == b",":
            if path and isinstance(path[-1], int):
                path[-1] += 1
        elif byte not in b": \n\t":
            match = (_STRING if byte == b'"' else _SCALAR).match(text, at)
            if match is None:
                return
            at = match.end()
            if text[at : at + 1] == b":" and path:
                path[-1] = match[0][1:-1].decode(errors="replace")
            else:
                yield tuple(path), match.start(), at
            continue
        at += 1


def _probability(logprob: float) -> float:
    return 0.0 if math.isnan(logprob) else round(math.exp(min(0.0, logprob)), 4)
