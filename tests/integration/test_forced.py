"""Tokens that are known in advance, and logits of few ids: what saves time must not change the answer."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.model.decoder import Arena
from edge.model.engine import Engine
from edge.model.fork import embedded
from edge.model.layout import text_piece
from export.convert import convert
from export.recipes import load_recipe
from tests import checkpoints

DEPTH = 200  # behind it a few tokens are attended to like a single one
RUN = [7, 300, 12, 45, 9]


@pytest.fixture(scope="module", params=["toy_tied", "toy_untied"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    place = tmp_path_factory.mktemp(request.param)
    source = checkpoints.write(request.param, place / "checkpoint")
    with Engine(convert(str(source), place / "bundle", load_recipe("int4")).bundle, threads=1) as engine:
        yield engine


@pytest.fixture
def arena(engine: Engine) -> Arena:
    arena = engine.parts.decoder.arena(DEPTH + 64)
    append(engine, arena, np.random.default_rng(0).integers(0, 600, DEPTH).tolist())
    return arena


def append(
    engine: Engine, arena: Arena, tokens: list[int], ids: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    run = embedded(engine.parts.decoder, text_piece(tokens, arena.next_pos))
    return arena.prefill(run.embeds, run.positions, run.next_pos, ids=ids).copy()


def test_tokens_appended_together_give_the_logits_of_tokens_one_by_one(engine: Engine, arena: Arena) -> None:
    mark = arena.mark()
    for token in RUN:
        single = arena.step(token).copy()
    following = arena.step(3).copy()
    arena.rewind(mark)
    together = append(engine, arena, RUN)
    largest = np.abs(single).max()
    assert np.abs(together - single).max() <= 0.02 * largest
    assert np.abs(arena.step(3) - following).max() <= 0.02 * largest  # and leave the same states


def test_the_logits_of_few_ids_are_those_of_the_head(engine: Engine, arena: Arena) -> None:
    ids = np.array([0, 3, 17, 630])
    mark = arena.mark()
    everything = append(engine, arena, RUN)
    arena.rewind(mark)
    few = append(engine, arena, RUN, ids)
    # The head's product rounds its input to eight bits, a few rows are multiplied as they are.
    assert np.abs(few - everything[ids]).max() <= 0.02 * np.abs(everything).max()
    everything, again = arena.step(5).copy(), arena.mark()
    arena.rewind(mark)
    append(engine, arena, RUN, ids)
    few = arena.step(5, ids)
    assert np.abs(few - everything[ids]).max() <= 0.02 * np.abs(everything).max()
    assert arena.length == again.length


def test_a_context_counts_its_rounded_rows_as_memory_that_it_holds(engine: Engine) -> None:
    arena = engine.parts.decoder.arena(1000)
    begun = arena.held_bytes
    arena.pad(500)
    states = [state for state in engine.bundle.manifest.states if state.kind == "kv"]
    a_row = sum(int(state.shape[1]) * int(state.shape[3]) for state in states)  # a byte each
    assert arena.held_bytes - begun >= 500 * a_row
