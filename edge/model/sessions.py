"""One place that makes onnxruntime sessions: explicit options, the check against the manifest, errors translated."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from edge.errors import BundleError, ModelError
from edge.model.bundle import COPY_AGAIN, Bundle
from edge.model.manifest import Graph, Tensor
from edge.model.prepared import Prepared

NUMPY: dict[str, DTypeLike] = {
    "float32": np.float32,
    "float16": np.float16,
    "uint8": np.uint8,
    "int8": np.int8,
    "int32": np.int32,
    "int64": np.int64,
}
_ONNX = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
}
_registering = Lock()  # graphs are loaded beside each other, and `functools.cache` lets two callers in
_SPIN_US = 20  # that a thread waits for the next operator before it sleeps
_ERROR = (
    3  # onnxruntime's severity: warnings about graphs that we made ourselves are of no use to an operator
)


def physical_cores() -> int:
    """Return how many physical cores this process may run on, at least 1."""
    allowed = os.sched_getaffinity(0)
    cores: set[str] = set()
    for cpu in allowed:
        try:
            cores.add(
                Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text("ascii")
            )
        except OSError:
            cores.add(str(cpu))
    return max(1, len(cores))


@functools.cache
def saturating() -> bool:
    """Say whether int8 products of onnxruntime lose their largest sums here: on x86 without VNNI.

    Its kernel for unsigned times signed bytes adds pairs in 16 bits there (vpmaddubsw). With weights and activations of
    full range sums are cut off, and a product by rows is off by more than its own size (`tests.bench.processors`).
    """
    if platform.machine() not in {"x86_64", "AMD64"}:
        return False
    try:
        flags = set(Path("/proc/cpuinfo").read_text("ascii", errors="replace").split())
    except OSError:
        return True
    return not flags & {"avx512_vnni", "avx_vnni"}


@functools.cache
def _register_arena() -> None:
    """Register the process's arena, once; its regions double in size, as those of a session's own arena do."""
    import onnxruntime

    where = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    defaults = {"max_mem": 0, "arena_extend_strategy": 0, "initial_chunk_size_bytes": -1}
    onnxruntime.create_and_register_allocator(
        where, onnxruntime.OrtArenaCfg(defaults | {"max_dead_bytes_per_chunk": -1})
    )


def session_options(threads: int, *, packed: bool = True, shared: bool = False) -> Any:
    """Return the options of every session.

    Args:
        threads: Threads for one operator, >= 1.
        packed: Whether kernels may copy weights into the order that suits them.
        shared: Whether memory for activations comes from one arena for all such sessions, which run in turn. It outlives
            them, so it is not for sessions that pack weights into their arena: those would leave it in pieces.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _ERROR
    # Threads that spin while they wait take the cores from video decoding and from the other session's threads; threads
    # that sleep have to be woken, some 16 us for each of 180 products of a word. Operators follow each other faster than that,
    # so a wait that is as short as a wake-up costs nobody anything: decoding is a tenth faster, on free cores and on taken
    # ones, where 50 us were no better than 20, and spinning without a limit a quarter slower than none.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(_SPIN_US))
    # The arena keeps one chunk's activations and reuses them; without it every operator asks for fresh pages. A memory
    # pattern plans for one input shape, and ours change with every chunk. Peak at 0.8B, int4, after 1,280 tokens and 12
    # pairs: 1,540 MiB like this, 1,900 without the arena, 1,750 with patterns; prefill and decode were no faster there.
    options.enable_cpu_mem_arena = True
    if (
        saturating()
    ):  # weights are made unsigned when a graph is loaded, for a kernel that is slower and exact
        options.add_session_config_entry("session.x64quantprecision", "1")
    if not packed:
        options.add_session_config_entry("session.disable_prepacking", "1")
    if shared:
        with _registering:
            _register_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
    options.enable_mem_pattern = False
    return options


def shrinking() -> Any:
    """Return the options of a run after which memory for activations is given back, as far as nothing is in it."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def open_session(
    bundle: Bundle, graph: Graph, *, threads: int, prepared: Prepared | None = None, packed: bool = True
) -> Any:
    """Load a graph of a bundle and compare its real inputs and outputs with the manifest.

    Args:
        bundle: A checked bundle.
        graph: One of its graphs.
        threads: Threads for one operator, >= 1.
        prepared: Where its weights may lie packed; what cannot be loaded from there is dropped.
        packed: As in `session_options`.

    Raises:
        BundleError: onnxruntime cannot load the file, or it is another graph than the manifest describes.
    """
    path = bundle.path / graph.file
    session = None
    found = prepared.find(graph) if prepared is not None else None
    if prepared is not None and found is not None:
        try:
            session = _load(found, session_options(threads, shared=True), optimised=True)
        except Exception:  # noqa: BLE001 - as below; the bundle itself is still there
            prepared.drop()
    if session is None:
        try:
            session = _load(path, session_options(threads, packed=packed), optimised=False)
        except Exception as error:  # onnxruntime's exceptions share no base class but Exception
            raise BundleError(
                f"onnxruntime cannot load {path}", evidence=[_first_line(error)], next_step=COPY_AGAIN
            ) from error
    differences = [
        *_differences("input", graph.inputs, session.get_inputs()),
        *_differences("output", graph.outputs, session.get_outputs()),
    ]
    if differences:
        raise BundleError(
            f"{path} is not the graph that the manifest describes", evidence=differences, next_step=COPY_AGAIN
        )
    return session


def _load(path: Path, options: Any, *, optimised: bool) -> Any:
    import onnxruntime

    if optimised:  # it was when it was written
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _differences(side: str, wanted: tuple[Tensor, ...], found: list[Any]) -> Iterator[str]:
    real = {value.name: value for value in found}
    for name in sorted(real.keys() - {tensor.name for tensor in wanted}):
        yield f"{side} {name} is not in the manifest"
    for tensor in wanted:
        value = real.get(tensor.name)
        if value is None:
            yield f"{side} {tensor.name} is missing"
            continue
        dtype, shape = _ONNX.get(value.type, value.type), tuple(value.shape)
        static = [dim if isinstance(dim, int) else "*" for dim in shape]
        expected = [dim if isinstance(dim, int) else "*" for dim in tensor.shape]
        if dtype != tensor.dtype or static != expected:
            yield f"{side} {tensor.name} is {dtype} {static}, the manifest says {tensor.dtype} {expected}"


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn what onnxruntime raises while running into a `ModelError`."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # onnxruntime's exceptions share no base class but Exception
        raise ModelError(
            f"onnxruntime failed in the {what}",
            evidence=[_first_line(error)],
            next_step="Check the free memory; then check the bundle with: edge check CONFIG",
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:400]
