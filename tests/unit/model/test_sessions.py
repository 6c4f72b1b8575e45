"""Memory for activations, of which sessions that run in turn need one's worth."""

from __future__ import annotations

import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge.model.sessions import session_options, shrinking

LARGE_MIB = 96


def anonymous_mib() -> float:
    found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text("ascii"))
    assert found is not None
    return int(found[1]) / 1024


def session(**how: Any) -> Any:
    """Return one whose only activation takes `LARGE_MIB` for an input of as many MiB, and which says the largest value in it."""
    import onnxruntime

    graph = helper.make_graph(
        [
            helper.make_node("Exp", ["x"], ["large"]),
            helper.make_node("ReduceMax", ["large"], ["y"], keepdims=0),
        ],
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    options = session_options(1, **how)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def measured(*, shared: bool) -> tuple[float, float]:
    """Return the MiB that two sessions took when both had run, and those that were left when one had shrunk its arena."""
    one, other = session(shared=shared), session(shared=shared)
    x = np.zeros(LARGE_MIB * 1024 * 256, np.float32)
    x[-1] = 1
    for either in (one, other):  # whatever a first run brings
        either.run(None, {"x": x[-1:]}, shrinking())
    before = anonymous_mib()
    for either in (one, other, one):
        assert either.run(None, {"x": x})[0] == pytest.approx(np.e)
    taken = anonymous_mib() - before
    other.run(None, {"x": x}, shrinking())
    return taken, anonymous_mib() - before


@pytest.mark.parametrize(("shared", "arenas"), [(True, 1), (False, 2)])
def test_sessions_that_run_in_turn_share_one_arena_and_give_it_back(shared: bool, arenas: int) -> None:
    # The arena is the process's and never gives back its first region, which another test's run may have made large.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as own:
        taken, left = own.submit(measured, shared=shared).result()
    assert taken == pytest.approx(arenas * LARGE_MIB, abs=LARGE_MIB / 4)
    assert left == pytest.approx((arenas - 1) * LARGE_MIB, abs=LARGE_MIB / 4)
