"""A bundle appears whole or not at all, and nothing is ever overwritten."""

import hashlib
from pathlib import Path

import pytest

from edge.errors import BundleError, EdgeError
from edge.model.bundle import open_bundle
from edge.model.manifest import MANIFEST, Manifest
from export.bundle import BundleWriter
from export.convert import ONNXRUNTIME, convert
from export.recipes import load_recipe
from tests import checkpoints


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.write("toy_tied", tmp_path_factory.mktemp("source") / "toy")


@pytest.fixture(scope="module")
def manifest(source: Path) -> Manifest:
    return convert(str(source), source.parent / "bundle", load_recipe("fp32")).bundle.manifest


def test_files_are_hashed_as_they_lie_on_the_disk(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "out") as bundle:
        with bundle.data_file("a.data") as data:
            first = data.append([memoryview(b"one"), memoryview(b"two")])
            second = data.append([memoryview(b"three")])
        bundle.write("b.txt", b"whole")
        assert (first.offset, first.length, second.offset, second.length) == (0, 6, 4096, 5)
        for name, entry in bundle.files.items():
            written = (bundle.path / name).read_bytes()
            assert entry.size == len(written)
            assert entry.sha256 == hashlib.sha256(written).hexdigest()
        assert (bundle.path / "a.data").read_bytes()[4096:] == b"three"


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    def fail_halfway() -> None:
        with BundleWriter(tmp_path / "out") as bundle:
            bundle.write("a", b"1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_does_not_verify_is_not_named(tmp_path: Path, manifest: Manifest) -> None:
    def refuse(path: Path) -> None:
        assert path.name.startswith(".out.partial-")
        raise BundleError("it is wrong")

    with pytest.raises(BundleError, match="wrong"), BundleWriter(tmp_path / "out") as bundle:
        bundle.finish(manifest, refuse)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_exists_is_not_touched(kind: str, tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "directory":
        out.mkdir()
    else:
        out.symlink_to(tmp_path / "nowhere")
    before = out.lstat()
    with pytest.raises(EdgeError, match="exists already") as caught:
        convert(str(source), out, load_recipe("fp32"))
    assert caught.value.exit_code == 1
    assert (out.lstat().st_ino, out.lstat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert list(tmp_path.iterdir()) == [out]


def test_what_came_into_being_meanwhile_is_not_touched(tmp_path: Path, manifest: Manifest) -> None:
    out = tmp_path / "out"
    with pytest.raises(EdgeError, match="exists already"), BundleWriter(out) as bundle:
        bundle.finish(manifest, lambda _path: out.mkdir())
    assert list(tmp_path.iterdir()) == [out]
    assert list(out.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgeError, match="cannot be written"):
        BundleWriter(tmp_path / "file" / "out")


def test_what_a_dead_run_left_is_cleared_and_a_living_one_is_kept(tmp_path: Path) -> None:
    dead = tmp_path / ".out.partial-4194305"
    dead.mkdir()
    (dead / "embed.data").write_bytes(b"half")
    other = tmp_path / ".other.partial-4194305"
    other.mkdir()
    with BundleWriter(tmp_path / "out") as living:
        assert not dead.exists()
        assert other.exists()
        kept = living.path.rename(tmp_path / ".out.partial-4194306")  # as if another process held it
        with BundleWriter(tmp_path / "out"):
            assert kept.exists()


def test_a_finished_bundle_passes_every_check_of_the_runtime(manifest: Manifest, source: Path) -> None:
    found = open_bundle(source.parent / "bundle", full=True)
    assert found.manifest == manifest
    on_disk = {path.name for path in found.path.iterdir()}
    assert on_disk == {*manifest.files, MANIFEST}


def test_a_tied_head_is_stored_once(manifest: Manifest) -> None:
    preset = checkpoints.PRESETS["toy_tied"]
    embedding = preset.rows * preset.hidden * 4
    assert manifest.files["embed.data"].size == embedding
    total = sum(t.size for t in checkpoints.tensors(preset)) * 4
    data = sum(entry.size for name, entry in manifest.files.items() if name.endswith(".data"))
    assert total * 0.9 < data < total * 1.5  # the rest is alignment


def test_the_range_of_onnxruntime_is_that_of_the_package() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    wanted = f"onnxruntime>={ONNXRUNTIME.onnxruntime_at_least},<{ONNXRUNTIME.onnxruntime_below}"
    assert wanted in project["dependencies"]
