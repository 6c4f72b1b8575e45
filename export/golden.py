"""A public test vector of the original weights, replayed by a bundle alone: no torch, no reference.

The format is that of onnxruntime/mobius, ``testdata/golden/vision-language``: ``NAME.json`` holds the prompt's token ids
and the last token's logits, ``NAME_generation.json`` beside it the prompt's words and the greedy answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from edge.errors import CheckpointError
from export.parity import EXACT, columns, kl_divergence

SCHEMA: Final = "edgeclip.golden/1"
LIMIT: Final = (
    2e-2  # of the largest logit, for float32: the picture was scaled by another library's bicubic filter
)


def _hexadecimal(value: object) -> object:
    return float.fromhex(value) if isinstance(value, str) else value


Hex = Annotated[float, BeforeValidator(_hexadecimal)]
TokenId = Annotated[int, Field(ge=0)]


class _Logits(BaseModel):
    model_config = ConfigDict(extra="ignore")

    input_ids: Annotated[list[TokenId], Field(min_length=1)]
    top10_ids: Annotated[list[TokenId], Field(min_length=2)]
    top10_logits: list[Hex]
    logits_summary: Annotated[list[Hex], Field(min_length=4, max_length=4)]


class _Generation(BaseModel):
    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    model_id: str
    prompt: str
    generated_tokens: Annotated[list[TokenId], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Golden:
    """One vector.

    Attributes:
        model_id: The hub id that it was made from.
        prompt: The words beside the picture.
        input_ids: int64, shape (T,).
        top_ids: int64, shape (10,): the likeliest tokens after the prompt, best first.
        top_logits: float64, shape (10,).
        summary: Maximum, minimum, mean and standard deviation over all rows of the head.
        answer: The greedy answer.
    """

    model_id: str
    prompt: str
    input_ids: NDArray[np.int64]
    top_ids: NDArray[np.int64]
    top_logits: NDArray[np.float64]
    summary: tuple[float, float, float, float]
    answer: tuple[int, ...]

    @property
    def scale(self) -> float:
        """The largest absolute logit."""
        return max(abs(self.summary[0]), abs(self.summary[1]))


@dataclass(frozen=True, slots=True)
class Replay:
    """What a bundle made of a vector.

    Attributes:
        model_id: The vector's model.
        first_difference: Index of the first token id of the prompt that differs, or None.
        expected_id: The vector's id there; None past its end.
        found_id: Ours there; None past our end.
        logit_error: Largest difference of the ten logits, as a fraction of the largest logit of all.
        summary_error: The same for the four figures of the summary.
        kl: KL(vector || bundle) over its ten tokens alone, nats.
        top1: Whether the first choice is the same.
        top10: Fraction of the ten that are among our ten.
        tokens: Length of the vector's answer.
        equal: Length of the common prefix of both answers.
        near_tie: They part where our logits of those two tokens differ by less than `EXACT` of the largest.
    """

    model_id: str
    first_difference: int | None
    expected_id: int | None
    found_id: int | None
    logit_error: float
    summary_error: float
    kl: float
    top1: bool
    top10: float
    tokens: int
    equal: int
    near_tie: bool


def read_golden(path: Path) -> Golden:
    """Read a vector and the generation file beside it.

    Raises:
        CheckpointError: One of the files is missing or has another format.
    """
    beside = path.with_name(f"{path.stem}_generation.json")
    try:
        logits = _Logits.model_validate(json.loads(path.read_bytes()))
        generation = _Generation.model_validate(json.loads(beside.read_bytes()))
        if len(logits.top10_ids) != len(logits.top10_logits):
            raise ValueError("top10_ids and top10_logits differ in length")  # noqa: TRY301 - one translation for all
    except (OSError, ValueError, ValidationError) as error:
        raise CheckpointError(
            f"{path} and {beside.name} are not a golden vector",
            evidence=str(error).splitlines()[:3],
            next_step="Download both files; export/README.md says from where.",
        ) from error
    highest, lowest, mean, deviation = logits.logits_summary
    return Golden(
        generation.model_id,
        generation.prompt,
        np.asarray(logits.input_ids, np.int64),
        np.asarray(logits.top10_ids, np.int64),
        np.asarray(logits.top10_logits, np.float64),
        (highest, lowest, mean, deviation),
        tuple(generation.generated_tokens),
    )


def compare(golden: Golden, ids: NDArray[np.int64], logits: NDArray[np.float32], used: int) -> Replay:
    """Compare a vector with what the bundle gave.

    Args:
        golden: The vector.
        ids: Our prompt, shape (T,).
        logits: Ours after it and after each further token of the vector's answer but the last, shape (n, V), n tokens in
            the answer. The first token that is not our first choice is where a greedy answer of ours parts.
        used: Rows of the head that tokens use; padding is never chosen.
    """
    first = _first_difference(golden.input_ids.tolist(), ids.tolist())
    exact = logits[0].astype(np.float64)
    ours = exact[golden.top_ids]
    summary = np.array([exact.max(), exact.min(), exact.mean(), exact.std()])
    best = np.argsort(-exact, kind="stable")[: len(golden.top_ids)]
    chosen = logits[:, :used].argmax(-1)
    parts = _first_difference(golden.answer, chosen.tolist())
    equal = len(golden.answer) if parts is None else parts
    tie = False
    if parts is not None:
        row = logits[parts]
        tie = bool(row[chosen[parts]] - row[golden.answer[parts]] < EXACT * np.abs(row).max())
    return Replay(
        model_id=golden.model_id,
        first_difference=first,
        expected_id=_at(golden.input_ids.tolist(), first),
        found_id=_at(ids.tolist(), first),
        logit_error=float(np.abs(ours - golden.top_logits).max() / golden.scale),
        summary_error=float(np.abs(summary - golden.summary).max() / golden.scale),
        kl=float(kl_divergence(golden.top_logits[None], ours[None])[0]),
        top1=bool(best[0] == golden.top_ids[0]),
        top10=float(np.isin(golden.top_ids, best).mean()),
        tokens=len(golden.answer),
        equal=equal,
        near_tie=tie,
    )


def table(replay: Replay, device: Replay) -> str:
    """Return both replays for a reader, side by side."""
    rows = [("", "as transformers scales", "as the device scales")]
    cells = [_cells(replay), _cells(device)]
    rows += [(name, cells[0][name], cells[1][name]) for name in cells[0]]
    return columns(rows)


def _cells(replay: Replay) -> dict[str, str]:
    same = replay.first_difference is None
    return {
        "prompt ids": "same" if same else f"differ at {replay.first_difference}",
        "top-10 logits, largest error": f"{replay.logit_error:.1e}",
        "max, min, mean, std, largest error": f"{replay.summary_error:.1e}",
        "KL over the top 10": f"{replay.kl:.1e}",
        "first choice": "same" if replay.top1 else "DIFFERS",
        "top 10 in our top 10": f"{replay.top10:.0%}",
        "greedy tokens": f"{replay.equal}/{replay.tokens}" + (" (near tie)" if replay.near_tie else ""),
    }


def dump(replay: Replay, device: Replay, failures: Sequence[str]) -> dict[str, Any]:
    """Return plain data for JSON: the replay that was judged, and the same with the device's own filter."""
    passed = not failures
    return {
        "schema": SCHEMA,
        "passed": passed,
        "failures": list(failures),
        **asdict(replay),
        "device": asdict(device),
    }


def failures(replay: Replay, *, exact: bool, max_kl: float | None) -> list[str]:
    """Say what is out of tolerance; logits and answer of a quantised bundle are reported and held to ``max_kl`` alone."""
    found = []
    if replay.first_difference is not None:
        found.append(
            f"prompt id {replay.first_difference} is {replay.found_id}, the vector says {replay.expected_id}: "
            "is this the vector's picture, and a bundle of its model?"
        )
    if exact:
        for name, error in (("top-10 logits", replay.logit_error), ("logits' summary", replay.summary_error)):
            if not error <= EXACT:
                found.append(f"the {name} differ by {error:.1e} of the largest logit, more than {EXACT:g}")
        if not replay.top1:
            found.append("the first choice differs")
        if replay.equal < replay.tokens and not replay.near_tie:
            found.append(f"the greedy answers part at token {replay.equal}, where there is no near tie")
    if max_kl is not None and not replay.kl <= max_kl:
        found.append(f"KL over the top 10 is {replay.kl:.2e} nats, more than --max-kl {max_kl:g}")
    return found


def _first_difference(expected: Sequence[int], found: Sequence[int]) -> int | None:
    for i in range(max(len(expected), len(found))):
        if _at(expected, i) != _at(found, i):
            return i
    return None


def _at(values: Sequence[int], index: int | None) -> int | None:
    return values[index] if index is not None and index < len(values) else None
