"""Packed weights in the cache directory: the same answers, and never a reason to fail."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from edge.model.aligned import PAGE, align
from edge.model.bundle import Bundle, open_bundle
from edge.model.engine import Engine
from edge.model.prepared import DIRECTORY, KEPT, Prepared
from edge.records import Pair, Size
from edge.share import demo_bundle

SIZE = Size(64, 96)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(demo_bundle())


def logits(bundle: Bundle, cache: Path | None) -> np.ndarray:
    frames = np.random.default_rng(0).integers(0, 256, (2, 2, 64, 96, 3), np.uint8)
    with Engine(bundle, threads=1, cache=cache) as engine, engine.stream(SIZE, 8) as stream:
        stream.push([Pair(i, i / 4, frames[i]) for i in range(2)])
        reply = stream.fork().ask("What?", schema=None, max_tokens=20)
        return np.array([*reply.tokens, *reply.logprobs])


def prepared(bundle: Bundle, cache: Path) -> list[Path]:
    graphs = bundle.manifest.graphs
    found = [Prepared(bundle, cache).find(graph) for graph in (graphs.vision, graphs.decoder)]
    return [path for path in found if path is not None]


def test_packed_weights_change_nothing_in_the_answers(bundle: Bundle, tmp_path: Path) -> None:
    plain = logits(bundle, None)
    assert prepared(bundle, tmp_path) == []
    first = logits(bundle, tmp_path)
    files = prepared(bundle, tmp_path)
    assert len(files) == 2
    written = [path.stat().st_mtime_ns for path in files]
    second = logits(bundle, tmp_path)
    np.testing.assert_array_equal(first, plain)
    np.testing.assert_array_equal(second, plain)
    assert [path.stat().st_mtime_ns for path in files] == written  # not made again


def test_packed_data_begins_on_pages_however_large_its_pieces_are(bundle: Bundle, tmp_path: Path) -> None:
    import onnx

    logits(bundle, tmp_path)
    for path in prepared(bundle, tmp_path):
        model = onnx.load(path, load_external_data=False)
        size = path.with_name(f"{path.name}.data").stat().st_size
        places = []
        for tensor in model.graph.initializer:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            if entries:
                places.append((int(entries["offset"]), int(entries["length"])))
            for key, value in entries.items():
                if key.startswith("prepacked"):
                    parts = [part.split(";") for part in value.split("|")[1:]]
                    places += [(int(part[0]), int(part[1])) for part in parts]
        assert any(length % PAGE for _, length in places)
        assert all(place % PAGE == 0 and place + length <= size for place, length in places)
        ends = sorted((place, place + length) for place, length in places)
        assert all(end <= following for (_, end), (following, _) in itertools.pairwise(ends))


@pytest.mark.parametrize("content", [b"\x08", b"\x0f", b"\x0a\x7f", b"\x80" * 12, b"\x3d\0"])
def test_what_is_no_protobuf_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model").write_bytes(content)
    (tmp_path / "data").write_bytes(b"")
    with pytest.raises(ValueError, match="byte"):
        align(tmp_path / "model", tmp_path / "data")
    assert (tmp_path / "model").read_bytes() == content


def test_a_file_that_is_cut_short_is_made_again(bundle: Bundle, tmp_path: Path) -> None:
    plain = logits(bundle, tmp_path)
    _, decoder = prepared(bundle, tmp_path)
    data = decoder.with_name("decoder.onnx.data")
    whole = data.stat().st_size
    data.write_bytes(data.read_bytes()[: whole // 2])
    assert prepared(bundle, tmp_path) == []
    np.testing.assert_array_equal(logits(bundle, tmp_path), plain)
    assert data.stat().st_size == whole


def test_a_graph_that_cannot_be_loaded_from_the_cache_is_loaded_from_the_bundle(
    bundle: Bundle, tmp_path: Path
) -> None:
    plain = logits(bundle, tmp_path)
    vision, _ = prepared(bundle, tmp_path)
    vision.write_bytes(b"\xff" * vision.stat().st_size)
    np.testing.assert_array_equal(logits(bundle, tmp_path), plain)
    assert prepared(bundle, tmp_path) == []  # dropped, and made anew by the next engine


def test_a_cache_that_cannot_be_written_is_no_error(bundle: Bundle, tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("not a directory")
    np.testing.assert_array_equal(logits(bundle, occupied), logits(bundle, None))


def test_what_was_not_used_lately_makes_room(bundle: Bundle, tmp_path: Path) -> None:
    root = tmp_path / DIRECTORY
    for name in "abc":
        (root / name).mkdir(parents=True)
    logits(bundle, tmp_path)
    assert len(list(root.iterdir())) == KEPT
    assert len(prepared(bundle, tmp_path)) == 2
