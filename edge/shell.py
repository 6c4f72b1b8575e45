"""One clip of one video for a person at a shell: from the file to a report, streamed, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from edge.answer.report import ClipReport, Counts, Memory, Seconds, Video
from edge.config import DeviceSettings, cache_directory
from edge.errors import EmptyVideoError
from edge.messages import Answer, clip_id
from edge.records import ALL, ClipPlan, ClipStats, Pair, Prompt, Size, Still

if TYPE_CHECKING:  # what decodes and computes is loaded when it is needed, not for --help
    from edge.host.sensors import AnonymousPeak
    from edge.pipeline import ClipJob
    from edge.thrift import Thrift

_GROUP = 8  # pairs given to the model at once: enough for its batches, little to hold (2.4 MiB at 256 x 192)


@dataclass(frozen=True, slots=True)
class Request:
    """What to look at, with which bundle.

    Attributes:
        video: The file.
        bundle: Directory of the bundle.
        start_s: Where the clip begins in the video.
        seconds: Length of the clip; together with ``fps`` an even number of ticks.
        fps: Ticks per second.
        threads: Threads of the model; 0 means one per physical core.
        scale: ``exact`` as the model was trained, or ``fast``: cheaper, slightly other pixels.
        gate: Threshold of the gate; None: the model sees every pair.
        budget: Seconds of work per second of video, loading included; less is done to stay below. None: everything.
    """

    video: Path
    bundle: Path
    start_s: float = 0.0
    seconds: float = 60.0
    fps: float = 8.0
    threads: int = 0
    scale: Literal["exact", "fast"] = "exact"
    gate: float | None = None
    budget: float | None = None


class Watcher(Protocol):
    """Who is told how far it is; the shell draws a bar, or nothing."""

    def begin(self, what: str, total: int | None) -> None:
        """A part of the work begins; ``total`` steps, where known."""

    def step(self, done: int) -> None:
        """So many steps of it are done."""


def look(
    request: Request,
    prompts: Sequence[Prompt],
    watcher: Watcher,
    *,
    on_pairs: Callable[[Sequence[Pair]], None] | None = None,
) -> ClipReport:
    """Look at one clip and answer every prompt.

    Args:
        request: What to look at.
        prompts: What to ask, in order.
        watcher: Who is told how far it is.
        on_pairs: Called with the pairs that the model was given, as it is given them.

    Raises:
        VideoError: The video cannot be decoded; EmptyVideoError where it holds no picture from ``start_s`` on.
        BundleError: The bundle cannot be used.
        ModelError: The engine failed.
    """
    from edge.capture.file import FileClip
    from edge.host.sensors import AnonymousPeak, peak_rss_mib
    from edge.model.bundle import open_bundle
    from edge.model.engine import Engine
    from edge.model.preprocess import scale, video_size
    from edge.pipeline import ClipJob
    from edge.thrift import Thrift

    begun = time.monotonic()
    ticks = round(request.seconds * request.fps)
    watcher.begin("load", None)
    bundle = open_bundle(request.bundle, cache=cache_directory())
    manifest = bundle.manifest
    loading_s = time.monotonic() - begun
    memory = AnonymousPeak()
    size_for = partial(video_size, ticks=ticks, pixels=manifest.video_pixels, vision=manifest.vision)
    # The video is opened before the model is loaded, which takes longer: a wrong path is told at once.
    with FileClip(
        request.video,
        start_s=request.start_s,
        seconds=request.seconds,
        fps=request.fps,
        size_for=size_for,
        resize=scale,
        scale=request.scale,
        gate=request.gate,
        stills=any(prompt.still_tokens for prompt in prompts),
    ) as clip:
        load_begun = time.monotonic()
        with Engine(bundle, threads=request.threads, cache=cache_directory()) as engine:
            loading_s += time.monotonic() - load_begun
            thrift = Thrift(bundle, threads=request.threads)
            expected = _expected_pairs(request, clip.duration_s)
            offered: Iterable[Pair] = clip.pairs()
            effort = ALL
            if request.budget is not None:
                held = list(offered)
                spent_s = loading_s + clip.stats().decode_s
                within_s = request.budget * clip.stats().seconds - spent_s
                share = thrift.share(held, prompts, size=clip.size, grid=expected, within_s=within_s)
                offered, prompts, effort = share.pairs, share.prompts, share.effort
            device = DeviceSettings().id
            plan = _plan(request, device, clip.size, clip.source_size)
            job = ClipJob(engine, device=device, plan=plan, prompts=prompts, effort=effort)
            run = _Run(job, thrift, watcher, memory)
            run.watch(offered, expected, on_pairs)
            stats = clip.stats()
            if job.stream is None:
                raise EmptyVideoError(
                    f"{request.video} holds no picture from {request.start_s:g} s on",
                    next_step="Give a smaller --start, or another video.",
                )
            answers = run.answer(prompts, stats, clip.still)
            video = Video(
                path=str(request.video),
                seconds=None if clip.duration_s is None else round(clip.duration_s, 3),
                start=request.start_s,
                end=round(request.start_s + stats.seconds, 3),
                width=clip.source_size.width,
                height=clip.source_size.height,
            )
            timing = job.stream.timing
            seconds = Seconds(
                load=round(loading_s, 3),
                video=round(stats.decode_s, 3),
                vision=round(timing.vision_s, 3),
                prefill=round(_prefill_s(answers, timing.prefill_s), 3),
                text=round(sum(answer.provenance.latency.decode for answer in answers), 3),
                total=round(time.monotonic() - begun, 3),
            )
            return _report(
                request,
                answers,
                stats,
                damaged=clip.damaged,
                video=video,
                tokens_video=timing.tokens,
                seconds=seconds,
                memory=Memory(peak_mib=round(peak_rss_mib(), 1), anonymous_mib=round(memory.peak_mib, 1)),
            )


@dataclass(frozen=True, slots=True)
class _Run:
    """One clip's way through the model, and who is told of it."""

    job: ClipJob
    thrift: Thrift
    watcher: Watcher
    memory: AnonymousPeak

    def watch(
        self, offered: Iterable[Pair], expected: int, on_pairs: Callable[[Sequence[Pair]], None] | None
    ) -> None:
        """Show the pairs to the model as they come; ``expected`` stand on the clip's grid."""
        self.watcher.begin("watch", expected)
        for group in _groups(offered):
            self.job.push(group)
            if on_pairs is not None:
                on_pairs(group)
            self.thrift.tick()
            self.watcher.step(group[-1].index + 1)
            self.memory.sample()

    def answer(self, prompts: Sequence[Prompt], stats: ClipStats, still: Still | None) -> list[Answer]:
        """Ask what there is to ask, in order."""
        answers: list[Answer] = []
        written: list[int] = []

        def count(token: int) -> None:
            written.append(token)
            self.thrift.tick()
            self.watcher.step(len(written))

        finish = self.job.finish(stats, on_token=count, still=still)
        for prompt in prompts:
            written.clear()
            self.watcher.begin(prompt.name, prompt.max_tokens)
            answers.append(self.thrift.told(next(finish)))
            self.memory.sample()
        self.thrift.remember(answers)
        return answers


def _plan(request: Request, device: str, size: Size, source_size: Size) -> ClipPlan:
    from edge.host.sensors import clock_synced

    return ClipPlan(
        camera="file",
        seq=0,
        clip_id=clip_id(device, "file", _identity(request), 0),
        t_start=datetime.now(UTC),
        clock_synced=clock_synced(),
        seconds=request.seconds,
        fps=request.fps,
        size=size,
        source_size=source_size,
    )


def _report(
    request: Request,
    answers: Sequence[Answer],
    stats: ClipStats,
    *,
    damaged: int,
    video: Video,
    tokens_video: int,
    seconds: Seconds,
    memory: Memory,
) -> ClipReport:
    made = answers[0].provenance
    return ClipReport(
        video=video,
        model=made.model,
        recipe=made.recipe,
        bundle=made.bundle,
        note=made.note,
        fps=request.fps,
        gate=request.gate,
        frame_width=made.frame_width,
        frame_height=made.frame_height,
        counts=Counts(
            frames=made.frames,
            frames_repeated=made.frames_repeated,
            frames_empty=stats.ticks_empty,
            frames_decoded=stats.frames_decoded,
            packets_damaged=damaged,
            pairs=made.pairs,
            pairs_gated=made.pairs_gated,
            tokens_saved=made.tokens_saved,
            tokens_video=tokens_video,
            tokens_in=max(answer.provenance.tokens_in for answer in answers),
            tokens_out=sum(answer.provenance.tokens_out for answer in answers),
        ),
        seconds=seconds,
        memory=memory,
        answers=tuple(answers),
    )


def _prefill_s(answers: Sequence[Answer], clip_s: float) -> float:
    """Add up the questions' own shares; each answer's figure holds the clip's share too."""
    return clip_s + sum(max(0.0, answer.provenance.latency.prefill - clip_s) for answer in answers)


def _identity(request: Request) -> str:
    """Return what stands for the state epoch in a clip's id: the same part of the same file has the same id."""
    status = request.video.stat()
    part = f"{request.start_s:g}+{request.seconds:g}@{request.fps:g}"
    return f"{request.video.resolve()}:{status.st_size}:{status.st_mtime_ns}:{part}"


def _expected_pairs(request: Request, duration_s: float | None) -> int:
    length = request.seconds
    if duration_s is not None:
        length = max(0.0, min(length, duration_s - request.start_s))
    return max(1, round(length * request.fps / 2))


def _groups(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    rest = iter(pairs)
    while group := list(islice(rest, _GROUP)):
        yield group
