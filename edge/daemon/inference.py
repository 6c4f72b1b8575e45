"""What runs in the inference process: one clip after the other, and questions between two chunks of work.

The process asks (`Idle`, `NeedPairs`) and the supervisor gives. Where it may give a clip or pairs it may give an `Ask`
instead; the process answers it and then asks for the same again. The contexts of answered clips are kept for questions,
the last one of each camera, and beyond the limits of clips and memory the one that was answered longest ago is freed.
"""

from __future__ import annotations

import functools
import time
from collections import OrderedDict
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from edge.answer.given import FORM_BYTES
from edge.daemon.children import (
    AnswerReady,
    Asked,
    ClipFailed,
    Idle,
    InferenceJob,
    Loaded,
    NeedPairs,
    Working,
)
from edge.daemon.effects import Ask, Begin, End, More
from edge.errors import EdgeError, EmptyVideoError, ModelError
from edge.messages import QUESTION_CHARS, message_id
from edge.model import preprocess
from edge.model.bundle import open_bundle
from edge.model.census import census
from edge.model.engine import Engine
from edge.pipeline import ClipJob, reserve_tokens

BEAT_S = 2.0
ASK_BYTES = 4 * QUESTION_CHARS + FORM_BYTES + 256  # of a question in UTF-8, its form and the words around it


def serve(conn: Connection, job: InferenceJob) -> None:
    """Load the bundle and serve until the pipe ends.

    Raises:
        EdgeError: The bundle cannot be used.
        EOFError: The supervisor has closed the pipe.
    """
    bundle = open_bundle(job.bundle, cache=job.cache)
    manifest = bundle.manifest
    with Engine(bundle, threads=job.threads, cache=job.cache) as engine:
        size_for = functools.partial(
            preprocess.video_size, ticks=job.ticks, pixels=manifest.video_pixels, vision=manifest.vision
        )
        model = (
            f"{manifest.model.id}@{manifest.model.revision}" if manifest.model.revision else manifest.model.id
        )
        conn.send(Loaded(model, manifest.model.note, size_for, preprocess.scale, bundle.hash, census(bundle)))
        worker = _Worker(conn, engine, job)
        while True:
            worker.clip()


class _Worker:
    """Serves one clip at a time.

    Args:
        conn: To the supervisor.
        engine: The model.
        job: What the process was started for.
    """

    def __init__(self, conn: Connection, engine: Engine, job: InferenceJob) -> None:
        self._conn = conn
        self._engine = engine
        self._job = job
        self._beat = _Beat(conn)
        self._hand: ClipJob | None = None
        self._kept: OrderedDict[str, ClipJob] = OrderedDict()  # by camera, the one answered last at the end

    def clip(self) -> None:
        """Serve one clip, and the questions before and between."""
        begin = self._receive(Idle())
        if not isinstance(begin, Begin):
            raise ModelError(f"inference was given {type(begin).__name__} before a clip")
        try:
            self._answer(begin)
        except EdgeError as error:
            if self._hand is not None:
                self._hand.close()
            self._conn.send(ClipFailed(_words(error)))
        finally:
            self._hand = None

    def _receive(self, want: Idle | NeedPairs) -> Any:
        """Ask for work until it comes; answer the questions that come instead."""
        while True:
            self._conn.send(want)
            message = self._conn.recv()
            if not isinstance(message, Ask):
                return message
            self._conn.send(self._asked(message))

    def _answer(self, begin: Begin) -> None:
        keep = self._job.keep_clips
        self._hand = clip = ClipJob(
            self._engine,
            device=self._job.device,
            plan=begin.plan,
            prompts=begin.prompts,
            effort=begin.effort,
            reserve_tokens=reserve_tokens(ASK_BYTES, self._job.ask_tokens) if self._job.ask_tokens else 0,
        )
        while True:
            match self._receive(NeedPairs()):
                case More(pairs):
                    clip.push(pairs)
                    self._beat()
                case End(stats, end_mono_ns, still):
                    break
        answers = clip.finish(stats, end_mono_ns=end_mono_ns, on_token=self._beat, keep=keep > 0, still=still)
        for answer in answers:
            self._conn.send(AnswerReady(answer))
        if keep:
            self._keep(clip)

    def _keep(self, clip: ClipJob) -> None:
        before = self._kept.pop(clip.plan.camera, None)
        if before is not None:
            before.close()
        self._kept[clip.plan.camera] = clip
        while self._kept and (len(self._kept) > self._job.keep_clips or self._held() > self._job.keep_bytes):
            self._kept.popitem(last=False)[1].close()

    def _held(self) -> int:
        return sum(clip.held_bytes for clip in self._kept.values())

    def _asked(self, ask: Ask) -> Asked:
        done = Asked(ask.key, time.monotonic_ns())
        if ask.clip == "latest":
            clip = self._kept.get(ask.camera)
        else:
            clip = self._hand if self._hand and self._hand.plan.camera == ask.camera else None
        if clip is None or clip.stream is None:
            what = "answered clip" if ask.clip == "latest" else "clip in hand"
            return replace(done, failure=f"the model has no {what} of this camera", no_clip=True)
        try:
            answers = [clip.ask(prompt, on_token=self._beat) for prompt in ask.prompts]
        except EmptyVideoError as error:
            return replace(done, failure=_words(error), no_clip=True)
        except EdgeError as error:
            return replace(done, failure=_words(error))
        return replace(
            done,
            answers=tuple(  # an id of its own: the clip's answers keep theirs
                answer.model_copy(update={"id": message_id(answer.clip_id, f"{answer.prompt}/{ask.key}")})
                for answer in answers
            ),
        )


def _words(error: EdgeError) -> str:
    return "; ".join((error.what, *error.evidence))


class _Beat:
    """Says `Working`, at most every `BEAT_S` seconds; called between the steps of the model."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._next_s = 0.0

    def __call__(self, _tokens: int = 0) -> None:
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + BEAT_S
            self._conn.send(Working())
