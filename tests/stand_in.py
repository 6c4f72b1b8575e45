"""A fast stand-in for the model behind the inference process's interface, and the daemon run with it.

    python -m tests.stand_in CONFIG

It answers every clip with what it was shown. ``STAND_IN_ANSWER_S`` makes every answer take so long;
``STAND_IN_DIES_ON`` names a clip's number on which the process dies each time, in mid-clip.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from edge.answer.assemble import Author, Work, Written, assemble
from edge.daemon.children import AnswerReady, Idle, InferenceJob, Loaded, NeedPairs, begin_child
from edge.daemon.effects import Begin, End, More
from edge.errors import EdgeError
from edge.messages import Answer
from edge.model.preprocess import scale
from edge.records import ClipPlan, Pair, Prompt, Size

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
        while True:
            conn.send(Idle())
            begin = conn.recv()
            assert isinstance(begin, Begin)
            serve(conn, job.device, begin)


def serve(conn: Connection, device: str, begin: Begin) -> None:
    pairs: list[Pair] = []
    while True:
        conn.send(NeedPairs())
        message = conn.recv()
        if isinstance(message, End):
            break
        assert isinstance(message, More)
        pairs.extend(message.pairs)
        if os.environ.get("STAND_IN_DIES_ON") == str(begin.plan.seq):
            os._exit(9)
    for prompt in begin.prompts:
        time.sleep(float(os.environ.get("STAND_IN_ANSWER_S", "0")))
        conn.send(AnswerReady(answer(device, begin.plan, prompt, pairs, message)))


def answer(device: str, plan: ClipPlan, prompt: Prompt, pairs: list[Pair], end: End) -> Answer:
    shades = len(np.unique([pair.frames.mean().round() for pair in pairs]))
    after_end_s = None if end.end_mono_ns is None else (time.monotonic_ns() - end.end_mono_ns) / 1e9
    return assemble(
        Written(WORDS[prompt.kind].format(len(pairs), shades), (), 1, 1, truncated=False),
        device=device,
        plan=plan,
        stats=end.stats,
        prompt=prompt,
        author=Author(MODEL, "0" * 64, "none", "not a model"),
        work=Work(len(pairs), 0.0, 0.0, 0.0, after_end_s, None),
    )


def main() -> int:
    from edge.config import load  # not needed in the children, which import this module too
    from edge.daemon.supervisor import run

    try:
        return run(load(Path(sys.argv[1])), inference=inference)
    except EdgeError as error:
        sys.stderr.write(error.render() + "\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
