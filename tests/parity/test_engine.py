"""The engine with a float32 bundle against transformers: ids, positions, logits, greedy answers, forks."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.model.bundle import Bundle
from edge.model.engine import Engine, Fork, Reply
from edge.records import Size
from export.candidate import Layout, Question, clip_pairs, lay_out, teacher_logits
from export.convert import convert
from export.recipes import load_recipe
from export.reference import Inputs, Reference
from tests import checkpoints

TOYS = ("toy_tied", "toy_untied")
FPS = 8.0
PROMPT = "What happened, and where?"
BOUND = 1e-3  # of the largest logit
ANSWER = 64  # greedy tokens


@dataclass(frozen=True)
class Case:
    """What is shown to both: a clip or a still of random pixels at model size, or nothing."""

    frames: int = 0
    height: int = 0
    width: int = 0
    still: bool = False

    def __str__(self) -> str:
        kind = "image" if self.still else "video" if self.frames else "text"
        return f"{kind}-{self.frames}x{self.height}x{self.width}"

    def pixels(self) -> NDArray[np.uint8]:
        rng = np.random.default_rng(self.frames + self.height)
        return rng.integers(0, 256, (max(1, self.frames), self.height, self.width, 3), np.uint8)

    def question(self) -> Question:
        if self.still:
            return Question(PROMPT, image=self.pixels()[0])
        return Question(PROMPT, pairs=clip_pairs(self.pixels(), FPS) if self.frames else ())

    def inputs(self, reference: Reference, *, outer: bool = False) -> Inputs:
        if self.still:
            return reference.image(self.pixels()[0], PROMPT, resize=False)
        if self.frames:
            return reference.video(self.pixels(), FPS, PROMPT, resize=False, outer=outer)
        return reference.text(PROMPT)


VIDEOS = (Case(2, 64, 96), Case(5, 96, 64), Case(8, 64, 64), Case(23, 128, 96))
CASES = (Case(), Case(1, 256, 288, still=True), *VIDEOS)


@dataclass(frozen=True)
class Both:
    """A reference, and the float32 bundle of the same checkpoint."""

    reference: Reference
    bundle: Bundle
    known: dict[Case, NDArray[np.float32]] = field(default_factory=dict)

    def logits(self, case: Case) -> NDArray[np.float32]:
        """What transformers says after the whole prompt, in one run without a cache."""
        if case not in self.known:
            self.known[case] = self.reference.logits(case.inputs(self.reference), last=1)
        return self.known[case]


@pytest.fixture(scope="module", params=TOYS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return make(request.param, tmp_path_factory.mktemp(request.param))


def make(preset: str, place: Path) -> Both:
    source = checkpoints.write(preset, place / "checkpoint", dtype="float32")
    bundle = convert(str(source), place / "bundle", load_recipe("fp32")).bundle
    return Both(Reference(source), bundle)


@pytest.fixture(scope="module")
def engine(both: Both) -> Iterator[Engine]:
    with Engine(both.bundle, threads=1) as engine:
        yield engine


def shown(engine: Engine, case: Case) -> Fork:
    """Show a case the way the service does."""
    pairs = case.question().pairs
    size = Size(case.height, case.width) if pairs else Size(32, 32)
    stream = engine.stream(size, max(2, case.frames))
    stream.push(pairs)
    fork = stream.fork()
    return fork.show(case.pixels()[0]) if case.still else fork


def near_tie(logits: NDArray[np.float32]) -> bool:
    second, first = np.sort(logits)[-2:]
    return bool(first - second < BOUND * np.abs(logits).max())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_token_ids_and_positions_are_the_processors(both: Both, engine: Engine, case: Case) -> None:
    ours, theirs = lay_out(engine, case.question()), case.inputs(both.reference)
    np.testing.assert_array_equal(ours.ids, theirs.input_ids)
    np.testing.assert_array_equal(ours.positions, theirs.positions)


@pytest.mark.parametrize("case", VIDEOS, ids=str)
def test_with_the_templates_outer_vision_tokens_only_these_differ(
    both: Both, engine: Engine, case: Case
) -> None:
    ours, theirs = lay_out(engine, case.question()), case.inputs(both.reference, outer=True)
    tokens = engine.bundle.manifest.tokens
    first = len(engine.tokenizer.encode(engine.bundle.manifest.prompt.user_open))
    last = len(theirs.input_ids) - (len(ours.ids) - after_last_pair(ours, tokens.vision_end)) - 1
    assert theirs.input_ids[[first, last]].tolist() == [tokens.vision_start, tokens.vision_end]
    np.testing.assert_array_equal(np.delete(theirs.input_ids, [first, last]), ours.ids)
    moved = np.delete(theirs.positions, [first, last], axis=1) - ours.positions
    steps = np.r_[
        np.zeros(first),
        np.ones(after_last_pair(ours, tokens.vision_end) - first),
        np.full(len(ours.ids) - after_last_pair(ours, tokens.vision_end), 2),
    ]
    np.testing.assert_array_equal(moved, np.broadcast_to(steps, moved.shape))


def after_last_pair(layout: Layout, vision_end: int) -> int:
    return int(np.flatnonzero(layout.ids == vision_end)[-1]) + 1


@pytest.mark.parametrize("chunk", [4096, 64, 7, 1], ids=lambda chunk: f"chunk-{chunk}")
def test_logits_are_those_of_transformers_whatever_the_chunks(both: Both, chunk: int) -> None:
    with Engine(both.bundle, threads=1, chunk=chunk) as engine:
        for case in CASES:
            expected = both.logits(case)
            found = teacher_logits(engine, case.question(), [0])[:, : expected.shape[1]]
            error = np.abs(found - expected).max() / np.abs(expected).max()
            assert error <= BOUND, f"{case}: {error:.1e}"


@pytest.mark.parametrize("case", [*CASES[:2], VIDEOS[1], VIDEOS[3]], ids=str)
def test_greedy_answers_are_those_of_transformers(both: Both, engine: Engine, case: Case) -> None:
    expected = both.reference.continuation(case.inputs(both.reference), ANSWER)
    reply = shown(engine, case).ask(PROMPT, schema=None, max_tokens=ANSWER)
    eos = engine.bundle.manifest.tokens.eos
    compared = 0
    for token, logprob, theirs, logits in zip(
        [*reply.tokens, *eos[:1]], reply.logprobs, expected.tokens, expected.logits, strict=False
    ):
        ended = compared == len(reply.tokens)
        if token != theirs and not (ended and theirs in eos):
            assert near_tie(logits), f"token {compared}: {token}, transformers chose {theirs}"
            break
        wide = logits.astype(np.float64)
        exact = wide[theirs] - wide.max() - np.log(np.exp(wide - wide.max()).sum())
        assert logprob == pytest.approx(exact, abs=2 * BOUND * float(np.abs(logits).max()))
        compared += 1
    assert reply.tokens_in == len(case.inputs(both.reference).input_ids)
    assert compared > 0


def test_forks_of_one_clip_answer_as_fresh_runs_do_in_any_order(both: Both, engine: Engine) -> None:
    clip, still = VIDEOS[-1], Case(1, 256, 288, still=True).pixels()[0]
    questions = ("What moves?", "Where is the car, seen from the door?")

    def ask(fork: Fork, at: int) -> Reply:
        return fork.ask(questions[at], schema=None, max_tokens=24)

    fresh = [ask(shown(engine, clip), 0), ask(shown(engine, clip).show(still), 1)]
    for order in ((0, 1), (1, 0), (1, 0, 1, 0)):
        plain = shown(engine, clip)
        forks = [plain, plain.show(still)]
        for at in order:
            found = ask(forks[at], at)
            assert found.tokens == fresh[at].tokens
            np.testing.assert_allclose(found.logprobs, fresh[at].logprobs, atol=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_it_holds_at_the_real_dimensions_of_0_8b(tmp_path: Path) -> None:
    real = make("dims_0_8b", tmp_path)
    cases = (Case(), Case(3, 64, 96), Case(1, 256, 256, still=True))
    with Engine(real.bundle, chunk=64) as engine:
        for case in cases:
            inputs = case.inputs(real.reference)
            ours = lay_out(engine, case.question())
            np.testing.assert_array_equal(ours.ids, inputs.input_ids)
            np.testing.assert_array_equal(ours.positions, inputs.positions)
            expected = real.reference.continuation(inputs, 8)
            found = teacher_logits(engine, case.question(), expected.tokens.tolist())[
                :, : expected.logits.shape[1]
            ]
            error = np.abs(found - expected.logits).max() / np.abs(expected.logits).max()
            assert error <= BOUND, f"{case}: {error:.1e}"
            reply = shown(engine, case).ask(PROMPT, schema=None, max_tokens=8)
            for token, theirs, logits in zip(reply.tokens, expected.tokens, expected.logits, strict=False):
                if token != theirs:
                    assert near_tie(logits)
                    break
