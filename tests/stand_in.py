"""A fast stand-in for the model behind the inference process's interface, and the daemon run with it.

    python -m tests.stand_in CONFIG

It answers every clip with what it was shown, and questions about the clip in hand and the last one of each camera; the
question's words come back in the answer. To a watch it says yes of the clips whose numbers stand in the question. ``STAND_IN_ANSWER_S`` makes every answer take so long, ``STAND_IN_CHUNK_S`` every
chunk; ``STAND_IN_DIES_ON`` names a clip's number on which the process dies each time, in mid-clip, and the question
"die" kills it. ``STAND_IN_SYS`` names a directory that stands for /sys.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from edge.answer.assemble import Author, Work, Written, assemble
from edge.daemon.children import AnswerReady, Asked, Idle, InferenceJob, Loaded, NeedPairs, begin_child
from edge.daemon.effects import Ask, Begin, End, More
from edge.errors import EdgeError
from edge.messages import Answer, KeyFrame, Verdict, Watched, message_id
from edge.model.preprocess import scale
from edge.records import ALL, ClipPlan, ClipStats, Effort, Pair, Prompt, Size, Still

MODEL = "stand-in"
WORDS = {
    "summary": '{{"headline":"{0} pairs","summary":"They have {1} shades.","events":[]}}',
    "spatial": '{{"headline":"{0} pairs","objects":[{{"label":"box","bbox_2d":[0,0,500,500]}}],"relations":[]}}',
    "ask": '{{"text":"{0} pairs"}}',
}


def size_for(_source: Size) -> Size:
    return Size(48, 64)


def inference(conn: Connection, job: InferenceJob) -> None:
    begin_child("inference")
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        conn.send(Loaded(MODEL, "not a model", size_for, scale))
        model = Model(conn, job.device)
        while True:
            model.clip()


class Model:
    """Serves one clip after the other, and questions in between."""

    def __init__(self, conn: Connection, device: str) -> None:
        self.conn = conn
        self.device = device
        self.hand: tuple[ClipPlan, list[Pair]] | None = None
        self.kept: dict[str, tuple[ClipPlan, list[Pair], End]] = {}

    def receive(self, want: Idle | NeedPairs) -> Any:
        while True:
            self.conn.send(want)
            message = self.conn.recv()
            if not isinstance(message, Ask):
                return message
            self.conn.send(self.asked(message))

    def clip(self) -> None:
        begin = self.receive(Idle())
        assert isinstance(begin, Begin)
        pairs: list[Pair] = []
        self.hand = begin.plan, pairs
        self.effort = begin.effort
        while True:
            message = self.receive(NeedPairs())
            if isinstance(message, End):
                break
            assert isinstance(message, More)
            pairs.extend(message.pairs)
            time.sleep(float(os.environ.get("STAND_IN_CHUNK_S", "0")))
            if os.environ.get("STAND_IN_DIES_ON") == str(begin.plan.seq):
                os._exit(9)
        for prompt in begin.prompts:
            time.sleep(float(os.environ.get("STAND_IN_ANSWER_S", "0")))
            self.conn.send(
                AnswerReady(answer(self.device, begin.plan, prompt, pairs, message, effort=self.effort))
            )
        self.hand = None
        self.kept[begin.plan.camera] = begin.plan, pairs, message

    def asked(self, ask: Ask) -> Asked:
        begun = time.monotonic_ns()
        if ask.prompts[0].text.startswith("die"):
            os._exit(9)
        if ask.clip == "latest" and ask.camera in self.kept:
            plan, pairs, end = self.kept[ask.camera]
        elif ask.clip == "current" and self.hand and self.hand[0].camera == ask.camera and self.hand[1]:
            plan, pairs = self.hand
            ticks = 2 * (pairs[-1].index + 1)
            gaps = 2 * len(pairs) != ticks
            end = End(
                ClipStats(ticks / plan.fps, ticks, 0, 0, int(gaps), len(pairs), 0.0, (), 0.0),
                end_mono_ns=None,
            )
        else:
            return Asked(ask.key, begun, failure="there is no such clip", no_clip=True)
        answers = [
            answer(self.device, plan, prompt, pairs, end).model_copy(
                update={"id": message_id(plan.clip_id, f"{prompt.name}/{ask.key}")}
            )
            for prompt in ask.prompts
        ]
        if ask.prompts[0].kind == "ask":
            answers = [one.model_copy(update={"text": ask.prompts[0].text[:600]}) for one in answers]
        if ask.clip == "current":
            answers = [one.model_copy(update={"status": "partial"}) for one in answers]
        return Asked(ask.key, begun, tuple(answers))


def answer(
    device: str, plan: ClipPlan, prompt: Prompt, pairs: list[Pair], end: End, *, effort: Effort = ALL
) -> Answer:
    shades = len(np.unique([pair.frames.mean().round() for pair in pairs]))
    if prompt.kind == "watch":
        return watch(device, plan, prompt, end)
    text = WORDS[prompt.kind].format(len(pairs), shades)
    if prompt.schema:
        text = json.dumps({"pairs": len(pairs)})
    after_end_s = None if end.end_mono_ns is None else (time.monotonic_ns() - end.end_mono_ns) / 1e9
    return assemble(
        Written(text, (), 1, 1, truncated=False),
        device=device,
        plan=plan,
        stats=end.stats,
        prompt=prompt,
        author=Author(MODEL, "0" * 64, "none", "not a model"),
        work=Work(
            len(pairs),
            0.0,
            0.0,
            0.0,
            after_end_s,
            None,
            key_frame=shown(end.still) if prompt.still_tokens else None,
        ),
        effort=effort,
    )


def shown(still: Still | None) -> KeyFrame | None:
    if still is None:
        return None
    height, width, _ = still.rgb.shape
    return KeyFrame(time=round(still.time_s, 3), height=height, width=width, tokens=1)


def watch(device: str, plan: ClipPlan, prompt: Prompt, end: End) -> Answer:
    said: dict[bool, Verdict] = {True: "yes", False: "no"}
    verdicts = [(each, said[str(plan.seq) in each.question.split()]) for each in prompt.questions]
    return assemble(
        Written("", (), 1, 1, truncated=False),
        watches=[
            Watched(rule=each.rule, question=each.question, answer=verdict, first=verdict, confidence=1.0)
            for each, verdict in verdicts
        ],
        device=device,
        plan=plan,
        stats=end.stats,
        prompt=prompt,
        author=Author(MODEL, "0" * 64, "none", "not a model"),
        work=Work(1, 0.0, 0.0, 0.0, None, None),
    )


def main() -> int:
    from edge.config import load  # not needed in the children, which import this module too
    from edge.daemon.supervisor import run

    try:
        config = Path(sys.argv[1])
        sys_root = Path(os.environ.get("STAND_IN_SYS", "/sys"))
        return run(load(config), inference=inference, reread=lambda: load(config), sys=sys_root)
    except EdgeError as error:
        sys.stderr.write(error.render() + "\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
