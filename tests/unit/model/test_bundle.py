"""A bundle is used only when all that its manifest promises is true, and what is wrong is said once and clearly."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.errors import BundleError
from edge.model.bundle import CHECKS, open_bundle
from edge.model.manifest import MANIFEST, bundle_hash
from tests.unit.model import example

Change = Callable[[dict[str, Any]], None]


def refusal(path: Path, **options: Any) -> BundleError:
    with pytest.raises(BundleError) as caught:
        open_bundle(path, **options)
    error = caught.value
    assert error.exit_code == 78
    assert error.next_step.rstrip()
    assert "\n" not in error.what
    return error


def set_at(*keys: str | int, to: Any) -> Change:
    """Return a change of one place in the manifest."""

    def change(content: dict[str, Any]) -> None:
        place: Any = content
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = to

    return change


def test_a_sound_bundle_opens_and_is_known_by_its_manifests_hash(tmp_path: Path) -> None:
    path = example.write(tmp_path / "bundle")
    bundle = open_bundle(path, full=True)
    assert bundle.path == path
    assert bundle.manifest == example.manifest()
    assert bundle.hash == bundle_hash((path / MANIFEST).read_bytes())


def own_head(content: dict[str, Any]) -> None:
    """Turn the decoder's logits into hidden, which a head of its own takes."""
    graphs = content["graphs"]
    hidden = {"name": "hidden", "dtype": "float32", "shape": [1, 64]}
    logits, *states = graphs["decoder"]["outputs"]
    graphs["decoder"]["outputs"] = [hidden, *states]
    graphs["head"] = {"file": "embed.onnx", "inputs": [hidden], "outputs": [logits]}


def test_the_head_may_be_a_graph_of_its_own(tmp_path: Path) -> None:
    assert open_bundle(example.write(tmp_path / "bundle", own_head)).manifest.graphs.head is not None


def test_rough_logits_need_the_rows_of_the_embedding(tmp_path: Path) -> None:
    def rough(content: dict[str, Any], *, tied: bool) -> None:
        own_head(content)
        content["text"] |= {"exact_logits": 8, "tied": tied}

    assert open_bundle(example.write(tmp_path / "tied", lambda content: rough(content, tied=True)))
    error = refusal(example.write(tmp_path / "untied", lambda content: rough(content, tied=False)))
    assert "exact_logits" in "".join(error.evidence)


def test_a_head_and_a_decoder_that_gives_logits_contradict_each_other(tmp_path: Path) -> None:
    def both(content: dict[str, Any]) -> None:
        logits = content["graphs"]["decoder"]["outputs"][0]
        own_head(content)
        content["graphs"]["decoder"]["outputs"].append(logits)

    error = refusal(example.write(tmp_path / "bundle", both))
    assert "decoder outputs" in "".join(error.evidence)


def test_reports_beside_the_bundle_are_no_part_of_it(tmp_path: Path) -> None:
    path = example.write(tmp_path / "bundle")
    before = open_bundle(path).hash
    (path / "verify.json").write_text("{}")
    assert open_bundle(path, full=True).hash == before


def test_a_missing_bundle_is_named(tmp_path: Path) -> None:
    error = refusal(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in error.what
    assert "edge-export convert" in error.next_step


def test_a_file_or_another_directory_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "video.mp4").write_bytes(b"x")
    assert "not a bundle" in refusal(tmp_path / "video.mp4").what
    assert "not a bundle" in refusal(tmp_path).what


@pytest.mark.parametrize("text", ["", "{", "\xff", '{"schema": "edgeclip.bundle/1"', "[" * 100_000])
def test_a_manifest_that_is_no_json_is_damage(tmp_path: Path, text: str) -> None:
    path = example.write(tmp_path / "bundle")
    (path / MANIFEST).write_bytes(text.encode("latin-1"))
    assert "damaged" in refusal(path).what


@pytest.mark.parametrize("schema", [None, 1, "edgeclip.answer/1", "edgeclip.bundle/one", "edgeclip.bundle/0"])
def test_another_schema_is_refused(tmp_path: Path, schema: object) -> None:
    error = refusal(example.write(tmp_path / "bundle", set_at("schema", to=schema)))
    assert "newer" not in error.what


def test_a_newer_schema_asks_for_an_update(tmp_path: Path) -> None:
    path = example.write(tmp_path / "bundle", set_at("schema", to="edgeclip.bundle/2"))
    error = refusal(path)
    assert "newer edge-export" in error.what
    assert "Update edgeclip" in error.next_step


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    path = example.write(tmp_path / "bundle", set_at("text", "hidden_size", to=1))
    assert any("text.hidden_size: unknown key" in line for line in refusal(path).evidence)


@pytest.mark.parametrize(
    ("at_least", "below", "fits"),
    [("1.31", "1.32", True), ("99.0", "100.0", False), ("1.0", "1.31", False), ("1.0.0", "99", True)],
)
def test_the_installed_onnxruntime_must_be_in_the_measured_range(
    tmp_path: Path, at_least: str, below: str, *, fits: bool
) -> None:
    wanted = {"onnxruntime_at_least": at_least, "onnxruntime_below": below}
    path = example.write(tmp_path / "bundle", set_at("runtime", to=wanted))
    if fits:
        open_bundle(path)
    else:
        assert f"onnxruntime>={at_least},<{below}" in refusal(path).next_step


@pytest.mark.parametrize("name", sorted(example.FILES))
def test_one_flipped_bit_in_any_file_is_found(tmp_path: Path, name: str) -> None:
    path = example.write(tmp_path / "bundle")
    data = bytearray((path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (path / name).write_bytes(data)
    error = refusal(path)
    assert "damaged" in error.what
    assert error.evidence[0].startswith(f"{name}: sha256 ")
    assert error.next_step == "Copy it again, then run: edge check CONFIG"


def test_a_missing_and_a_short_file_are_named(tmp_path: Path) -> None:
    path = example.write(tmp_path / "bundle")
    (path / "decoder.data").write_bytes(b"short")
    assert refusal(path).evidence == (f"decoder.data: 5 bytes, {MANIFEST} says 10240",)
    (path / "decoder.data").unlink()
    assert "incomplete" in refusal(path).what


def test_a_link_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    path = example.write(tmp_path / "bundle")
    (path / "decoder.data").rename(tmp_path / "elsewhere")
    (path / "decoder.data").symlink_to(tmp_path / "elsewhere")
    assert "a link" in refusal(path).evidence[0]


def test_the_directory_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(example.write(tmp_path / "bundle"))
    open_bundle(tmp_path / "current")


@pytest.mark.parametrize("name", ["../decoder.data", "/etc/passwd", "a/b", "..", ".hidden", "a\nb", ""])
def test_a_file_name_cannot_leave_the_directory(tmp_path: Path, name: str) -> None:
    entry = {"size": 0, "sha256": "0" * 64}
    path = example.write(tmp_path / "bundle", set_at("files", name, to=entry))
    assert "manifest" in refusal(path).what
    path = example.write(tmp_path / "other", set_at("graphs", "decoder", "file", to=name))
    assert "manifest" in refusal(path).what


CONTRADICTIONS: dict[str, tuple[Change, str]] = {
    "graph file not listed": (set_at("graphs", "vision", "file", to="other.onnx"), "other.onnx"),
    "manifest lists itself": (
        set_at("files", MANIFEST, to={"size": 1, "sha256": "0" * 64}),
        "cannot list itself",
    ),
    "more ids than rows": (set_at("tokens", "vocab_used", to=705), "vocab_used 705"),
    "end id is padding": (set_at("tokens", "eos", to=[642, 673]), "eos[1] 673"),
    "pad id beyond": (set_at("tokens", "video_pad", to=700), "video_pad 700"),
    "ids collide": (set_at("tokens", "image_pad", to=653), "must differ"),
    "sections do not sum": (set_at("text", "mrope_section", to=[2, 1, 2]), "mrope_section [2, 1, 2]"),
    "odd rotary dimensions": (set_at("text", "rope_dims", to=9), "rope_dims 9"),
    "negative section": (set_at("text", "mrope_section", to=[6, -1, -1]), "mrope_section"),
    "odd head": (set_at("vision", "head_dim", to=30), "head_dim 30"),
    "limits swapped": (set_at("video_pixels", "minimum", to=1 << 40), "video_pixels"),
    "kv without M": (set_at("states", 0, "shape", to=[1, 2, 64, 32]), "one symbolic dimension M"),
    "kv with N": (set_at("states", 0, "shape", to=[1, 2, "N", 32]), "one symbolic dimension M"),
    "conv of any length": (set_at("states", 1, "shape", to=[1, "M", 384]), "no symbolic dimension"),
    "empty state": (set_at("states", 2, "shape", to=[1, 0, 32, 32]), "empty dimension"),
    "state twice": (set_at("states", 1, "output", to="new_key_0"), "occurs twice"),
    "state is no input": (set_at("states", 1, "input", to="past_conv_9"), "past_conv_9"),
    "state of another type": (set_at("states", 0, "dtype", to="float16"), "expected float16"),
    "rounded state without scale": (set_at("states", 0, "dtype", to="int8"), "must have scale and rows"),
    "scale without rounding": (
        set_at("states", 0, "scale", to="key_scale_0"),
        "must not have scale and rows",
    ),
    "wrong hidden size": (set_at("text", "hidden", to=65), "expected float32 [1, '*', 65]"),
    "wrong patch": (set_at("vision", "patch_size", to=14), "patches is uint8 ['N', 'P', 1536]"),
    "fixed chunk": (
        set_at("graphs", "embed", "inputs", 0, "shape", to=[1, 128]),
        "input_ids is int64 [1, 128]",
    ),
    "wrong name": (set_at("graphs", "decoder", "inputs", 0, "name", to="x"), "decoder inputs are"),
    "no output": (set_at("graphs", "vision", "outputs", to=[]), "vision outputs are []"),
    "no opening": (set_at("prompt", "user_open", to=""), "user_open is empty"),
    "no time": (set_at("prompt", "timestamp", to="<seconds>"), "timestamp '<seconds>'"),
    "time of another shape": (set_at("prompt", "timestamp", to="{time:>9999999.1f}"), "timestamp"),
    "another field": (set_at("prompt", "timestamp", to="{time:.1f}{self}"), "timestamp"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_manifest_that_contradicts_itself_is_refused(tmp_path: Path, name: str) -> None:
    change, evidence = CONTRADICTIONS[name]
    error = refusal(example.write(tmp_path / "bundle", change))
    assert "contradicts itself" in error.what
    assert any(evidence in line for line in error.evidence), error.evidence


def test_a_full_check_is_remembered_until_a_file_changes(tmp_path: Path) -> None:
    path, cache = example.write(tmp_path / "bundle"), tmp_path / "cache"
    open_bundle(path, cache=cache)
    file = path / "decoder.data"
    known = file.stat()
    data = file.read_bytes()
    file.write_bytes(data[::-1])
    os.utime(file, ns=(known.st_atime_ns, known.st_mtime_ns))
    open_bundle(path, cache=cache)  # size and time are as they were: not read again
    assert "sha256" in refusal(path, cache=cache, full=True).evidence[0]
    assert "sha256" in refusal(path).evidence[0]
    os.utime(file, ns=(known.st_atime_ns, known.st_mtime_ns + 1))
    assert "sha256" in refusal(path, cache=cache).evidence[0]
    file.write_bytes(data)
    open_bundle(path, cache=cache)


def test_what_is_remembered_belongs_to_one_manifest(tmp_path: Path) -> None:
    path, cache = example.write(tmp_path / "bundle"), tmp_path / "cache"
    open_bundle(path, cache=cache)
    content = json.loads((path / MANIFEST).read_text())
    content["files"]["decoder.data"]["sha256"] = "0" * 64
    (path / MANIFEST).write_text(json.dumps(content))
    assert "sha256" in refusal(path, cache=cache).evidence[0]


@pytest.mark.parametrize("found", [b"", b"[]", b"\xff", b'{"a": 1}'])
def test_a_broken_cache_only_costs_time(tmp_path: Path, found: bytes) -> None:
    path, cache = example.write(tmp_path / "bundle"), tmp_path / "cache"
    cache.mkdir()
    (cache / CHECKS).write_bytes(found)
    open_bundle(path, cache=cache)
    assert str(path.resolve()) in json.loads((cache / CHECKS).read_text())
    assert sorted(entry.name for entry in cache.iterdir()) == [CHECKS]


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a directory should be")
    open_bundle(example.write(tmp_path / "bundle"), cache=tmp_path / "cache")
