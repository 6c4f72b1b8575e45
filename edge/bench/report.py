"""What `edge bench` says: measured rates, what a clip would take by them, and both as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import Field

from edge.answer.text import plain
from edge.messages import Message

ANSWER_TOKENS = 150
"""Tokens of one answer in the estimate: two sentences and a few events or boxes."""

QUESTION_TOKENS = 130
"""Tokens of one question in the estimate; the default ones have 105 and 136 in the real vocabulary."""


class Machine(Message):
    """Where it was measured; ``memory_mib`` is the machine's own, ``threads`` those of the model."""

    processor: str
    cores: int
    threads: int
    memory_mib: int


class Load(Message):
    """Seconds until the bundle is checked and the sessions stand, and until the first token of an answer."""

    ready: float
    first_token: float


class VisionRate(Message):
    """Frame pairs encoded per second, at one size; median and slowest of the repetitions."""

    width: int
    height: int
    tokens_per_pair: int
    pairs_per_s: float
    slowest: float


class Rate(Message):
    """Tokens per second behind a context of ``depth`` tokens; median and slowest of the repetitions."""

    depth: int
    tokens_per_s: float
    slowest: float


class Clip(Message):
    """What one clip would take, from the rates above; nothing dropped, two answers.

    Attributes:
        seconds: Its length.
        pairs: Frame pairs in it.
        tokens: Tokens of the clip, before any question.
        vision, prefill, text: Seconds of work.
        per_second: Seconds of work per second of video: below 1 the machine keeps up.
        after_end: From the last frame to the first answer where the rest was done while the clip was recorded.
    """

    seconds: float
    pairs: int
    tokens: int
    vision: float
    prefill: float
    text: float
    per_second: float
    after_end: float


class BenchMemory(Message):
    """Peak of this run, which held a whole clip's context; ``anonymous`` leaves out what lies in files."""

    peak_mib: float
    anonymous_mib: float


class BenchReport(Message):
    """The JSON line that ``edge bench`` prints last. Schema ``edgeclip.bench/1``.

    Attributes:
        answer: An answer under its grammar, forced tokens included, behind the longest context.
        fork_ms: Milliseconds to mark a point and to return to it.
    """

    schema_: Literal["edgeclip.bench/1"] = Field("edgeclip.bench/1", alias="schema")
    machine: Machine
    model: str
    recipe: str
    bundle: str
    repeat: int
    load: Load
    vision: VisionRate
    prefill: tuple[Rate, ...]
    decode: tuple[Rate, ...]
    answer: Rate
    fork_ms: float
    clip: Clip
    memory: BenchMemory


def token_seconds(rates: Sequence[Rate], start: int, count: int) -> float:
    """Return what ``count`` tokens take from depth ``start`` on.

    The seconds of one token lie on straight lines between the measured depths, which is how attention grows, and go on
    along the last line behind them.

    Args:
        rates: Measured, at ascending depths, at least one.
        start: Tokens in the context before the first.
        count: How many follow.
    """
    if len(rates) == 1:
        return count / rates[0].tokens_per_s
    # The mean over the run, piece by piece; 64 pieces are exact enough for lines with so few corners.
    pieces = 64
    return sum(
        _one_token(rates, start + (piece + 0.5) * count / pieces) * count / pieces for piece in range(pieces)
    )


def _one_token(rates: Sequence[Rate], depth: float) -> float:
    at = next((i for i in range(1, len(rates) - 1) if depth < rates[i].depth), len(rates) - 1)
    low, high = rates[at - 1], rates[at]
    share = (depth - low.depth) / (high.depth - low.depth)
    first, second = 1 / low.tokens_per_s, 1 / high.tokens_per_s
    return max(first + share * (second - first), min(first, second) / 2)


def estimate(
    vision: VisionRate,
    prefill: Sequence[Rate],
    decode: Sequence[Rate],
    *,
    seconds: float,
    pairs: int,
    tokens: int,
    answers: int = 2,
    answer_tokens: int = ANSWER_TOKENS,
) -> Clip:
    """Return what one clip would take.

    Args:
        vision: Measured at the clip's frame size.
        prefill: Measured, at ascending depths.
        decode: As ``prefill``.
        seconds: Length of the clip.
        pairs: Frame pairs shown to the model.
        tokens: Their tokens, timestamps included.
        answers: Questions asked of it.
        answer_tokens: Tokens of each answer.
    """
    vision_s = pairs / vision.pairs_per_s
    prefill_s = token_seconds(prefill, 0, tokens)
    question_s = token_seconds(prefill, tokens, QUESTION_TOKENS)
    answer_s = token_seconds(decode, tokens + QUESTION_TOKENS, answer_tokens)
    rest_s = (vision_s + prefill_s) / max(1, pairs)  # of the last pair
    return Clip(
        seconds=seconds,
        pairs=pairs,
        tokens=tokens,
        vision=round(vision_s, 2),
        prefill=round(prefill_s + answers * question_s, 2),
        text=round(answers * answer_s, 2),
        per_second=round((vision_s + prefill_s + answers * (question_s + answer_s)) / seconds, 3),
        after_end=round(rest_s + question_s + answer_s, 2),
    )


def render(report: BenchReport) -> str:
    """Return the table for a person."""
    return "\n".join(_lines(report))


def _lines(report: BenchReport) -> Iterator[str]:
    machine, clip, vision, memory = report.machine, report.clip, report.vision, report.memory

    def line(what: str, where: str, value: str, rest: str = "") -> str:
        return f"{what:<10}{where:<20}{value:>22}{rest and '   ' + rest}"

    yield f"{plain(machine.processor)}, {machine.threads} of {machine.cores} cores, {machine.memory_mib:,} MiB"
    yield f"{plain(report.model)}, {plain(report.recipe)}, bundle {report.bundle[:12]}"
    yield ""
    yield line("load", "sessions", f"{report.load.ready:.1f} s")
    yield line("", "first token", f"{report.load.first_token:.1f} s")
    where = f"{vision.width} x {vision.height}"
    yield line("vision", where, f"{vision.pairs_per_s:.1f} pairs/s", f"slowest {vision.slowest:.1f}")
    for name, rates in (("prefill", report.prefill), ("decode", report.decode), ("answer", (report.answer,))):
        for at, rate in enumerate(rates):
            yield line(
                "" if at else name,
                f"at {rate.depth:,} tokens",
                f"{rate.tokens_per_s:.1f} tokens/s",
                f"slowest {rate.slowest:.1f}",
            )
    yield line("fork", "and return", f"{report.fork_ms:.1f} ms")
    yield line("memory", "peak", f"{memory.peak_mib:,.0f} MiB", f"{memory.anonymous_mib:,.0f} anonymous")
    yield ""
    yield (
        f"A clip of {clip.seconds:g} s, {clip.pairs} pairs, {clip.tokens:,} tokens, two answers of {ANSWER_TOKENS} tokens: "
        f"{clip.vision + clip.prefill + clip.text:.0f} s of work"
    )
    yield (
        f"(vision {clip.vision:.0f}, prefill {clip.prefill:.0f}, text {clip.text:.0f}), "
        f"{clip.per_second:.2f} s per second of video: "
        + (
            f"it keeps up; the first answer comes some {clip.after_end:.0f} s after the last frame."
            if clip.per_second <= 1
            else f"it keeps up with one clip in {clip.per_second:.1f}."
        )
    )


def bench_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a `BenchReport`, as it is serialised."""
    schema = BenchReport.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
