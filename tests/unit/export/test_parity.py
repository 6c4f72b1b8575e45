"""The measures of parity: known values, bounds, and what counts as too far."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export import parity

FINE = parity.Logits(positions=4, error=1e-6, kl_mean=1e-9, kl_max=2e-9, top1=1.0, top5=1.0)
CASE = parity.Case(
    name="text",
    tokens=9,
    same_ids=True,
    same_positions=True,
    pixels=0.2,
    logits=FINE,
    greedy=parity.Greedy(tokens=3, equal=3, near_tie=False),
    reference_s=0.1,
    bundle_s=0.1,
)
REPORT = parity.Report(
    subject=parity.Subject("models/toy", "0" * 64, "fp32", "toy", "float32", {"transformers": "5.23.0"}),
    graphs=(parity.GraphError("decoder", 1e-6),),
    cases=(CASE,),
)


def report(**changes: object) -> parity.Report:
    return replace(REPORT, cases=(CASE, replace(CASE, name="changed", **changes)))  # type: ignore[arg-type]


def logits(rows: int, columns: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (rows, columns)).astype(np.float32)


def test_kl_has_its_textbook_value() -> None:
    half, skewed = np.log([[0.5, 0.5]]), np.log([[0.9, 0.1]])
    expected = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert parity.kl_divergence(half, skewed) == pytest.approx([expected])
    assert parity.kl_divergence(half + 1000.0, skewed - 7.0) == pytest.approx([expected])


@settings(deadline=None, max_examples=50)
@given(rows=st.integers(1, 5), columns=st.integers(5, 40), seed=st.integers(0, 999))
def test_every_measure_stays_in_its_range(rows: int, columns: int, seed: int) -> None:
    a, b = logits(rows, columns, seed), logits(rows, columns, seed + 1)
    same, other = parity.compare_logits(a, a), parity.compare_logits(a, b)
    assert same == parity.Logits(rows, 0.0, 0.0, 0.0, 1.0, 1.0)
    assert 0 < other.kl_mean <= other.kl_max
    assert 0 <= other.top1 <= 1
    assert 0 <= other.top5 <= 1


def test_the_error_is_a_fraction_of_the_largest_logit() -> None:
    found = np.array([[8.0, -10.0, 1.0, 0.0, 2.0]], np.float32)
    assert parity.relative_error(found, found + np.float32(0.5)) == pytest.approx(0.05)
    assert parity.relative_error(found, found * np.nan) == math.inf


def test_the_first_choice_and_the_first_five_are_counted() -> None:
    a = np.array([[6, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1]], np.float32)
    b = np.array([[6, 5, 4, 3, 2, 1], [1, 6, 5, 4, 3, 2]], np.float32)
    found = parity.compare_logits(a, b)
    assert found.top1 == 0.5
    assert found.top5 == pytest.approx((1.0 + 0.8) / 2)


def test_greedy_answers_may_part_only_at_a_near_tie() -> None:
    clear = np.array([[0.0, 9.0, 1.0]] * 3, np.float32)
    tie = clear.copy()
    tie[1] = [0.0, 9.0, 8.9999]
    assert parity.compare_greedy([1, 1, 1], clear, [1, 1, 1]) == parity.Greedy(3, 3, near_tie=False)
    assert parity.compare_greedy([1, 1, 1], clear, [1, 2, 1]) == parity.Greedy(3, 1, near_tie=False)
    assert not parity.compare_greedy([1, 1, 1], clear, [1, 2, 1]).agrees
    assert parity.compare_greedy([1, 1, 1], tie, [1, 2, 1]).agrees
    assert not parity.compare_greedy([1, 1, 1], clear, [1]).agrees


def test_a_good_float32_bundle_has_no_failures() -> None:
    assert parity.failures(REPORT, exact=True, max_kl=1e-6) == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"same_ids": False}, "token ids"),
        ({"same_positions": False}, "M-RoPE"),
        ({"pixels": 1.5}, "pixels"),
        ({"logits": replace(FINE, error=2e-3)}, "logits"),
        ({"logits": replace(FINE, error=math.inf, kl_mean=math.nan)}, "logits"),
        ({"greedy": parity.Greedy(3, 1, near_tie=False)}, "greedy"),
    ],
)
def test_each_fault_of_a_float32_bundle_is_named(changes: dict[str, object], word: str) -> None:
    (found,) = parity.failures(report(**changes), exact=True, max_kl=None)
    assert found.startswith("changed: ")
    assert word in found


def test_a_quantised_bundle_is_held_to_max_kl_alone() -> None:
    far = report(logits=replace(FINE, error=0.3, kl_mean=0.2), greedy=parity.Greedy(3, 0, near_tie=False))
    assert parity.failures(far, exact=False, max_kl=None) == []
    assert parity.failures(far, exact=False, max_kl=0.2) == []
    (found,) = parity.failures(far, exact=False, max_kl=0.05)
    assert "--max-kl 0.05" in found
    broken = report(logits=replace(FINE, kl_mean=math.nan))
    assert len(parity.failures(broken, exact=False, max_kl=10.0)) == 1


def test_a_bfloat16_reference_judges_less_strictly() -> None:
    rough = replace(REPORT, subject=replace(REPORT.subject, dtype="bfloat16"))
    rough = replace(rough, cases=(replace(CASE, logits=replace(FINE, error=0.02)),))
    assert parity.failures(rough, exact=True, max_kl=None) == []
    assert parity.failures(replace(rough, subject=REPORT.subject), exact=True, max_kl=None)


def test_the_report_is_strict_json_and_a_table_with_every_case() -> None:
    broken = report(logits=replace(FINE, error=math.inf, kl_mean=math.nan))
    read = json.loads(parity.strict_json(broken.dump(["changed: broken"])))
    assert (read["schema"], read["passed"]) == (parity.SCHEMA, False)
    assert read["error"] is None
    assert read["cases"][0]["logits"]["kl_mean"] == 1e-9
    table = REPORT.table()
    assert "text" in table
    assert "3/3" in table
    assert "decoder 1.0e-06" in table
