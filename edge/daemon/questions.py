"""Questions of operators that wait for the model, and the one that it has; pure."""

from __future__ import annotations

from collections import deque

from edge.daemon.effects import Ask, Effect, Unasked

WAITING_MAX = 8


class Questions:
    """A short queue; each question leaves it once: handed to the model, or given up."""

    def __init__(self) -> None:
        self._waiting: deque[Ask] = deque()
        self._asked: Ask | None = None

    @property
    def full(self) -> bool:
        """Whether no more may wait."""
        return len(self._waiting) >= WAITING_MAX

    @property
    def asked(self) -> bool:
        """Whether the model has one."""
        return self._asked is not None

    def put(self, ask: Ask) -> None:
        """Let a question wait."""
        self._waiting.append(ask)

    def next(self) -> Ask | None:
        """Return the question that the model gets now, if there is one."""
        self._asked = self._waiting.popleft() if self._waiting else None
        return self._asked

    def answered(self) -> None:
        """Note that the model has answered the one that it had."""
        self._asked = None

    def lose(self, detail: str) -> list[Effect]:
        """Give up the one that the model had: it is not asked again, for it may be what killed the model."""
        asked, self._asked = self._asked, None
        return [] if asked is None else [Unasked(asked.key, detail)]

    def give_up(self, detail: str) -> list[Effect]:
        """Give up those that wait."""
        effects: list[Effect] = [Unasked(ask.key, detail) for ask in self._waiting]
        self._waiting.clear()
        return effects
