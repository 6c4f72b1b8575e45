"""`edge-export` as a user meets it: results, errors, exit codes, and interruption at any moment."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.model.bundle import open_bundle
from tests import checkpoints

COMMAND = [sys.executable, "-m", "export"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.write("toy_untied", tmp_path_factory.mktemp("source") / "toy")


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
        check=False,
    )


def test_convert_and_inspect_tell_a_person_and_a_program(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "models" / "toy"
    made = run("convert", source, out, "--recipe", "int8", "--note", "Random \x1b[31mweights.")
    assert (made.returncode, made.stderr.splitlines()[-1]) == (0, "converting: 100 %")
    assert " MiB in " in made.stdout
    assert "peak memory" in made.stdout
    shown = run("inspect", out)
    assert shown.returncode == 0
    assert "Random \\x1b[31mweights." in shown.stdout
    found = json.loads(run("inspect", out, "--json").stdout)
    bundle = open_bundle(out)
    assert found["hash"] == bundle.hash
    assert found["recipe"] == {
        "name": "int8",
        "precision": {
            "attention": "int8 block 128, int8 block 32",  # blocks shrink where a toy's rows are short
            "cache": "int8 per channel",
            "deltanet": "int8 block 128, int8 block 32",
            "embedding": "int8 block 32",
            "head": "int8 block 32",
            "mlp": "int8 block 16, int8 block 32",
            "vision": "int8 block 128, int8 block 16, int8 block 32",
        },
    }
    assert found["states"] == {
        "attention_layers": 1,
        "deltanet_layers": 3,
        "kv_bytes_per_token": 2 * 2 * 64,
        "fixed_bytes": 3 * (3 * (2 * 2 * 128 + 4 * 128) + 4 * 128 * 128) * 4,
    }
    assert set(found["weights"]) == {"mlp", "attention", "deltanet", "embedding", "head", "vision", "norms"}
    assert sum(found["weights"].values()) <= found["size"]


def test_the_result_as_json_is_all_that_stands_on_standard_output(source: Path, tmp_path: Path) -> None:
    result = json.loads(run("convert", source, tmp_path / "out", "--recipe", "fp32", "--json").stdout)
    assert result["hash"] == open_bundle(tmp_path / "out").hash
    assert result["unexpected"] == []
    assert result["peak_mib"] > 0


def test_converting_loads_neither_torch_nor_transformers(source: Path, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom export.convert import convert\nfrom export.recipes import load_recipe\n"
        f"convert({str(source)!r}, Path({str(tmp_path / 'out')!r}), load_recipe('int4'))\n"
        "loaded = {'torch', 'transformers', 'optimum', 'av'} & sys.modules.keys()\nsys.exit(str(loaded) if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_errors_are_told_without_a_traceback(source: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(source, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes((broken / "model.safetensors").read_bytes()[:-1])
    taken = tmp_path / "taken"
    taken.mkdir()
    out = tmp_path / "out"
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub")}
    for arguments, code, said in (
        (("convert", broken, out), 1, "model.safetensors is truncated"),
        (("convert", source, taken), 1, "exists already"),
        (("convert", tmp_path / "none", out), 1, "does not exist"),
        (("convert", "Qwen/Qwen3.5-0.8B", out, "--revision", "v1"), 1, "at revision v1 cannot be downloaded"),
        (("convert", source, out, "--recipe", "int5"), 78, "there is no recipe 'int5'"),
        (("inspect", taken), 78, "is not a bundle"),
    ):
        done = run(*arguments, **offline)
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.startswith("error: ")
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    assert not out.exists()


def test_a_snapshot_in_the_hubs_cache_is_converted_offline(source: Path, tmp_path: Path) -> None:
    commit, cache = "0" * 39 + "a", tmp_path / "hub" / "models--Qwen--Qwen3.5-0.8B"
    shutil.copytree(source, cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    done = run(
        "convert",
        "Qwen/Qwen3.5-0.8B",
        tmp_path / "out",
        "--recipe",
        "int4",
        HF_HUB_OFFLINE="1",
        HF_HUB_CACHE=str(tmp_path / "hub"),
    )
    assert done.returncode == 0
    model = open_bundle(tmp_path / "out").manifest.model
    assert (model.id, model.revision, model.license) == ("Qwen/Qwen3.5-0.8B", commit, "Apache-2.0")


def test_a_disk_that_refuses_is_one_error_and_leaves_nothing(source: Path, tmp_path: Path) -> None:
    limited = (
        f"ulimit -f 64 && exec {sys.executable} -m export convert {source} {tmp_path / 'out'} --recipe int4"
    )
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "out cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@contextmanager
def stalled(source: Path, out: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A conversion that has begun to write and waits: its standard error is a pipe that was full from the start."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    try:
        while os.write(write, bytes(64)):
            pass
    except BlockingIOError:
        os.set_blocking(write, True)
    process = subprocess.Popen(
        [*COMMAND, "convert", str(source), str(out), "--recipe", "int4"],
        stderr=write,
        stdout=subprocess.DEVNULL,
    )
    os.close(write)
    try:
        deadline = time.monotonic() + 60
        while not list(out.parent.glob(".*/*.data")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield process, read
    finally:
        process.kill()
        process.wait()
        os.close(read)


def drain(read: int) -> None:
    while os.read(read, 4096):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_conversion_removes_what_it_wrote(
    number: signal.Signals, source: Path, tmp_path: Path
) -> None:
    with stalled(source, tmp_path / "out") as (process, read):
        process.send_signal(number)
        drain(read)
        assert process.wait(60) not in {0, None}
    assert list(tmp_path.iterdir()) == []


def test_a_killed_conversion_leaves_no_bundle_and_the_next_one_clears_up(
    source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with stalled(source, out) as (process, _):
        process.kill()
        process.wait(60)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out.partial-")
    assert not (left / "manifest.json").exists()
    assert run("convert", source, out, "--recipe", "int4").returncode == 0
    assert list(tmp_path.iterdir()) == [out]
    open_bundle(out, full=True)


def test_two_conversions_to_one_place_leave_one_whole_bundle(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with stalled(source, out) as (slow, read):
        assert run("convert", source, out, "--recipe", "fp32").returncode == 0
        drain(read)
        assert slow.wait(60) == 1
    assert list(tmp_path.iterdir()) == [out]
    assert open_bundle(out, full=True).manifest.recipe.name == "fp32"
