"""A plan without running anything: what is counted, divided by what a device can do."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import jsonschema
import pytest

from edge.bench.plan import PlanReport, learnt, plan, plan_schema, render
from edge.bench.report import BenchMemory, BenchReport, Load, Machine, Rate, VisionRate, estimate
from edge.config import CACHE_DIRECTORY
from edge.host import budget
from edge.host.budget import Need, clip_s
from edge.host.devices import this_device
from edge.host.governor import RUNGS
from edge.share import demo_bundle


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlanReport:
    monkeypatch.setenv(CACHE_DIRECTORY, str(tmp_path))
    return plan(demo_bundle(), seconds=60, fps=8, cameras=2)


def test_the_line_keeps_its_schema(report: PlanReport) -> None:
    jsonschema.validate(json.loads(report.payload()), plan_schema())


def test_the_known_devices_and_this_one_are_planned_for(report: PlanReport) -> None:
    assert [(device.device, device.basis) for device in report.devices] == [
        ("Raspberry Pi 5", "predicted"),
        ("Jetson Orin Nano", "predicted"),
        ("this machine", "predicted"),
    ]
    text = render(report)
    assert all(device.device in text for device in report.devices)


def test_no_rung_takes_more_than_the_one_before(report: PlanReport) -> None:
    for device in report.devices:
        moving, quiet = device.scenes
        for scene in device.scenes:
            assert all(worse <= better for better, worse in pairwise(scene.per_second))
            assert scene.start is not None
            assert scene.per_second[scene.start] <= report.work
        assert quiet.per_second[0] < moving.per_second[0]


def test_what_was_measured_here_stands_beside_what_is_predicted(
    report: PlanReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_DIRECTORY, str(tmp_path))
    costs = budget.Costs(cell_s=0.04, token_s=0.2, bend=0.0, word_s=0.4, clips=3)
    budget.save(budget.costs_file(tmp_path), budget.key(report.bundle, this_device(), 0), costs)
    measured = plan(demo_bundle(), seconds=60, fps=8).devices[-1]
    assert (measured.device, measured.basis) == ("this machine", "measured")
    assert measured.scenes[0].vision == pytest.approx(240 * 12 * 0.04)
    assert measured.scenes[0].start is None  # nothing that small is enough
    assert "skips clips" in measured.scenes[0].start_name


def test_costs_from_a_benchmark_give_the_benchmarks_own_clip() -> None:
    vision = VisionRate(width=256, height=192, tokens_per_pair=48, pairs_per_s=20, slowest=19)
    prefill = (Rate(depth=0, tokens_per_s=400, slowest=1), Rate(depth=13_000, tokens_per_s=250, slowest=1))
    decode = (Rate(depth=0, tokens_per_s=40, slowest=1), Rate(depth=13_000, tokens_per_s=25, slowest=1))
    clip = estimate(vision, prefill, decode, seconds=60, pairs=240, tokens=13_920)
    bench = BenchReport(
        machine=Machine(processor="p", cores=2, threads=2, memory_mib=1),
        model="m",
        recipe="r",
        bundle="b",
        repeat=1,
        load=Load(ready=1, first_token=1),
        vision=vision,
        prefill=prefill,
        decode=decode,
        answer=decode[-1],
        fork_ms=1,
        clip=clip,
        memory=BenchMemory(peak_mib=1, anonymous_mib=1),
    )
    need = Need(kept=240, grid=240, cells=48, words=300, asked=260)
    assert clip_s(learnt(bench), need, RUNGS[0]) == pytest.approx(60 * clip.per_second, rel=0.02)
