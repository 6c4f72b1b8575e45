"""Checkpoint to bundle: opens the source, builds the graphs, writes the manifest, verifies, renames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from edge import __version__
from edge.errors import ModelError
from edge.model.bundle import Bundle, open_bundle
from edge.model.manifest import (
    TOKENIZER,
    FileEntry,
    Graph,
    Graphs,
    Manifest,
    Model,
    Runtime,
    State,
    Text,
    Vision,
    bundle_hash,
)
from edge.model.manifest import Recipe as AppliedRecipe
from export.bundle import BundleWriter, refuse_existing
from export.checkpoint.names import EMBEDDING, HEAD
from export.checkpoint.source import Checkpoint, open_checkpoint
from export.graph.decoder import build_decoder, build_head, build_prefill
from export.graph.embed import build_embed
from export.graph.vision import build_vision
from export.graph.weights import Matrix, Weights
from export.graph.writer import GraphWriter
from export.recipes import Recipe

# What the graphs were measured on; pyproject.toml says the same.
ONNXRUNTIME: Final = Runtime(onnxruntime_at_least="1.31", onnxruntime_below="1.32")

EXACT_LOGITS: Final = 64
"""Of a rough head: three times what sampling keeps. With random weights at 0.8B, whose logits lie closest together, the 20
largest of 248,077 were among the 64 largest rough ones in 99.97 % of 3,000 cases, among 32 in 95 %, the first always."""

_ROUGH_ROWS: Final = 4096  # a smaller head is not worth a second copy

Progress = Callable[[str, int, int], None]
"""Called after every piece written: name of the tensor, parameters done, parameters in all."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A finished bundle, and the checkpoint's tensors that it has no use for."""

    bundle: Bundle
    unexpected: tuple[str, ...]


def convert(
    source: str,
    out: Path,
    recipe: Recipe,
    *,
    revision: str | None = None,
    note: str = "",
    progress: Progress = lambda _name, _done, _total: None,
) -> Converted:
    """Convert a checkpoint.

    Args:
        source: Directory or hub id.
        out: The bundle's directory; must not exist.
        recipe: Precision per class of weights.
        revision: Of a hub id.
        note: Shown wherever the model's words are, for example that its weights are random.
        progress: Hears of every piece written.

    Raises:
        CheckpointError: The source cannot be used.
        EdgeError: OUT exists or cannot be written; the finished bundle does not open.
    """
    refuse_existing(out)
    checkpoint = open_checkpoint(source, revision)
    total, done = checkpoint.parameters, 0

    def count(name: str, parameters: int) -> None:
        nonlocal done
        done += parameters
        progress(name, done, total)

    weights = Weights(checkpoint.store, recipe, count)
    with BundleWriter(out) as bundle:
        graphs, states = _write_graphs(bundle, checkpoint, weights)
        bundle.copy(TOKENIZER, checkpoint.directory / TOKENIZER)
        unused = checkpoint.shapes.keys() - weights.used
        if unused:  # a defect of this program, but one that would otherwise stay silent
            raise ModelError("the graphs leave out weights of the checkpoint", evidence=sorted(unused)[:5])
        applied = AppliedRecipe(
            name=recipe.name,
            precision={
                **weights.precision(),
                "cache": "int8 per channel" if recipe.cache_bits == 8 else "float32",
            },
        )
        manifest = _manifest(
            checkpoint, applied=applied, note=note, files=bundle.files, graphs=graphs, states=states
        )
        progress("checking the bundle", total, total)
        bundle.finish(manifest, check_whole)
    return Converted(Bundle(out, manifest, bundle_hash(manifest.dump())), checkpoint.unexpected)


def check_whole(path: Path) -> None:
    """Open a bundle as the runtime does, hash every file, and load each graph in onnxruntime.

    Raises:
        BundleError: It does not keep its manifest's promises.
        ModelError: onnxruntime refuses a graph.
    """
    import onnxruntime as ort

    manifest = open_bundle(path, full=True).manifest
    options = ort.SessionOptions()
    # Loading proves the wiring. Without optimisation and prepacking the weights stay on the disk meanwhile.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.log_severity_level = 3
    for graph in manifest.graphs.all():
        try:
            session = ort.InferenceSession(path / graph.file, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has no base class of its own
            raise ModelError(
                f"onnxruntime does not load {graph.file}", evidence=str(error).splitlines()[:3]
            ) from error
        _compare(graph.file, "inputs", graph.inputs, session.get_inputs())
        _compare(graph.file, "outputs", graph.outputs, session.get_outputs())


def _compare(file: str, what: str, promised: Any, loaded: Any) -> None:
    said = {f"{tensor.name} {list(tensor.shape)}" for tensor in promised}
    found = {f"{tensor.name} {list(tensor.shape)}" for tensor in loaded}
    if said != found:
        raise ModelError(
            f"the {what} of {file} are not those of the manifest",
            evidence=[f"manifest: {sorted(said - found)[:3]}", f"graph: {sorted(found - said)[:3]}"],
        )


def _write_graphs(
    bundle: BundleWriter, checkpoint: Checkpoint, weights: Weights
) -> tuple[Graphs, tuple[State, ...]]:
    dims = checkpoint.dims
    with bundle.data_file("embed.data") as data:
        table = weights.store(data, EMBEDDING, "embedding")
        graph = GraphWriter("embed", data)
        build_embed(graph, dims.text, table)
        head = GraphWriter("head", data)
        large = dims.text.tied and dims.text.vocab_rows >= _ROUGH_ROWS
        rough = weights.recipe.for_rough_head() if large else None
        if dims.text.tied and rough is None:
            build_head(head, dims.text, table)
    embed = graph.save(bundle)
    if not dims.text.tied or rough is not None:
        with bundle.data_file("head.data") as data:
            head = GraphWriter("head", data)
            if rough is None:
                matrix = weights.store(data, HEAD, "head")
            else:
                copy = weights.again(rough)
                matrix = copy.store(data, Matrix("rough_head", EMBEDDING), "head")
                weights.applied["rough head"] = copy.applied["head"]
            build_head(head, dims.text, matrix)
    heads = head.save(bundle)
    recipe = weights.recipe
    with bundle.data_file("decoder.data") as data:
        graph = GraphWriter("decoder", data)
        states = build_decoder(graph, weights.under(recipe.for_decoder()), dims.text)
    decoder = graph.save(bundle)
    prefill = None
    second = recipe.for_prefill()
    if second is not None:
        with bundle.data_file("prefill.data") as data:
            graph = GraphWriter("prefill", data)
            copy = weights.again(second)
            build_prefill(graph, copy, dims.text)
        weights.applied["prefill"] = set().union(*copy.applied.values())
        prefill = graph.save(bundle)
    with bundle.data_file("vision.data") as data:
        graph = GraphWriter("vision", data)
        build_vision(graph, weights, dims.vision, checkpoint.processor)
    vision: Graph = graph.save(bundle)
    return Graphs(vision=vision, embed=embed, decoder=decoder, head=heads, prefill=prefill), states


def _manifest(
    checkpoint: Checkpoint,
    *,
    applied: AppliedRecipe,
    note: str,
    files: dict[str, FileEntry],
    graphs: Graphs,
    states: tuple[State, ...],
) -> Manifest:
    text, vision = checkpoint.dims.text, checkpoint.dims.vision
    exact = None if "rough head" not in applied.precision else EXACT_LOGITS
    return Manifest(
        schema_="edgeclip.bundle/1",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        software=f"edgeclip {__version__}",
        model=Model(
            id=checkpoint.id,
            revision=checkpoint.revision,
            architecture="qwen3_5",
            license=checkpoint.license,
            note=note,
            parameters=checkpoint.parameters,
        ),
        recipe=applied,
        runtime=ONNXRUNTIME,
        files=files,
        graphs=graphs,
        states=states,
        text=Text(
            hidden=text.hidden,
            context=text.context,
            rope_theta=text.rope_theta,
            rope_dims=text.rope_dims,
            mrope_section=text.mrope_section,
            tied=text.tied,
            exact_logits=exact,
        ),
        vision=Vision(
            patch_size=vision.patch,
            temporal_patch_size=2,
            merge_size=vision.merge,
            channels=3,
            positions=vision.positions,
            head_dim=vision.head_dim,
            rope_theta=vision.rope_theta,
        ),
        video_pixels=checkpoint.processor.video,
        image_pixels=checkpoint.processor.image,
        tokens=checkpoint.tokens,
        prompt=checkpoint.prompt,
        generation=checkpoint.generation,
    )
