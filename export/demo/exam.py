"""One clip in an examination: through the encoder, the capture path and the pipeline, as a camera's would go, and marked."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, Literal

import numpy as np

from edge.answer.prompts import prompt_from
from edge.capture.file import FileClip
from edge.config import AnswerSettings, PromptSettings
from edge.demo.world import Question, Scene, Stage, Truth, asked, draw_scene, encode, truth
from edge.demo.world.vocabulary import GROUPS, KINDS, group_of
from edge.messages import Answer, clip_id
from edge.model.engine import Engine
from edge.model.preprocess import scale, video_size
from edge.pipeline import ClipJob
from edge.records import ClipPlan, ClipStats, Pair, Prompt, Size, Still
from export.demo import scores
from export.demo.labels import CAMERA, FPS
from export.demo.scores import Said, Seen, Tally

CRF: Final = 20
LENGTHS_S: Final[dict[Stage, tuple[float, ...]]] = {
    "a": (4.0, 6.0, 8.0, 10.0, 12.0, 16.0, 4.0, 8.0, 12.0, 16.0),
    "b": (8.0, 12.0, 16.0, 20.0, 24.0, 32.0, 8.0, 16.0, 24.0, 60.0),
    "c": (8.0, 12.0, 16.0, 20.0, 24.0, 32.0, 8.0, 16.0, 24.0, 60.0),
}
"""Of one clip after the other."""
_FULL_S: Final = 60.0
Way = Literal["streamed", "one-shot", "shuffled", "restamped", "swapped"]
"""How a clip is shown. ``streamed``: pair by pair; ``one-shot``: all at once. The rest is false: frames shuffled in time,
timestamps shuffled, another clip's frames."""
FALSE: Final[tuple[Way, ...]] = ("shuffled", "restamped", "swapped")
_QUESTIONS: Final = 3
_SPLIT: Final = "held_out"
_MAX_TOKENS: Final = 640  # more than eight events take


@dataclass(frozen=True, slots=True)
class Film:
    """A clip as the capture path delivered it.

    Attributes:
        scene: What was drawn.
        true: What is true of it.
        size: Size of its pictures at the model.
        pairs: The pairs of frames.
        stats: What the capture path counted.
        still: The key frame, where the stage's clips have one.
        questions: What it is asked beside the summary and the boxes.
    """

    scene: Scene
    true: Truth
    size: Size
    pairs: tuple[Pair, ...]
    stats: ClipStats
    still: Still | None
    questions: tuple[Question, ...]


def film(
    engine: Engine,
    seed: int,
    stage: Stage,
    *,
    seconds: float | None = None,
    gate: float | None = None,
    stills: bool | None = None,
) -> Film:
    """Draw a held-out clip, encode it as H.264 and read it back as the service reads a file.

    From stage b on the camera's pictures are larger than what a clip shows of them, and every tenth clip is a minute long.
    All have the size that a clip of a minute has.

    Args:
        engine: Its bundle decides the size of frames.
        seed: Of the clip.
        stage: Of the world.
        seconds: Length; None as `LENGTHS_S` has it.
        gate: Threshold of the gate; None: all pairs are shown.
        stills: Whether there is a key frame; None: from stage b on.
    """
    if seconds is None:
        seconds = LENGTHS_S[stage][seed % len(LENGTHS_S[stage])]
    wide = stage != "a"
    scene = draw_scene(seed, stage, seconds=seconds, fps=FPS, size=CAMERA if wide else None, split=_SPLIT)
    manifest = engine.bundle.manifest
    size_for = partial(
        video_size, ticks=round(_FULL_S * FPS), pixels=manifest.video_pixels, vision=manifest.vision
    )
    with tempfile.TemporaryDirectory() as directory:
        path = encode(scene, Path(directory) / "clip.mp4", crf=CRF)
        with FileClip(
            path,
            start_s=0.0,
            seconds=scene.seconds,
            fps=FPS,
            size_for=size_for,
            resize=scale,
            gate=gate,
            stills=wide if stills is None else stills,
        ) as clip:
            pairs = tuple(clip.pairs())
            true = truth(scene)
            rng = np.random.default_rng(seed)
            return Film(scene, true, clip.size, pairs, clip.stats(), clip.still, _pick(asked(true, rng), rng))


def _pick(questions: Sequence[Question], rng: np.random.Generator) -> tuple[Question, ...]:
    """Choose questions of different topics."""
    topics = sorted({question.topic for question in questions})
    chosen = []
    for place in rng.permutation(len(topics))[:_QUESTIONS]:
        among = [question for question in questions if question.topic == topics[int(place)]]
        chosen.append(among[int(rng.integers(len(among)))])
    return tuple(chosen)


def show(shown: Film, way: Way, *, other: Film | None = None) -> tuple[Pair, ...]:
    """Return the pairs in the way in which they are shown.

    Args:
        shown: The clip.
        way: See `Way`.
        other: Whose frames are shown instead, where ``way`` is ``swapped``.
    """
    rng = np.random.default_rng(shown.scene.seed)
    pairs = shown.pairs
    if way == "shuffled":
        frames = np.concatenate([pair.frames for pair in pairs])[rng.permutation(2 * len(pairs))]
        return tuple(
            replace(pair, frames=frames[2 * index : 2 * index + 2]) for index, pair in enumerate(pairs)
        )
    if way == "restamped":
        times = rng.permutation([pair.time_s for pair in pairs])
        return tuple(replace(pair, time_s=float(time)) for pair, time in zip(pairs, times, strict=True))
    if way == "swapped" and other is not None:
        return tuple(
            replace(pair, frames=other.pairs[index % len(other.pairs)].frames)
            for index, pair in enumerate(pairs)
        )
    return pairs


def take(engine: Engine, shown: Film, way: Way, *, other: Film | None = None) -> tuple[Answer, ...]:
    """Show a clip and ask: the summary; and where the clip is not falsified, the boxes and the questions as well."""
    plan = ClipPlan(
        camera="exam",
        seq=shown.scene.seed,
        clip_id=clip_id("exam", "exam", shown.scene.stage, shown.scene.seed),
        t_start=datetime(2026, 1, 1, tzinfo=UTC),
        clock_synced=True,
        seconds=shown.scene.seconds,
        fps=FPS,
        size=shown.size,
        source_size=shown.scene.size,
    )
    prompts = prompts_of(shown)
    job = ClipJob(engine, device="exam", plan=plan, prompts=prompts[:1] if way in FALSE else prompts)
    for group in _groups(show(shown, way, other=other), whole=way == "one-shot"):
        job.push(group)
    return tuple(job.finish(shown.stats, still=shown.still))


def prompts_of(shown: Film) -> tuple[Prompt, ...]:
    """Return what is asked: the shipped prompts and the questions."""
    wanted = [("summary", ""), ("spatial", ""), *(("ask", question.text) for question in shown.questions)]
    tokens = 0 if shown.still is None else AnswerSettings().key_frame_tokens
    return tuple(
        prompt_from(
            PromptSettings(name=f"{kind}{number}", kind=kind, text=text, max_tokens=_MAX_TOKENS),
            AnswerSettings(key_frame_tokens=tokens),
        )
        for number, (kind, text) in enumerate(wanted)
    )


def mark(shown: Film, answers: Sequence[Answer]) -> Tally:
    """Mark what was answered of a clip; what was not asked is left out."""
    true = shown.true
    told = [Said(event.what, event.start, event.end) for event in answers[0].events]
    tally = scores.events([Said(event.what, event.start_s, event.end_s) for event in true.events], told)
    if len(answers) == 1:
        return tally
    tally |= places(true, answers[1])
    objects = Counter(_group(seen.label) for seen in answers[1].objects)
    tally |= scores.counts(true.counts(tick_of(answers[1])), objects)
    for question, answer in zip(shown.questions, answers[2:], strict=True):
        tally |= scores.question(question.topic, question.answer, answer.text)
    return tally


def places(true: Truth, told: Answer) -> Tally:
    """Mark boxes and relations at the moment that an answer is about."""
    tick = tick_of(told)
    return scores.boxes(sights(true, tick), objects(told)) | scores.relations(
        [(each.subject, each.relation, each.object) for each in true.relations(tick)],
        [(each.subject, each.relation, each.object) for each in told.relations],
    )


def tick_of(told: Answer) -> int:
    """Return the picture that an answer's boxes refer to: the key frame's, or the last one."""
    return -1 if told.key_frame is None else round(told.key_frame.time * FPS)


def sights(true: Truth, tick: int) -> list[Seen]:
    """Return what can be seen in a picture, boxes in shares of it."""
    return [
        Seen(each.label, (each.box[0] / 1000, each.box[1] / 1000, each.box[2] / 1000, each.box[3] / 1000))
        for each in true.sights(tick)
    ]


def objects(told: Answer) -> list[Seen]:
    """Return what an answer says can be seen."""
    return [Seen(each.label, (each.box.x1, each.box.y1, each.box.x2, each.box.y2)) for each in told.objects]


def _group(label: str) -> str:
    kind = label.rpartition(" ")[2]
    return group_of(kind) if kind in KINDS else f"no {next(iter(GROUPS))}"


def _groups(pairs: Sequence[Pair], *, whole: bool) -> Iterator[Sequence[Pair]]:
    size = len(pairs) if whole else 1
    for start in range(0, len(pairs), size):
        yield pairs[start : start + size]
