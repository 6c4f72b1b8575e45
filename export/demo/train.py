"""Trains the demo model on the synthetic world. `python -m export.demo.train OUT --stage a --hours 2 [--resume]`.

OUT holds ``checkpoint/`` (what `edge-export convert` takes), ``layout/`` (manifest and tokenizer, so that training sees
what the engine feeds), ``state.pt`` (to go on from) and ``curve.jsonl``. SIGTERM saves and ends; a second one is not waited
for. Every clip follows from the seed and the step alone.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from types import FrameType
from typing import Any, Final

import numpy as np

from edge.demo.world import Stage
from edge.errors import CheckpointError, EdgeError
from edge.model.manifest import MANIFEST, TOKENIZER
from export.convert import convert
from export.demo import batches, network, schedule
from export.demo.batches import Batch, Source
from export.demo.lessons import texts
from export.recipes import load_recipe

_BETAS: Final = (0.9, 0.98)
_DECAY: Final = 0.01
_CLIP: Final = 1.0  # largest norm of a step's gradient
_TEXT_CLIPS: Final = 240  # whose words the tokenizer is trained on
_ORDER: Final = 5  # second part of the seed of each step's plan, apart from the clips' seeds


@dataclass(frozen=True, slots=True)
class Settings:
    """What a training is; saved with it, and compared when it goes on.

    Attributes:
        stage: ``a``, ``b`` or ``c``.
        size: Name in `network.SIZES`.
        seed: Of everything.
        tokens: About so many tokens a step.
        peak: Highest learning rate.
    """

    stage: Stage = "a"
    size: str = "small"
    seed: int = 1
    tokens: int = 4096
    peak: float = schedule.PEAK


@dataclass(frozen=True, slots=True)
class Budget:
    """How long: so many steps, or so many hours of this process and those before it."""

    steps: int | None = None
    hours: float | None = None

    def share(self, step: int, seconds: float) -> float:
        """Return how much of it is used up, 0..1."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        return min(1.0, seconds / (3600 * (self.hours or 1.0)))


class Trainer:
    """One training.

    Args:
        out: Its directory.
        settings: What it is.
        budget: How long it is in all.
        resume: Go on from ``state.pt``.
        start: A checkpoint to begin with instead of random weights; it brings its tokenizer.
        device: ``cpu`` or ``cuda``.
        workers: Processes that draw clips; 0 draws them in this one.

    Raises:
        CheckpointError: OUT holds a training and ``resume`` is not given, or another one than ``settings`` say.
    """

    def __init__(
        self,
        out: Path,
        settings: Settings,
        budget: Budget,
        *,
        resume: bool = False,
        start: Path | None = None,
        device: str = "cpu",
        workers: int = 0,
    ) -> None:
        import torch

        from export.demo.losses import cell_head

        self.out = out
        self.settings = settings
        self.budget = budget
        self.step = 0
        self.seconds = 0.0
        self._torch = torch
        self._device = device
        self._workers = workers
        self._stopping = False
        self._state = out / "state.pt"
        if self._state.exists() != resume:
            raise CheckpointError(
                f"{out} holds {'no' if resume else 'a'} training already begun",
                next_step="Leave --resume out."
                if resume
                else "Give --resume to go on, or another directory.",
            )
        if not resume:
            prepare(out, settings, start)
        self.model = network.build(out / "checkpoint", settings.seed)
        network.load(self.model, out / "checkpoint")
        self.head = cell_head(self.model.config.text_config.hidden_size, settings.seed)
        self.model.to(device).train()
        self.head.to(device)
        self._parameters = [*self.model.parameters(), *self.head.parameters()]
        self._optimiser = torch.optim.AdamW(
            self._parameters, lr=settings.peak, betas=_BETAS, weight_decay=_DECAY
        )
        if resume:
            self._load()

    @property
    def share(self) -> float:
        """How much of the budget is used up, 0..1."""
        return self.budget.share(self.step, self.seconds)

    def stop(self) -> None:
        """End after this step."""
        self._stopping = True

    def run(
        self,
        *,
        report: Callable[[dict[str, Any]], None] = lambda _line: None,
        report_every: int = 25,
        save_every_s: float = 300.0,
    ) -> None:
        """Train until the budget is used up or `stop` is called; then save, so that it can go on.

        Args:
            report: Told the curve's lines as they are written.
            report_every: Steps between two lines.
            save_every_s: Seconds between two states on the disk.
        """
        if self._done():
            return
        lines: list[dict[str, float]] = []
        clips, began, saved = 0, time.monotonic(), time.monotonic()
        before = self.seconds
        with ExitStack() as stack:
            for plan, batch in self._batches(stack):
                marks = self._learn(batch, plan)
                self.step += 1
                clips += plan.clips
                self.seconds = before + time.monotonic() - began
                lines.append(marks)
                if len(lines) == report_every or self._done():
                    mean = {key: _mean([line[key] for line in lines]) for key in lines[0]}
                    self._report(mean, plan, clips / (self.seconds - before), report)
                    lines = []
                if time.monotonic() - saved > save_every_s:
                    self.save()
                    saved = time.monotonic()
                if self._done():
                    break
        self.save()

    def save(self) -> None:
        """Write the weights for `edge-export convert`, and the state to go on from; each whole or not at all."""
        torch = self._torch
        network.save(self.model, self.out / "checkpoint")
        aside = self._state.with_suffix(".part")
        torch.save(
            {
                "settings": asdict(self.settings),
                "step": self.step,
                "seconds": self.seconds,
                "model": self.model.state_dict(),
                "head": self.head.state_dict(),
                "optimiser": self._optimiser.state_dict(),
            },
            aside,
        )
        aside.replace(self._state)

    def _done(self) -> bool:
        return self._stopping or self.share >= 1.0

    def _load(self) -> None:
        state = self._torch.load(self._state, map_location=self._device, weights_only=True)
        if state["settings"] != asdict(self.settings):
            raise CheckpointError(
                f"{self.out} holds another training",
                evidence=[f"there: {state['settings']}", f"wanted: {asdict(self.settings)}"],
                next_step="Give the options that it was begun with, or another directory.",
            )
        self.model.load_state_dict(state["model"])
        self.head.load_state_dict(state["head"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        curve = self.out / "curve.jsonl"
        if curve.exists():  # what was learnt after the last state is learnt again
            lines = curve.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if json.loads(line)["step"] <= self.step]
            curve.write_text("".join(kept), encoding="utf-8")

    def _learn(self, batch: Batch, plan: schedule.Plan) -> dict[str, float]:
        from export.demo.losses import mark

        torch, speed = self._torch, schedule.rate(self.step, self.share, peak=self.settings.peak)
        for group in self._optimiser.param_groups:
            group["lr"] = speed
        # Products in bfloat16: 1.6 times as fast on a CPU with AVX512-BF16; sums, norms and DeltaNet stay in float32.
        with torch.autocast(self._device, torch.bfloat16):
            marks = mark(self.model, self.head, batch)
        loss = marks.answers + plan.cells * marks.cells
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, _CLIP)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        return {
            "answers": marks.answers.item() if plan.questions else math.nan,
            "cells": marks.cells.item(),
            "tokens": marks.tokens.item(),
            "exact": marks.exact.item(),
            "seen": marks.seen.item(),
            "gradient": norm.item(),
            "rate": speed,
        }

    def _report(
        self,
        mean: dict[str, float | None],
        plan: schedule.Plan,
        clips_s: float,
        report: Callable[[dict[str, Any]], None],
    ) -> None:
        line = {
            "step": self.step,
            "seconds": round(self.seconds, 1),
            "share": round(self.share, 4),
            "pairs": plan.pairs,
            "clips_s": round(clips_s, 3),
            **mean,
        }
        with (self.out / "curve.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        report(line)

    def _plan(self, step: int) -> schedule.Plan:
        rng = np.random.default_rng([self.settings.seed, step, 0, _ORDER])
        share = self.budget.share(step, self.seconds)
        stage = self.settings.stage
        return schedule.plan(stage, share, rng, cells=batches.cells_of(stage), tokens=self.settings.tokens)

    def _batches(self, stack: ExitStack) -> Iterator[tuple[schedule.Plan, Batch]]:
        """Yield each step's batch, drawn ahead by the workers, in order."""
        source = Source(self.out / "layout", self.settings.stage, self.settings.seed)
        step = self.step
        if not self._workers:
            while True:
                plan = self._plan(step)
                yield plan, batches.make(source, step, plan)
                step += 1
        pool = ProcessPoolExecutor(self._workers, get_context("spawn"), initializer=_ignore_signals)
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        ahead: deque[tuple[schedule.Plan, Future[Batch]]] = deque()
        while True:
            while len(ahead) < 2 * self._workers:
                plan = self._plan(step)
                ahead.append((plan, pool.submit(batches.make, source, step, plan)))
                step += 1
            plan, batch = ahead.popleft()
            yield plan, batch.result()


def _mean(values: list[float]) -> float | None:
    """Return the mean of what is a number, None where nothing is: a batch may show nothing at all."""
    known = [value for value in values if not math.isnan(value)]
    return round(sum(known) / len(known), 5) if known else None


def prepare(out: Path, settings: Settings, start: Path | None = None) -> None:
    """Write what a training starts from: the checkpoint's small files, and the layout that the engine has of them.

    The layout is that of a bundle converted from the untrained model, so the converter sees every training's first state.
    """
    directory = out / "checkpoint"
    if start is None:
        words = texts(clips=_TEXT_CLIPS, seed=settings.seed)
        network.write_directory(network.SIZES[settings.size], directory, words)
        network.save(network.build(directory, settings.seed), directory)
    else:
        shutil.copytree(start, directory)
    (out / "layout").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as aside:
        bundle = convert(str(directory), Path(aside) / "bundle", load_recipe("fp32")).bundle.path
        for name in (MANIFEST, TOKENIZER):
            shutil.copyfile(bundle / name, out / "layout" / name)


def _ignore_signals() -> None:
    """Leave the end to the process that trains."""
    import torch

    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def main() -> None:
    """Run the command."""
    args = _arguments().parse_args()
    import torch

    torch.set_num_threads(args.threads)
    if args.device == "cuda":
        torch.set_float32_matmul_precision("high")
    settings = Settings(stage=args.stage, size=args.size, seed=args.seed, tokens=args.tokens, peak=args.rate)
    budget = Budget(steps=args.steps, hours=None if args.steps else args.hours)
    try:
        trainer = Trainer(
            args.out,
            settings,
            budget,
            resume=args.resume,
            start=args.start,
            device=args.device,
            workers=args.workers,
        )
    except EdgeError as error:
        sys.stderr.write(error.render() + "\n")
        sys.exit(error.exit_code)

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        signal.signal(number, signal.SIG_DFL)
        trainer.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    trainer.run(report=_print, save_every_s=60 * args.save_minutes)
    sys.stdout.write(f"{args.out / 'checkpoint'}: step {trainer.step}, {trainer.share:.0%} of the budget\n")


def _print(line: dict[str, Any]) -> None:
    sys.stdout.write(" ".join(f"{key} {value}" for key, value in line.items()) + "\n")
    sys.stdout.flush()


def _arguments() -> argparse.ArgumentParser:
    usual = Settings()
    parser = argparse.ArgumentParser(prog="python -m export.demo.train", description=__doc__)
    parser.add_argument("out", type=Path, help="the training's directory")
    parser.add_argument("--stage", choices=sorted(schedule.STAGES), default=usual.stage)
    parser.add_argument("--size", choices=sorted(network.SIZES), default=usual.size)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--tokens", type=int, default=usual.tokens, help="tokens a step, about")
    parser.add_argument("--rate", type=float, default=usual.peak, help="highest learning rate")
    parser.add_argument("--hours", type=float, default=2.0, help="in all, with what went before --resume")
    parser.add_argument("--steps", type=int, help="in all, instead of hours; the same weights every time")
    parser.add_argument("--start", type=Path, help="a checkpoint of the same dimensions to begin with")
    parser.add_argument("--resume", action="store_true", help="go on with the training in OUT")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="of the model on the CPU")
    parser.add_argument(
        "--workers", type=int, default=1, help="processes that draw clips; 0: none of their own"
    )
    parser.add_argument("--save-minutes", type=float, default=5.0, help="between two states on the disk")
    return parser


if __name__ == "__main__":
    main()
