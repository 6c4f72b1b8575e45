"""`edge-export verify` finds a good bundle equal to its reference, and says what is wrong with a bad one."""

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from edge.errors import CheckpointError, EdgeError
from edge.model.bundle import open_bundle
from edge.records import Size
from export import parity
from export.bicubic import scale_as_torch
from export.comparison import Expectations, expect, measure, scenes
from export.convert import convert
from export.footage import draw
from export.golden import read_golden
from export.recipes import load_recipe
from export.reference import GRAPHS, Reference, import_libraries
from export.verify import verify_command
from tests import checkpoints

TOYS = ("toy_tied", "toy_untied")
RECIPES = ("fp32", "int8", "int4")
ROOT = Path(__file__).parents[2]
PROMPT = "Describe this image in detail."

app = typer.Typer()
app.command()(verify_command)


@dataclass(frozen=True)
class Toy:
    source: Path
    expected: Expectations

    def bundle(self, recipe: str) -> Path:
        out = self.source.parent / recipe
        if not out.exists():
            convert(str(self.source), out, load_recipe(recipe))
        return out


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    """Toys need no more, and torch's threads wait for one another busily where cores are shared."""
    import_libraries().torch.set_num_threads(1)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Toy]:
    """Return what makes each toy once."""

    @functools.cache
    def made(preset: str) -> Toy:
        place = tmp_path_factory.mktemp(preset)
        source = checkpoints.write(preset, place / "checkpoint")
        convert(str(source), place / "fp32", load_recipe("fp32"))
        manifest = open_bundle(place / "fp32").manifest
        return Toy(source, expect(source, manifest, scenes(8), answer=64))

    return made


@pytest.fixture(params=TOYS)
def toy(request: pytest.FixtureRequest, make: Callable[[str], Toy]) -> Toy:
    return make(request.param)


@pytest.fixture(scope="module")
def tied(make: Callable[[str], Toy]) -> Toy:
    return make("toy_tied")


def run(*arguments: str | Path) -> tuple[str, EdgeError | None]:
    """Run the command; what it printed, and the error that it ended with."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is None or isinstance(result.exception, EdgeError):
        return result.stdout, result.exception
    raise result.exception


@pytest.mark.parametrize("chunk", [None, 1, 7, 64])
def test_a_float32_bundle_is_its_reference(toy: Toy, chunk: int | None) -> None:
    report = measure(open_bundle(toy.bundle("fp32")), toy.expected, chunk=chunk)
    assert parity.failures(report, exact=True, max_kl=1e-6) == []
    assert report.error < 1e-4  # ten times better than promised: a loss of precision anywhere shows
    assert {graph.graph: graph.error < 1e-4 for graph in report.graphs} == dict.fromkeys(
        ("vision", "embed", "decoder"), True
    )
    assert {case.greedy.tokens for case in report.cases} <= set(range(1, 65))
    assert sum(case.greedy.tokens == 64 for case in report.cases) >= 3


@pytest.mark.parametrize("name", GRAPHS)
def test_the_configuration_registered_with_optimum_describes_the_graphs(toy: Toy, name: str) -> None:
    config = Reference(toy.source).export_config(name)
    graph = getattr(open_bundle(toy.bundle("fp32")).manifest.graphs, name)
    for registered, real in ((config.inputs, graph.inputs), (config.outputs, graph.outputs)):
        symbols = {
            tensor.name: {axis: size for axis, size in enumerate(tensor.shape) if isinstance(size, str)}
            for tensor in real
        }
        assert registered == symbols
    for tensor in graph.inputs:
        dummy = config.generate_dummy_inputs(framework="np")[tensor.name]
        assert str(dummy.dtype) == tensor.dtype
        fits = [
            isinstance(size, str) or size == found
            for size, found in zip(tensor.shape, dummy.shape, strict=True)
        ]
        assert all(fits), tensor.name


def test_quantised_bundles_are_near_and_no_nearer_than_they_can_be(toy: Toy) -> None:
    reports = {recipe: measure(open_bundle(toy.bundle(recipe)), toy.expected) for recipe in RECIPES}
    exact, byte, nibble = (reports[recipe].kl_mean for recipe in RECIPES)
    assert exact < 1e-6 < byte < nibble < 1.0
    assert reports["int8"].top1 > 0.75
    for report in reports.values():
        assert all(case.same_ids and case.same_positions for case in report.cases)


@pytest.mark.parametrize(
    ("name", "graph"),
    [
        ("model.language_model.layers.3.mlp.down_proj.weight", "decoder"),
        ("model.language_model.layers.0.linear_attn.dt_bias", "decoder"),
        ("model.visual.merger.linear_fc2.bias", "vision"),
    ],
)
def test_one_damaged_weight_is_found_and_the_graph_named(
    tied: Toy, tmp_path: Path, name: str, graph: str
) -> None:
    damaged = checkpoints.write("toy_tied", tmp_path / "damaged")
    weights = load_file(damaged / "model.safetensors")
    weights[name] = weights[name] * np.float32(1.05)
    save_file(weights, damaged / "model.safetensors", {"format": "pt"})
    bundle = convert(str(damaged), tmp_path / "bundle", load_recipe("fp32")).bundle
    found = parity.failures(measure(bundle, tied.expected), exact=True, max_kl=None)
    assert any("logits differ" in fault for fault in found)
    assert [fault.split()[0] for fault in found if " graph: " in fault] == [graph]


def test_the_command_prints_a_table_and_leaves_a_report_that_the_runtime_does_not_mind(tied: Toy) -> None:
    bundle = tied.bundle("fp32")
    before = open_bundle(bundle).hash
    out, error = run(bundle, "--source", tied.source, "--frames", "4")
    assert error is None
    assert "video 240x320, 4 frames" in out
    read = json.loads((bundle / parity.REPORT).read_text())
    assert (read["schema"], read["passed"], read["failures"]) == (parity.SCHEMA, True, [])
    assert read["error"] < 1e-4
    assert read["subject"]["bundle_hash"] == open_bundle(bundle, full=True).hash == before


def test_max_kl_makes_a_poor_bundle_a_failure(tied: Toy) -> None:
    out, error = run(
        tied.bundle("int4"), "--source", tied.source, "--frames", "2", "--json", "--max-kl", "0.001"
    )
    (line,) = out.splitlines()
    assert json.loads(line)["passed"] is False
    assert error is not None
    assert error.exit_code == 1
    assert "--max-kl 0.001" in error.render()


def test_the_wrong_source_is_refused(tied: Toy, tmp_path: Path) -> None:
    other = checkpoints.write("toy_untied", tmp_path / "other")
    _, error = run(tied.bundle("fp32"), "--source", other)
    assert isinstance(error, CheckpointError)
    assert "toy" not in error.what
    assert "not what the bundle was converted from" in error.what


@pytest.mark.parametrize(
    "arguments", [[], ["--golden", "a.json"], ["--source", "x", "--golden", "a.json", "--image", "b.png"]]
)
def test_what_is_compared_must_be_clear(tied: Toy, arguments: list[str]) -> None:
    _, error = run(tied.bundle("fp32"), *arguments)
    assert error is not None
    assert "--source SOURCE" in error.next_step


def test_a_video_file_is_a_case_of_its_own(tied: Toy, tmp_path: Path) -> None:
    import av

    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=16)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for picture in draw(12, 96, 128):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    *_, last = scenes(8, path)
    assert last.name == "clip.mp4, 6 frames"  # 12 pictures at 16 a second are 6 ticks at 8
    assert last.frames.shape == (6, 96, 128, 3)
    assert np.abs(last.frames[3].astype(int) - draw(12, 96, 128)[6]).mean() < 12


# --- Golden vectors --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Vector:
    toy: Toy
    file: Path
    image: Path

    def changed(self, tmp_path: Path, **values: Any) -> Path:
        """Write the vector again with other values, and return its path."""
        copy = tmp_path / "changed.json"
        copy.write_text(json.dumps(json.loads(self.file.read_text()) | values))
        beside = json.loads(self.file.with_name("vector_generation.json").read_text()) | values
        (tmp_path / "changed_generation.json").write_text(json.dumps(beside))
        return copy


@pytest.fixture(scope="module")
def vector(tied: Toy, tmp_path_factory: pytest.TempPathFactory) -> Vector:
    """Write what transformers makes of a picture, in the format of the public vectors."""
    place = tmp_path_factory.mktemp("vector")
    rgb = draw(1, 300, 417)[0]
    Image.fromarray(rgb).save(place / "picture.png")
    reference = Reference(tied.source)
    inputs = reference.image(rgb, PROMPT)
    with_padding = reference.model(**inputs.tensors, use_cache=False, logits_to_keep=1).logits[0, -1]
    logits = with_padding.detach().double().numpy()
    best = np.argsort(-logits)[:10]
    summary = (logits.max(), logits.min(), logits.mean(), logits.std())
    content = {
        "top1_id": int(best[0]),
        "top2_id": int(best[1]),
        "top10_ids": best.tolist(),
        "top10_logits": [float(x).hex() for x in logits[best]],
        "logits_summary": [float(x).hex() for x in summary],
        "input_ids": inputs.input_ids.tolist(),
    }
    answer = reference.continuation(inputs, 30).tokens.tolist()
    generation = {"model_id": "toy", "prompt": PROMPT, "generated_tokens": answer, "generated_text": "-"}
    (place / "vector.json").write_text(json.dumps(content))
    (place / "vector_generation.json").write_text(json.dumps(generation))
    return Vector(tied, place / "vector.json", place / "picture.png")


def test_a_golden_vector_is_replayed_without_torch(vector: Vector) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'optimum', 'torchvision'): sys.modules[name] = None\n"
        "import typer\n"
        "from export.verify import verify_command\n"
        "app = typer.Typer()\n"
        "app.command()(verify_command)\n"
        "app()\n"
    )
    bundle = vector.toy.bundle("fp32")
    command: list[str | Path] = [
        sys.executable,
        "-W",
        "error",
        "-c",
        code,
        bundle,
        "--golden",
        vector.file,
        "--image",
        vector.image,
    ]
    done = subprocess.run(
        [*command, "--json"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)
    assert (read["passed"], read["first_difference"], read["equal"]) == (True, None, 30)
    assert max(read["logit_error"], read["summary_error"], read["kl"]) < 1e-4
    assert read["device"]["first_difference"] is None


def test_a_wrong_token_in_a_vector_is_a_failure(vector: Vector, tmp_path: Path) -> None:
    answer = list(read_golden(vector.file).answer)
    answer[12] = (answer[12] + 1) % 600
    changed = vector.changed(tmp_path, generated_tokens=answer)
    out, error = run(vector.toy.bundle("fp32"), "--golden", changed, "--image", vector.image)
    assert "12/30" in out
    assert error is not None
    assert "greedy answers part at token 12" in error.render()


def test_a_wrong_logit_in_a_vector_is_a_failure(vector: Vector, tmp_path: Path) -> None:
    logits = [float(x) for x in read_golden(vector.file).top_logits]
    logits[3] -= 0.5
    changed = vector.changed(tmp_path, top10_logits=[x.hex() for x in logits])
    _, error = run(vector.toy.bundle("fp32"), "--golden", changed, "--image", vector.image)
    assert error is not None
    assert "top-10 logits differ" in error.render()


def test_another_picture_or_prompt_is_told_by_the_first_id_that_differs(
    vector: Vector, tmp_path: Path
) -> None:
    Image.fromarray(draw(1, 300, 500)[0]).save(tmp_path / "other.png")
    _, error = run(vector.toy.bundle("fp32"), "--golden", vector.file, "--image", tmp_path / "other.png")
    assert error is not None
    assert "is this the vector's picture" in error.render()
    changed = vector.changed(tmp_path, prompt="Describe this image.")
    _, error = run(vector.toy.bundle("fp32"), "--golden", changed, "--image", vector.image)
    assert error is not None
    assert "prompt id" in error.render()


def test_a_quantised_bundle_is_shown_beside_a_vector_and_held_to_max_kl(vector: Vector) -> None:
    arguments = (vector.toy.bundle("int8"), "--golden", vector.file, "--image", vector.image)
    out, error = run(*arguments)
    assert error is None
    assert "KL over the top 10" in out
    _, error = run(*arguments, "--max-kl", "0.000001")
    assert error is not None
    assert "--max-kl 1e-06" in error.render()


@pytest.mark.parametrize("damage", ["missing", "no generation", "not a vector"])
def test_what_is_no_golden_vector_is_one_clear_error(vector: Vector, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "changed.json"
    if damage == "no generation":
        path.write_bytes(vector.file.read_bytes())
    if damage == "not a vector":
        vector.changed(tmp_path, top10_ids=["a"])
    _, error = run(vector.toy.bundle("fp32"), "--golden", path, "--image", vector.image)
    assert isinstance(error, CheckpointError)
    assert "export/README.md" in error.next_step


@pytest.mark.parametrize("source", [(240, 320), (300, 417), (97, 333), (40, 900)])
def test_a_vectors_picture_is_scaled_as_transformers_scales_it(tied: Toy, source: tuple[int, int]) -> None:
    import torch
    from torchvision.transforms.v2 import InterpolationMode, functional

    rgb: NDArray[np.uint8] = np.random.default_rng(5).integers(0, 256, (*source, 3), np.uint8)
    for height, width in ((256, 320), (64, 96), (256, 333)):
        wanted = functional.resize(
            torch.from_numpy(rgb.transpose(2, 0, 1).copy()),
            [height, width],
            InterpolationMode.BICUBIC,
            antialias=True,
        )
        np.testing.assert_array_equal(
            scale_as_torch(rgb, Size(height, width)), wanted.numpy().transpose(1, 2, 0)
        )


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_it_holds_at_the_real_dimensions_of_0_8b(tmp_path: Path) -> None:
    source = checkpoints.write("dims_0_8b", tmp_path / "checkpoint")
    bundle = convert(str(source), tmp_path / "fp32", load_recipe("fp32")).bundle
    cases = [scene for scene in scenes(4) if scene.name.startswith(("text", "video 240x320"))]
    report = measure(bundle, expect(source, bundle.manifest, cases, answer=8))
    assert parity.failures(report, exact=True, max_kl=1e-6) == [], report.table()
