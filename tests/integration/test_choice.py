"""`edge-export convert` takes the fastest recipe that is close enough to float32, and says what it measured."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.errors import ConfigError, EdgeError
from edge.model.bundle import open_bundle
from export import choice
from export.bundle import CHOICE
from export.calibration import CLIPS, FRAMES, Clip, clips, questions
from export.convert import Progress
from export.recipes import load_recipe
from tests import checkpoints, planted

TURNED = load_recipe("w8a8")
PLAIN = replace(TURNED, name="plain", rotation=0)


@contextmanager
def silent(_work: str) -> Iterator[Progress]:
    yield lambda _name, _done, _total: None


@pytest.fixture(scope="module")
def shown() -> list[Clip]:
    return clips(None)[:2]


@pytest.fixture(scope="module")
def outliers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Channels fifty times the size of the others, where activations are rounded by rows."""
    return planted.write(tmp_path_factory.mktemp("planted") / "checkpoint", "inner", 50)


def test_the_first_recipe_within_the_limit_is_taken_and_nothing_else_is_converted(
    shown: list[Clip], tmp_path: Path
) -> None:
    source = checkpoints.write("toy_tied", tmp_path / "checkpoint")
    out = tmp_path / "models" / "toy"
    made, chosen = choice.choose(str(source), out, [TURNED, PLAIN], shown, stage=silent, max_kl=1.0)
    assert [loss.recipe for loss in chosen.losses] == ["w8a8"]
    assert not chosen.fell_back
    bundle = open_bundle(out, full=True)
    assert (bundle.hash, bundle.path) == (made.bundle.hash, made.bundle.path)
    assert bundle.manifest.recipe.name == "w8a8"
    assert list(out.parent.iterdir()) == [out]
    kept = json.loads((out / CHOICE).read_text())
    assert kept["reason"] == chosen.reason
    assert kept["losses"][0]["kl_mean"] == chosen.losses[0].kl_mean
    assert 0 < kept["losses"][0]["kl_mean"] <= 1.0
    assert kept["losses"][0]["positions"] <= len(shown) * choice.ANSWER


def test_rows_that_are_not_turned_are_refused_where_channels_stand_out(
    shown: list[Clip], outliers: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    _, chosen = choice.choose(str(outliers), out, [PLAIN, TURNED], shown, stage=silent, max_kl=0.0)
    assert [loss.recipe for loss in chosen.losses] == ["plain", "int8", "w8a8"]
    assert (chosen.recipe, chosen.fell_back) == ("w8a8", False)
    assert open_bundle(out, full=True).manifest.recipe.name == "w8a8"


def test_where_nothing_is_close_enough_it_falls_back_to_blocks_and_says_so(
    shown: list[Clip], outliers: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    _, chosen = choice.choose(str(outliers), out, [PLAIN], shown, stage=silent, max_kl=0.0)
    assert (chosen.recipe, chosen.fell_back) == ("int8", True)
    assert "falls back to int8 (eight bits in blocks): plain lost more than 0 nats" in chosen.table()
    assert set(open_bundle(out, full=True).manifest.recipe.precision.values()) == {
        "int8 block 128",
        "int8 block 128, int8 block 64",
        "int8 per channel",
    }
    assert list(tmp_path.iterdir()) == [out]


def test_without_torch_the_command_measures_chooses_and_tells(tmp_path: Path) -> None:
    source = checkpoints.write("toy_untied", tmp_path / "checkpoint")
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'optimum', 'torchvision'): sys.modules[name] = None\n"
        "from export.cli import main\n"
        "main()\n"
    )
    command = [sys.executable, "-W", "error", "-c", code, "convert", str(source), str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "--max-kl", "9"], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "w8a8-int4 is taken: its mean KL of " in done.stdout
    assert "4 clips, " in done.stdout
    assert " MiB in " in done.stdout
    work = [
        line.partition(":")[0] + line.partition(":")[2].rpartition(":")[0]
        for line in done.stderr.splitlines()
    ]
    assert list(dict.fromkeys(work)) == [
        "fp32 converting",
        "fp32 answering about 4 clips",
        "w8a8-int4 converting",
        "w8a8-int4 comparing",
    ]
    inspected = subprocess.run(
        [sys.executable, "-m", "export", "inspect", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "w8a8-int4 is taken: its mean KL of " in inspected.stdout


def test_drawn_clips_are_the_same_every_time_and_have_the_size_of_a_long_clip(tmp_path: Path) -> None:
    first, again = clips(None), clips(None)
    assert all(np.array_equal(one.frames, other.frames) for one, other in zip(first, again, strict=True))
    source = checkpoints.write("toy_tied", tmp_path / "checkpoint")
    made, _ = choice.choose(str(source), tmp_path / "out", [TURNED], first[:1], stage=silent, max_kl=9)
    asked = questions(first, made.bundle.manifest)
    assert {pair.frames.shape for question in asked for pair in question.pairs} == {(2, 192, 256, 3)}
    assert {len(question.pairs) for question in asked} == {FRAMES // 2}
    assert len({question.prompt for question in asked}) == 2


def test_clips_of_ones_own_are_read_from_a_folder(real_clips: Path) -> None:
    found = clips(real_clips)
    assert [clip.name for clip in found] == sorted(path.name for path in real_clips.iterdir())[:CLIPS]
    assert all(2 <= len(clip.frames) <= FRAMES for clip in found)


@pytest.fixture
def real_clips(tmp_path: Path) -> Path:
    from edge.demo.world import draw_scene, encode

    place = tmp_path / "clips"
    place.mkdir()
    for number in range(2):
        encode(draw_scene(number, "a", seconds=1.0 + number), place / f"{number}.mp4")
    return place


@pytest.mark.parametrize("name", ["none", "empty"])
def test_a_place_without_clips_is_refused_before_anything_is_converted(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(EdgeError) as caught:
        clips(tmp_path / name)
    assert "--clips" in caught.value.render()


def test_the_recipes_to_choose_from_are_ranked_and_may_be_named() -> None:
    assert [recipe.name for recipe in choice.candidates("auto")] == list(choice.RANKED)
    assert [recipe.name for recipe in choice.candidates("int4, w8a8,int8")] == ["int4", "w8a8"]
    with pytest.raises(ConfigError):
        choice.candidates("int4,none")
    with pytest.raises(ConfigError) as caught:
        choice.candidates("w8a8,int4,w8a8")
    assert "one name" in caught.value.render()


def test_too_little_room_is_told_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(EdgeError) as caught:
        choice._require_room(tmp_path, 10**15)
    assert "--recipe int4" in caught.value.render()


def test_a_recipe_that_is_taken_as_it_is_has_nothing_to_be_measured_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "export", "convert", str(tmp_path), str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "--recipe", "int4", "--max-kl", "0.1"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (78, "")
    assert "--recipe int4,int8" in done.stderr
