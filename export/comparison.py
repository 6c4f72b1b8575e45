"""Runs a bundle and its reference, or a golden vector, on the same inputs and measures how far they are apart."""

from __future__ import annotations

import gc
import importlib.metadata
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge.errors import CheckpointError, ModelError
from edge.model.bundle import Bundle
from edge.model.engine import Engine
from edge.model.manifest import Manifest
from edge.model.preprocess import image_size, patchify, scale, video_size
from edge.model.sessions import open_session, physical_cores
from edge.records import Size
from export import golden as vectors
from export import parity
from export.bicubic import scale_as_torch
from export.candidate import Question, clip_pairs, greedy_answer, lay_out, teacher_logits
from export.footage import FPS, draw, read_video
from export.reference import GRAPHS, Continuation, Dtype, Inputs, Reference

ANSWER: Final = 32  # tokens of the reference's greedy answer to each case
PROMPT: Final = "Describe what happens, in order."
_LIBRARIES: Final = ("edgeclip", "onnxruntime", "optimum", "torch", "torchvision", "transformers")

Progress = Callable[[str], None]
"""Told of every step before it begins."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What one case shows, at its own size: frames of shape (n, H, W, 3); one is a picture, none is text alone."""

    name: str
    frames: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Expected:
    """What the reference made of a scene."""

    scene: Scene
    question: Question
    inputs: Inputs
    pixels: float | None
    answer: Continuation
    seconds: float


@dataclass(frozen=True, slots=True)
class Expectations:
    """What the reference made of all scenes, and of each graph's first inputs; a bundle of any recipe is held to it."""

    source: Path
    dtype: Dtype
    graphs: dict[str, tuple[dict[str, NDArray[Any]], NDArray[np.float32]]]
    cases: tuple[Expected, ...]


def scenes(frames: int, video: Path | None = None) -> list[Scene]:
    """Return the cases: text, a picture, clips of several sizes and lengths, odd ones too, and a file's first frames.

    Raises:
        VideoError: The file cannot be decoded.
    """
    drawn = [(frames, 240, 320), (5, 180, 320), (3, 320, 180), (2, 96, 128)]
    found = [
        Scene("text", np.zeros((0, 0, 0, 3), np.uint8)),
        Scene("image 240x320", draw(1, 240, 320)),
        *(Scene(f"video {h}x{w}, {n} frames", draw(n, h, w)) for n, h, w in drawn),
    ]
    if video is not None:
        shown = read_video(video, frames)
        found.append(Scene(f"{video.name}, {len(shown)} frames", shown))
    return found


def expect(
    source: Path,
    manifest: Manifest,
    cases: Sequence[Scene],
    *,
    dtype: Dtype = "float32",
    answer: int = ANSWER,
    progress: Progress = lambda _step: None,
) -> Expectations:
    """Run the reference, which is freed again before a bundle is loaded: memory holds one of them at a time.

    Args:
        source: The checkpoint's directory.
        manifest: A bundle of it, for its limits on pixels.
        cases: What to show.
        dtype: Precision of the reference.
        answer: Tokens of its greedy answer, along which logits are compared.
        progress: Told of every step.

    Raises:
        CheckpointError: The reference cannot be loaded.
    """
    progress(f"reference: loading {source}")
    reference = Reference(source, dtype=dtype)
    graphs = {graph: reference.try_graph(graph) for graph in GRAPHS}
    found = []
    for scene in cases:
        progress(f"reference: {scene.name}")
        found.append(_expected(reference, manifest, scene, answer))
    del reference
    gc.collect()
    return Expectations(source, dtype, graphs, tuple(found))


def measure(
    bundle: Bundle,
    expected: Expectations,
    *,
    chunk: int | None = None,
    progress: Progress = lambda _step: None,
) -> parity.Report:
    """Run a bundle on the same inputs.

    Args:
        bundle: A checked bundle.
        expected: What the reference made of them.
        chunk: Tokens of one prefill run; None takes the engine's own.
        progress: Told of every step.

    Raises:
        BundleError: The bundle cannot be loaded.
        ModelError: It cannot be run.
    """
    errors = []
    for graph in GRAPHS:
        progress(f"bundle: {graph} graph")
        errors.append(_graph_error(bundle, graph, *expected.graphs[graph]))
    found = []
    with Engine(bundle, chunk=chunk) as engine:
        for case in expected.cases:
            progress(f"bundle: {case.scene.name}")
            found.append(_case(engine, case))
    subject = parity.Subject(
        bundle=bundle.manifest.model.id,
        bundle_hash=bundle.hash,
        recipe=bundle.manifest.recipe.name,
        source=str(expected.source),
        dtype=expected.dtype,
        versions={name: importlib.metadata.version(name) for name in _LIBRARIES if _installed(name)},
    )
    return parity.Report(subject, tuple(errors), tuple(found))


def is_exact(manifest: Manifest) -> bool:
    """Say whether every weight is kept in float32, so that the logits must be the reference's."""
    return set(manifest.recipe.precision.values()) == {"float32"}


def replay(
    bundle: Bundle, vector: vectors.Golden, rgb: NDArray[np.uint8], progress: Progress = lambda _step: None
) -> tuple[vectors.Replay, vectors.Replay]:
    """Run a bundle along a golden vector; nothing but the bundle is needed.

    Args:
        bundle: A checked bundle.
        vector: The vector.
        rgb: Its picture, shape (H, W, 3).
        progress: Told of every step.

    Returns:
        With the picture scaled as transformers scales it, and as the device does.

    Raises:
        CheckpointError: The vector is another model's.
        BundleError: The bundle cannot be loaded.
        ModelError: It cannot be run.
    """
    manifest = bundle.manifest
    if max(*vector.input_ids, *vector.top_ids, *vector.answer) >= manifest.tokens.vocab_rows:
        raise CheckpointError(
            f"the vector belongs to {vector.model_id}, the bundle holds {manifest.model.id}",
            evidence=[f"it names token ids that are not below {manifest.tokens.vocab_rows}"],
            next_step="Convert the vector's model, or take the vector of this one.",
        )
    size = image_size(Size(*rgb.shape[:2]), manifest.image_pixels, manifest.vision)
    found = []
    with Engine(bundle) as engine:
        for name, filtered in (("transformers", scale_as_torch), ("device", scale)):
            progress(f"bundle: {len(vector.input_ids)} tokens, filter of {name}")
            question = Question(vector.prompt, image=filtered(rgb, size))
            logits = teacher_logits(engine, question, vector.answer)
            ids = lay_out(engine, question).ids
            found.append(vectors.compare(vector, ids, logits, manifest.tokens.vocab_used))
    return found[0], found[1]


def _expected(reference: Reference, manifest: Manifest, scene: Scene, answer: int) -> Expected:
    """Run the reference on a scene that our own filter has scaled, so that both see the same pixels."""
    started = time.perf_counter()
    count, height, width = scene.frames.shape[:3]
    pixels = None
    if count == 0:
        question, inputs = Question(PROMPT), reference.text(PROMPT)
    elif count == 1:
        still = scale(
            scene.frames[0], image_size(Size(height, width), manifest.image_pixels, manifest.vision)
        )
        pixels = _pixels(reference.image(scene.frames[0], PROMPT), np.stack([still, still])[None], manifest)
        question, inputs = Question(PROMPT, image=still), reference.image(still, PROMPT, resize=False)
    else:
        size = video_size(Size(height, width), count, manifest.video_pixels, manifest.vision)
        scaled = np.stack([scale(frame, size) for frame in scene.frames])
        pairs = clip_pairs(scaled, FPS)
        shown = np.stack([pair.frames for pair in pairs])
        pixels = _pixels(reference.video(scene.frames, FPS, PROMPT), shown, manifest)
        question = Question(PROMPT, pairs=pairs)
        inputs = reference.video(scaled, FPS, PROMPT, resize=False)
    continued = reference.continuation(inputs, answer)
    return Expected(scene, question, inputs, pixels, continued, time.perf_counter() - started)


def _pixels(inputs: Inputs, pairs: NDArray[np.uint8], manifest: Manifest) -> float:
    """Return the mean difference between the processor's resized pixels and ours; infinite where even sizes differ."""
    ours = patchify(pairs, manifest.vision)
    if inputs.patches is None or inputs.patches.shape != ours.shape:
        return float("inf")
    return float(np.abs(inputs.patches.astype(np.int16) - ours).mean())


def _case(engine: Engine, case: Expected) -> parity.Case:
    started = time.perf_counter()
    laid = lay_out(engine, case.question)
    tokens: list[int] = case.answer.tokens.tolist()
    logits = teacher_logits(engine, case.question, tokens)[:, : case.answer.logits.shape[1]]
    answered = greedy_answer(engine, case.question, len(tokens))
    ends = engine.bundle.manifest.tokens.eos
    until = next((i + 1 for i, token in enumerate(tokens) if token in ends), len(tokens))
    wanted = [ends[0] if token in ends else token for token in tokens[:until]]
    return parity.Case(
        name=case.scene.name,
        tokens=len(case.inputs.input_ids),
        same_ids=np.array_equal(laid.ids, case.inputs.input_ids),
        same_positions=np.array_equal(laid.positions, case.inputs.positions),
        pixels=case.pixels,
        logits=parity.compare_logits(case.answer.logits, logits),
        greedy=parity.compare_greedy(wanted, case.answer.logits, answered),
        reference_s=round(case.seconds, 3),
        bundle_s=round(time.perf_counter() - started, 3),
    )


def _graph_error(
    bundle: Bundle, name: str, feeds: dict[str, NDArray[Any]], expected: NDArray[np.float32]
) -> parity.GraphError:
    graph = getattr(bundle.manifest.graphs, name)
    output = graph.outputs[0].name
    session = open_session(bundle, graph, threads=physical_cores())
    if name == "decoder":
        feeds = feeds | _rounded_states(bundle, feeds)
    if {tensor.name for tensor in graph.inputs} != feeds.keys():
        raise ModelError(
            f"the {name} graph has other inputs than its export configuration says",
            evidence=[", ".join(sorted({tensor.name for tensor in graph.inputs} ^ feeds.keys())[:5])],
            next_step="Convert the bundle again with this version of edge-export.",
        )
    found = session.run([output], feeds)[0]
    head = bundle.manifest.graphs.head
    if name == "decoder" and head is not None:  # the reference's layers end in logits
        session = open_session(bundle, head, threads=physical_cores())
        found = session.run([head.outputs[0].name], {head.inputs[0].name: found})[0]
    return parity.GraphError(name, parity.relative_error(expected, found))


def _rounded_states(bundle: Bundle, feeds: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return, empty as in the reference, the states that the bundle keeps in eight bits, and their scales."""
    found: dict[str, NDArray[Any]] = {}
    for state in bundle.manifest.states:
        if state.scale is not None and state.input in feeds:
            heads, size = feeds[state.input].shape[1], feeds[state.input].shape[3]
            found[state.input] = np.zeros(feeds[state.input].shape, np.int8)
            found[state.scale] = np.ones((1, heads, 1, size), np.float32)
    return found


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
