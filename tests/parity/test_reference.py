"""Optimum resolves and loads a checkpoint, and the reference says the same whichever way it is asked."""

from pathlib import Path

import numpy as np
import pytest

from edge.errors import CheckpointError
from export.reference import GRAPHS, TASK, Reference, import_libraries
from tests import checkpoints

PROMPT = "What moves?"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    import_libraries().torch.set_num_threads(1)  # toys need no more, whoever shares the cores
    return Reference(checkpoints.write("toy_untied", tmp_path_factory.mktemp("toy") / "checkpoint"))


def frames(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, height, width, 3), np.uint8)


def test_optimum_resolves_the_class_and_loads_it_in_float32(toy: Reference) -> None:
    libraries = import_libraries()
    assert (
        libraries.tasks.get_model_class_for_task(TASK, model_type="qwen3_5").__name__
        == "AutoModelForImageTextToText"
    )
    assert type(toy.model).__name__ == "Qwen3_5ForConditionalGeneration"
    assert {parameter.dtype for parameter in toy.model.parameters()} == {libraries.torch.float32}


def test_optimum_knows_how_qwen3_5_is_exported(toy: Reference) -> None:
    known = import_libraries().tasks.get_supported_tasks_for_model_type(
        "qwen3_5", "onnx", library_name="transformers"
    )
    assert set(known) == {TASK}
    for graph in GRAPHS:
        config = toy.export_config(graph)
        dummies = config.generate_dummy_inputs(framework="np")
        assert dummies.keys() == config.inputs.keys()
        for name, axes in config.inputs.items():
            assert all(axis < dummies[name].ndim for axis in axes), name


def test_the_dummy_inputs_run_in_the_reference(toy: Reference) -> None:
    vision = toy.export_config("vision").generate_dummy_inputs(framework="np", pairs=3, rows=4, columns=6)
    embeds = toy.visual_embeds(vision["patches"], (3, 4, 6))
    assert embeds.shape == (3, 6, 96)
    assert np.isfinite(embeds).all()
    embedded = toy.token_embeds(toy.export_config("embed").generate_dummy_inputs(framework="np")["input_ids"])
    assert toy.text_logits(embedded).shape == (1, 680)


def test_a_picture_is_prepared_by_the_processor(toy: Reference) -> None:
    inputs = toy.image(frames(1, 70, 90)[0], PROMPT)
    assert inputs.grid is not None
    assert inputs.patches is not None
    pairs, rows, columns = inputs.grid
    assert (pairs, rows * columns) == inputs.patches.shape[:2]
    assert (inputs.input_ids == toy.config.image_token_id).sum() == rows * columns // 4
    np.testing.assert_array_equal(
        toy.visual_embeds(inputs.patches, inputs.grid).shape, (1, rows * columns // 4, 96)
    )


@pytest.mark.parametrize("count", [2, 5])
def test_the_outer_markers_of_a_video_are_the_only_difference(toy: Reference, count: int) -> None:
    clip = frames(count, 64, 96)
    bare, wrapped = toy.video(clip, 8.0, PROMPT), toy.video(clip, 8.0, PROMPT, outer=True)
    start, end = toy.config.vision_start_token_id, toy.config.vision_end_token_id
    assert (bare.input_ids == start).sum() == (bare.input_ids == end).sum() == (count + 1) // 2
    ids = wrapped.input_ids.tolist()
    first = ids.index(start)
    last = len(ids) - 1 - ids[::-1].index(end)
    del ids[last], ids[first]
    assert ids == bare.input_ids.tolist()


def test_the_cache_changes_nothing(toy: Reference) -> None:
    inputs = toy.video(frames(4, 64, 64), 8.0, PROMPT)
    found = toy.continuation(inputs, 8)
    assert found.logits.shape == (8, toy.vocab_used)
    whole = toy.logits(inputs, last=1)[0]
    np.testing.assert_allclose(found.logits[0], whole, atol=1e-4)
    torch = import_libraries().torch
    longer = np.concatenate([inputs.input_ids, found.tokens[:-1]])[None]
    kinds = np.concatenate([inputs.tensors["mm_token_type_ids"][0].numpy(), np.zeros(7, np.int64)])[None]
    tensors = inputs.tensors | {
        "input_ids": torch.from_numpy(longer),
        "attention_mask": torch.ones(longer.shape, dtype=torch.int64),
        "mm_token_type_ids": torch.from_numpy(kinds),
    }
    with torch.inference_mode():
        again = toy.model(**tensors, use_cache=False).logits[0, -8:, : toy.vocab_used].numpy()
    np.testing.assert_allclose(found.logits, again, atol=1e-4)
    np.testing.assert_array_equal(found.tokens, found.logits.argmax(-1))


def test_a_text_after_a_video_is_a_text(toy: Reference) -> None:
    before = toy.continuation(toy.text(PROMPT), 4)
    toy.continuation(toy.video(frames(4, 64, 64), 8.0, PROMPT), 4)
    np.testing.assert_array_equal(toy.continuation(toy.text(PROMPT), 4).logits, before.logits)


def test_bfloat16_halves_the_memory_and_keeps_most_of_the_answer(toy: Reference) -> None:
    short = Reference(Path(toy.config.name_or_path), dtype="bfloat16")
    assert {parameter.dtype for parameter in short.model.parameters()} == {import_libraries().torch.bfloat16}
    inputs = toy.text(PROMPT)
    exact, rough = toy.logits(inputs, last=1), short.logits(inputs, last=1)
    assert 0 < np.abs(exact - rough).max() < 0.1 * np.abs(exact).max()


@pytest.mark.parametrize("damage", ["nothing there", "no weights", "another architecture"])
def test_what_is_no_checkpoint_is_one_clear_error(tmp_path: Path, damage: str) -> None:
    source = tmp_path / "checkpoint"
    if damage != "nothing there":
        checkpoints.write("toy_tied", source)
    if damage == "no weights":
        (source / "model.safetensors").unlink()
    if damage == "another architecture":
        config = source / "config.json"
        config.write_text(config.read_text().replace('"qwen3_5"', '"qwen9"'))
    with pytest.raises(CheckpointError) as caught:
        Reference(source)
    assert str(source) in caught.value.render()
    assert caught.value.next_step
