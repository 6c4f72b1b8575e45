"""Counts the operations and bytes of a bundle's graphs, without onnx: only what a plan needs is read of the files.

Layout: onnx.proto3 of ONNX 1.20 in protobuf's wire format. Weights lie in files of their own, so the graphs are small.
The last layer's part behind its mixer runs on one token of a chunk only and is counted for all: some 2 % too much.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Literal

from edge.errors import BundleError
from edge.model.bundle import Bundle
from edge.model.manifest import Graph, Manifest
from edge.records import Census

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DELTA_OPS = 7  # per element of a recurrent state: decay, two products with it, the rank-one update
_FLOAT = ("MatMul", "FusedMatMul")
_BY_ROW = ("DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat")
_TURN = "turn."  # what the matrices are called that turn runs of channels before they are rounded
_PRODUCTS = (*_FLOAT, *_BY_ROW, "MatMulNBits")
_BYTES_OF = {"float32": 4, "float16": 2, "uint8": 1, "int8": 1, "int32": 4, "int64": 8}


@dataclass(slots=True)
class _Node:
    kind: str = ""
    inputs: list[str] = field(default_factory=list)
    integers: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Product:
    """A matrix product with constant weights: ``ops`` per row of its input, ``size`` in bytes."""

    weight: str
    outputs: int
    ops: float
    size: float
    form: Literal["block", "row", "float"]


def census(bundle: Bundle) -> Census:
    """Count what a bundle's graphs compute and read.

    Raises:
        BundleError: A graph is not what this program can read.
    """
    manifest = bundle.manifest
    try:
        vision, vision_nodes = _products(_read(bundle, manifest.graphs.vision))
        decoder, decoder_nodes = _products(_read(bundle, manifest.graphs.decoder))
        # A bundle may hold a second copy of the layers for prompts.
        second, head = manifest.graphs.prefill, manifest.graphs.head
        prefill, prefill_nodes = _products(_read(bundle, second)) if second else (decoder, decoder_nodes)
        spoken = decoder + (_products(_read(bundle, head))[0] if head else [])
    except (ValueError, IndexError, KeyError) as error:
        raise BundleError(
            f"the graphs of bundle {bundle.path} cannot be counted",
            evidence=[str(error) or type(error).__name__],
            next_step="Copy the bundle again, then run: edge check",
        ) from error
    per_cell = manifest.vision.merge_size**2
    rows = [(1 if ".merger." in product.weight else per_cell, product) for product in vision]
    towers = sum(node.kind == "MultiHeadAttention" for node in vision_nodes)
    width = next((product.outputs for product in vision), 0)
    body = [product for product in prefill if product.outputs != manifest.tokens.vocab_rows]

    def of_cell(form: str) -> float:
        return sum(count * product.ops for count, product in rows if product.form == form)

    def of_token(form: str) -> float:
        return sum(product.ops for product in body if product.form == form)

    return Census(
        cell_block_ops=of_cell("block"),
        cell_row_ops=of_cell("row"),
        cell_float_ops=of_cell("float"),
        cells_float_ops=4.0 * towers * width * per_cell**2,
        token_block_ops=of_token("block"),
        token_row_ops=of_token("row"),
        token_float_ops=of_token("float") + _delta_ops(manifest),
        context_float_ops=_context_ops(manifest, prefill_nodes),
        word_bytes=sum(product.size for product in spoken) + 2 * _state_bytes(manifest),
        context_bytes=_cache_bytes(manifest),
    )


def _delta_ops(manifest: Manifest) -> float:
    shapes = (state.shape for state in manifest.states if state.kind == "recurrent")
    return float(sum(_DELTA_OPS * prod(int(size) for size in shape) for shape in shapes))


def _context_ops(manifest: Manifest, nodes: list[_Node]) -> float:
    """Return four operations per dimension of every query head: the product with a key, and that with a value."""
    sizes = [int(state.shape[-1]) for state in manifest.states if state.kind == "kv"]
    heads = [node.integers["num_heads"] for node in nodes if node.kind == "GroupQueryAttention"]
    return 4.0 * sum(heads) * (sizes[0] if sizes else 0)


def _state_bytes(manifest: Manifest) -> float:
    return float(
        sum(
            _BYTES_OF[state.dtype] * prod(int(size) for size in state.shape)
            for state in manifest.states
            if state.kind != "kv"
        )
    )


def _cache_bytes(manifest: Manifest) -> float:
    return float(
        sum(
            _BYTES_OF[state.dtype] * prod(size for size in state.shape if isinstance(size, int))
            for state in manifest.states
            if state.kind == "kv"
        )
    )


def _read(bundle: Bundle, graph: Graph) -> memoryview:
    try:
        return memoryview((bundle.path / graph.file).read_bytes())
    except OSError as error:
        raise BundleError(
            f"{bundle.path / graph.file} cannot be read",
            evidence=[str(error)],
            next_step="Copy the bundle again, then run: edge check",
        ) from error


def _products(model: memoryview) -> tuple[list[_Product], list[_Node]]:
    nodes: list[_Node] = []
    shapes: dict[str, tuple[int, ...]] = {}
    for number, graph in _fields(model):
        if number != 7 or not isinstance(graph, memoryview):
            continue
        for inner, value in _fields(graph):
            if inner == 1 and isinstance(value, memoryview):
                nodes.append(_node(value))
            elif inner == 5 and isinstance(value, memoryview):
                name, shape = _initializer(value)
                shapes[name] = shape
    found = [_product(node, shapes) for node in nodes if _has_weights(node, shapes)]
    return [*found, *_turns(nodes, shapes)], nodes


def _has_weights(node: _Node, shapes: dict[str, tuple[int, ...]]) -> bool:
    constant = node.kind in _PRODUCTS and len(node.inputs) > 1 and node.inputs[1] in shapes
    return constant and not node.inputs[1].startswith(_TURN)


def _turns(nodes: list[_Node], shapes: dict[str, tuple[int, ...]]) -> Iterator[_Product]:
    """Yield the turns in front of products by rows: one for each input that is rounded, in runs of its channels."""
    widths = [shape[0] for name, shape in shapes.items() if name.startswith(_TURN)]
    seen: set[str] = set()
    for node in nodes:
        if node.kind in _BY_ROW and _has_weights(node, shapes) and node.inputs[0] not in seen:
            seen.add(node.inputs[0])
            inputs = shapes[node.inputs[1]][-2]
            width = max((width for width in widths if inputs % width == 0), default=0)
            yield _Product(node.inputs[1], 0, 2.0 * width * inputs, 0.0, "float")


def _product(node: _Node, shapes: dict[str, tuple[int, ...]]) -> _Product:
    weight = node.inputs[1]
    if node.kind != "MatMulNBits":
        rows, columns = shapes[weight][-2:]
        if node.integers.get("transB"):
            rows, columns = columns, rows
        ops = 2.0 * rows * columns
        if node.kind in _FLOAT:
            return _Product(weight, columns, ops, 4.0 * rows * columns, "float")
        return _Product(weight, columns, ops, rows * columns + 4.0 * columns, "row")
    rows, columns, bits = (node.integers[name] for name in ("K", "N", "bits"))
    blocks = rows / node.integers["block_size"]
    scales = 4 * blocks + (blocks * bits / 8 if any(node.inputs[3:4]) else 0)  # and zero points
    return _Product(weight, columns, 2.0 * rows * columns, columns * (rows * bits / 8 + scales), "block")


def _node(data: memoryview) -> _Node:
    node = _Node()
    for number, value in _fields(data):
        if not isinstance(value, memoryview):
            continue
        if number == 1:
            node.inputs.append(_text(value))
        elif number == 4:
            node.kind = _text(value)
        elif number == 5:
            found = dict(_fields(value))
            name, integer = found.get(1), found.get(3)
            if isinstance(name, memoryview) and isinstance(integer, int):
                node.integers[_text(name)] = integer
    return node


def _initializer(data: memoryview) -> tuple[str, tuple[int, ...]]:
    name, shape = "", []
    for number, value in _fields(data):
        if number == 1 and isinstance(value, int):
            shape.append(value)
        elif number == 1 and isinstance(value, memoryview):  # packed
            at = 0
            while at < len(value):
                size, at = _varint(value, at)
                shape.append(size)
        elif number == 8 and isinstance(value, memoryview):
            name = _text(value)
    return name, tuple(shape)


def _text(value: memoryview) -> str:
    return bytes(value).decode("utf-8")


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of every field; bytes, strings and messages as a view."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
        elif kind == _BYTES:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("a field reaches beyond the end of the file")
            yield key >> 3, data[at : at + size]
            at += size
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"a field of the unknown kind {kind}")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at
