"""The bundle and the video inside the package are what their generators make."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from edge.demo import video
from edge.demo.world import frames, truth
from edge.errors import CheckpointError
from edge.model.bundle import open_bundle
from edge.share import demo_bundle, demo_clip
from export.demo import packaged

PACKAGE_MIB_MAX = 5  # of the 15 MB that the demo may take


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packaged.make(tmp_path_factory.mktemp("made") / "bundle")


def test_the_bundle_is_whole_small_and_warns() -> None:
    bundle = open_bundle(demo_bundle(), full=True)
    assert bundle.manifest.model.note == packaged.NOTE
    assert {path.name for path in demo_bundle().iterdir()} == {"manifest.json", *bundle.manifest.files}
    assert sum(path.stat().st_size for path in demo_bundle().iterdir()) < PACKAGE_MIB_MAX * 2**20
    assert demo_clip().stat().st_size < 400 * 1024


def test_the_generator_makes_the_bundle(made: Path) -> None:
    packaged, again = (json.loads((path / "manifest.json").read_text()) for path in (demo_bundle(), made))
    sizes = []
    for manifest in (packaged, again):
        del manifest["created"], manifest["software"]
        files = manifest.pop("files")
        # What onnx writes into a graph may change with its version; the weights and the vocabulary may not.
        sizes.append({name: file["size"] for name, file in files.items() if not name.endswith(".onnx")})
    assert packaged == again
    assert sizes[0] == sizes[1]
    for name in sizes[0]:
        one, other = (np.fromfile(path / name, np.uint8) for path in (demo_bundle(), made))
        # exp and log may differ in the last place between processors: a handful of bytes, not more.
        assert np.count_nonzero(one != other) <= 1e-3 * one.size, name


def test_the_card_is_that_of_the_scores() -> None:
    scores = json.loads(packaged.SCORES.read_bytes())
    assert packaged.CARD.read_text(encoding="utf-8") == packaged.card(scores)
    assert [each["recipe"] for each in scores["bundles"]] == ["fp32", "int8", "int4"]


def test_the_weights_are_of_the_type_that_they_say() -> None:
    config = json.loads((packaged.WEIGHTS / "config.json").read_bytes())
    with (packaged.WEIGHTS / "model.safetensors").open("rb") as file:
        tensors = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert {each["dtype"] for name, each in tensors.items() if name != "__metadata__"} == {"BF16"}
    assert config["text_config"]["dtype"] == "bfloat16"


def test_what_is_no_checkpoint_is_not_kept(tmp_path: Path) -> None:
    before = sorted(packaged.WEIGHTS.iterdir())
    with pytest.raises(CheckpointError, match="holds no checkpoint") as caught:
        packaged.keep([tmp_path])
    assert "export.demo.train" in caught.value.next_step
    assert sorted(packaged.WEIGHTS.iterdir()) == before


def test_weights_alone_are_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "WEIGHTS", tmp_path / "kept")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="holds no checkpoint") as caught:
        packaged.keep([tmp_path / "one"])
    assert caught.value.evidence == ("config.json is missing",)
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_the_generator_draws_the_video() -> None:
    scene = video.packaged()
    with av.open(str(demo_clip())) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (video.WIDTH, video.HEIGHT, video.FPS)
        assert stream.frames == scene.ticks == video.FPS * video.SECONDS
        for number, (decoded, drawn) in enumerate(zip(container.decode(stream), frames(scene), strict=True)):
            if number % 100 == 50:
                difference = decoded.to_ndarray(format="rgb24").astype(int) - drawn
                assert np.abs(difference).mean() < 6, number


def test_much_happens_in_the_video() -> None:
    happened = truth(video.packaged()).events
    assert len({event.kind for event in happened}) >= 4
    assert happened[-1].start_s - happened[0].start_s > video.SECONDS / 2


def test_of_several_checkpoints_the_mean_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    monkeypatch.setattr(packaged, "WEIGHTS", tmp_path / "kept")
    for name, values in (("one", [1.0, 2.0]), ("two", [3.0, -2.0]), ("three", [1.0])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text('{"text_config": {"dtype": "float32"}}')
        save_file({"a": torch.tensor(values)}, tmp_path / name / "model.safetensors")
    packaged.keep([tmp_path / "one", tmp_path / "two"])
    kept = load_file(tmp_path / "kept" / "model.safetensors")
    assert kept["a"].dtype == torch.bfloat16
    assert kept["a"].tolist() == [2.0, 0.0]
    with pytest.raises(CheckpointError, match="not of one model"):
        packaged.keep([tmp_path / "one", tmp_path / "three"])
    assert (tmp_path / "kept" / "model.safetensors").is_file()
