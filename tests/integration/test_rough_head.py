"""A head in fewer bits: the logits that can be chosen are as exact as without it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.model.decoder import Arena
from edge.model.engine import Engine
from edge.model.fork import embedded
from edge.model.layout import text_piece
from export.convert import EXACT_LOGITS, convert
from export.recipes import load_recipe
from tests import checkpoints

SAID = [7, 300, 12, 45, 9]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    preset = replace(checkpoints.PRESETS["toy_tied"], rows=8192)
    return checkpoints.write(preset, tmp_path_factory.mktemp("large") / "checkpoint", tokenizer="toy")


@pytest.fixture(scope="module")
def arenas(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Arena, Arena, int]]:
    """With a rough head, and with the embedding itself as head; and how many rows have a token."""
    place, recipe = tmp_path_factory.mktemp("bundles"), load_recipe("w8a8-int4")
    rough = convert(str(checkpoint), place / "rough", recipe).bundle
    plain = convert(str(checkpoint), place / "plain", replace(recipe, rough_head=None)).bundle
    assert rough.manifest.text.exact_logits == EXACT_LOGITS
    assert rough.manifest.recipe.precision["rough head"].startswith("int4")
    assert plain.manifest.text.exact_logits is None
    with Engine(rough, threads=1) as one, Engine(plain, threads=1) as other:
        yield begun(one), begun(other), rough.manifest.tokens.vocab_used


def begun(engine: Engine) -> Arena:
    arena = engine.parts.decoder.arena(64)
    run = embedded(engine.parts.decoder, text_piece(SAID, 0))
    arena.prefill(run.embeds, run.positions, run.next_pos)
    return arena


def test_the_largest_logits_are_exact_and_the_others_near(arenas: tuple[Arena, Arena, int]) -> None:
    *pair, used = arenas
    marks = [arena.mark() for arena in pair]
    rough, plain = (arena.step(5)[:used].copy() for arena in pair)
    for arena, mark in zip(pair, marks, strict=True):
        arena.rewind(mark)
    # The head's product rounds its input to eight bits, rows of the embedding are multiplied as they are.
    bound = 0.02 * np.abs(plain).max()
    best = np.argsort(-plain)[: EXACT_LOGITS // 2]
    assert rough.argmax() == plain.argmax()
    assert np.abs(rough - plain)[best].max() <= bound
    assert bound < np.abs(rough - plain).max() <= 10 * bound  # four bits would be seen if they could be


def test_under_a_mask_the_largest_that_it_allows_are_exact(arenas: tuple[Arena, Arena, int]) -> None:
    *pair, used = arenas
    marks = [arena.mark() for arena in pair]
    mask = np.zeros(used, np.bool_)
    mask[np.random.default_rng(3).choice(used, 100, replace=False)] = True
    rough, plain = (arena.step(5, mask=mask)[:used].copy() for arena in pair)
    for arena, mark in zip(pair, marks, strict=True):
        arena.rewind(mark)
    assert (rough[~mask] == -np.inf).all()
    assert (plain[~mask] == -np.inf).all()
    best = np.argsort(-plain)[: EXACT_LOGITS // 2]
    assert np.abs(rough[best] - plain[best]).max() <= 0.02 * np.abs(plain[mask]).max()


def test_a_small_or_untied_head_stays_the_only_one(tmp_path: Path) -> None:
    source = checkpoints.write("toy_untied", tmp_path / "checkpoint")
    manifest = convert(str(source), tmp_path / "bundle", load_recipe("int4")).bundle.manifest
    assert manifest.text.exact_logits is None
    assert "rough head" not in manifest.recipe.precision
