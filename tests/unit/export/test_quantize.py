"""Blocks: no weight moves by more than half a step, and onnxruntime reads them as this module does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from export.bundle import BundleWriter
from export.checkpoint.tensors import StoredTensor, TensorStore
from export.graph.products import look_up, multiply
from export.graph.weights import Weights
from export.graph.writer import GraphWriter
from export.quantize import Blocks, dequantize, quantize
from export.recipes import FLOAT32, WEIGHT_CLASSES, Bits, Format, Recipe

FORMATS = [
    Format(bits, block, zeros) for bits in (4, 8) for block in (16, 32, 128) for zeros in (True, False)
]
IDS = [f"{form}" for form in FORMATS]

matrices = st.tuples(st.integers(1, 4), st.integers(1, 70)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.floats(-(2.0**100), 2.0**100, width=32))
)


def steps(blocks: Blocks, columns: int, form: Format) -> NDArray[np.float32]:
    return np.repeat(blocks.scales, form.block, axis=1)[:, :columns]


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
@settings(deadline=None, max_examples=60)
@given(rows=matrices)
def test_no_value_moves_by_more_than_half_a_step(form: Format, rows: NDArray[np.float32]) -> None:
    blocks = quantize(rows, form)
    moved = np.abs(dequantize(blocks, rows.shape[1], form).astype(np.float64) - rows)
    assert (moved <= 0.5001 * steps(blocks, rows.shape[1], form).astype(np.float64)).all()


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
def test_the_steps_span_the_values_and_no_more(form: Format) -> None:
    rows = np.random.default_rng(1).standard_normal((64, 256), dtype=np.float32)
    blocks = quantize(rows, form)
    split = rows.reshape(64, -1, form.block)
    reach = split.max(2) - split.min(2) if form.zero_points else 2 * np.abs(split).max(2)
    levels = 2**form.bits - (1 if form.zero_points else 2)
    np.testing.assert_allclose(blocks.scales, reach / levels, rtol=1e-5)


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
def test_zeros_stay_zeros(form: Format) -> None:
    rows = np.zeros((3, 40), np.float32)
    assert not dequantize(quantize(rows, form), 40, form).any()


@pytest.mark.parametrize("bits", [4, 8])
def test_a_row_is_quantised_alike_alone_and_among_others(bits: Bits) -> None:
    form, rows = (
        Format(bits, 32, zero_points=True),
        np.random.default_rng(2).standard_normal((9, 96), np.float32),
    )
    whole, part = quantize(rows, form), quantize(rows[4:5], form)
    np.testing.assert_array_equal(whole.values[4:5], part.values)
    np.testing.assert_array_equal(whole.scales[4:5], part.scales)


def stored(path: Path, rows: NDArray[np.float32]) -> TensorStore:
    file = path / "rows.bin"
    file.write_bytes(rows.tobytes())
    return TensorStore({"w": StoredTensor("w", "F32", rows.shape, file, 0)})


def session(directory: Path, name: str) -> Any:
    import onnxruntime as ort

    return ort.InferenceSession(directory / f"{name}.onnx", providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("columns", [256, 96, 100], ids=["whole", "smaller-blocks", "padded"])
@pytest.mark.parametrize("form", [FLOAT32, *FORMATS], ids=["float32", *IDS])
def test_onnxruntime_reads_one_copy_as_table_and_as_head(form: Format, columns: int, tmp_path: Path) -> None:
    """The bytes of an embedding serve `GatherBlockQuantized` and `MatMulNBits` both, as in a bundle with a tied head."""
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((50, columns), dtype=np.float32)
    weights = Weights(
        stored(tmp_path, rows), Recipe("test", dict.fromkeys(WEIGHT_CLASSES, form)), lambda *_: None
    )
    with BundleWriter(tmp_path / "out") as bundle:
        with bundle.data_file("one.data") as data:
            table = weights.store(data, "w", "embedding")
            gather, product = GraphWriter("gather", data), GraphWriter("product", data)
            look_up(gather, gather.input("ids", "int64", (1, "T")), table, to="rows")
            gather.output("rows", "float32", (1, "T", columns))
            multiply(product, product.input("x", "float32", ("T", columns)), table, to="y")
            product.output("y", "float32", ("T", 50))
        gather.save(bundle)
        product.save(bundle)
        ids = rng.integers(0, 50, (1, 20))
        (found,) = session(bundle.path, "gather").run(None, {"ids": ids})
        x = rng.standard_normal((5, columns), dtype=np.float32)
        (products,) = session(bundle.path, "product").run(None, {"x": x})
    fitted = form.fitted(columns)
    expected = dequantize(quantize(rows, fitted), columns, fitted) if form.quantised else rows
    np.testing.assert_allclose(found[0], expected[ids[0]], atol=1e-6)
    exact = x.astype(np.float64) @ expected.astype(np.float64).T
    error = np.linalg.norm(products - exact) / np.linalg.norm(exact)
    assert error < (
        0.02 if form.quantised else 1e-6
    )  # activations are rounded to 8 bits beside quantised weights


def test_a_bias_joins_the_product(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    store = stored(tmp_path, rng.standard_normal((24, 64), dtype=np.float32))
    bias = rng.standard_normal(24, dtype=np.float32) * 100
    for form in (FLOAT32, Format(8, 32)):
        weights = Weights(store, Recipe("test", dict.fromkeys(WEIGHT_CLASSES, form)), lambda *_: None)
        with BundleWriter(tmp_path / "out") as bundle:
            with bundle.data_file("one.data") as data:
                graph = GraphWriter("product", data)
                x = graph.input("x", "float32", ("T", 64))
                multiply(graph, x, weights.store(data, "w", "mlp"), bias=graph.constant("bias", bias), to="y")
                graph.output("y", "float32", ("T", 24))
            graph.save(bundle)
            (found,) = session(bundle.path, "product").run(None, {"x": np.zeros((2, 64), np.float32)})
        np.testing.assert_allclose(found, np.tile(bias, (2, 1)), atol=1e-5)
