"""What is counted in a bundle's graphs is what onnx reads in them."""

from __future__ import annotations

import shutil
from math import prod
from pathlib import Path

import onnx
import pytest

from edge.errors import BundleError
from edge.model.bundle import open_bundle
from edge.model.census import census
from edge.share import demo_bundle
from export.convert import convert
from export.demo.checkpoint import TOY
from export.recipes import load_recipe
from tests import checkpoints


def products(name: str) -> list[tuple[str, int, float]]:
    """Return weight, outputs and operations per row of every product with constant weights, as onnx reads them."""
    graph = onnx.load(str(demo_bundle() / name), load_external_data=False).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    found = []
    for node in graph.node:
        values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type == "MatMulNBits":
            found.append((node.input[1], values["N"], 2.0 * values["K"] * values["N"]))
        elif node.op_type == "MatMul" and node.input[1] in shapes:
            found.append((node.input[1], shapes[node.input[1]][1], 2.0 * prod(shapes[node.input[1]])))
    return found


def test_operations_of_a_token_and_of_a_cell_are_those_of_the_products(tmp_path: Path) -> None:
    bundle = open_bundle(demo_bundle(), cache=tmp_path)
    found = census(bundle)
    vocabulary = bundle.manifest.tokens.vocab_rows
    recurrent = sum(
        prod(int(size) for size in state.shape)
        for state in bundle.manifest.states
        if state.kind == "recurrent"
    )
    body = sum(ops for _, outputs, ops in products("decoder.onnx") if outputs != vocabulary)
    assert found.token_block_ops + found.token_row_ops + found.token_float_ops == pytest.approx(
        body + 7 * recurrent
    )
    tower = sum(ops * (1 if "merger" in weight else 4) for weight, _, ops in products("vision.onnx"))
    assert found.cell_block_ops + found.cell_row_ops + found.cell_float_ops == pytest.approx(tower)


def test_a_word_reads_all_weights_of_the_decoder_once(tmp_path: Path) -> None:
    bundle = open_bundle(demo_bundle(), cache=tmp_path)
    found = census(bundle)
    states = (
        2 * 4 * sum(prod(int(size) for size in s.shape) for s in bundle.manifest.states if s.kind != "kv")
    )
    read = 0
    for file in ("decoder.onnx", "head.onnx"):
        graph = onnx.load(str(demo_bundle() / file), load_external_data=False).graph
        sizes = {
            t.name: prod(t.dims) * (1 if t.data_type == onnx.TensorProto.UINT8 else 4)
            for t in graph.initializer
        }
        products = [node for node in graph.node if node.op_type in ("MatMul", "MatMulNBits")]
        read += sum(sizes.get(name, 0) for node in products for name in node.input[1:])
    assert found.word_bytes - states == read


def test_a_graph_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "bundle"
    shutil.copytree(demo_bundle(), broken)
    bundle = open_bundle(broken, cache=tmp_path / "cache")
    graph = broken / "decoder.onnx"
    graph.write_bytes(graph.read_bytes()[:20_000])
    with pytest.raises(BundleError, match="cannot be counted"):
        census(bundle)


@pytest.mark.parametrize("recipe", ["w8a8", "w8a8-int4"])
def test_turns_before_products_by_rows_count_with_every_run_of_their_channels(
    recipe: str, tmp_path: Path
) -> None:
    source = checkpoints.write("toy_tied", tmp_path / "checkpoint")
    bundle = convert(str(source), tmp_path / "out", load_recipe(recipe)).bundle
    found, toy = census(bundle), TOY
    layers = (
        toy.layers if recipe == "w8a8" else toy.layers - 1
    )  # the graph for prefill ends in the last mixer's inputs
    wide = (
        toy.hidden + toy.value_heads * toy.linear_dim + toy.hidden + toy.ffn
    )  # all four are multiples of 32
    # The last mixer's input comes once more: cut to the last token for its gate, or all that is left of that layer.
    turned = 2 * 32 * (layers * wide + toy.hidden)
    gates = 2 * 2 * toy.hidden * toy.value_heads * (toy.layers * 3 // 4)  # a and b, in float32
    recurrent = 7 * (toy.layers * 3 // 4) * toy.value_heads * toy.linear_dim**2
    assert found.token_float_ops == turned + gates + recurrent
    assert found.token_block_ops == 0
    attending = layers // 4 * toy.heads + (toy.layers - layers) * toy.kv_heads
    assert found.context_float_ops == 4 * toy.head_dim * attending
    assert found.context_bytes == toy.layers // 4 * 2 * toy.kv_heads * toy.head_dim
