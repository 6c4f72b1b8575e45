"""How far a bundle is from its reference: the measures, the report, and when it is too far. Pure: arrays in, numbers out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SCHEMA: Final = "edgeclip.verify/1"
REPORT: Final = "verify.json"  # beside the manifest, outside the bundle's hash
EXACT: Final = (
    1e-3  # of the largest logit: what float32 against float32 may differ by, and what counts as a near tie
)
ROUGH: Final = 0.1  # the same against a bfloat16 reference, whose own error is a few hundredths
PIXEL: Final = 1.0  # of 255: the mean difference that two antialiased bicubic filters may have


@dataclass(frozen=True, slots=True)
class Logits:
    """Logits of a bundle against those of the reference at the same positions.

    Attributes:
        positions: How many positions were compared; every one has seen the same tokens on both sides.
        error: Largest absolute difference, as a fraction of the reference's largest absolute logit.
        kl_mean: Mean of KL(reference || bundle) over the positions, nats.
        kl_max: The worst position's.
        top1: Fraction of positions with the same first choice.
        top5: Mean fraction of the reference's first five that are among the bundle's.
    """

    positions: int
    error: float
    kl_mean: float
    kl_max: float
    top1: float
    top5: float


@dataclass(frozen=True, slots=True)
class Greedy:
    """Two greedy answers to one prompt.

    Attributes:
        tokens: How many the reference gave.
        equal: Length of the common prefix.
        near_tie: They part where the reference's two best logits differ by less than `EXACT` of the largest.
    """

    tokens: int
    equal: int
    near_tie: bool

    @property
    def agrees(self) -> bool:
        """Whether they are equal, or part at a near tie."""
        return self.equal == self.tokens or self.near_tie


@dataclass(frozen=True, slots=True)
class Case:
    """One prompt, asked of both.

    Attributes:
        name: What was shown, such as ``video 240x320, 5 frames``.
        tokens: Length of the prompt.
        same_ids: The token ids are the processor's.
        same_positions: The M-RoPE positions are those of transformers.
        pixels: Mean difference between our resized pixels and the processor's, of 255; None for text.
        logits: At the prompt's end and after each token of the reference's own greedy answer.
        greedy: The engine's own greedy answer.
        reference_s: Seconds that the reference took.
        bundle_s: Seconds that the bundle took.
    """

    name: str
    tokens: int
    same_ids: bool
    same_positions: bool
    pixels: float | None
    logits: Logits
    greedy: Greedy
    reference_s: float
    bundle_s: float


@dataclass(frozen=True, slots=True)
class GraphError:
    """One graph on the inputs that its registered export configuration makes: largest error of the largest output."""

    graph: str
    error: float


@dataclass(frozen=True, slots=True)
class Subject:
    """What was compared with what."""

    bundle: str
    bundle_hash: str
    recipe: str
    source: str
    dtype: str
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Report:
    """All of ``verify.json``."""

    subject: Subject
    graphs: tuple[GraphError, ...]
    cases: tuple[Case, ...]

    @property
    def kl_mean(self) -> float:
        """Mean KL over the positions of all cases, nats."""
        return _weighted((case.logits.kl_mean, case.logits.positions) for case in self.cases)

    @property
    def top1(self) -> float:
        """Fraction of all positions with the same first choice."""
        return _weighted((case.logits.top1, case.logits.positions) for case in self.cases)

    @property
    def error(self) -> float:
        """The worst case's logit error."""
        return max(case.logits.error for case in self.cases)

    def dump(self, failures: Sequence[str]) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "schema": SCHEMA,
            "passed": not failures,
            "failures": list(failures),
            "error": self.error,
            "kl_mean": self.kl_mean,
            "top1": self.top1,
            **asdict(self),
        }

    def table(self) -> str:
        """Return the report for a reader, one line a case."""
        head = (
            "",
            "tokens",
            "ids",
            "M-RoPE",
            "pixels",
            "error",
            "mean KL",
            "max KL",
            "top-1",
            "top-5",
            "greedy",
        )
        rows = [
            (
                case.name,
                str(case.tokens),
                "same" if case.same_ids else "DIFFER",
                "same" if case.same_positions else "DIFFER",
                "-" if case.pixels is None else f"{case.pixels:.3f}",
                f"{case.logits.error:.1e}",
                f"{case.logits.kl_mean:.1e}",
                f"{case.logits.kl_max:.1e}",
                f"{case.logits.top1:.1%}",
                f"{case.logits.top5:.1%}",
                f"{case.greedy.equal}/{case.greedy.tokens}" + (" (near tie)" if case.greedy.near_tie else ""),
            )
            for case in self.cases
        ]
        total = ("all", *[""] * 4, f"{self.error:.1e}", f"{self.kl_mean:.1e}", "", f"{self.top1:.1%}", "", "")
        graphs = ", ".join(f"{graph.graph} {graph.error:.1e}" for graph in self.graphs)
        return f"{columns([head, *rows, total])}\n\ngraphs alone, largest error: {graphs}"


def compare_logits(reference: NDArray[np.float32], bundle: NDArray[np.float32]) -> Logits:
    """Compare logits of shape (n, V), n positions; both sides masked or cut to the rows that tokens use."""
    expected, found = reference.astype(np.float64), bundle.astype(np.float64)
    kl = kl_divergence(expected, found)
    best = np.argsort(-expected, axis=-1, kind="stable")[:, :5]
    ours = np.argsort(-found, axis=-1, kind="stable")[:, :5]
    shared = (best[:, :, None] == ours[:, None, :]).any(-1)
    return Logits(
        positions=len(expected),
        error=relative_error(expected, found),
        kl_mean=float(kl.mean()),
        kl_max=float(kl.max()),
        top1=float((best[:, 0] == ours[:, 0]).mean()),
        top5=float(shared.mean()),
    )


def kl_divergence(reference: NDArray[np.float64], bundle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return KL(softmax(reference) || softmax(bundle)) in nats for each row of logits, shape (n,); never below 0."""
    p, q = _log_softmax(reference), _log_softmax(bundle)
    kl: NDArray[np.float64] = (np.exp(p) * (p - q)).sum(-1)
    return np.maximum(kl, 0.0)


def relative_error(reference: NDArray[Any], found: NDArray[Any]) -> float:
    """Return the largest absolute difference over the reference's largest absolute value; infinite for NaN."""
    worst = np.abs(reference.astype(np.float64) - found).max() / np.abs(reference).max()
    return float(worst) if np.isfinite(worst) else float("inf")


def compare_greedy(reference: Sequence[int], logits: NDArray[np.float32], bundle: Sequence[int]) -> Greedy:
    """Compare two greedy answers.

    Args:
        reference: n tokens.
        logits: The reference's logits that chose them, shape (n, V).
        bundle: The tokens that the engine gave.
    """
    equal = next(
        (i for i, token in enumerate(reference) if i >= len(bundle) or bundle[i] != token), len(reference)
    )
    tie = False
    if equal < len(reference):
        row = logits[equal]
        second, first = np.partition(row, -2)[-2:]
        tie = bool(first - second < EXACT * np.abs(row).max())
    return Greedy(tokens=len(reference), equal=equal, near_tie=tie)


def failures(report: Report, *, exact: bool, max_kl: float | None) -> list[str]:
    """Say what is out of tolerance, a sentence each.

    Args:
        report: What was measured.
        exact: The bundle keeps every weight in float32, so its logits must be the reference's.
        max_kl: Largest mean KL over all positions, nats; None accepts any.
    """
    limit = EXACT if report.subject.dtype == "float32" else ROUGH
    found = []
    for case in report.cases:
        if not case.same_ids:
            found.append(f"{case.name}: the token ids are not the processor's")
        if not case.same_positions:
            found.append(f"{case.name}: the M-RoPE positions are not those of transformers")
        if case.pixels is not None and case.pixels > PIXEL:
            found.append(
                f"{case.name}: pixels differ by {case.pixels:.2f} of 255 on average, more than {PIXEL:g}"
            )
        if exact and case.logits.error > limit:
            found.append(
                f"{case.name}: logits differ by {case.logits.error:.1e} of the largest, more than {limit:g}"
            )
        if exact and limit == EXACT and not case.greedy.agrees:
            found.append(
                f"{case.name}: greedy answers part at token {case.greedy.equal}, where there is no near tie"
            )
    if exact:
        found += [
            f"{graph.graph} graph: its output differs by {graph.error:.1e} of the largest, more than {limit:g}"
            for graph in report.graphs
            if graph.error > limit
        ]
    if max_kl is not None and not report.kl_mean <= max_kl:
        found.append(f"mean KL is {report.kl_mean:.2e} nats, more than --max-kl {max_kl:g}")
    return found


def strict_json(data: dict[str, Any], *, indent: int | None = None) -> str:
    """Return JSON as the standard has it: an infinite error becomes null."""
    return json.dumps(_finite(data), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as text, the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _weighted(pairs: Iterable[tuple[float, int]]) -> float:
    listed = list(pairs)
    return fmean([value for value, _ in listed], weights=[count for _, count in listed])


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(-1, keepdims=True)
    normalised: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return normalised
