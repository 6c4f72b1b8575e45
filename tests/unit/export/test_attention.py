"""Attention over a rounded cache, as a graph, against the same in float64."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edge.model.cache import RoundedRows
from edge.model.manifest import State
from export.bundle import BundleWriter
from export.checkpoint.dims import TextDims
from export.graph.attention import RoundedCache
from export.graph.writer import GraphWriter

ROWS = 700


@pytest.fixture(scope="module")
def text() -> TextDims:
    return TextDims(
        hidden=96,
        ffn=208,
        vocab_rows=680,
        tied=False,
        mixers=("full_attention",),
        heads=6,
        kv_heads=2,
        head_dim=64,
        key_heads=2,
        value_heads=4,
        key_dim=32,
        value_dim=32,
        conv_kernel=4,
        eps=1e-6,
        context=32_768,
        rope_theta=1e7,
        rope_dims=16,
        mrope_section=(3, 3, 2),
    )


@pytest.fixture(scope="module", params=["one head at a time", "all heads"])
def session(
    request: pytest.FixtureRequest, text: TextDims, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    import onnxruntime as ort

    place = tmp_path_factory.mktemp("attention")
    heads, size = text.kv_heads, text.head_dim
    with BundleWriter(place / "bundle") as bundle, bundle.data_file("one.data") as data:
        graph = GraphWriter("one", data)
        graph.input("inputs_embeds", "float32", (1, "T", 1))
        for name, count in (("query", text.heads), ("key", heads), ("value", heads)):
            graph.input(name, "float32", (1, "T", count * size))
        graph.input("seqlens_k", "int32", (1,))
        graph.input("total_length", "int32", ())
        states = [
            State(
                kind="kv",
                input=f"past_{name}",
                output=f"present_{name}",
                dtype="int8",
                shape=(1, heads, "M", size),
                scale=f"{name}_scale",
                rows=f"{name}_rows",
            )
            for name in ("key", "value")
        ]
        frugal = request.param == "one head at a time"
        mixed = RoundedCache.open(graph, text, frugal=frugal).attend("query", "key", "value", *states)
        graph.op("Identity", mixed, to="mixed")
        graph.output("mixed", "float32", (1, "T", text.heads * size))
        for state in states:
            graph.input(state.input, "int8", state.shape)
            graph.output(state.output, "int8", state.shape)
            graph.input(str(state.scale), "float32", (1, heads, 1, size))
            graph.output(str(state.rows), "float32", (1, heads, "T", size))
        graph.save(bundle)
        written = next(path for path in place.rglob("one.onnx"))
        options = ort.SessionOptions()
        options.intra_op_num_threads = 2
        yield ort.InferenceSession(written.read_bytes(), options, providers=["CPUExecutionProvider"])


def exact(query: np.ndarray, keys: np.ndarray, values: np.ndarray, before: int) -> np.ndarray:
    """query [T, heads, D], keys and values [n + T, KV heads, D] of which ``before`` come before the chunk."""
    count, heads, size = query.shape
    group = heads // keys.shape[1]
    keys, values = (np.repeat(x.astype(np.float64), group, axis=1) for x in (keys, values))
    scores = np.einsum("thd,nhd->htn", query.astype(np.float64), keys) * size**-0.5
    scores[:, np.arange(len(keys))[None] > before + np.arange(count)[:, None]] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    mixed: np.ndarray = np.einsum("htn,nhd->thd", weights, values)
    return mixed


@pytest.mark.parametrize("count", [1, 2, 16, 17, 64])
@pytest.mark.parametrize("before", [0, 1, 130, 600])
@pytest.mark.parametrize("sharp", [0.1, 1.0, 12.0, -12.0])
def test_the_two_parts_join_to_the_whole(
    session: Any, text: TextDims, count: int, before: int, sharp: float
) -> None:
    """Sharp: scores of hundreds, where one key takes all; negative: the chunk's own keys score far below the past's."""
    heads, size = text.kv_heads, text.head_dim
    together = count <= 16 and before >= 128
    rng = np.random.default_rng(count + before)
    query = rng.standard_normal((count, text.heads, size), np.float32)
    keys, values = (rng.standard_normal((before + count, heads, size), np.float32) for _ in "kv")
    keys *= np.abs(sharp)
    if sharp < 0:
        keys[before:] = -np.abs(sharp) * query[:, :heads]
    caches = [RoundedRows(heads, ROWS, size) for _ in "kv"]
    known = []
    for cache, rows in zip(caches, (keys, values), strict=True):
        if before:
            cache.write(0, rows[None, :before].transpose(0, 2, 1, 3))
        else:
            cache.scale[...] = np.finfo(np.float32).tiny  # nobody has seen a row
        near = (cache.values * cache.scale)[0, :, :before].transpose(1, 0, 2)
        own = rows[before:]
        if together:
            scale = cache.scale[0, :, 0]
            own = np.clip(np.rint(own / scale), -128, 127) * scale
        known.append(np.concatenate([near, own]))
    feeds: dict[str, np.ndarray] = {
        "inputs_embeds": np.zeros((1, count, 1), np.float32),
        "query": query.reshape(1, count, -1),
        "key": keys[before:].reshape(1, count, -1),
        "value": values[before:].reshape(1, count, -1),
        "seqlens_k": np.array([before + count - 1], np.int32),
        "total_length": np.array(before + count, np.int32),
    }
    for name, cache in zip(("key", "value"), caches, strict=True):
        feeds |= {f"past_{name}": cache.values, f"{name}_scale": cache.scale}
    mixed, rows = session.run(["mixed", "key_rows"], feeds)
    np.testing.assert_array_equal(rows[0], keys[before:].transpose(1, 0, 2))
    expected = exact(query, known[0], known[1], before)
    assert np.isfinite(mixed).all()
    # For few tokens the operator rounds the query's products, too.
    bound = 0.02 if together else 2e-4
    assert np.abs(mixed[0].reshape(expected.shape) - expected).max() <= bound * np.abs(values).max()
