"""Choosing the next token from logits: penalties, temperature, top-k, top-p, min-p. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.model.manifest import Generation

_GROUP = 32  # scores of which `largest` looks at the best first


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen.

    Attributes:
        temperature: Divides the logits; 0 takes the most probable token, and then only the penalties matter.
        top_k: Keep the k most probable tokens; 0 keeps all.
        top_p: Keep the fewest tokens whose probabilities sum to at least this, of those that ``top_k`` kept.
        min_p: Keep tokens of at least this share of the most probable one's probability.
        presence_penalty: Subtracted from the logits of tokens that the answer already holds.
        repetition_penalty: Divides their positive and multiplies their negative logits (arXiv 1909.05858).
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0

    @classmethod
    def greedy(cls) -> Sampling:
        """Return the choice of the most probable token each time."""
        return cls()

    @classmethod
    def recommended(cls, generation: Generation) -> Sampling:
        """Return what the model's card recommends."""
        return cls(
            temperature=generation.temperature,
            top_k=generation.top_k,
            top_p=generation.top_p,
            min_p=generation.min_p,
            presence_penalty=generation.presence_penalty,
            repetition_penalty=generation.repetition_penalty,
        )


def choose(
    scores: NDArray[np.float32],
    ids: NDArray[np.int64] | None,
    sampling: Sampling,
    said: Collection[int],
    rng: np.random.Generator,
) -> tuple[int, float]:
    """Choose one of some tokens.

    The filters and their order are those of transformers' generation: penalties, temperature, top-k, top-p, min-p. Both
    penalties look at the answer alone, since the prompt is mostly video.

    Args:
        scores: Logits, shape (n,), n >= 1; minus infinity where a token may not be chosen. They are not changed.
        ids: The tokens that they belong to, shape (n,), ascending; None: 0 to n - 1.
        sampling: How to choose.
        said: Tokens of the answer so far.
        rng: The source of chance; not touched when the temperature is 0.

    Returns:
        The token, and the natural logarithm of its probability among these as the model gave it, that is before
        penalties and temperature.
    """
    liked = _penalised(scores, ids, sampling, said)
    at = int(np.argmax(liked)) if sampling.temperature == 0 else _draw(liked, sampling, rng)
    top = scores[at] if liked is scores and sampling.temperature == 0 else scores.max()
    log_sum = float(np.log(np.exp(scores - top).sum()))
    token = at if ids is None else int(ids[at])
    return token, min(float(scores[at] - top) - log_sum, 0.0)


def largest(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return where the ``count`` largest scores lie, ascending; fewer where there are not so many above minus infinity.

    Several times faster over a whole vocabulary than `numpy.argpartition`: of the largest of so many groups, the smallest is
    a bound that few others reach.

    Args:
        scores: Shape (n,).
        count: At least 1.
    """
    width = len(scores) // _GROUP
    tops = scores[: width * _GROUP].reshape(_GROUP, width).max(axis=0) if width >= count else scores
    least = np.partition(tops, len(tops) - count)[len(tops) - count] if len(tops) >= count else -np.inf
    found = np.flatnonzero(scores >= max(least, np.finfo(np.float32).min))
    if len(found) > count:
        found = np.sort(found[np.argpartition(scores[found], len(found) - count)[len(found) - count :]])
    return found


def _penalised(
    raw: NDArray[np.float32], ids: NDArray[np.int64] | None, sampling: Sampling, said: Collection[int]
) -> NDArray[np.float32]:
    if not said or (sampling.presence_penalty == 0 and sampling.repetition_penalty == 1):
        return raw
    again = np.fromiter(set(said), np.int64)
    again = again[again < len(raw)] if ids is None else np.flatnonzero(np.isin(ids, again))
    scores = raw.copy()
    repeated = scores[again]
    factor = sampling.repetition_penalty
    scores[again] = np.where(repeated > 0, repeated / factor, repeated * factor) - sampling.presence_penalty
    return scores


def _draw(scores: NDArray[np.float32], sampling: Sampling, rng: np.random.Generator) -> int:
    count = len(scores)
    kept = np.arange(count)
    if 0 < sampling.top_k < count:
        kept = np.argpartition(scores, count - sampling.top_k)[count - sampling.top_k :]
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    weights = np.exp((scores[kept] - scores[kept[0]]).astype(np.float64) / sampling.temperature)
    probabilities = weights / weights.sum()
    before = np.cumsum(probabilities) - probabilities
    keep = before < sampling.top_p
    keep[0] = True
    keep &= probabilities >= sampling.min_p * probabilities[0]
    kept, probabilities = kept[keep], probabilities[keep]
    return int(rng.choice(kept, p=probabilities / probabilities.sum()))
