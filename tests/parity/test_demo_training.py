"""The demo's trainer: what it feeds is what the engine feeds, what it runs is transformers', and it learns and goes on."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.answer.schema import model_schema
from edge.demo.world import answer, draw_scene, frames, truth
from edge.demo.world.draw import SIZES
from edge.model.engine import Engine
from edge.model.grammar import Grammars
from edge.records import Pair
from export.candidate import Question, lay_out, teacher_logits
from export.convert import convert
from export.demo import batches, network, schedule, train
from export.demo.batches import FPS, Clip, Layout, Source
from export.demo.lessons import STAGES, Lesson, body_text
from export.demo.train import Budget, Settings, Trainer
from export.recipes import load_recipe

SETTINGS = Settings(tokens=1200, seed=3, peak=0.01)
PLAN = schedule.Plan(pairs=3, clips=2, sprites=None, cells=1.0, full=1.0, questions=4)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training's directory before its first step."""
    out = tmp_path_factory.mktemp("training")
    train.prepare(out, SETTINGS)
    return out


@pytest.fixture(scope="module")
def model(begun: Path) -> Any:
    built = network.build(begun / "checkpoint", SETTINGS.seed)
    return built.eval()


@pytest.fixture
def source(begun: Path) -> Source:
    return Source(begun / "layout", "a", SETTINGS.seed)


def clip_of(pairs: int, lessons: tuple[Lesson, ...]) -> Clip:
    scene = draw_scene(5, "a", seconds=2 * pairs / FPS, fps=FPS)
    pictures = np.stack(list(frames(scene)))
    cells = batches.cell_labels(truth(scene), range(pairs))
    return Clip(pictures.reshape(pairs, 2, *pictures.shape[1:]), cells, lessons)


def test_ids_positions_and_logits_are_the_engines(begun: Path, model: Any, tmp_path: Path) -> None:
    """The trained framework and the shipped engine agree on a clip, its places and the next token of an answer."""
    import torch

    from export.demo.losses import hidden_states

    bundle = convert(str(begun / "checkpoint"), tmp_path / "bundle", load_recipe("fp32")).bundle
    layout = Layout(begun / "layout")
    lesson = Lesson('Where is it? Say {"headline": ...}', '{"headline":"a red square","objects":[]}')
    clip = clip_of(
        9, (lesson, Lesson("How many?", "1"))
    )  # more than one chunk of DeltaNet, and past 2.0 seconds
    batch = layout.batch([clip])
    pairs = tuple(Pair(i, (2 * i + 0.5) / FPS, frames) for i, frames in enumerate(clip.frames))
    asked, said = layout.question(lesson)
    with Engine(bundle, threads=1) as engine:
        question = Question(lesson.prompt, pairs=pairs)
        laid = lay_out(engine, question)
        logits = teacher_logits(engine, question, said)
    np.testing.assert_array_equal(np.concatenate([batch.clip_ids, asked]), laid.ids)
    tail = batch.next_pos + np.arange(len(asked))
    np.testing.assert_array_equal(
        np.concatenate([batch.clip_positions, np.broadcast_to(tail, (3, len(tail)))], axis=1), laid.positions
    )
    assert (batch.clip_ids[batch.visual] == layout.manifest.tokens.video_pad).all()
    assert batch.ids[0, : batch.lengths[0, 1]].tolist() == [*asked, *said]
    with torch.inference_mode():
        hidden, _ = hidden_states(model, batch)
        ours = model.lm_head(hidden[0, len(asked) - 1 : len(asked) + len(said) - 1]).numpy()
    np.testing.assert_allclose(ours, logits, atol=1e-4 * np.abs(logits).max())


def test_a_fork_gives_what_the_whole_prompt_gives(model: Any, source: Source) -> None:
    """Two clips with questions of different lengths, and transformers run on each whole sequence by itself."""
    import torch

    from export.demo.losses import hidden_states

    batch = batches.make(source, 0, PLAN)
    grid = torch.tensor([[PLAN.pairs, batch.rows, batch.columns]])
    pixels = torch.from_numpy(batch.patches).float().reshape(PLAN.clips, -1, batch.patches.shape[-1])
    with torch.inference_mode():
        hidden, _ = hidden_states(model, batch)
        for row, owner in enumerate(batch.owner):
            length = batch.lengths[row, 1]
            ids = torch.from_numpy(np.concatenate([batch.clip_ids, batch.ids[row, :length]]))[None]
            tail = torch.arange(batch.next_pos, batch.next_pos + length).expand(3, -1)
            whole = model.model(
                input_ids=ids,
                position_ids=torch.cat([torch.from_numpy(batch.clip_positions), tail], dim=1)[:, None],
                pixel_values_videos=pixels[owner] / 127.5 - 1.0,
                video_grid_thw=grid,
                use_cache=False,
            ).last_hidden_state[0, len(batch.clip_ids) :]
            torch.testing.assert_close(hidden[row, : length - 1], whole[:-1], atol=2e-4, rtol=1e-3)


def test_gradients_reach_the_clip_and_the_vision_tower(model: Any, source: Source) -> None:
    from export.demo.losses import cell_head, mark

    marks = mark(model, cell_head(160, 0), batches.make(source, 0, PLAN))
    model.zero_grad()
    marks.answers.backward()
    assert model.model.visual.patch_embed.proj.weight.grad.norm() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.model.parameters())
    model.zero_grad()


def test_where_nothing_is_asked_only_seeing_is_taught(model: Any, source: Source) -> None:
    from export.demo.losses import cell_head, mark

    plan = replace(PLAN, pairs=2, questions=0)
    marks = mark(model, cell_head(160, 0), batches.make(source, 0, plan))
    model.zero_grad()
    (marks.answers + marks.cells).backward()
    assert model.model.visual.patch_embed.proj.weight.grad.norm() > 0
    assert all(each.grad is None for each in model.model.language_model.parameters())
    assert marks.tokens.isnan()


def test_only_the_answers_tokens_are_marked() -> None:
    import torch

    from export.demo.losses import answer_mask

    # A question of 3 tokens and an answer of 2, then one of 1 and 4; place i asks for token i + 1.
    mask = answer_mask(torch.tensor([[3, 5], [1, 5]]), 5)
    assert mask.tolist() == [[False, False, True, True, False], [True, True, True, True, False]]


def test_deltanet_begins_with_a_memory(model: Any) -> None:
    """Per token a head forgets between a thousandth and a good half; transformers' own start forgets nearly all."""
    for layer in model.model.language_model.layers:
        if hasattr(layer, "linear_attn"):
            step = layer.linear_attn.dt_bias.detach().exp().log1p()
            assert ((step >= 0.00099) & (step <= 0.101)).all()
            kept = (-layer.linear_attn.A_log.detach().exp() * step).exp()
            assert ((kept > math.exp(-0.81)) & (kept < 1)).all()


def test_a_checkpoint_goes_through_the_converter_at_every_precision(begun: Path, tmp_path: Path) -> None:
    for recipe in ("int8", "int4"):
        bundle = convert(str(begun / "checkpoint"), tmp_path / recipe, load_recipe(recipe)).bundle
        assert sum(file.stat().st_size for file in bundle.path.iterdir()) < 15 * 2**20
        assert bundle.manifest.model.parameters > 1_000_000
        assert bundle.manifest.model.license == "Apache-2.0"


def test_a_minute_of_the_worlds_pictures_keeps_its_size(begun: Path) -> None:
    from edge.model.preprocess import video_size

    manifest = Layout(begun / "layout").manifest
    for size in SIZES.values():
        assert video_size(size, 480, manifest.video_pixels, manifest.vision) == size


def test_it_learns(begun: Path, tmp_path: Path) -> None:
    """In twenty small steps of a short course the loss of cells, then that of answers falls clearly."""
    lines: list[dict[str, Any]] = []
    trainer = Trainer(tmp_path / "run", SETTINGS, Budget(steps=20), start=begun / "checkpoint")
    trainer.run(report=lines.append, report_every=2)
    assert lines[0]["answers"] is None  # seeing comes first
    assert lines[-1]["cells"] < 0.9 * lines[0]["cells"]
    assert lines[-1]["answers"] < 0.9 * lines[1]["answers"]
    assert lines[-1]["step"] == 20


def test_going_on_equals_never_having_stopped(begun: Path, tmp_path: Path) -> None:
    import torch

    small = replace(SETTINGS, tokens=600)
    through = Trainer(tmp_path / "through", small, Budget(steps=4), start=begun / "checkpoint")
    through.run()
    stopped = Trainer(tmp_path / "stopped", small, Budget(steps=4), start=begun / "checkpoint")
    stopped.run(report=lambda _line: stopped.stop(), report_every=2)
    assert stopped.step == 2
    resumed = Trainer(tmp_path / "stopped", small, Budget(steps=4), resume=True, workers=1)
    resumed.run(report_every=1)
    assert resumed.step == 4
    curve = (tmp_path / "stopped" / "curve.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in curve] == [2, 3, 4]
    for (name, one), other in zip(
        through.model.state_dict().items(), resumed.model.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name


def test_answers_are_spelt_as_the_grammar_lets_them_be_written(begun: Path) -> None:
    """Token by token: what the engine forces is what was trained, and what was trained is always allowed."""
    layout = Layout(begun / "layout")
    grammars = Grammars(layout.tokenizer.json, layout.manifest.tokens)
    for seed, stage in enumerate(STAGES * 4):
        scene = draw_scene(seed, stage)
        for kind in ("summary", "spatial", "ask"):
            constraint = grammars.constraint(model_schema(kind, seconds=scene.seconds))
            said = layout.tokenizer.encode_words(body_text(answer(truth(scene), kind)))
            while said:
                forced = constraint.forced()
                assert said[: len(forced)] == forced
                taken = forced or said[:1]
                assert taken[0] in constraint.allowed() or forced
                constraint.take(taken)
                said = said[len(taken) :]
            assert constraint.complete
