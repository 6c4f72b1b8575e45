"""The demo's trainer: what it feeds is what the engine feeds, what it runs is transformers', and it learns and goes on."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.answer.schema import model_schema
from edge.demo.world import answer, draw_scene, frames, render, truth
from edge.demo.world.draw import SIZES
from edge.model.engine import Engine
from edge.model.grammar import Grammars
from edge.model.preprocess import scale, video_size
from edge.records import Pair, Size
from export.candidate import Question, lay_out, teacher_logits
from export.convert import convert
from export.demo import batches, network, train
from export.demo.batches import Layout, Source
from export.demo.labels import CAMERA, FPS, FRAME, PAIRS, cell_labels, pair_labels, pair_time, still_labels
from export.demo.lessons import NUMBERS, STAGES, Lesson, body_text
from export.demo.schedule import SYLLABI, Course, Phase, Plan, Syllabus
from export.demo.supply import Supply
from export.demo.taught import Clip, KeyFrame
from export.demo.train import Budget, Settings, Trainer
from export.recipes import load_recipe

SETTINGS = Settings(tokens=1200, seed=3)
ASKED = Phase("exact", 1.0, 1.0, (3,), None, questions=4, full=1.0, uses=2)
SEEN = Phase("named", 1.0, 0.5, (3,), None, questions=0, full=0.0, uses=2, seeing=True)
PLAN = Plan(ASKED, "a", pairs=3, clips=2)


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
def heads(model: Any) -> Any:
    from export.demo.heads import Heads

    return Heads(model.config.text_config.hidden_size)


@pytest.fixture
def source(begun: Path) -> Source:
    return Source(begun / "layout", "a", SETTINGS.seed)


def clip_of(pairs: int, lessons: tuple[Lesson, ...], kept: Sequence[int] = ()) -> Clip:
    kept = tuple(kept or range(pairs))
    scene = draw_scene(5, "a", seconds=2 * pairs / FPS, fps=FPS)
    pictures = np.stack(list(frames(scene)))
    shown = pictures.reshape(pairs, 2, *pictures.shape[1:])[list(kept)]
    return Clip(shown, kept, cell_labels(scene, kept), pair_labels(truth(scene), kept), (lessons,))


def states(model: Any, batch: batches.Batch) -> dict[int, Any]:
    """Return the last states over each question of a batch's first use, by its row."""
    from export.demo import losses

    seen = losses.look(model, batch)
    trace, *_ = losses.follow(model, batch, seen)
    parts = losses.reply(model, trace, batch, batch.asked[0][0], seen)
    return {
        row: state
        for part in parts
        for row, state in zip(range(part.rows.start, part.rows.stop), part.states, strict=True)
    }


@pytest.mark.parametrize("kept", [range(9), (0, 4, 5, 8)], ids=["every pair", "gated"])
def test_ids_positions_and_logits_are_the_engines(
    begun: Path, model: Any, tmp_path: Path, kept: Sequence[int]
) -> None:
    """The trained framework and the shipped engine agree on a clip, its places and the next token of an answer."""
    import torch

    bundle = convert(str(begun / "checkpoint"), tmp_path / "bundle", load_recipe("fp32")).bundle
    layout = Layout(begun / "layout")
    lesson = Lesson('Where is it? Say {"headline": ...}', '{"headline":"a red square","objects":[]}')
    clip = clip_of(
        9, (lesson, Lesson("How many?", "1")), kept
    )  # more than one chunk of DeltaNet, and past 2.0 seconds
    batch = layout.batch([clip])
    pairs = tuple(Pair(i, pair_time(i), frames) for i, frames in zip(kept, clip.frames, strict=True))
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
    assert [laid.ids[end] for end in batch.ends] == [layout.manifest.tokens.vision_end] * len(kept)
    row = 1  # the shortest comes first
    assert batch.asked[0][0].ids[row, : batch.asked[0][0].lengths[row, 1]].tolist() == [*asked, *said]
    with torch.inference_mode():
        hidden = states(model, batch)[row]
        ours = model.lm_head(hidden[len(asked) - 1 : len(asked) + len(said) - 1]).numpy()
    np.testing.assert_allclose(ours, logits, atol=1e-4 * np.abs(logits).max())


def test_a_fork_gives_what_the_whole_prompt_gives(model: Any, source: Source) -> None:
    """Two clips with questions of different lengths, and transformers run on each whole sequence by itself."""
    import torch

    batch = batches.make(source, 0, PLAN)
    (asked,) = batch.asked[0]
    grid = torch.tensor([[PLAN.pairs, batch.rows, batch.columns]])
    pixels = torch.from_numpy(batch.patches).float().reshape(PLAN.clips, -1, batch.patches.shape[-1])
    with torch.inference_mode():
        hidden = states(model, batch)
        assert len(hidden) == len(asked.owner)
        for row, owner in enumerate(asked.owner):
            length = asked.lengths[row, 1]
            ids = torch.from_numpy(np.concatenate([batch.clip_ids, asked.ids[row, :length]]))[None]
            tail = torch.arange(batch.next_pos, batch.next_pos + length).expand(3, -1)
            whole = model.model(
                input_ids=ids,
                position_ids=torch.cat([torch.from_numpy(batch.clip_positions), tail], dim=1)[:, None],
                pixel_values_videos=pixels[owner] / 127.5 - 1.0,
                video_grid_thw=grid,
                use_cache=False,
            ).last_hidden_state[0, len(batch.clip_ids) :]
            torch.testing.assert_close(hidden[row][: length - 1], whole[:-1], atol=5e-4, rtol=1e-3)


def test_a_key_frame_is_shown_as_the_engine_shows_it(begun: Path, model: Any, tmp_path: Path) -> None:
    """What the engine says with a key frame is as likely to the trained framework, which places it itself."""
    import torch

    from export.demo import losses

    bundle = convert(str(begun / "checkpoint"), tmp_path / "bundle", load_recipe("fp32")).bundle
    layout = Layout(begun / "layout")
    clip = clip_of(5, (Lesson("Where?", "Here.", shown=True), Lesson("When?", "Now.")))
    tick = 4
    scene = draw_scene(5, "a", seconds=10 / FPS, fps=FPS)
    picture = render(replace(scene, size=CAMERA), tick)
    still = KeyFrame(scale(picture, layout.still), tick, still_labels(truth(scene), tick))
    batch = layout.batch([replace(clip, still=still)])
    plain, shown = batch.asked[0]
    assert (plain.shown, shown.shown) == (False, True)
    assert batch.stills is not None
    assert video_size(CAMERA, PAIRS * 2, layout.manifest.video_pixels, layout.manifest.vision) == FRAME
    with Engine(bundle, threads=1) as engine, engine.stream(Size(*clip.frames.shape[2:4]), 10) as stream:
        stream.push([Pair(i, pair_time(i), frames) for i, frames in zip(clip.kept, clip.frames, strict=True)])
        fork = stream.fork().show(picture, time_s=tick / FPS)
        assert fork.still == layout.still == Size(224, 288)
        assert fork.tokens == len(batch.clip_ids) + batch.stills.ids.shape[1]
        said = fork.ask("Where?", schema=None, max_tokens=12, circles=True)
    asked, _ = layout.question(clip.lessons[0][0])
    ids = np.array([[*asked, *said.tokens]])
    spelt = replace(shown, ids=ids, lengths=np.array([[len(asked), ids.size]]))
    with torch.inference_mode():
        seen = losses.look(model, batch)
        trace, *_ = losses.follow(model, batch, seen)
        (part,) = losses.reply(model, trace, batch, spelt, seen)
        used = layout.manifest.tokens.vocab_used
        chances = model.lm_head(part.states[0, len(asked) - 1 :])[:, :used].log_softmax(-1).numpy()
    ours = [float(row[token]) for row, token in zip(chances, said.tokens, strict=True)]
    np.testing.assert_allclose(ours, said.logprobs[: len(ours)], atol=1e-3)


def test_every_step_gets_a_batch_of_its_own_phase(source: Source) -> None:
    """Wherever a phase ends: its last batch may not have been used up."""
    syllabus = Syllabus((SEEN, replace(ASKED, questions=0, full=0.0, uses=3)), block=2)
    course = Course(syllabus, levels=[0, 0, 1, 1, 1, 1])
    supply = Supply(source, course, 100, None, 0)
    taken = [supply.at(step) for step in range(12)]
    assert [batch.happened.shape[1] > 0 for _, batch, _ in taken] == [False] * 4 + [True] * 8
    numbers = [number for number, _, _ in taken]
    assert numbers[4:7] == [4, 5, 6]  # each a new one, until one can be taught again
    assert set(numbers[7:]) == {6, 9}


def test_gradients_reach_the_whole_language_model(model: Any, source: Source, heads: Any) -> None:
    from export.demo import losses

    batch = batches.make(source, 0, PLAN)
    marks = losses.tell(model, heads, batch, losses.look(model, batch), 1)
    model.zero_grad()
    marks.loss.backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all() for p in model.model.language_model.parameters()
    )
    assert model.model.visual.patch_embed.proj.weight.grad.norm() > 0
    assert all(0 <= float(mark) <= 1 for mark in (marks.tokens, marks.exact, marks.followed))
    model.zero_grad()


def test_those_who_learn_together_get_other_clips_of_the_same_lengths(source: Source) -> None:
    phase = Phase("exact", 1.0, 1.0, (2, 3, 5), None, 2, 0.5, 2)
    course = Course(Syllabus((phase,), 10))
    supplies = [Supply(replace(source, rank=rank), course, 600, None, 1) for rank in (0, 1)]
    taken = [[supply.at(step) for supply in supplies] for step in range(10)]
    assert all((one[0], one[2]) == (other[0], other[2]) for one, other in taken)
    assert all(one[1].patches.shape == other[1].patches.shape for one, other in taken)
    assert not any(np.array_equal(one[1].patches, other[1].patches) for one, other in taken)
    assert len({one[1].patches.shape for one, _ in taken}) > 1


@pytest.mark.parametrize("still", [False, True])
def test_without_aids_nothing_is_learnt_but_answers(
    model: Any, source: Source, heads: Any, *, still: bool
) -> None:
    from export.demo import losses

    batch = batches.make(source, 0, replace(PLAN, still=still))
    seen = losses.look(model, batch)
    plain, aided = (losses.tell(model, heads, batch, seen, 0, aids=aids) for aids in (0.0, 1.0))
    assert float(plain.loss.detach()) == pytest.approx(float(plain.answers), rel=1e-6)
    assert float(plain.answers) == pytest.approx(float(aided.answers), rel=1e-6)
    assert float(aided.loss.detach()) > 2 * float(plain.loss.detach())
    heads.zero_grad()
    plain.loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in heads.parameters())
    model.zero_grad()


def test_where_nothing_is_asked_only_seeing_is_taught(model: Any, source: Source, heads: Any) -> None:
    from export.demo import losses

    marks = losses.see(model, heads, batches.make(source, 0, Plan(SEEN, "a", pairs=3, clips=1)))
    model.zero_grad()
    marks.loss.backward()
    assert model.model.visual.patch_embed.proj.weight.grad.norm() > 0
    assert all(each.grad is None for each in model.model.language_model.parameters())
    assert marks.tokens.isnan()
    model.zero_grad()


def test_only_the_answers_tokens_are_marked() -> None:
    import torch

    from export.demo.losses import answer_mask

    # A question of 3 tokens and an answer of 2, then one of 1 and 4; place i asks for token i + 1.
    mask = answer_mask(torch.tensor([[3, 5], [1, 5]]), 5)
    assert mask.tolist() == [[False, False, True, True, False], [True, True, True, True, False]]


def test_only_answers_weigh_words_more_than_sides_and_short_ones_more_than_long_ones(source: Source) -> None:
    layout = Layout(source.layout)
    short, long = (
        Lesson("Is it?", "no"),
        Lesson(
            "Where?", '{"bbox_2d":[100,40,300,420],"start":2.0,"people":0,"animals":20} and so on, and so on'
        ),
    )
    (asked,) = layout.asked([[short, long]])
    for row, weights, (begin, end) in zip(asked.ids, asked.weights, asked.lengths, strict=True):
        assert not weights[:begin].any()
        assert not weights[end:].any()
        assert (weights[begin:end] > 0).all()
        said = [layout.tokenizer.decode([int(token)]) for token in row[begin:end]]
        # The first side tells whose box it is, a time is chosen among the pairs', and a count is no side, whatever it is.
        lighter = [said.index(side) for side in ("40", "300", "420") if side in said]
        np.testing.assert_allclose(weights[begin:end][lighter], 0.3 * weights[end - 1], rtol=1e-6)
        assert len(set(np.delete(weights[begin:end], lighter))) == 1
        assert len(lighter) in (0, 3)
    words = asked.weights[[0, 1], asked.lengths[:, 1] - 1]
    lengths = asked.lengths[:, 1] - asked.lengths[:, 0]
    assert words[0] / words[1] == pytest.approx((lengths[1] / lengths[0]) ** 0.25)


def test_a_verdict_weighs_more_than_what_leads_to_it(source: Source) -> None:
    layout = Layout(source.layout)
    (asked,) = layout.asked([[Lesson("Is it?", '{"seen":"a dog","answer":"yes"}')]])
    ((begin, end),) = asked.lengths
    plain, heavy = sorted(set(asked.weights[0, begin:end].tolist()))
    assert heavy == pytest.approx(4 * plain)
    said = asked.ids[0, begin : end - 1][asked.weights[0, begin : end - 1] == heavy]
    # What leads to the verdict may be part of its first token.
    assert 0 <= layout.tokenizer.decode(said.tolist()).find('yes"}') <= 4


def test_each_token_has_the_weight_that_the_batch_gives_it(model: Any, source: Source, heads: Any) -> None:
    """With weights for the ends of turn alone, the loss of the answers is that of the ends of turn."""
    import torch
    from torch.nn import functional

    from export.demo import losses

    batch = batches.make(source, 0, PLAN)
    ends = []
    for asked in batch.asked[0]:
        weights = np.zeros_like(asked.weights)
        weights[np.arange(len(weights)), asked.lengths[:, 1] - 1] = 1
        ends.append(replace(asked, weights=weights))
    with torch.inference_mode():
        seen = losses.look(model, batch)
        trace, *_ = losses.follow(model, batch, seen)
        expected = []
        for asked in ends:
            for part in losses.reply(model, trace, batch, asked, seen):
                last = torch.from_numpy(asked.lengths[part.rows, 1] - 1)
                states = part.states[torch.arange(len(last)), last - 1]
                wanted = torch.from_numpy(asked.ids[part.rows])[torch.arange(len(last)), last]
                expected += functional.cross_entropy(model.lm_head(states), wanted, reduction="none").tolist()
        marks = losses.tell(model, heads, replace(batch, asked=(tuple(ends),)), seen, 0)
    assert float(marks.answers) == pytest.approx(np.mean(expected), rel=1e-4)


def test_deltanet_begins_with_a_memory(model: Any) -> None:
    """Per token a head forgets between a thousandth and a good half; transformers' own start forgets nearly all."""
    for layer in model.model.language_model.layers:
        if hasattr(layer, "linear_attn"):
            step = layer.linear_attn.dt_bias.detach().exp().log1p()
            assert ((step >= 0.00099) & (step <= 0.101)).all()
            kept = (-layer.linear_attn.A_log.detach().exp() * step).exp()
            assert ((kept > math.exp(-0.81)) & (kept < 1)).all()


def test_a_number_is_one_token_and_begins_like_its_neighbours(begun: Path, model: Any) -> None:
    tokenizer = Layout(begun / "layout").tokenizer
    ids = [tokenizer.encode(number) for number in NUMBERS]
    assert {len(number) for number in ids} == {1}
    rows = model.get_input_embeddings().weight.detach().numpy()
    names = ("12.3", "12.6", "13.3", "42.3")
    here, *others = (rows[tokenizer.encode(name)[0]] for name in names)
    like = [here @ other / np.linalg.norm(here) / np.linalg.norm(other) for other in others]
    assert like == sorted(like, reverse=True)
    assert like[0] > 0.7
    assert like[-1] < 0.5


def test_a_checkpoint_goes_through_the_converter_at_every_precision(begun: Path, tmp_path: Path) -> None:
    for recipe in ("int8", "int4"):
        bundle = convert(str(begun / "checkpoint"), tmp_path / recipe, load_recipe(recipe)).bundle
        assert sum(file.stat().st_size for file in bundle.path.iterdir()) < 15 * 2**20
        assert bundle.manifest.model.parameters > 1_000_000
        assert bundle.manifest.model.license == "Apache-2.0"


def test_a_minute_of_the_worlds_pictures_keeps_its_size(begun: Path) -> None:
    from edge.model.preprocess import video_size

    manifest = Layout(begun / "layout").manifest
    for size in (SIZES["a"], SIZES["b"]):
        assert video_size(size, 480, manifest.video_pixels, manifest.vision) == size
    for wide in (
        SIZES["c"],
        CAMERA,
    ):  # what is larger than a minute may show is shown smaller, and in no more tokens
        shown = video_size(wide, 480, manifest.video_pixels, manifest.vision)
        assert shown.height * shown.width <= SIZES["b"].height * SIZES["b"].width
    assert shown == SIZES["b"]


def test_it_learns(begun: Path, tmp_path: Path) -> None:
    """In a few small steps the loss of cells, and then that of what happened and of answers falls clearly."""
    lines: list[dict[str, Any]] = []
    syllabus = Syllabus((replace(SEEN, until=0.25), ASKED), block=12)
    trainer = Trainer(
        tmp_path / "run",
        replace(SETTINGS, tokens=500),
        Budget(steps=60),
        start=begun / "checkpoint",
        syllabus=syllabus,
    )
    trainer.run(report=lines.append, report_every=6)
    assert trainer.course.levels == [0, 0, 0, 1, 1, 1, 1]
    assert lines[0]["answers"] is None  # seeing comes first
    assert lines[3]["cells"] < 0.8 * lines[0]["cells"]
    first = next(line for line in lines if line["answers"] is not None)
    assert lines[-1]["answers"] < 0.9 * first["answers"]
    assert lines[-1]["happened"] < 0.9 * first["happened"]
    assert lines[-1]["step"] == 60


@pytest.mark.parametrize("stopped_at", [2, 5])
def test_going_on_equals_never_having_stopped(begun: Path, tmp_path: Path, stopped_at: int) -> None:
    import torch

    small, steps = replace(SETTINGS, tokens=100), Budget(steps=8)
    syllabus = Syllabus((replace(SEEN, until=0.1), ASKED), block=2)
    through, stopped = (
        Trainer(tmp_path / name, small, steps, start=begun / "checkpoint", syllabus=syllabus)
        for name in ("through", "stopped")
    )
    through.run()
    stopped.run(report=lambda _line: stopped.stop(), report_every=stopped_at - 1)
    assert stopped.step == stopped_at
    resumed = Trainer(
        tmp_path / "stopped", small, steps, resume=True, workers=stopped_at // 5, syllabus=syllabus
    )
    resumed.run(report_every=1)
    assert resumed.step == 8
    assert resumed.course.levels == through.course.levels == [0, 0, 1, 1, 1, 1]
    curve = (tmp_path / "stopped" / "curve.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in curve][-3:] == [6, 7, 8]
    for (name, one), other in zip(
        through.model.state_dict().items(), resumed.model.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name


def test_two_that_learn_together_stay_equal(begun: Path, tmp_path: Path) -> None:
    """The second one draws other clips, and ends with the first."""
    import multiprocessing

    from export.demo.optimiser import Ranks

    small = replace(SETTINGS, tokens=100, ranks=2)
    trainer = Trainer(tmp_path / "run", small, Budget(steps=2), start=begun / "checkpoint")
    options = {"settings": small, "budget": Budget(steps=2), "resume": False}
    meeting = tmp_path / "meeting"
    other = multiprocessing.get_context("spawn").Process(
        target=train.learn_along, args=(tmp_path / "run", options, 1, meeting)
    )
    other.start()
    ranks = Ranks(0, 2, meeting)
    trainer.join(ranks)
    lines: list[dict[str, Any]] = []
    trainer.run(report=lines.append, report_every=1)
    other.join(60)
    ranks.close()
    assert other.exitcode == 0
    alone = Trainer(tmp_path / "alone", replace(small, ranks=1), Budget(steps=2), start=begun / "checkpoint")
    single: list[dict[str, Any]] = []
    alone.run(report=single.append, report_every=1)
    assert len(lines) == 2
    assert lines[0]["cells"] != single[0]["cells"]  # the mean over twice as many clips


def test_answers_are_spelt_as_the_grammar_lets_them_be_written(begun: Path) -> None:
    """Token by token: what the engine forces is what was trained, and what was trained is always allowed."""
    layout = Layout(begun / "layout")
    grammars = Grammars(layout.tokenizer, layout.manifest.tokens)
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


def test_a_training_of_the_last_phase_alone_begins_with_it(begun: Path, tmp_path: Path) -> None:
    for last in (False, True):
        settings = replace(SETTINGS, last=last)
        start = begun / "checkpoint"
        trainer = Trainer(tmp_path / str(last), settings, Budget(steps=1), start=start)
        phases = SYLLABI[settings.stage].phases
        assert trainer.course.phase(0) == phases[-1 if last else 0]
