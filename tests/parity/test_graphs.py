"""The three graphs, run alone, against transformers on the same checkpoint."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.model.decoder import Decoder
from edge.model.manifest import Manifest
from export.convert import convert
from export.recipes import load_recipe
from export.reference.libraries import import_libraries
from tests import checkpoints

TOYS = ("toy_tied", "toy_untied")
TOKENS = 150
ROWS = 163  # of the arena: more than the tokens, and odd
EXPECTED = 2e-5  # of the largest logit: what float32 leaves, times five; 1e-3 is promised


@dataclass(frozen=True)
class Pair:
    """A float32 bundle and the model that it was made from."""

    model: Any
    bundle: Path
    manifest: Manifest

    def session(self, graph: str) -> Any:
        import onnxruntime as ort

        file = getattr(self.manifest.graphs, graph).file
        options = ort.SessionOptions()
        options.intra_op_num_threads = 2
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return ort.InferenceSession(self.bundle / file, options, providers=["CPUExecutionProvider"])


def make(preset: str, place: Path) -> Pair:
    source = checkpoints.write(preset, place / "checkpoint")
    made = convert(str(source), place / "bundle", load_recipe("fp32"))
    model = (
        import_libraries()
        .transformers.Qwen3_5ForConditionalGeneration.from_pretrained(source, dtype="float32")
        .eval()
    )
    return Pair(model, made.bundle.path, made.bundle.manifest)


@pytest.fixture(scope="module", params=TOYS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make(request.param, tmp_path_factory.mktemp(request.param))


def places(rng: np.random.Generator) -> NDArray[np.int64]:
    """Time, row and column of each token, as a prompt with images has them: (3, TOKENS)."""
    steps = rng.integers(0, 3, (3, TOKENS))
    return np.cumsum(steps, axis=1, dtype=np.int64)


def reference_logits(
    pair: Pair, embeds: NDArray[np.float32], where: NDArray[np.int64]
) -> NDArray[np.float32]:
    import torch

    with torch.no_grad():
        hidden = pair.model.model.language_model(
            inputs_embeds=torch.from_numpy(embeds)[None], position_ids=torch.from_numpy(where)[:, None]
        ).last_hidden_state
        found: NDArray[np.float32] = pair.model.lm_head(hidden)[0].numpy()
    return found


def rope_tables(pair: Pair, where: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Tables of ROWS rows; those beyond the tokens are not a number, so reading them shows."""
    import torch

    rotary = pair.model.model.language_model.rotary_emb
    halves = []
    for table in rotary(torch.zeros(1), torch.from_numpy(where)[:, None]):
        rows = np.full((ROWS, table.shape[-1] // 2), np.nan, np.float32)
        rows[: table.shape[1]] = table[0, :, : rows.shape[1]].numpy()
        halves.append(rows)
    return halves[0], halves[1]


def in_place(
    pair: Pair, embeds: NDArray[np.float32], where: NDArray[np.int64], chunks: list[int]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Run the decoder chunk by chunk over one buffer a state; yield tokens so far and the logits after them.

    What no token has written yet is not a number.
    """
    import onnxruntime as ort

    session, head = pair.session("decoder"), pair.session("head")
    cos, sin = rope_tables(pair, where)
    buffers = {}
    for state in pair.manifest.states:
        shape = [ROWS if dim == "M" else int(dim) for dim in state.shape]
        fill = np.nan if state.kind == "kv" else 0.0
        buffers[state] = ort.OrtValue.ortvalue_from_numpy(np.full(shape, fill, np.float32), "cpu", 0)
    done = 0
    for length in chunks:
        binding = session.io_binding()
        binding.bind_cpu_input("inputs_embeds", embeds[None, done : done + length].copy())
        binding.bind_cpu_input("position_ids", np.arange(done, done + length)[None])
        binding.bind_cpu_input("rope_cos", cos)
        binding.bind_cpu_input("rope_sin", sin)
        done += length
        binding.bind_cpu_input("seqlens_k", np.array([done - 1], np.int32))
        binding.bind_cpu_input("total_length", np.array(done, np.int32))
        for state, buffer in buffers.items():
            binding.bind_ortvalue_input(state.input, buffer)
            binding.bind_ortvalue_output(state.output, buffer)
        binding.bind_output("hidden", "cpu")
        session.run_with_iobinding(binding)
        (logits,) = head.run(["logits"], {"hidden": binding.copy_outputs_to_cpu()[-1]})
        yield done, logits[0]
    for state, buffer in buffers.items():
        if state.kind == "kv":
            assert np.isfinite(buffer.numpy()[:, :, :done]).all()
            assert np.isnan(buffer.numpy()[:, :, done:]).all(), "rows beyond the tokens were written"


def largest_error(pair: Pair, chunks: list[int]) -> float:
    """Return the largest difference after any chunk, as a fraction of the reference's largest logit."""
    rng = np.random.default_rng(3)
    embeds = rng.standard_normal((TOKENS, pair.manifest.text.hidden), dtype=np.float32)
    where = places(rng)
    expected = reference_logits(pair, embeds, where)
    found = in_place(pair, embeds, where, chunks)
    worst = max(float(np.abs(logits - expected[done - 1]).max()) for done, logits in found)
    return worst / float(np.abs(expected).max())


def chunked(size: int) -> list[int]:
    return [min(size, TOKENS - start) for start in range(0, TOKENS, size)]


@pytest.mark.parametrize(
    "chunks",
    [chunked(TOKENS), chunked(7), chunked(64), chunked(1), [2, 1, 3, 100, 1, 1, 42]],
    ids=["one", "sevens", "sixty-fours", "ones", "mixed"],
)
def test_logits_in_place_equal_transformers(pair: Pair, chunks: list[int]) -> None:
    assert largest_error(pair, chunks) <= EXPECTED


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_logits_equal_transformers_at_real_dimensions(tmp_path: Path) -> None:
    """Writes 5 GB and holds 8 GB."""
    assert largest_error(make("dims_0_8b", tmp_path), chunked(64)) <= EXPECTED


def test_chunks_do_not_change_the_states_beyond_rounding(pair: Pair) -> None:
    rng = np.random.default_rng(4)
    embeds = rng.standard_normal((TOKENS, pair.manifest.text.hidden), dtype=np.float32)
    where = places(rng)
    runs = [dict(in_place(pair, embeds, where, chunks)) for chunks in (chunked(TOKENS), chunked(1))]
    np.testing.assert_allclose(runs[0][TOKENS], runs[1][TOKENS], atol=1e-4)


def test_heads_as_wide_as_the_releases_are_cut_into_narrower_ones(pair: Pair) -> None:
    """The kernel is faster so; that the logits stay those of transformers is what the other tests say."""
    shapes = {state.shape for state in pair.manifest.states if state.kind == "recurrent"}
    wide = pair.model.config.text_config.linear_value_head_dim == 128
    assert shapes == ({(1, 8, 128, 64)} if wide else {(1, 4, 32, 32)})


def test_embeddings_are_the_rows_of_the_checkpoint(pair: Pair) -> None:
    ids = np.random.default_rng(5).integers(0, pair.manifest.tokens.vocab_rows, (1, 40))
    (found,) = pair.session("embed").run(["embeds"], {"input_ids": ids})
    table = pair.model.model.language_model.embed_tokens.weight.detach().numpy()
    np.testing.assert_array_equal(found, table[ids])


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (2, 6), (12, 16), (18, 10)])
@pytest.mark.parametrize("pairs", [1, 3])
def test_vision_of_each_pair_equals_transformers(pair: Pair, rows: int, columns: int, pairs: int) -> None:
    import torch
    from transformers import vision_utils

    tower = pair.model.model.visual
    grid = torch.tensor([[1, rows, columns]])
    index, weight = vision_utils.get_vision_interpolation_indices_and_weights(
        grid,
        num_grid_per_side=pair.manifest.vision.positions,
        mode="bilinear",
        align_corners=True,
        spatial_merge_size=2,
    )
    cos, sin = tower.rotary_pos_emb(torch.zeros(1), vision_utils.get_vision_position_ids(grid, 2))
    half = pair.manifest.vision.head_dim // 2
    patches = np.random.default_rng(6).integers(0, 256, (pairs, rows * columns, 1536), np.uint8)
    (found,) = pair.session("vision").run(
        ["embeds"],
        {
            "patches": patches,
            "pos_index": np.ascontiguousarray(index.T.numpy()),
            "pos_weight": np.ascontiguousarray(weight.T.numpy()),
            "rope_cos": np.ascontiguousarray(cos[:, :half].numpy()),
            "rope_sin": np.ascontiguousarray(sin[:, :half].numpy()),
        },
    )
    pixels = torch.from_numpy(patches.reshape(-1, 1536).astype(np.float32) / 255 - 0.5) / 0.5
    with torch.no_grad():
        expected = tower(pixels, torch.tensor([[pairs, rows, columns]])).pooler_output.numpy()
    assert found.shape == (pairs, rows * columns // 4, pair.manifest.text.hidden)
    error = np.abs(found.reshape(expected.shape) - expected).max() / np.abs(expected).max()
    assert error <= EXPECTED


@pytest.mark.parametrize("preset", TOYS)
def test_quantised_graphs_stay_near_float32(preset: str, tmp_path: Path) -> None:
    """Bounds for tiny random matrices, whose blocks cannot average their errors out; a wrong layout gives several nats."""
    source = checkpoints.write(preset, tmp_path / "checkpoint")
    where = np.tile(np.arange(TOKENS), (3, 1))
    logs = {}
    for name in ("fp32", "int8", "int4"):
        made = convert(str(source), tmp_path / name, load_recipe(name))
        decoder = Decoder(made.bundle, threads=2)
        ids = np.random.default_rng(8).integers(0, decoder.manifest.tokens.vocab_used, TOKENS)
        embeds, arena, rows = decoder.embed(ids), decoder.arena(ROWS), []
        for at in range(0, TOKENS, 7):
            part = slice(at, at + 7)
            rows.append(arena.prefill(embeds[part], where[:, part], at + 7).astype(np.float64))
        found = np.array(rows)
        logs[name] = found - np.log(np.exp(found).sum(1, keepdims=True))

    def divergence(name: str) -> float:
        return float((np.exp(logs["fp32"]) * (logs["fp32"] - logs[name])).sum(1).mean())

    assert divergence("int8") < 0.1
    assert divergence("int8") < divergence("int4") < 1.0
