"""Where the time goes: per operator, and beside what this machine could do at best.

usage: python -m tests.bench.roofline BUNDLE [--tokens 512] [--context 0] [--rounds 5] [--threads 2]

Measures this machine's int8 dot products, float32 products and reading of memory; counts the operations and the bytes of
weights of each graph; profiles prefill, decode and vision. "limit" is the larger of operations / peak and bytes / bandwidth.
Times are processor seconds over threads, so that other work on the machine disturbs them less. The last line is JSON.
"""

from __future__ import annotations

import argparse
import collections
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge.model.bundle import Bundle, open_bundle
from edge.model.manifest import Graph
from edge.model.sessions import NUMPY, session_options
from edge.model.vision import tables

INT8: Final = {"MatMulNBits", "MatMulIntegerToFloat"}
PATCH_GRID: Final = (12, 16)  # 256 x 192
PAIRS: Final = 4
MICROSOFT: Final = "com.microsoft"


@dataclass(frozen=True, slots=True)
class Machine:
    """Operations a second of either kind, and bytes a second."""

    int8: float
    float32: float
    bandwidth: float


@dataclass(frozen=True, slots=True)
class Work:
    """Of one run of a graph: int8 and float32 operations, bytes of weights and of states, each read once and written once."""

    int8: float
    float32: float
    weight_bytes: float
    state_bytes: float

    def limit_s(self, machine: Machine) -> float:
        """Return the least seconds that a machine needs."""
        return max(
            self.int8 / machine.int8 + self.float32 / machine.float32,
            (self.weight_bytes + self.state_bytes) / machine.bandwidth,
        )


def spent(run: Any, rounds: int, threads: int) -> float:
    """Return the median of processor seconds over threads, after one run to warm up."""
    run()
    found = []
    for _ in range(rounds):
        began = time.process_time()
        run()
        found.append((time.process_time() - began) / threads)
    return statistics.median(found)


def measure_machine(threads: int) -> Machine:
    """Time a large int8 product, a large float32 one, and products with one row, which read all weights."""
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    size = 2048

    def session(kind: str, columns: int) -> Any:
        integer = kind == "MatMulIntegerToFloat"
        weight = rng.integers(-127, 128, (size, columns)).astype(np.int8 if integer else np.float32)
        one, zero = np.ones(1, np.float32), np.array([128], np.uint8)
        extra = {"s": one, "t": np.full(columns, 1e-4, np.float32), "z": zero} if integer else {}
        node = helper.make_node(kind, ["x", "w", *extra], ["y"], domain=MICROSOFT if integer else "")
        dtype = TensorProto.UINT8 if integer else TensorProto.FLOAT
        graph = helper.make_graph(
            [node],
            "g",
            [helper.make_tensor_value_info("x", dtype, ["M", size])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(value, name) for name, value in {"w": weight, **extra}.items()],
        )
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        options = session_options(threads)
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def seconds(kind: str, rows: int, columns: int) -> float:
        made = session(kind, columns)
        x = np.ones((rows, size), np.uint8 if kind == "MatMulIntegerToFloat" else np.float32)
        return spent(lambda: made.run(None, {"x": x}), 9, threads)

    wide = 65_536  # 128 MiB of int8: more than any cache here
    return Machine(
        int8=2 * size**3 / seconds("MatMulIntegerToFloat", size, size),
        float32=2 * size**3 / seconds("MatMul", size, size),
        bandwidth=size * wide / seconds("MatMulIntegerToFloat", 1, wide),
    )


def profiled(
    bundle: Bundle, graph: Graph, feeds: Any, rounds: int, threads: int
) -> tuple[float, dict[str, float]]:
    """Run a graph; return its seconds, and wall seconds by operator and width from onnxruntime's own profile."""
    import onnxruntime as ort

    def session(options: Any) -> Any:
        return ort.InferenceSession(
            str(bundle.path / graph.file), options, providers=["CPUExecutionProvider"]
        )

    plain = session(session_options(threads))
    run = feeds(plain)
    seconds = spent(run, rounds, threads)
    del plain, run
    with tempfile.TemporaryDirectory() as place:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = f"{place}/profile"
        watched = session(options)
        run = feeds(watched)
        for _ in range(rounds + 1):
            run()
        events = json.loads(Path(watched.end_profiling()).read_text(encoding="utf-8"))
    nodes = [event for event in events if event.get("name", "").endswith("_kernel_time")]
    nodes = [
        event for event in nodes if event["args"]["op_name"] != "If"
    ]  # what is in it is counted by itself
    nodes = nodes[len(nodes) // (rounds + 1) :]  # without the first run
    found: collections.Counter[str] = collections.Counter()
    for event in nodes:
        shapes = event["args"].get("output_type_shape") or [{"": [0]}]
        width = (next(iter(shapes[0].values())) or [0])[-1]
        wide = f" {width}" if event["args"]["op_name"].startswith("MatMul") else ""
        found[event["args"]["op_name"] + wide] += event["dur"] / rounds / 1e6
    return seconds, dict(found.most_common())


def decoder_feeds(bundle: Bundle, tokens: int, context: int) -> Any:
    """Return what binds the inputs of decoder or prefill graph to a session."""
    import onnxruntime as ort

    manifest, rows = bundle.manifest, context + tokens
    rng = np.random.default_rng(1)
    angles = rng.random((rows, manifest.text.rope_dims // 2), np.float32)
    inputs = {
        "inputs_embeds": 0.02 * rng.standard_normal((1, tokens, manifest.text.hidden), np.float32),
        "position_ids": np.arange(context, rows)[None],
        "rope_cos": np.cos(angles),
        "rope_sin": np.sin(angles),
        "seqlens_k": np.array([rows - 1], np.int32),
        "total_length": np.array(rows, np.int32),
    }

    def bind(session: Any) -> Any:
        binding = session.io_binding()
        for name, value in inputs.items():
            binding.bind_cpu_input(name, value)
        for state in manifest.states:
            shape = [rows if dim == "M" else int(dim) for dim in state.shape]
            tensor = ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, NUMPY[state.dtype]))
            binding.bind_ortvalue_input(state.input, tensor)
            binding.bind_ortvalue_output(state.output, tensor)
            if state.scale is not None and state.rows is not None:
                scale = np.full((1, shape[1], 1, shape[3]), 1 / 127, np.float32)
                binding.bind_cpu_input(state.scale, scale)
                binding.bind_output(state.rows)
        for name in {"logits", "hidden"} & {output.name for output in session.get_outputs()}:
            binding.bind_output(name)
        return lambda: session.run_with_iobinding(binding)

    return bind


def head_feeds(bundle: Bundle) -> Any:
    """Return what runs the head's graph of a session."""
    hidden = np.random.default_rng(3).standard_normal((1, bundle.manifest.text.hidden), np.float32)
    return lambda session: lambda: session.run(None, {"hidden": hidden})


def vision_feeds(bundle: Bundle) -> Any:
    """Return what runs the vision graph of a session."""
    found = tables(*PATCH_GRID, bundle.manifest.vision)
    count = PATCH_GRID[0] * PATCH_GRID[1]
    patches = np.random.default_rng(2).integers(0, 256, (PAIRS, count, 1536), np.uint8)
    names = ("pos_index", "pos_weight", "rope_cos", "rope_sin")
    feeds = {"patches": patches, **{name: getattr(found, name) for name in names}}
    return lambda session: lambda: session.run(None, feeds)


def work(bundle: Bundle, graph: Graph, rows: int, context: int) -> Work:
    """Count the products with stored matrices, attention and the delta rule of one run over ``rows`` tokens."""
    import onnx

    model = onnx.load(bundle.path / graph.file, load_external_data=False)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    sizes = {}
    for tensor in model.graph.initializer:
        entry = {item.key: item.value for item in tensor.external_data}
        sizes[tensor.name] = int(entry.get("length", len(tensor.raw_data)))
    int8 = float32 = weights = moved = 0.0
    turned: set[str] = set()
    turns = [shape[0] for name, shape in shapes.items() if name.startswith("turn.")]
    products = {name for name in shapes if not name.startswith("turn.")}
    states = {state.input: state for state in bundle.manifest.states}
    for node in model.graph.node:
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        weights += sum(sizes.get(name, 0) for name in node.input)
        last = rows if node.output[0] != "logits" else 1
        if node.op_type == "MatMulNBits":
            int8 += 2.0 * last * attributes["K"] * attributes["N"]
        elif node.op_type == "MatMulIntegerToFloat":
            inputs, outputs = shapes[node.input[1]]
            int8 += 2.0 * last * inputs * outputs
            if (
                node.input[0] not in turned
            ):  # inputs are turned in runs before they are rounded, once for all their products
                turned.add(node.input[0])
                float32 += 2.0 * last * inputs * max((n for n in turns if inputs % n == 0), default=0)
        elif node.op_type in {"MatMul", "FusedMatMul"} and node.input[1] in products:
            float32 += 2.0 * last * np.prod(shapes[node.input[1]])
        elif node.op_type == "GroupQueryAttention":
            size = int(states[node.input[3]].shape[-1])
            float32 += 4.0 * rows * (context + rows / 2) * attributes["num_heads"] * size
        elif node.op_type == "LinearAttention":
            float32 += 7.0 * rows * np.prod([int(dim) for dim in states[node.input[3]].shape])
        elif node.op_type == "MultiHeadAttention":
            patches = PATCH_GRID[0] * PATCH_GRID[1]
            float32 += 4.0 * rows * patches * bundle.manifest.vision.head_dim * attributes["num_heads"]
    for state in bundle.manifest.states:
        if graph is not bundle.manifest.graphs.vision:
            shape = [context if dim == "M" else int(dim) for dim in state.shape]
            moved += (
                float(np.prod(shape))
                * np.dtype(NUMPY[state.dtype]).itemsize
                * (1 if state.kind == "kv" else 2)
            )
    return Work(int8, float32, weights, moved)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--context", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    bundle, threads = open_bundle(given.bundle), given.threads
    machine = measure_machine(threads)
    graphs = bundle.manifest.graphs
    patches = PAIRS * PATCH_GRID[0] * PATCH_GRID[1]
    tokens, context = given.tokens, given.context
    stages = {
        "prefill": (graphs.prefill or graphs.decoder, tokens, decoder_feeds(bundle, tokens, context)),
        "decode": (graphs.decoder, 1, decoder_feeds(bundle, 1, context)),
        "vision": (graphs.vision, patches, vision_feeds(bundle)),
    }
    if graphs.head is not None:
        stages["head"] = (graphs.head, 1, head_feeds(bundle))
    result: dict[str, Any] = {
        "bundle": bundle.manifest.recipe.name,
        "machine": {
            "int8_gops": round(machine.int8 / 1e9),
            "float32_gflops": round(machine.float32 / 1e9),
            "gb_s": round(machine.bandwidth / 1e9, 1),
        },
    }
    write = sys.stdout.write
    write(f"machine: {result['machine']}\n")
    for name, (graph, rows, feeds) in stages.items():
        seconds, operators = profiled(bundle, graph, feeds, given.rounds, threads)
        counted = work(bundle, graph, rows, 0 if name == "vision" else context)
        limit = counted.limit_s(machine)
        units = PAIRS if name == "vision" else rows
        result[name] = {
            "graph": graph.file,
            "per_second": round(units / seconds, 1),
            "at_most": round(float(units / limit), 1),
            "share_of_limit": round(float(limit / seconds), 2),
            "int8_mop": round(float(counted.int8 / units / 1e6), 1),
            "float32_mflop": round(float(counted.float32 / units / 1e6), 1),
            "weight_mb_per_run": round(counted.weight_bytes / 1e6, 1),
            "state_mb_per_run": round(counted.state_bytes / 1e6, 1),
        }
        write(f"\n{name} ({graph.file}, {rows} rows): {result[name]}\n")
        total = sum(operators.values())
        for operator, took in list(operators.items())[:12]:
            write(f"  {operator:32} {took * 1e3:9.2f} ms {100 * took / total:5.1f} %\n")
        result[name]["operators"] = {
            operator: round(took / total, 4) for operator, took in list(operators.items())[:12]
        }
    write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
