"""The decoding loop: free text up to a budget, or JSON under a schema that always reaches its end. Pure but for `feed`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.model.grammar import END_TOKENS_MAX, Constraint, Ending
from edge.model.manifest import Tokens
from edge.model.repetition import Repetition
from edge.model.sampling import Sampling, choose

Finish = Literal["stop", "closed", "length"]

Feed = Callable[[Sequence[int], NDArray[np.int64] | None, NDArray[np.bool_] | None], NDArray[np.float32]]
"""Appends tokens (at least one) to the context and returns the logits after the last: of some ids, shape (n,), or of all; of
all under a mask those of forbidden ids are minus infinity. What it returns need only last until the next call."""

FEW_IDS = 16
"""Where the grammar allows at most so many ids, only their logits are asked for: a digit, the end of a list or a key. More
are not worth it: every row that is read maps 128 KiB of the embedding."""


@dataclass(frozen=True, slots=True)
class Generated:
    """What the loop wrote.

    Attributes:
        tokens: All tokens, forced ones included, without the end id.
        logprobs: Natural logarithms of the probabilities of those that were free choices, the end's too.
        finish: ``stop``: the model ended it. ``closed``: the budget ran out, or it began to repeat itself, and the
            grammar was led to its end. ``length``: the same in free text.
        chances: For each token its logarithm, None where it was no free choice.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Finish
    chances: tuple[float | None, ...] = ()


def budget(constraint: Constraint | None, max_tokens: int) -> int:
    """Return how many tokens an answer may take: ``max_tokens``, or more where the schema's shortest answer needs it.

    Raises:
        ModelError: ``max_tokens`` is not positive, or the schema's answers have no end that can be found.
    """
    if max_tokens < 1:
        raise ModelError(
            "an answer needs at least one token",
            evidence=[f"max_tokens is {max_tokens}"],
            next_step="Raise max_tokens.",
        )
    if constraint is None:
        return max_tokens
    shortest = constraint.tokens_to_end(END_TOKENS_MAX)
    if shortest is None:
        raise ModelError(
            "the JSON Schema of the answer has no short end",
            evidence=[f"closing everything as soon as possible takes more than {END_TOKENS_MAX} tokens"],
            next_step="Bound its strings, lists and numbers.",
        )
    return max(max_tokens, shortest)


def generate(
    feed: Feed,
    opening: Sequence[int],
    *,
    tokens: Tokens,
    constraint: Constraint | None,
    max_tokens: int,
    sampling: Sampling,
    rng: np.random.Generator,
    circles: bool = False,
    on_token: Callable[[int], None] | None = None,
) -> Generated:
    """Write one answer.

    Under a schema a token is taken only while, after it and what it forces, the shortest end still fits the budget;
    otherwise the token that leads there soonest takes its place. So the text is always complete JSON, in at most
    ``budget(constraint, max_tokens)`` tokens.

    Args:
        feed: Appends to the context.
        opening: The question's own tokens, fed before the answer, at least one.
        tokens: Vocabulary sizes and end ids.
        constraint: The schema at its start, or None for free text.
        max_tokens: The budget.
        sampling: How free choices are made.
        rng: The source of chance.
        circles: Do not close an answer that goes round in circles.
        on_token: Told of every token of the answer, in order.

    Raises:
        ModelError: The schema has no end, or ``feed`` failed.
    """
    loop = _Loop(
        feed,
        tokens,
        budget(constraint, max_tokens),
        sampling=sampling,
        rng=rng,
        circle=None if circles else Repetition(),
        on_token=on_token,
    )
    return loop.free(opening) if constraint is None else loop.constrained(opening, constraint)


class _Loop:
    """One answer in the making."""

    def __init__(
        self,
        feed: Feed,
        tokens: Tokens,
        limit: int,
        *,
        sampling: Sampling,
        rng: np.random.Generator,
        circle: Repetition | None,
        on_token: Callable[[int], None] | None,
    ) -> None:
        self._feed = feed
        self._tokens = tokens
        self._limit = limit
        self._sampling = sampling
        self._rng = rng
        self._on_token = on_token
        self._written: list[int] = []
        self._logprobs: list[float] = []
        self._chances: list[float | None] = []
        self._circle = circle
        self._ending = Ending()

    def free(self, opening: Sequence[int]) -> Generated:
        """Write until the model ends it or the budget is spent."""
        pending = opening
        while self._left:
            logits = self._feed(pending, None, None)[: self._tokens.vocab_used]
            token, logprob = choose(logits, None, self._sampling, self._written, self._rng)
            self._logprobs.append(logprob)
            if token in self._tokens.eos:
                return self._ended("stop")
            self._write([token], logprob)
            if self._circles:
                break
            pending = [token]
        return self._ended("length")

    def constrained(self, opening: Sequence[int], constraint: Constraint) -> Generated:
        """Write complete JSON."""
        closed = False
        pending = list(opening)
        while not constraint.finished:
            following = constraint.forced()
            chance: float | None = None
            if not following:
                mask = constraint.mask()
                count = int(np.count_nonzero(mask))
                token = int(np.argmax(mask))
                if self._circles:
                    closed = True
                    token = self._nearest_end(constraint)
                elif count > 1:
                    token, logprob = self._choose(pending, mask, count)
                    pending = []
                    wanted, token = token, self._affordable(constraint, token)
                    if token == wanted:
                        chance = logprob
                        self._logprobs.append(logprob)
                    else:
                        closed = True
                if token in self._tokens.eos:
                    break
                following = [token]
            constraint.take(following)
            self._write(following, chance)
            pending += following
        return self._ended("closed" if closed else "stop")

    @property
    def _circles(self) -> bool:
        return self._circle is not None and self._circle.closed

    @property
    def _left(self) -> int:
        return self._limit - len(self._written)

    def _choose(self, pending: Sequence[int], mask: NDArray[np.bool_], count: int) -> tuple[int, float]:
        """Choose one of the tokens of a mask, which holds so many."""
        if count <= FEW_IDS:
            ids = np.flatnonzero(mask)
            return choose(self._feed(pending, ids, None), ids, self._sampling, self._written, self._rng)
        scores = self._feed(pending, None, mask)[: self._tokens.vocab_used]
        return choose(scores, None, self._sampling, self._written, self._rng)

    def _affordable(self, constraint: Constraint, token: int) -> int:
        """Return the token, or the one that leads to the end soonest where the end would not fit after it."""
        if token in self._tokens.eos:
            return token
        ahead = constraint.copy()
        ahead.take([token])
        return token if self._ending.fits(ahead, self._left - 1) else self._nearest_end(constraint)

    def _nearest_end(self, constraint: Constraint) -> int:
        nearest = constraint.closing()
        return self._tokens.eos[0] if nearest is None else nearest

    def _write(self, tokens: Sequence[int], chance: float | None) -> None:
        self._written += tokens
        self._chances += [chance] * len(tokens)  # several at once were forced
        for token in tokens:
            if self._circle is not None:
                self._circle.take(token)
        if self._on_token is not None:
            for token in tokens:
                self._on_token(token)

    def _ended(self, finish: Finish) -> Generated:
        return Generated(tuple(self._written), tuple(self._logprobs), finish, tuple(self._chances))
