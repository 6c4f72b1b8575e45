"""Who takes part in the comparison with peers, and what is made of their times."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bench import peers


def given(**peer: Any) -> argparse.Namespace:
    plain: dict[str, Any] = {
        "video": Path("clip.avi"),
        "bundle": Path("bundle"),
        "seconds": 2.0,
        "tokens": 8,
        "threads": 2,
        "rounds": 3,
        "llama": None,
        "checkpoint": None,
        "ffmpeg": None,
    }
    return argparse.Namespace(**plain | peer)


LLAMA = {"llama": Path("bin"), "gguf": [Path("q4.gguf")], "mmproj": Path("mm.gguf")}


@pytest.mark.parametrize(
    ("peer", "names"),
    [
        ({"checkpoint": Path("model")}, ["ours", "transformers"]),
        (LLAMA, ["ours", "llama.cpp"]),
        ({**LLAMA, "checkpoint": Path("model")}, ["ours", "llama.cpp", "transformers"]),
    ],
)
def test_a_peer_that_is_not_named_stays_out(peer: dict[str, Any], names: list[str]) -> None:
    found = peers.jobs(given(**peer))
    assert list(found) == names
    for name, job in found.items():
        assert "8" in job.command, name
        assert "clip.avi" in " ".join(job.command) + job.typed, name


def test_ratios_are_medians_of_ratios_within_a_round(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = {"ours": iter((10.0, 20.0, 10.0)), "transformers": iter((40.0, 40.0, 30.0))}

    def timed(job: peers.Job) -> dict[str, Any]:
        name = "ours" if "tests.bench.our_job" in job.command else "transformers"
        took = next(seconds[name])
        return {"seconds": took, "peak_mib": 1000, "stages": {"seconds": {"vision": took / 2}}}

    monkeypatch.setattr(peers, "timed", timed)
    found = peers.whole_job(given(checkpoint=Path("model")))
    assert found["ratios_transformers"] == [4.0, 2.0, 3.0]
    assert found["ratio_transformers"] == 3.0  # of the medians it would be 4
    assert found["vision_ratio_transformers"] == 3.0
    assert (found["ours_s"], found["transformers_s"]) == (10.0, 40.0)
    assert len(capsys.readouterr().err.splitlines()) == 6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--llama", "bin"], "--llama needs --gguf"),
        (["--job", "--video", "clip.avi", "--checkpoint", "model"], "measured beside llama.cpp"),
        (["--depths", "--decode-depths", "--job", "--video", "clip.avi"], "--llama, --checkpoint"),
    ],
)
def test_what_cannot_be_compared_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["peers", "--bundle", "bundle", *arguments])
    with pytest.raises(SystemExit) as ended:
        peers.main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
