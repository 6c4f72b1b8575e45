"""The engine with a real bundle of toy dimensions: streams, forks, limits, and what it refuses."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from edge.answer.schema import model_schema
from edge.errors import BundleError, ContextFullError, ModelError, StaleForkError
from edge.messages import BODIES
from edge.model.bundle import Bundle, open_bundle
from edge.model.decoder import Arena
from edge.model.engine import Engine, Fork, Sampling, Stream
from edge.model.manifest import MANIFEST, Graph
from edge.model.sessions import open_session, session_options
from edge.model.tokenizer import Tokenizer
from edge.records import Pair, Size
from edge.share import demo_bundle
from export.convert import convert
from export.recipes import load_recipe
from tests import checkpoints

SIZE = Size(64, 96)
TICKS = 16
ASK = "What happened?"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    place = tmp_path_factory.mktemp("toy")
    source = checkpoints.write("toy_untied", place / "checkpoint")
    return convert(str(source), place / "bundle", load_recipe("fp32")).bundle


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Iterator[Engine]:
    with Engine(bundle, threads=1, chunk=32) as engine:
        yield engine


def pairs(count: int, seed: int = 0) -> list[Pair]:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (count, 2, SIZE.height, SIZE.width, 3), np.uint8)
    return [Pair(i, (2 * i + 0.5) / 8, frames[i]) for i in range(count)]


def clip(engine: Engine, *groups: list[Pair], reserve: int = 600) -> Stream:
    stream = engine.stream(SIZE, TICKS, reserve_tokens=reserve)
    for group in groups:
        stream.push(group)
    return stream


def answer(fork: Fork, **options: Any) -> tuple[int, ...]:
    return fork.ask(ASK, **{"schema": None, "max_tokens": 12, **options}).tokens


def still(height: int = 100, width: int = 140, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_how_pairs_are_grouped_changes_nothing(engine: Engine) -> None:
    shown = pairs(8)
    expected = clip(engine, shown)
    for groups in ([[pair] for pair in shown], [shown[:3], [], shown[3:]], [shown[:7], shown[7:]]):
        stream = clip(engine, *groups)
        assert stream.timing.tokens == expected.timing.tokens
        assert stream.timing.pairs == 8
        found = stream.fork().ask(ASK, schema=None, max_tokens=12)
        wanted = expected.fork().ask(ASK, schema=None, max_tokens=12)
        assert (found.tokens, found.tokens_in) == (wanted.tokens, wanted.tokens_in)


def test_what_was_shown_matters_and_so_does_its_order(engine: Engine) -> None:
    shown = pairs(8)
    first = clip(engine, shown).fork().ask(ASK, schema=None, max_tokens=12)
    swapped = [Pair(a.index, a.time_s, b.frames) for a, b in zip(shown, reversed(shown), strict=True)]
    second = clip(engine, swapped).fork().ask(ASK, schema=None, max_tokens=12)
    assert first.logprobs != second.logprobs


def test_a_question_in_the_middle_leaves_no_trace_in_the_clip(engine: Engine) -> None:
    shown = pairs(8)
    asked = clip(engine, shown[:5])
    answer(asked.fork().show(still()))
    answer(asked.fork(), max_tokens=40)
    asked.push(shown[5:])
    fresh = clip(engine, shown)
    found, wanted = (s.fork().ask(ASK, schema=None, max_tokens=12) for s in (asked, fresh))
    assert found.tokens == wanted.tokens
    np.testing.assert_allclose(found.logprobs, wanted.logprobs, atol=1e-4)


def test_questions_of_one_fork_do_not_see_one_another(engine: Engine) -> None:
    fork = clip(engine, pairs(8)).fork()
    first = answer(fork)
    fork.ask("Something else entirely, and longer?", schema=None, max_tokens=30)
    assert answer(fork) == first


def test_in_eight_bits_questions_do_not_see_one_another_either() -> None:
    """Keys and values of a question may widen a scale, by which the clip's own were rounded as well."""
    with Engine(open_bundle(demo_bundle()), threads=1) as engine, clip(engine, pairs(8)) as stream:
        assert any(state.scale for state in engine.bundle.manifest.states)
        fork = stream.fork()
        shown = fork.show(still())

        def said() -> list[str]:
            return [
                place.ask(
                    f"{ASK} {kind}",
                    schema=model_schema(kind, seconds=2.0),
                    max_tokens=150,
                    sampling=Sampling(temperature=2.0),
                    seed=seed,
                ).text
                for seed, kind in enumerate(("summary", "spatial", "summary", "spatial"))
                for place in (fork, shown)
            ]

        assert said() == said()


def test_rows_that_have_lost_their_scales_are_not_gone_back_to() -> None:
    rng = np.random.default_rng(0)
    with Engine(open_bundle(demo_bundle()), threads=1) as engine:
        decoder = engine.parts.decoder
        arena = decoder.arena(64)

        def append(spread: float) -> None:
            embeds = spread * rng.standard_normal((8, decoder.manifest.text.hidden)).astype(np.float32)
            places = np.tile(np.arange(arena.length, arena.length + 8), (3, 1))
            arena.prefill(embeds, places, arena.length + 8, logits=False)

        append(0.01)
        near = arena.mark()
        append(1.0)
        far = arena.mark()
        arena.rewind(far)
        assert (near.overwritten, far.overwritten) == (False, False)
        arena.rewind(near)  # nothing is written, and yet
        assert (near.overwritten, far.overwritten) == (False, True)


def test_a_still_stays_shown_whatever_is_asked_in_between(engine: Engine) -> None:
    fork = clip(engine, pairs(4)).fork()
    near, far = fork.show(still(seed=1)), fork.show(still(seed=2))
    both = near.show(still(seed=3))
    forks = (fork, near, far, both)
    fresh = [answer(each) for each in forks]
    for at in (3, 0, 2, 1, 3, 3, 1, 0, 2):
        assert answer(forks[at]) == fresh[at]
    assert fork.tokens < near.tokens == far.tokens < both.tokens


def test_a_fork_is_stale_once_the_clip_has_gone_on(engine: Engine) -> None:
    stream = clip(engine, pairs(4))
    old = stream.fork()
    shown = old.show(still())
    answer(shown)
    assert stream.fork().tokens == old.tokens  # nothing came since: the same point, still good
    stream.push(pairs(4, seed=9))
    stream.fork()
    for fork in (old, shown):
        with pytest.raises(StaleForkError):
            answer(fork)
        with pytest.raises(StaleForkError):
            fork.show(still())
    answer(stream.fork())


def test_a_fork_is_stale_once_its_clip_is_closed(engine: Engine) -> None:
    with clip(engine, pairs(4)) as stream:
        fork = stream.fork()
        answer(fork)
    with pytest.raises(StaleForkError):
        answer(fork)
    for act in (lambda: stream.push(pairs(1)), stream.fork):
        with pytest.raises(ModelError, match="closed"):
            act()


def test_clips_of_two_cameras_are_worked_on_in_turn(engine: Engine) -> None:
    one, two = pairs(8, seed=1), pairs(8, seed=2)
    wanted = [answer(clip(engine, shown).fork()) for shown in (one, two)]
    streams = [clip(engine), clip(engine)]
    for at in range(8):
        for stream, shown in zip(streams, (one, two), strict=True):
            stream.push([shown[at]])
    assert [answer(stream.fork()) for stream in streams] == wanted


def test_what_does_not_fit_is_refused_before_any_work(engine: Engine) -> None:
    stream = clip(engine, pairs(8), reserve=100)
    with pytest.raises(ContextFullError, match="more pairs"):
        stream.push(pairs(1))
    fork = stream.fork()
    told: list[int] = []
    with pytest.raises(ContextFullError, match="do not fit"):
        fork.ask(ASK, schema=None, max_tokens=200, on_token=told.append)
    with pytest.raises(ContextFullError):
        fork.show(still(512, 512))
    assert told == []
    answer(fork)
    with pytest.raises(ContextFullError, match="does not fit the model's context"):
        engine.stream(Size(1024, 1024), 4000)


def test_frames_of_another_size_or_type_are_refused(engine: Engine) -> None:
    stream = clip(engine)
    small = np.zeros((2, 32, 32, 3), np.uint8)
    for frames in (small, np.zeros((2, SIZE.height, SIZE.width, 3), np.float32)):
        with pytest.raises(ModelError, match="does not fit the stream"):
            stream.push([*pairs(1), Pair(1, 0.3, frames)])  # type: ignore[arg-type]
    assert stream.timing.pairs == 0


def test_one_answer_at_a_time(engine: Engine) -> None:
    stream = clip(engine, pairs(4))
    fork = stream.fork()

    def again(_token: int) -> None:
        answer(fork)

    with pytest.raises(ModelError, match="being worked on"):
        answer(fork, on_token=again)
    answer(fork)  # the lock was let go


def test_a_seed_repeats_an_answer(engine: Engine) -> None:
    fork = clip(engine, pairs(4)).fork()
    hot = Sampling.recommended(engine.bundle.manifest.generation)
    first = answer(fork, sampling=hot, seed=1)
    assert answer(fork, sampling=hot, seed=1) == first
    assert answer(fork, sampling=hot, seed=2) != first


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("temperature", [0.0, 1.0, 3.0])
def test_random_weights_write_valid_json_within_any_budget(
    engine: Engine, kind: str, temperature: float
) -> None:
    fork = clip(engine, pairs(4)).fork()
    told: list[int] = []
    for seed, budget in enumerate((1, 40, 90, 300)):
        told.clear()
        reply = fork.ask(
            ASK,
            schema=model_schema(kind),
            max_tokens=budget,
            sampling=Sampling(temperature=temperature),
            seed=seed,
            on_token=told.append,
        )
        BODIES[kind].model_validate_json(reply.text)
        assert told == list(reply.tokens)
        assert len(reply.tokens) <= max(budget, 40)
        assert len(reply.logprobs) <= len(reply.tokens)


def test_frame_sizes_follow_the_whole_clip(engine: Engine) -> None:
    assert engine.frame_size(Size(720, 1280), 480) == Size(160, 288)
    assert engine.frame_size(Size(480, 640), 480) == Size(192, 256)


def test_a_closed_engine_says_so(bundle: Bundle) -> None:
    engine = Engine(bundle, threads=1)
    engine.close()
    with pytest.raises(ModelError, match="the engine is closed"):
        engine.stream(SIZE, TICKS)


def test_nothing_is_printed(bundle: Bundle, capfd: pytest.CaptureFixture[str]) -> None:
    with Engine(bundle, threads=1) as engine, clip(engine, pairs(2)) as stream:
        stream.fork().ask(ASK, schema=model_schema("ask"), max_tokens=30)
    assert capfd.readouterr() == ("", "")


def changed(
    bundle: Bundle, path: Path, name: str, data: bytes, change: Callable[[dict[str, Any]], None]
) -> Bundle:
    """A copy with another file, and a manifest that vouches for it."""
    shutil.copytree(bundle.path, path)
    (path / name).write_bytes(data)
    content = json.loads((path / MANIFEST).read_text())
    content["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change(content)
    (path / MANIFEST).write_text(json.dumps(content))
    return open_bundle(path)


@pytest.mark.parametrize("name", ["vision.onnx", "embed.onnx", "decoder.onnx"])
def test_a_graph_that_onnxruntime_cannot_load_is_a_bundle_error(
    bundle: Bundle, tmp_path: Path, name: str
) -> None:
    damaged = changed(bundle, tmp_path / "bundle", name, b"no protobuf at all", lambda _content: None)
    with pytest.raises(BundleError, match="onnxruntime cannot load"):
        Engine(damaged, threads=1)


def test_a_graph_that_the_manifest_does_not_describe_is_a_bundle_error(
    bundle: Bundle, tmp_path: Path
) -> None:
    embed = (bundle.path / "embed.onnx").read_bytes()

    def narrower(content: dict[str, Any]) -> None:
        """Consistent in itself, and not what the decoder is."""
        wide = next(state for state in content["states"] if state["kind"] == "conv")
        wide["shape"][-1] += 1
        for side, name in (("inputs", wide["input"]), ("outputs", wide["output"])):
            for tensor in content["graphs"]["decoder"][side]:
                if tensor["name"] == name:
                    tensor["shape"] = wide["shape"]

    other = changed(bundle, tmp_path / "bundle", "embed.onnx", embed, narrower)
    with pytest.raises(BundleError, match="not the graph that the manifest describes") as caught:
        Engine(other, threads=1)
    assert any("the manifest says" in line for line in caught.value.evidence)


def test_what_onnxruntime_raises_while_running_is_a_model_error(engine: Engine) -> None:
    with pytest.raises(ModelError, match="onnxruntime failed in the embedding") as caught:
        engine.parts.decoder.embed(np.array([1 << 40]))
    assert caught.value.__cause__ is not None
    assert len(caught.value.evidence) == 1


def test_the_graphs_are_loaded_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the vocabulary is read last: llguidance lets no other thread run Python until it is done."""
    bundle = open_bundle(demo_bundle())
    graphs = bundle.manifest.graphs
    assert graphs.head is not None
    meeting = Barrier(3)
    began: list[str] = []

    def opened(of: Bundle, graph: Graph, **how: Any) -> Any:
        began.append(graph.file)
        if graph is not graphs.embed:
            meeting.wait(timeout=20)
        return open_session(of, graph, **how)

    def read(*args: Any) -> Tokenizer:
        assert set(began) == {graph.file for graph in graphs.all()}
        return Tokenizer(*args)

    for module in ("decoder", "vision"):
        monkeypatch.setattr(f"edge.model.{module}.open_session", opened)
    monkeypatch.setattr("edge.model.engine.Tokenizer", read)
    Engine(bundle, threads=1).close()


def test_graphs_share_an_arena_once_their_weights_are_packed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """While they are packed they have one of their own, or the weights would leave the shared one in pieces."""
    bundle = open_bundle(demo_bundle())
    packed = [graph for graph in bundle.manifest.graphs.all() if graph is not bundle.manifest.graphs.embed]
    shared: list[bool] = []

    def options(threads: int, **how: Any) -> Any:
        shared.append(how.get("shared", False))
        return session_options(threads, **how)

    for module in ("engine", "sessions"):
        monkeypatch.setattr(f"edge.model.{module}.session_options", options)
    Engine(bundle, threads=1, cache=tmp_path).close()
    assert shared[: len(packed)] == [False] * len(packed)
    assert sorted(shared[len(packed) :]) == [False] + [True] * len(packed)  # the embedding is only looked up


def test_free_pages_of_a_still_are_given_back_before_it_is_prefilled(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork = clip(engine, pairs(2)).fork()
    happened: list[str] = []
    vision = engine.parts.vision
    encode, prefill = vision.encode, Arena.prefill

    def encoded(*args: Any) -> Any:
        happened.append("encode")
        return encode(*args)

    def prefilled(*args: Any, **how: Any) -> Any:
        happened.append("prefill")
        return prefill(*args, **how)

    monkeypatch.setattr(vision, "encode", encoded)
    monkeypatch.setattr(Arena, "prefill", prefilled)
    monkeypatch.setattr("edge.model.fork.trim", lambda: happened.append("trim"))
    fork.show(np.zeros((64, 64, 3), np.uint8))
    assert happened == ["encode", "trim", "prefill"]
