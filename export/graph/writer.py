"""A graph in the making: nodes and signatures here, weights in data files that never pass through memory whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edge.model.manifest import Dtype, Graph, Tensor
from export.bundle import BundleWriter, DataFile, Region

OPSET: Final = 21  # 24 and below: from 27 on the standard LinearAttention takes precedence, and it is slow
IR_VERSION: Final = 10
MICROSOFT: Final = "com.microsoft"
_INLINE_BYTES: Final = 1024  # smaller constants stand in the graph, where shape inference sees them
_ELEMENT: Final = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}


@dataclass(slots=True)
class Branch:
    """Nodes that run only where they are chosen; they may read everything around them. ``result`` is what they give."""

    name: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    result: str = ""


class GraphWriter:
    """Collects one graph; every method that adds a node returns the name of its output."""

    def __init__(self, name: str, data: DataFile) -> None:
        """Args: the graph's name, and the data file of its own weights."""
        self.name = name
        self.data = data
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._inputs: list[Tensor] = []
        self._outputs: list[Tensor] = []
        self._prefix = ""  # of names inside a branch, which must differ from those around it

    def input(self, name: str, dtype: Dtype, shape: Sequence[int | str]) -> str:
        """Declare an input; a string in the shape is a symbolic dimension."""
        self._inputs.append(Tensor(name=name, dtype=dtype, shape=tuple(shape)))
        return name

    def output(self, name: str, dtype: Dtype, shape: Sequence[int | str]) -> str:
        """Declare an output; a node must write it."""
        self._outputs.append(Tensor(name=name, dtype=dtype, shape=tuple(shape)))
        return name

    def op(self, kind: str, *inputs: str, to: str = "", domain: str = "", **attributes: Any) -> str:
        """Add a node with one output, named ``to`` or after its kind."""
        (name,) = self.ops(kind, *inputs, to=(to,), domain=domain, **attributes)
        return name

    def ops(
        self, kind: str, *inputs: str, to: Sequence[str], domain: str = "", **attributes: Any
    ) -> tuple[str, ...]:
        """Add a node with several outputs; empty names are chosen here."""
        outputs = tuple(
            name or f"{self._prefix}{kind}_{len(self._nodes)}.{place}" for place, name in enumerate(to)
        )
        self._nodes.append(
            helper.make_node(kind, inputs, outputs, name=f"{kind}>{outputs[0]}", domain=domain, **attributes)
        )
        return outputs

    @contextmanager
    def branch(self, name: str) -> Iterator[Branch]:
        """Collect the block's nodes in a branch instead of the graph."""
        branch = Branch(name)
        outer, prefix = self._nodes, self._prefix
        self._nodes, self._prefix = branch.nodes, f"{prefix}{name}_{len(outer)}/"
        try:
            yield branch
        finally:
            self._nodes, self._prefix = outer, prefix

    def choose(self, condition: str, then: Branch, otherwise: Branch) -> str:
        """Add the choice between two branches that give float32 of equal rank 3."""
        graphs = [
            helper.make_graph(
                branch.nodes,
                f"{branch.name}_{len(self._nodes)}",
                [],
                [helper.make_tensor_value_info(branch.result, TensorProto.FLOAT, [None] * 3)],
            )
            for branch in (then, otherwise)
        ]
        return self.op("If", condition, then_branch=graphs[0], else_branch=graphs[1])

    def cast(self, x: str, dtype: Dtype) -> str:
        """Add a conversion of type."""
        (name,) = self.ops("Cast", x, to=("",))
        self._nodes[-1].attribute.append(helper.make_attribute("to", _ELEMENT[dtype]))
        return name

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """Add a constant, inline where it is small; the same name may be given again for the same values."""
        if name in self._initializers:
            return name
        if values.nbytes > _INLINE_BYTES:
            region = self.data.append([np.ascontiguousarray(values).data])
            return self.external(name, str(values.dtype), values.shape, region)
        proto = onnx.numpy_helper.from_array(np.ascontiguousarray(values), name)
        self._initializers[name] = proto
        return name

    def integers(self, *values: int) -> str:
        """Add a small int64 vector, shared by all nodes that need the same one."""
        return self.constant(f"int64{list(values)}", np.array(values, np.int64))

    def external(self, name: str, dtype: str, shape: Sequence[int], region: Region) -> str:
        """Add a constant whose bytes lie in a data file."""
        proto = TensorProto(name=name, data_type=_ELEMENT[dtype], dims=shape)
        proto.data_location = TensorProto.EXTERNAL
        for key, value in (("location", region.file), ("offset", region.offset), ("length", region.length)):
            entry = proto.external_data.add()
            entry.key, entry.value = key, str(value)
        self._initializers[name] = proto
        return name

    def save(self, bundle: BundleWriter) -> Graph:
        """Write the graph into the bundle and return its signature."""
        graph = helper.make_graph(
            self._nodes,
            self.name,
            [_value(tensor) for tensor in self._inputs],
            [_value(tensor) for tensor in self._outputs],
            list(self._initializers.values()),
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="edgeclip"
        )
        file = f"{self.name}.onnx"
        bundle.write(file, model.SerializeToString(deterministic=True))
        return Graph(file=file, inputs=tuple(self._inputs), outputs=tuple(self._outputs))


def _value(tensor: Tensor) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, _ELEMENT[tensor.dtype], tensor.shape)
