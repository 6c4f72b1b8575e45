"""Recipes that round by rows, turn inputs, or hold two copies of the layers: the model stays the model."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.model.bundle import open_bundle
from edge.model.engine import Engine
from export.candidate import Question, clip_pairs, teacher_logits
from export.convert import convert
from export.recipes import FLOAT32, WEIGHT_CLASSES, Recipe, load_recipe
from tests import checkpoints, needs, planted

EXACT = Recipe("exact", dict.fromkeys(WEIGHT_CLASSES, FLOAT32))
ANSWER = (5, 6, 7, 8, 9, 10, 11, 12)


def logits(
    source: Path, recipe: Recipe, place: Path, *, chunk: int | None = None, cache: Path | None = None
) -> NDArray[np.float32]:
    """Convert, show a clip of 8 frames and ask; return the logits before each token of an answer, (8, V)."""
    bundle = place / recipe.name
    if not bundle.exists():
        convert(str(source), bundle, recipe)
    frames = np.random.default_rng(1).integers(0, 255, (8, 96, 128, 3), np.uint8)
    question = Question("what is it, where is it and since when is it there", pairs=clip_pairs(frames, 8.0))
    with Engine(open_bundle(bundle), chunk=chunk, cache=cache) as engine:
        return teacher_logits(engine, question, ANSWER)


def error(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("preset", ["toy_tied", "toy_untied"])
def test_two_copies_in_float32_are_one_model(preset: str, tmp_path: Path) -> None:
    """The second graph has its own convolution, no head and less of the last layer: the states must be the same."""
    source = checkpoints.write(preset, tmp_path / "checkpoint")
    expected = logits(source, EXACT, tmp_path)
    second = replace(EXACT, name="two", prefill=FLOAT32)
    for chunk in (None, 7, 64):
        found = logits(source, second, tmp_path, chunk=chunk)
        assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max()


def test_two_copies_survive_being_packed_into_the_cache(tmp_path: Path) -> None:
    source, recipe = checkpoints.write("toy_tied", tmp_path / "checkpoint"), load_recipe("w8a8-int4")
    expected = logits(source, recipe, tmp_path)
    for _ in ("packed", "mapped"):
        np.testing.assert_array_equal(logits(source, recipe, tmp_path, cache=tmp_path / "cache"), expected)
    assert list((tmp_path / "cache").rglob("prefill.onnx"))


@pytest.mark.parametrize("preset", ["toy_tied", "toy_untied"])
def test_rows_are_about_as_exact_as_blocks(preset: str, tmp_path: Path) -> None:
    source = checkpoints.write(preset, tmp_path / "checkpoint")
    expected = logits(source, EXACT, tmp_path)
    blocks = error(logits(source, load_recipe("int8"), tmp_path), expected)
    assert error(logits(source, load_recipe("w8a8"), tmp_path), expected) <= 1.5 * blocks


@pytest.mark.parametrize("factor", [50, 300])
@pytest.mark.parametrize("kind", planted.KINDS)
def test_outlier_channels_cost_rows_no_more_than_blocks(
    kind: planted.Kind, factor: float, tmp_path: Path
) -> None:
    """At most 1.5 times the logit error of int8 in blocks of 128, which is what `convert` falls back to."""
    source = planted.write(tmp_path / "checkpoint", kind, factor)
    expected = logits(source, EXACT, tmp_path)
    blocks = error(logits(source, load_recipe("int8"), tmp_path), expected)
    assert error(logits(source, load_recipe("w8a8"), tmp_path), expected) <= 1.5 * blocks


def test_the_turn_is_what_makes_rows_exact_enough(tmp_path: Path) -> None:
    source = planted.write(tmp_path / "checkpoint", "inner", 50)
    expected = logits(source, EXACT, tmp_path)
    turned = load_recipe("w8a8")
    plain = error(logits(source, replace(turned, name="plain", rotation=0), tmp_path), expected)
    assert plain > 1.5 * error(logits(source, turned, tmp_path), expected)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_rows_are_as_exact_on_a_raspberry_pi_and_on_an_old_pc(tmp_path: Path) -> None:
    """Emulated: real kernels of onnxruntime's ARM wheel, and of x86 without VNNI; needs the network once."""
    for name in ("qemu-aarch64-static", "qemu-x86_64-static"):
        needs.program(name, "qemu-user-static")
    command = [sys.executable, "-m", "tests.bench.processors", str(tmp_path), "--recipes", "int8", "w8a8"]
    assert subprocess.run([*command, "--factors", "50"], check=False).returncode == 0
