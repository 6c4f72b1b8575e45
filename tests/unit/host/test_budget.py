"""What a clip may cost: learnt costs predict, budgets are kept, and nobody pays for a busy neighbour."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.host.budget import Costs, Need, Seen, allot, best_rung, clip_s, learn, load, save
from edge.host.governor import RUNGS, SHORT

COSTS = Costs(cell_s=0.001, token_s=0.003, bend=2e-5, word_s=0.05)
MOVING = Need(kept=240, grid=240, cells=48, words=450)
STILL = Need(kept=12, grid=240, cells=48, words=450)


def seen(costs: Costs, need: Need) -> Seen:
    """Return what an answer would say of a clip that cost exactly that."""
    tokens = round(need.kept * (need.cells + costs.pair_tokens) + need.asked)
    return Seen(
        pairs=round(need.kept),
        cells=need.cells,
        tokens_in=tokens,
        tokens_out=400,
        vision_s=need.kept * need.cells * costs.cell_s,
        prefill_s=costs.prefill_s(tokens),
        decode_s=400 * costs.word_s,
    )


def test_one_measured_clip_replaces_the_prediction() -> None:
    found = learn(Costs(cell_s=9.0, token_s=9.0, bend=COSTS.bend, word_s=9.0), seen(COSTS, MOVING))
    assert clip_s(found, STILL, RUNGS[0]) == pytest.approx(clip_s(COSTS, STILL, RUNGS[0]), rel=1e-3)


def test_later_clips_move_the_costs_a_little() -> None:
    found = learn(learn(COSTS, seen(COSTS, MOVING)), seen(Costs(0.002, 0.006, 2e-5, 0.1), MOVING))
    assert COSTS.word_s < found.word_s < 0.1
    assert found.clips == 2


@given(st.floats(1, 300), st.integers(0, 240))
def test_the_rung_is_the_best_that_the_budget_allows(limit_s: float, kept: int) -> None:
    need = Need(kept=kept, grid=240, cells=48, words=450)
    rung = best_rung(COSTS, need, limit_s)
    assert clip_s(COSTS, need, RUNGS[rung]) <= limit_s or rung == SHORT or _no_better(need, rung)
    assert all(clip_s(COSTS, need, RUNGS[better]) > limit_s for better in range(rung))


def _no_better(need: Need, rung: int) -> bool:
    """Nothing that still looks at every clip costs less."""
    return clip_s(COSTS, need, RUNGS[rung]) == min(clip_s(COSTS, need, r) for r in RUNGS[: SHORT + 1])


def test_a_moving_camera_gives_way_and_its_still_neighbours_do_not() -> None:
    limit_s = 60.0 + 2 * clip_s(COSTS, STILL, RUNGS[0])
    found = allot(COSTS, {"road": MOVING, "door": STILL, "yard": STILL}, limit_s)
    assert found["door"] == found["yard"] == 0
    assert found["road"] > 0
    assert clip_s(COSTS, MOVING, RUNGS[found["road"]]) <= 60.0


def test_costs_survive_a_restart_by_bundle_and_machine(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "costs.json"
    assert load(path, "a") is None
    save(path, "a", COSTS)
    save(path, "b", learn(COSTS, seen(COSTS, MOVING)))
    assert load(path, "a") == COSTS
    found = load(path, "b")
    assert found is not None
    assert found.clips == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', '{"a": {"cell_s": 1}}', '{"a": {"clips": "x"}}'])
def test_a_damaged_file_is_no_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "costs.json"
    path.write_text(text, encoding="utf-8")
    assert load(path, "a") is None
    save(path, "a", COSTS)
    assert load(path, "a") == COSTS
