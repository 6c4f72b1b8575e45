"""Trains the demo model on the synthetic world. `python -m export.demo.train OUT --stage a --hours 2 [--resume]`.

OUT holds ``checkpoint/`` (what `edge-export convert` takes), ``layout/`` (manifest and tokenizer, so that training sees
what the engine feeds), ``state.pt`` (to go on from) and ``curve.jsonl``. SIGTERM saves and ends; a second one is not waited
for. Every clip follows from the seed and the step alone.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from edge.demo.world import Stage
from edge.errors import CheckpointError, EdgeError
from edge.model.manifest import MANIFEST, TOKENIZER
from export.convert import convert
from export.demo import network, schedule
from export.demo.batches import Batch, Source
from export.demo.lessons import texts
from export.demo.schedule import Course, Syllabus
from export.demo.supply import Supply
from export.recipes import load_recipe

if TYPE_CHECKING:
    from export.demo.optimiser import Ranks

_TEXT_CLIPS: Final = 240  # whose words the tokenizer is trained on
_MARKS: Final = ("answers", "tokens", "exact", "happened", "followed", "cells", "named", "placed")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a training is; saved with it, and compared when it goes on.

    Attributes:
        stage: ``a``, ``b`` or ``c``.
        size: Name in `network.SIZES`.
        seed: Of everything.
        tokens: About so many tokens a step.
        peak: Highest learning rate.
        ranks: Processes that learn together, each from its own clips.
        last: Nothing but the stage's last phase is gone through.
    """

    stage: Stage = "a"
    size: str = "deep"
    seed: int = 1
    tokens: int = 4096
    peak: float = schedule.PEAK
    ranks: int = 1
    last: bool = False


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
        ranks: Those that learn with this process; None for a training of one.
        syllabus: Its phases; None for those of its stage.

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
        ranks: Ranks | None = None,
        syllabus: Syllabus | None = None,
    ) -> None:
        import torch

        from export.demo.heads import Heads
        from export.demo.optimiser import Optimiser

        self.out = out
        self.settings = settings
        self.budget = budget
        self.step = 0
        self.seconds = 0.0
        self._torch = torch
        self._device = device
        self._workers = workers
        self._ranks = ranks
        self._stopping = False
        self._state = out / "state.pt"
        first = ranks is None or ranks.rank == 0
        if first and self._state.exists() != resume:
            raise CheckpointError(
                f"{out} holds {'no' if resume else 'a'} training already begun",
                next_step="Leave --resume out."
                if resume
                else "Give --resume to go on, or another directory.",
            )
        if first and not resume:
            prepare(out, settings, start)
        self.model = network.build(out / "checkpoint", settings.seed)
        network.load(self.model, out / "checkpoint")
        torch.manual_seed(settings.seed)
        self.heads = Heads(self.model.config.text_config.hidden_size)
        self.model.to(device).train()
        self.heads.to(device)
        whole = syllabus or schedule.SYLLABI[settings.stage]
        self._syllabus = schedule.last_phase(whole) if settings.last else whole
        self.course = Course(self._syllabus)
        self._optimiser = Optimiser({"model": self.model, "heads": self.heads}, settings.peak)
        # Products in bfloat16, where the processor has them; norms, sums and DeltaNet stay in float32.
        self._dtype = torch.bfloat16
        if resume:
            self._load()

    def join(self, ranks: Ranks) -> None:
        """Learn together with other processes from here on."""
        self._ranks = ranks

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
        first = self._ranks is None or self._ranks.rank == 0
        lines: list[dict[str, float]] = []
        clips, began, saved = 0, time.monotonic(), time.monotonic()
        done = self.share >= 1.0
        with ExitStack() as stack:
            supply = self._supply(stack)
            while not done:
                marks, count, done = self._learn(supply)
                clips += count
                lines.append(marks)
                if first and (len(lines) == report_every or done):
                    mean = {key: _mean([line[key] for line in lines]) for key in lines[0]}
                    self._report(mean, clips / (time.monotonic() - began), report)
                    lines = []
                if first and time.monotonic() - saved > save_every_s:
                    self.save()
                    saved = time.monotonic()
        if first:
            self.save()

    def save(self) -> None:
        """Write the weights for `edge-export convert`, and the state to go on from; each whole or not at all.

        The weights are the running mean; those that the training goes on with are in the state.
        """
        torch = self._torch
        mean = {name.removeprefix("model."): weight for name, weight in self._optimiser.mean.items()}
        network.save(
            {name: mean.get(name, weight) for name, weight in self.model.state_dict().items()},
            self.out / "checkpoint",
        )
        aside = self._state.with_suffix(".part")
        torch.save(
            {
                "settings": asdict(self.settings),
                "step": self.step,
                "seconds": self.seconds,
                "levels": self.course.levels,
                "marks": self.course.marks,
                "model": self.model.state_dict(),
                "heads": self.heads.state_dict(),
                "optimiser": self._optimiser.state_dict(),
            },
            aside,
        )
        aside.replace(self._state)

    def _load(self) -> None:
        state = self._torch.load(self._state, map_location=self._device, weights_only=True)
        if state["settings"] != asdict(self.settings):
            raise CheckpointError(
                f"{self.out} holds another training",
                evidence=[f"there: {state['settings']}", f"wanted: {asdict(self.settings)}"],
                next_step="Give the options that it was begun with, or another directory.",
            )
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        self.course = Course(self._syllabus, list(state["levels"]), list(state["marks"]))
        curve = self.out / "curve.jsonl"
        if curve.exists() and (self._ranks is None or self._ranks.rank == 0):
            # What was learnt after the last state is learnt again.
            lines = curve.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if json.loads(line)["step"] <= self.step]
            curve.write_text("".join(kept), encoding="utf-8")

    def _learn(self, supply: Supply) -> tuple[dict[str, float], int, bool]:
        """Take one step; return its marks, its clips, and whether it was the last."""
        from export.demo import losses

        torch, began = self._torch, time.process_time()
        phase = self.course.phase(self.step)
        number, batch, use = supply.at(self.step)
        if phase.seeing:
            marks = losses.see(self.model, self.heads, batch, self._dtype)
        else:
            looked = supply.seen(number, self._look)
            marks = losses.tell(
                self.model, self.heads, batch, looked, use, aids=phase.aids, dtype=self._dtype
            )
        marks.loss.backward()
        values = {name: float(getattr(marks, name)) for name in _MARKS}
        # Every rank's marks, how many of them are numbers, its clips, and the first one's time and wish to end.
        stop = self._stopping and (self._ranks is None or self._ranks.rank == 0)
        vector = torch.tensor(
            [0.0 if math.isnan(value) else value for value in values.values()]
            + [float(not math.isnan(value)) for value in values.values()]
            + [float(len(batch.cells)), float(stop)]
        )
        if self._ranks is not None:
            vector = self._ranks.mean(self._optimiser.gradients(), vector)
        found = vector.tolist()
        count = len(_MARKS)
        mean = {
            name: found[place] / found[count + place] if found[count + place] else math.nan
            for place, name in enumerate(_MARKS)
        }
        speed = schedule.rate(self.step, self.share)
        norm = self._optimiser.step(speed)
        self.seconds += self._elapsed(time.process_time() - began)
        self.course.note(self.step, mean, self.share)
        self.step += 1
        if phase.seeing and not self.course.phase(self.step).seeing:
            self._optimiser.settle("model.model.visual")
        mean |= {"gradient": norm, "rate": speed * self.settings.peak}
        return mean, round(found[-2]), bool(found[-1]) or self.share >= 1.0

    def _elapsed(self, seconds: float) -> float:
        """Return how long all take a step to have lasted: as long as the first one of them took."""
        if self._ranks is None:
            return seconds
        return float(self._ranks.mean([], self._torch.tensor([seconds if self._ranks.rank == 0 else 0.0]))[0])

    def _look(self, batch: Batch) -> Any:
        from export.demo import losses

        with self._torch.no_grad():
            return losses.look(self.model, batch, self._dtype)

    def _report(
        self, mean: dict[str, float | None], clips_s: float, report: Callable[[dict[str, Any]], None]
    ) -> None:
        line = {
            "step": self.step,
            "seconds": round(self.seconds, 1),
            "share": round(self.share, 4),
            "level": self.course.level(self.step - 1),
            "clips_s": round(clips_s, 2),
            **mean,
        }
        with (self.out / "curve.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        report(line)

    def _supply(self, stack: ExitStack) -> Supply:
        rank = 0 if self._ranks is None else self._ranks.rank
        pool = None
        if self._workers:
            pool = ProcessPoolExecutor(self._workers, get_context("spawn"), initializer=_ignore_signals)
            stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        source = Source(self.out / "layout", self.settings.stage, self.settings.seed, rank)
        return Supply(source, self.course, self.settings.tokens, pool, 2 * self._workers)


def _mean(values: list[float]) -> float | None:
    """Return the mean of what is a number, None where nothing is: a phase may not be asked anything."""
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
        network.save(network.build(directory, settings.seed).state_dict(), directory)
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


def learn_along(out: Path, options: dict[str, Any], rank: int, meeting: Path) -> None:
    """Learn with the first process until that one ends."""
    from export.demo.optimiser import Ranks

    _ignore_signals()
    settings: Settings = options["settings"]
    ranks = Ranks(rank, settings.ranks, meeting)
    Trainer(out, ranks=ranks, **options).run()
    ranks.close()


def main() -> None:
    """Run the command."""
    args = _arguments().parse_args()
    import torch

    from export.demo.optimiser import Ranks

    torch.set_num_threads(args.threads)
    if args.device == "cuda":
        torch.set_float32_matmul_precision("high")
    settings = Settings(args.stage, args.size, args.seed, args.tokens, args.rate, args.ranks, args.last)
    budget = Budget(steps=args.steps, hours=None if args.steps else args.hours)
    options = {"budget": budget, "device": args.device, "workers": args.workers, "settings": settings}
    meeting = args.out / f"meeting-{os.getpid()}"
    others = []
    try:
        trainer = Trainer(args.out, resume=args.resume, start=args.start, **options)
        for rank in range(1, settings.ranks):
            joining = {**options, "resume": args.resume}
            others.append(
                get_context("spawn").Process(target=learn_along, args=(args.out, joining, rank, meeting))
            )
            others[-1].start()
        if others:
            trainer.join(Ranks(0, settings.ranks, meeting))
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
    for other in others:
        other.join()
    meeting.unlink(missing_ok=True)
    sys.stdout.write(f"{args.out / 'checkpoint'}: step {trainer.step}, {trainer.share:.0%} of the budget\n")


def _print(line: dict[str, Any]) -> None:
    sys.stdout.write(" ".join(f"{key} {value}" for key, value in line.items()) + "\n")
    sys.stdout.flush()


def _arguments() -> argparse.ArgumentParser:
    usual = Settings()
    parser = argparse.ArgumentParser(prog="python -m export.demo.train", description=__doc__)
    parser.add_argument("out", type=Path, help="the training's directory")
    parser.add_argument("--stage", choices=sorted(schedule.SYLLABI), default=usual.stage)
    parser.add_argument("--size", choices=sorted(network.SIZES), default=usual.size)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--tokens", type=int, default=usual.tokens, help="tokens a step and process, about")
    parser.add_argument("--rate", type=float, default=usual.peak, help="highest learning rate")
    parser.add_argument(
        "--hours",
        type=float,
        default=2.0,
        help="of the first process's own time, with what went before --resume",
    )
    parser.add_argument("--steps", type=int, help="in all, instead of hours; the same weights every time")
    parser.add_argument("--start", type=Path, help="a checkpoint of the same dimensions to begin with")
    parser.add_argument(
        "--last", action="store_true", help="only the last phase, for a checkpoint that is taught already"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the training in OUT")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of each learning process on the CPU")
    parser.add_argument("--ranks", type=int, default=usual.ranks, help="processes that learn together")
    parser.add_argument(
        "--workers", type=int, default=1, help="processes that draw clips for each; 0: none of their own"
    )
    parser.add_argument("--save-minutes", type=float, default=5.0, help="between two states on the disk")
    return parser


if __name__ == "__main__":
    main()
