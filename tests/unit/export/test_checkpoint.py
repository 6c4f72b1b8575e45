"""A checkpoint is read exactly, and refused whole where anything about it is wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import CheckpointError
from edge.model.manifest import Pixels
from export.checkpoint.names import EMBEDDING
from export.checkpoint.processor import CARD, read_license
from export.checkpoint.source import open_checkpoint
from export.checkpoint.tensors import INDEX, SINGLE, open_tensors
from tests import checkpoints
from tests.vocabulary import TOY_SIZE


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.write("toy_tied", tmp_path_factory.mktemp("checkpoint") / "toy")


@pytest.fixture
def toy(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "toy"))


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refusal(source: object, revision: str | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(str(source), revision)
    return caught.value.render()


def test_a_whole_checkpoint_is_understood(toy: Path) -> None:
    found = open_checkpoint(str(toy))
    text = found.dims.text
    assert (found.id, found.revision, found.license, found.unexpected) == ("toy", "local", "unknown", ())
    assert (text.hidden, len(text.mixers), text.mixers.count("full_attention")) == (64, 8, 2)
    assert (text.tied, text.rope_dims, text.mrope_section) == (True, 8, (2, 1, 1))
    assert found.dims.vision.positions == 8
    assert found.processor.video == Pixels(minimum=4096, maximum=25165824)
    assert found.processor.image == Pixels(minimum=65536, maximum=16777216)
    assert (found.processor.mean, found.processor.scale) == ((0.5, 0.5, 0.5), 1 / 255)
    assert (found.tokens.vocab_rows, found.tokens.vocab_used) == (704, TOY_SIZE)
    assert len(found.tokens.eos) == 2
    assert found.generation == CARD
    assert found.parameters == sum(t.size for t in checkpoints.tensors(checkpoints.PRESETS["toy_tied"]))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shards", [1, 3])
def test_rows_are_those_that_safetensors_reads(dtype: Any, shards: int, tmp_path: Path) -> None:
    import ml_dtypes  # noqa: F401  # numpy knows bfloat16 from it
    from safetensors.numpy import load_file

    checkpoints.write("toy_tied", tmp_path, dtype=dtype, shards=shards)
    expected: dict[str, Any] = {}
    for file in tmp_path.glob("*.safetensors"):
        expected |= load_file(file)
    store = open_tensors(tmp_path)
    assert store.tensors.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(store.read(name), values.astype(np.float32))
    table = expected[EMBEDDING].astype(np.float32)
    np.testing.assert_array_equal(store.tensors[EMBEDDING].rows(100, 117), table[100:117])


def test_float16_is_read_too(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    values = np.random.default_rng(1).standard_normal((5, 7)).astype(np.float16)
    save_file({"w": values}, tmp_path / SINGLE)
    np.testing.assert_array_equal(open_tensors(tmp_path).read("w"), values.astype(np.float32))


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("config.json", lambda c: c.update(model_type="qwen3_vl"), "another architecture"),
        ("config.json", lambda c: c.update(model_type=None), "another architecture"),
        ("config.json", lambda c: c["text_config"].pop("hidden_size"), "text_config.hidden_size"),
        ("config.json", lambda c: c["text_config"].update(head_dim="32"), 'found "32"'),
        ("config.json", lambda c: c["text_config"].update(attention_bias=True), "attention_bias"),
        ("config.json", lambda c: c["text_config"].update(hidden_act="gelu"), "hidden_act"),
        ("config.json", lambda c: c["text_config"].update(layer_types=["full_attention"]), "layer_types"),
        ("config.json", lambda c: c["text_config"].update(linear_num_value_heads=6), "multiple"),
        ("config.json", lambda c: c["text_config"]["rope_parameters"].update(rope_type="yarn"), "rope_type"),
        ("config.json", lambda c: c["text_config"]["rope_parameters"].pop("mrope_section"), "mrope_section"),
        ("config.json", lambda c: c["vision_config"].update(deepstack_visual_indexes=[1]), "deepstack"),
        ("config.json", lambda c: c["vision_config"].update(num_position_embeddings=65), "square"),
        ("config.json", lambda c: c["vision_config"].update(hidden_act="relu"), "hidden_act"),
        ("config.json", lambda c: c["vision_config"].update(out_hidden_size=65), "out_hidden_size"),
        ("config.json", lambda c: c.update(video_token_id=1), "video_pad"),
        ("config.json", lambda c: c["text_config"].update(vocab_size=100), "embedding has 100 rows"),
        ("config.json", lambda c: c["text_config"].update(intermediate_size=161), "shape"),
        ("config.json", lambda c: c["text_config"].update(num_hidden_layers=9, layer_types=None), "lacks"),
        ("config.json", lambda c: c.update(tie_word_embeddings=False), "lm_head.weight"),
        ("preprocessor_config.json", lambda c: c.update(image_mean=[0.4, 0.5, 0.5]), "differently"),
        ("video_preprocessor_config.json", lambda c: c.update(patch_size=14), "patch_size"),
        ("video_preprocessor_config.json", lambda c: c.pop("size"), "min_pixels"),
        ("generation_config.json", lambda c: c.update(top_p=7), "top_p"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    file: str, change: Callable[[dict[str, Any]], object], said: str, toy: Path
) -> None:
    edit(toy / file, change)
    assert said in refusal(toy)


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "preprocessor_config.json",
        "video_preprocessor_config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "model.safetensors",
    ],
)
def test_a_missing_file_is_named(name: str, toy: Path) -> None:
    (toy / name).unlink()
    said = refusal(toy)
    assert name in said or "chat template" in said


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json"])
def test_a_file_that_is_no_json_is_named(name: str, toy: Path) -> None:
    (toy / name).write_text('{"half')
    assert name in refusal(toy)


@pytest.mark.parametrize("kept", [0, 5, 2000, -1])
def test_truncated_weights_are_refused_before_any_work(kept: int, toy: Path) -> None:
    data = (toy / SINGLE).read_bytes()
    (toy / SINGLE).write_bytes(data[:kept])
    said = refusal(toy)
    assert SINGLE in said
    assert "again" in said


def test_a_damaged_header_is_refused(toy: Path) -> None:
    data = bytearray((toy / SINGLE).read_bytes())
    place = data.index(b'"dtype"')
    data[place + 1] ^= 1
    (toy / SINGLE).write_bytes(data)
    assert SINGLE in refusal(toy)


def test_a_weight_that_is_not_finite_is_named(toy: Path) -> None:
    tensor = open_tensors(toy).tensors[EMBEDDING]
    with (toy / SINGLE).open("r+b") as file:
        file.seek(tensor.offset + 8)
        file.write(np.array([np.nan], "<f4").tobytes())
    with pytest.raises(CheckpointError, match="not finite"):
        open_tensors(toy).read(EMBEDDING)


@pytest.mark.parametrize("change", ["file", "tensor", "path"])
def test_an_index_that_disagrees_is_refused(change: str, tmp_path: Path) -> None:
    checkpoints.write("toy_tied", tmp_path, shards=2)
    shard = min(tmp_path.glob("*.safetensors"))
    if change == "file":
        shard.unlink()
    elif change == "tensor":
        edit(tmp_path / INDEX, lambda c: c["weight_map"].update({"model.extra": shard.name}))
    else:
        edit(tmp_path / INDEX, lambda c: c["weight_map"].update({EMBEDDING: f"../{shard.name}"}))
    assert tmp_path.name in refusal(tmp_path)


def test_extra_tensors_are_told_and_mtp_is_not(toy: Path) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(toy / SINGLE)
    one = np.zeros(3, np.float32)
    save_file(tensors | {"model.language_model.extra.weight": one, "mtp.norm.weight": one}, toy / SINGLE)
    assert open_checkpoint(str(toy)).unexpected == ("model.language_model.extra.weight",)


def test_weights_quantised_by_others_are_refused(toy: Path) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(toy / SINGLE)
    save_file(tensors | {EMBEDDING: tensors[EMBEDDING].astype(np.int8)}, toy / SINGLE)
    assert "I8" in refusal(toy)


def test_the_checkpoints_own_sampling_wins_over_the_card(toy: Path) -> None:
    edit(toy / "generation_config.json", lambda c: c.update(temperature=0.3, top_k=None))
    found = open_checkpoint(str(toy)).generation
    assert (found.temperature, found.top_k, found.presence_penalty) == (0.3, 20, 1.5)
    edit(toy / "generation_config.json", lambda c: c.update(do_sample=False))
    assert open_checkpoint(str(toy)).generation.temperature == 0
    (toy / "generation_config.json").unlink()
    assert open_checkpoint(str(toy)).generation == CARD


@pytest.mark.parametrize(
    ("card", "name", "expected"),
    [
        ("---\nlibrary_name: x\nlicense: apache-2.0\n---\n# Card", "someone/model", "Apache-2.0"),
        ("---\nlicense: cc-by-nc-4.0\n---\n", "Qwen/Qwen3.5-0.8B", "cc-by-nc-4.0"),
        ("# Card\nlicense: mit\n", "someone/model", "unknown"),
        (None, "Qwen/Qwen3.5-0.8B", "Apache-2.0"),
        (None, "someone/model", "unknown"),
    ],
)
def test_the_licence_is_the_model_cards(card: str | None, name: str, expected: str, tmp_path: Path) -> None:
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert read_license(tmp_path, name) == expected


def test_a_source_is_a_directory_or_a_hub_id(toy: Path) -> None:
    assert "does not exist" in refusal("no such thing")
    assert "does not exist" in refusal("/no/such/thing")
    assert "not a directory" in refusal(toy / "config.json")
    assert "no revisions" in refusal(toy, "main")
