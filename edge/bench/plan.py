"""What `edge bench --plan` says: the seconds a clip should take on each device, at each rung, and where it would start.

Everything is counted in the bundle's graphs and divided by the speeds of `edge.host.devices`; nothing is run. What has
been measured on this machine with this bundle (by `edge bench`, `edge summarize` or the service) stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from edge.answer.text import plain
from edge.bench.report import ANSWER_TOKENS, QUESTION_TOKENS, BenchReport, Rate
from edge.config import DEFAULT_PROMPTS, GovernorSettings, cache_directory
from edge.host import budget
from edge.host.budget import Costs, Need, allot, clip_s
from edge.host.devices import JETSON_ORIN_NANO, RASPBERRY_PI_5, Device, this_device
from edge.host.energy import estimated_j
from edge.host.governor import RUNGS, SHORT
from edge.messages import Message
from edge.model.bundle import open_bundle
from edge.model.census import census
from edge.model.layout import merged_grid, timestamp
from edge.model.manifest import TOKENIZER
from edge.model.preprocess import video_size
from edge.model.tokenizer import Tokenizer
from edge.records import Census, Size

SOURCE = Size(480, 640)
KEPT = (1.0, 0.2)  # everything moves; a quiet scene behind the gate
ANSWERS = len(DEFAULT_PROMPTS)


class Scene(Message):
    """One clip of a scene of which the gate lets a share ``kept`` through.

    Attributes:
        kept: Share of the pairs.
        vision, prefill, text: Seconds of work at the top rung.
        per_second: Seconds of work per second of video of all cameras, at each rung that looks at every clip.
        start: The best rung whose work fits; None: none does, and clips are skipped.
        start_name: Its name.
        after_end: From a clip's end to its first answer, at that rung.
        joules: Of the whole device for one clip, at that rung, by its profile.
    """

    kept: float
    vision: float
    prefill: float
    text: float
    per_second: tuple[float, ...]
    start: int | None
    start_name: str
    after_end: float
    joules: float


class DevicePlan(Message):
    """One device; ``basis`` says whether its costs were predicted from counts or measured."""

    device: str
    basis: Literal["predicted", "measured"]
    scenes: tuple[Scene, ...]


class Counted(Message):
    """What is counted in the graphs: billions of operations (a multiply-add is two), and millions of bytes."""

    cells_per_pair: int
    pair_gops: float
    token_gops: float
    token_gops_per_1000_before: float
    word_mb: float
    word_mb_per_1000_before: float


class PlanReport(Message):
    """The JSON line that ``edge bench --plan`` prints last. Schema ``edgeclip.plan/1``."""

    schema_: Literal["edgeclip.plan/1"] = Field("edgeclip.plan/1", alias="schema")
    model: str
    recipe: str
    bundle: str
    seconds: float
    fps: float
    cameras: int
    width: int
    height: int
    pairs: int
    tokens: int
    work: float
    rungs: tuple[str, ...]
    counted: Counted
    devices: tuple[DevicePlan, ...]


def plan(path: Path, *, seconds: float, fps: float, cameras: int = 1, threads: int = 0) -> PlanReport:
    """Plan for the known devices and this one.

    Args:
        path: The bundle.
        seconds: Length of a clip.
        fps: Ticks per second.
        cameras: How many share the device.
        threads: Of the model, as it would run here; 0: one per core.

    Raises:
        BundleError: The bundle cannot be used.
    """
    bundle = open_bundle(path, cache=cache_directory())
    manifest = bundle.manifest
    ticks = round(seconds * fps)
    size = video_size(SOURCE, ticks, manifest.video_pixels, manifest.vision)
    rows, columns = merged_grid(size, manifest)
    tokenizer = Tokenizer(bundle.path / TOKENIZER, manifest.tokens)
    pairs = -(-ticks // 2)
    stamps = sum(len(tokenizer.encode(timestamp((2 * n + 0.5) / fps, manifest))) + 2 for n in range(pairs))
    tokens = pairs * rows * columns + stamps
    counted = census(bundle)
    work = GovernorSettings().work
    here = this_device()
    found: list[DevicePlan] = []
    for name, device in (
        ("Raspberry Pi 5", RASPBERRY_PI_5),
        ("Jetson Orin Nano", JETSON_ORIN_NANO),
        ("this machine", here),
    ):
        costs = budget.predicted(counted, device, cells=rows * columns, pair_tokens=stamps / pairs)
        choices: list[tuple[Literal["predicted", "measured"], Costs]] = [("predicted", costs)]
        if name == "this machine":
            known = budget.load(
                budget.costs_file(cache_directory()), budget.key(bundle.hash, device, threads)
            )
            choices += [("measured", known)] if known else []
        for basis, chosen in choices:
            scenes = tuple(
                _scene(
                    chosen, device, kept, pairs, rows * columns, seconds=seconds, cameras=cameras, work=work
                )
                for kept in KEPT
            )
            found.append(DevicePlan(device=name, basis=basis, scenes=scenes))
    return PlanReport(
        model=manifest.model.id,
        recipe=manifest.recipe.name,
        bundle=bundle.hash,
        seconds=seconds,
        fps=fps,
        cameras=cameras,
        width=size.width,
        height=size.height,
        pairs=pairs,
        tokens=tokens,
        work=work,
        rungs=tuple(rung.name for rung in RUNGS[: SHORT + 1]),
        counted=_counted(counted, rows * columns),
        devices=tuple(found),
    )


def learnt(report: BenchReport, *, pair_tokens: float = 10.0) -> Costs:
    """Return the costs that a benchmark has measured, for the governor."""
    token_s, word_s = (1 / rates[0].tokens_per_s for rates in (report.prefill, report.decode))
    return Costs(
        cell_s=1 / (report.vision.pairs_per_s * report.vision.tokens_per_pair),
        token_s=token_s,
        bend=_bend(report.prefill),
        word_s=word_s,
        word_bend=_bend(report.decode),
        pair_tokens=pair_tokens,
        clips=1,
    )


def keep(report: BenchReport, *, threads: int) -> None:
    """Keep what a benchmark has measured for the governor's next start."""
    budget.save(
        budget.costs_file(cache_directory()),
        budget.key(report.bundle, this_device(), threads),
        learnt(report),
    )


def _bend(rates: Sequence[Rate]) -> float:
    """Return by how much a token costs more per token before it; measured from an empty context on."""
    first, last = rates[0], rates[-1]
    return max(0.0, first.tokens_per_s / last.tokens_per_s - 1) / (last.depth or 1)


def _scene(
    costs: Costs,
    device: Device,
    kept: float,
    pairs: int,
    cells: int,
    *,
    seconds: float,
    cameras: int,
    work: float,
) -> Scene:
    need = Need(
        kept=kept * pairs,
        grid=pairs,
        cells=cells,
        words=ANSWERS * ANSWER_TOKENS,
        asked=ANSWERS * QUESTION_TOKENS,
    )
    prices = [clip_s(costs, need, rung) for rung in RUNGS[: SHORT + 1]]
    rung = max(allot(costs, {str(n): need for n in range(cameras)}, work * seconds).values())
    fits = cameras * prices[rung] <= work * seconds or any(
        cameras * price <= work * seconds for price in prices
    )
    shown = need.pairs(RUNGS[0])
    tokens = shown * (cells + costs.pair_tokens)
    behind = need.pairs(RUNGS[rung]) * (RUNGS[rung].area * cells + costs.pair_tokens)
    question_s = costs.prefill_s(behind + QUESTION_TOKENS) - costs.prefill_s(behind)
    answer_s = costs.words_s(RUNGS[rung].tokens * ANSWER_TOKENS, behind)
    return Scene(
        kept=kept,
        vision=round(shown * cells * costs.cell_s, 2),
        prefill=round(costs.prefill_s(tokens + need.asked), 2),
        text=round(costs.words_s(need.words, tokens), 2),
        per_second=tuple(round(cameras * price / seconds, 3) for price in prices),
        start=rung if fits else None,
        start_name=RUNGS[rung].name if fits else "skips clips",
        after_end=round(question_s + answer_s, 1),
        joules=round(estimated_j(device, wall_s=seconds, cpu_s=device.cores * min(prices[rung], seconds)), 0),
    )


def _counted(found: Census, cells: int) -> Counted:
    pair = cells * (
        found.cell_block_ops + found.cell_row_ops + found.cell_float_ops + cells * found.cells_float_ops
    )
    return Counted(
        cells_per_pair=cells,
        pair_gops=round(pair / 1e9, 3),
        token_gops=round((found.token_block_ops + found.token_row_ops + found.token_float_ops) / 1e9, 4),
        token_gops_per_1000_before=round(1000 * found.context_float_ops / 1e9, 4),
        word_mb=round(found.word_bytes / 1e6, 2),
        word_mb_per_1000_before=round(1000 * found.context_bytes / 1e6, 3),
    )


def render(report: PlanReport) -> str:
    """Return the table for a person."""
    return "\n".join(_lines(report))


def _lines(report: PlanReport) -> Iterator[str]:
    counted = report.counted
    yield f"{plain(report.model)}, {plain(report.recipe)}, bundle {report.bundle[:12]}"
    yield (
        f"a pair of frames takes {counted.pair_gops:g} billion operations, a token {counted.token_gops:g} and "
        f"{counted.token_gops_per_1000_before:g} more per 1,000 tokens before it;"
    )
    yield (
        f"a word reads {counted.word_mb:,g} MB and {counted.word_mb_per_1000_before:g} more per 1,000 tokens before it"
    )
    yield ""
    cameras = "a camera" if report.cameras == 1 else f"{report.cameras} cameras"
    yield (
        f"{report.seconds:g} s at {report.fps:g} FPS of {cameras}, shown at {report.width} x {report.height}: "
        f"{report.pairs} pairs, {report.tokens:,} tokens; {ANSWERS} answers of {ANSWER_TOKENS} tokens"
    )
    yield f"seconds of work per second of video; a device starts at the best rung that leaves it at most {report.work:g}"
    shown = [n for n, name in enumerate(report.rungs) if name not in ("gate raised", "gate high")]
    for at, kept in enumerate(KEPT):
        yield ""
        yield f"{'everything moves' if kept == 1 else f'the gate keeps {kept:.0%} of the pairs'}:"
        yield f"{'':<30}" + "".join(f"{report.rungs[n]:>15}" for n in shown) + "   starts at"
        for device in report.devices:
            yield _row(device, device.scenes[at], shown)


def _row(device: DevicePlan, scene: Scene, shown: Sequence[int]) -> str:
    rates = "".join(f"{scene.per_second[n]:>15.2f}" for n in shown)
    start = scene.start_name if scene.start is None else f"{scene.start} ({scene.start_name})"
    return f"{device.device + ', ' + device.basis:<30}{rates}   {start}, {scene.joules:.0f} J a clip"


def plan_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a `PlanReport`, as it is serialised."""
    schema = PlanReport.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
