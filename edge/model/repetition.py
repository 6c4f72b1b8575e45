"""Notices when an answer goes round in circles, as small models do: the same few tokens over and over. Pure."""

from __future__ import annotations

from collections import deque

LONGEST = 48
"""Tokens of the longest round that is noticed; an object with its box takes some 30."""
ROUNDS = 3
"""So many equal rounds are a circle. Two are not: two events may be told in the same words."""
LEAST = 24
"""And it takes so many tokens: a box of zeros, or "ha ha ha ha", is none."""


class Repetition:
    """Watches one answer, token by token.

    Attributes:
        closed: Whether its last tokens are `ROUNDS` equal rounds, at least `LEAST` tokens; it stays so.
    """

    def __init__(self) -> None:
        self.closed = False
        self._last: deque[int] = deque(maxlen=LONGEST)
        self._equal = [0] * (
            LONGEST + 1
        )  # by length of a round: how many tokens equal the one a round before

    def take(self, token: int) -> None:
        """Note the next token."""
        for length in range(1, len(self._last) + 1):
            same = self._last[-length] == token
            self._equal[length] = self._equal[length] + 1 if same else 0
            if self._equal[length] + length >= max(ROUNDS * length, LEAST):
                self.closed = True
        self._last.append(token)
