"""Products by rows: onnxruntime computes what the formats promise, whatever the inputs' size."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edge.model.sessions import session_options
from export.bundle import BundleWriter
from export.checkpoint.tensors import StoredTensor, TensorStore
from export.graph.products import Products, Scaled
from export.graph.weights import Weights
from export.graph.writer import GraphWriter
from export.quantize import quantize_rows
from export.recipes import FLOAT32, ROW, WEIGHT_CLASSES, Format, Recipe
from export.rotation import block_width, spread, turn_runs

INPUTS, OUTPUTS = 96, 40


def product(
    place: Path, rows: NDArray[np.float32], form: Format, rotation: int = 0, options: Any = None
) -> Any:
    """Return a session for x [1, T, K] -> y = x W' + bias, z = 1 + x W'."""
    import onnxruntime as ort

    file = place / "rows.bin"
    bias = np.linspace(-1, 1, len(rows), dtype=np.float32)
    file.write_bytes(rows.tobytes() + bias.tobytes())
    store = TensorStore(
        {
            "w": StoredTensor("w", "F32", rows.shape, file, 0),
            "b": StoredTensor("b", "F32", bias.shape, file, rows.nbytes),
        }
    )
    recipe = Recipe("test", dict.fromkeys(WEIGHT_CLASSES, form), None, rotation)
    with BundleWriter(place / "out") as bundle:
        with bundle.data_file("one.data") as data:
            graph = GraphWriter("product", data)
            products = Products(graph, Weights(store, recipe, lambda *_: None))
            x = graph.input("x", "float32", (1, "T", rows.shape[1]))
            products.linear(x, "w", "mlp", bias="b", to="y")
            ones = graph.op("Expand", graph.constant("ones", np.ones(1, np.float32)), graph.op("Shape", "y"))
            added = products.add(ones, products.unscaled(Scaled(x), "w", "mlp"))
            graph.op("Identity", added, to="z")
            graph.output("y", "float32", (1, "T", len(rows)))
            graph.output("z", "float32", (1, "T", len(rows)))
        graph.save(bundle)
        return ort.InferenceSession(bundle.path / "product.onnx", options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("rotation", [0, 32])
def test_a_product_by_rows_is_that_of_the_rounded_numbers(rotation: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((OUTPUTS, INPUTS), dtype=np.float32)
    x = (
        rng.standard_normal((1, 9, INPUTS), dtype=np.float32)
        * np.logspace(-6, 6, 9, dtype=np.float32)[:, None]
    )
    y, z = product(tmp_path, rows, Format(8, ROW), rotation).run(None, {"x": x})
    turn = spread(rotation) if rotation else np.eye(1, dtype=np.float32)
    weights = quantize_rows(turn_runs(rows, turn))
    turned = turn_runs(x[0], turn).astype(np.float64)
    step = np.abs(turned).max(1, keepdims=True) / 127
    expected = np.rint(turned / step) * step @ (weights.values * weights.scales[:, None].astype(np.float64)).T
    size = np.abs(expected).max(1, keepdims=True)
    # A number may fall on the other side of a half: one step of one input, in float32 and in float64.
    assert (np.abs(z[0] - 1 - expected) <= size / 50 + 1e-6).all()
    np.testing.assert_allclose(y[0] - np.linspace(-1, 1, OUTPUTS), z[0] - 1, atol=1e-4, rtol=1e-4)


@settings(deadline=None, max_examples=60)
@given(
    x=arrays(
        np.float32,
        st.tuples(st.just(1), st.integers(1, 5), st.just(INPUTS)),
        elements=st.floats(-(2.0**60), 2.0**60, width=32),
    )
)
def test_no_input_makes_a_product_by_rows_infinite(x: NDArray[np.float32], session: Any) -> None:
    (y,) = session.run(["y"], {"x": x})
    assert np.isfinite(y).all()


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Any:
    rows = np.random.default_rng(2).standard_normal((OUTPUTS, INPUTS), dtype=np.float32)
    return product(tmp_path_factory.mktemp("product"), rows, Format(8, ROW), 32)


def test_a_token_of_zeros_gives_the_bias(session: Any) -> None:
    (y,) = session.run(["y"], {"x": np.zeros((1, 2, INPUTS), np.float32)})
    np.testing.assert_array_equal(y[0], np.tile(np.linspace(-1, 1, OUTPUTS, dtype=np.float32), (2, 1)))


@pytest.mark.parametrize("form", [FLOAT32, Format(8, 32)])
def test_other_formats_add_the_same_way(form: Format, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((OUTPUTS, INPUTS), dtype=np.float32)
    x = rng.standard_normal((1, 3, INPUTS), dtype=np.float32)
    y, z = product(tmp_path, rows, form).run(None, {"x": x})
    np.testing.assert_allclose(y[0] - np.linspace(-1, 1, OUTPUTS), z[0] - 1, atol=1e-4)


@pytest.mark.parametrize("width", [1, 2, 16, 64, 256])
def test_a_turn_is_orthogonal_and_flat(width: int) -> None:
    turn = spread(width)
    np.testing.assert_allclose(turn @ turn.T, np.eye(width), atol=1e-6)
    np.testing.assert_allclose(np.abs(turn), width**-0.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("width", "most", "block"), [(1024, 32, 32), (3584, 1024, 512), (96, 64, 32), (7, 32, 1)]
)
def test_a_block_divides_its_row(width: int, most: int, block: int) -> None:
    assert block_width(width, most) == block


@pytest.mark.parametrize("count", [1, 2, 16, 96])
def test_integer_sums_are_exact_at_the_ends_of_their_range(count: int, tmp_path: Path) -> None:
    """On x86 without VNNI onnxruntime's own choice of kernel cuts them off; the engine's options do not let it."""
    rows = np.ones((OUTPUTS, 512), np.float32)
    rows[::2] *= np.where(np.arange(512) < 64, -1, 1)
    x = np.ones((1, count, 512), np.float32)
    session = product(tmp_path, rows, Format(8, ROW), options=session_options(1))
    (z,) = session.run(["z"], {"x": x})
    np.testing.assert_allclose(z[0] - 1, x[0] @ rows.T, rtol=1e-5)
