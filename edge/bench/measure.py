"""Measures a bundle on this machine: every stage by itself, at the depths that a clip reaches, on noise."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge.answer.prompts import prompt_from
from edge.answer.schema import model_schema
from edge.bench.report import (
    ANSWER_TOKENS,
    BenchMemory,
    BenchReport,
    Load,
    Machine,
    Rate,
    VisionRate,
    estimate,
)
from edge.config import DEFAULT_PROMPTS, cache_directory
from edge.errors import ContextFullError
from edge.host.sensors import AnonymousPeak, peak_rss_mib
from edge.model.bundle import open_bundle
from edge.model.engine import RESERVE_TOKENS, Engine, Fork
from edge.model.layout import clip_rows, merged_grid, timestamp
from edge.model.sessions import physical_cores
from edge.records import Size

if TYPE_CHECKING:
    from edge.model.decoder import Arena
    from edge.shell import Watcher

SOURCE = Size(480, 640)  # a camera's pictures; the model's size follows from it and the clip's length
PREFILL_TOKENS = 512
DECODE_TOKENS = 32
VISION_PAIRS = 8
DEPTHS = (0, 4096, 8192)  # and the end of the clip


@dataclass(frozen=True, slots=True)
class Workload:
    """What is measured.

    Attributes:
        bundle: Directory of the bundle.
        seconds: Length of the clips.
        fps: Ticks per second; together with ``seconds`` an even number of ticks.
        threads: Threads of the model; 0 means one per physical core.
        repeat: Measurements of each figure, of which the median counts.
    """

    bundle: Path
    seconds: float = 60.0
    fps: float = 8.0
    threads: int = 0
    repeat: int = 3


def measure(work: Workload, watcher: Watcher) -> BenchReport:
    """Measure every stage.

    A context is made deep by noise in its cache: what attention costs depends on the number of its rows alone.

    Raises:
        BundleError: The bundle cannot be used.
        ContextFullError: Such a clip does not fit the model's context.
        ModelError: The engine failed.
    """
    memory = AnonymousPeak()
    watcher.begin("load", None)
    begun = time.perf_counter()
    bundle = open_bundle(work.bundle, cache=cache_directory())
    manifest = bundle.manifest
    ticks = round(work.seconds * work.fps)
    with Engine(bundle, threads=work.threads, cache=cache_directory()) as engine:
        ready_s = time.perf_counter() - begun
        size = engine.frame_size(SOURCE, ticks)
        first_token_s = _first_token(engine, size) - begun
        memory.sample()
        watcher.begin("vision", work.repeat)
        vision = measure_vision(engine, size, repeat=work.repeat, step=watcher.step)
        memory.sample()
        rows = clip_rows(size, ticks, manifest, engine.tokenizer) + RESERVE_TOKENS
        if rows > manifest.text.context:
            raise ContextFullError(
                "such a clip does not fit the model's context",
                evidence=[f"{rows} tokens, the model's context: {manifest.text.context}"],
                next_step="Give fewer --seconds or --fps.",
            )
        arena = engine.parts.decoder.arena(rows)
        tokens = _clip_tokens(engine, size, ticks, work.fps)
        last = max(0, tokens - PREFILL_TOKENS)
        depths = [*(depth for depth in DEPTHS if depth < last), last]
        prefill, decode = [], []
        watcher.begin("tokens", len(depths))
        for done, depth in enumerate(depths):
            arena.pad(depth - arena.length)
            prefill.append(measure_prefill(engine, arena, repeat=work.repeat))
            decode.append(measure_decode(engine, arena, repeat=work.repeat))
            memory.sample()
            watcher.step(done + 1)
        watcher.begin("answers", work.repeat)
        answer = measure_answer(engine, arena, repeat=work.repeat, step=watcher.step)
        fork_ms = measure_fork(arena, repeat=work.repeat)
        memory.sample()
    model = manifest.model
    return BenchReport(
        machine=Machine(
            processor=_processor(),
            cores=physical_cores(),
            threads=work.threads or physical_cores(),
            memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        ),
        model=f"{model.id}@{model.revision}" if model.revision else model.id,
        recipe=manifest.recipe.name,
        bundle=bundle.hash,
        repeat=work.repeat,
        load=Load(ready=round(ready_s, 3), first_token=round(first_token_s, 3)),
        vision=vision,
        prefill=tuple(prefill),
        decode=tuple(decode),
        answer=answer,
        fork_ms=round(fork_ms, 2),
        clip=estimate(vision, prefill, decode, seconds=work.seconds, pairs=-(-ticks // 2), tokens=tokens),
        memory=BenchMemory(peak_mib=round(peak_rss_mib(), 1), anonymous_mib=round(memory.peak_mib, 1)),
    )


def measure_vision(
    engine: Engine, size: Size, *, repeat: int, step: Callable[[int], None] = lambda _done: None
) -> VisionRate:
    """Encode pairs of frames of one size, in the batches that a clip's are encoded in."""
    tower = engine.parts.vision
    batch = tower.batch(size)
    count = max(1, VISION_PAIRS // batch) * batch
    frames = np.random.default_rng(0).integers(0, 256, (count, 2, size.height, size.width, 3), np.uint8)
    tower.encode(frames[:batch])  # the first run of a size makes its tables
    rates = []
    for done in range(repeat):
        with _timed() as seconds:
            for at in range(0, count, batch):
                tower.encode(frames[at : at + batch])
        rates.append(count / seconds[0])
        step(done + 1)
    rows, columns = merged_grid(size, engine.bundle.manifest)
    return VisionRate(
        width=size.width,
        height=size.height,
        tokens_per_pair=rows * columns,
        pairs_per_s=round(statistics.median(rates), 3),
        slowest=round(min(rates), 3),
    )


def measure_prefill(engine: Engine, arena: Arena, *, repeat: int) -> Rate:
    """Append `PREFILL_TOKENS` tokens at the arena's present depth; it is left as it was."""
    rng = np.random.default_rng(0)
    hidden = engine.bundle.manifest.text.hidden
    # The size of real embeddings matters little; that they are no zeros does.
    embeds = rng.normal(scale=0.02, size=(PREFILL_TOKENS, hidden)).astype(np.float32)
    positions = np.broadcast_to(arena.next_pos + np.arange(PREFILL_TOKENS), (3, PREFILL_TOKENS))
    mark = arena.mark()
    rates = []
    for run in range(repeat + 1):
        with _timed() as seconds:
            arena.prefill(embeds, positions, arena.next_pos + PREFILL_TOKENS)
        arena.rewind(mark)
        if run:  # the first one warms up
            rates.append(PREFILL_TOKENS / seconds[0])
    return _rate(arena.length, rates)


def measure_decode(engine: Engine, arena: Arena, *, repeat: int) -> Rate:
    """Append `DECODE_TOKENS` given tokens one by one, logits included; the arena is left as it was."""
    ids = np.random.default_rng(0).integers(0, engine.tokenizer.size, DECODE_TOKENS).tolist()
    mark = arena.mark()
    rates = []
    for run in range(repeat + 1):
        with _timed() as seconds:
            for token in ids:
                arena.step(token)
        arena.rewind(mark)
        if run:
            rates.append(DECODE_TOKENS / seconds[0])
    return _rate(arena.length, rates)


def measure_answer(
    engine: Engine, arena: Arena, *, repeat: int, step: Callable[[int], None] = lambda _done: None
) -> Rate:
    """Write the default summary under its grammar, with a budget of `ANSWER_TOKENS`, at the arena's present depth."""
    fork = Fork(engine.parts, arena, arena.mark(), "")
    summary = prompt_from(DEFAULT_PROMPTS[0])
    schema = model_schema(summary.kind)
    rates = []
    for done in range(repeat):
        reply = fork.ask(summary.text, schema=schema, max_tokens=ANSWER_TOKENS)
        rates.append(len(reply.tokens) / reply.decode_s)
        step(done + 1)
    return _rate(fork.tokens, rates)


def measure_fork(arena: Arena, *, repeat: int) -> float:
    """Return the milliseconds that marking a point and returning to it take."""
    taken = []
    for _ in range(repeat):
        with _timed() as seconds:
            arena.rewind(arena.mark())
        taken.append(1000 * seconds[0])
    return statistics.median(taken)


def _first_token(engine: Engine, size: Size) -> float:
    """Return the moment of the first token of an answer under a grammar, of an empty clip."""
    moments: list[float] = []
    with engine.stream(size, 2) as stream:
        stream.fork().ask(
            "Hello?",
            schema=model_schema("ask"),
            max_tokens=1,
            on_token=lambda _token: moments.append(time.perf_counter()),
        )
    return moments[0]


def _clip_tokens(engine: Engine, size: Size, ticks: int, fps: float) -> int:
    """Return how many tokens a full clip has before any question."""
    manifest = engine.bundle.manifest
    rows, columns = merged_grid(size, manifest)
    text = manifest.prompt.user_open
    count = 0
    for pair in range(-(-ticks // 2)):
        count += len(engine.tokenizer.encode(text + timestamp((2 * pair + 0.5) / fps, manifest)))
        count += rows * columns + 2
        text = ""
    return count


def _rate(depth: int, rates: list[float]) -> Rate:
    return Rate(depth=depth, tokens_per_s=round(statistics.median(rates), 2), slowest=round(min(rates), 2))


@contextmanager
def _timed() -> Iterator[list[float]]:
    """Yield a list that holds the block's seconds after it."""
    seconds: list[float] = []
    begun = time.perf_counter()
    yield seconds
    seconds.append(time.perf_counter() - begun)


def _processor() -> str:
    """Return the processor's name: of /proc/cpuinfo on x86, of the device tree on ARM boards."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
        return Path("/proc/device-tree/model").read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return os.uname().machine
