"""The engine: one bundle's sessions, the tokenizer and the grammar tables; it opens the streams of clips."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edge.errors import ModelError
from edge.model.bundle import Bundle
from edge.model.decoder import Decoder
from edge.model.fork import Fork, Parts, Reply
from edge.model.grammar import Grammars
from edge.model.heap import trim
from edge.model.manifest import TOKENIZER, Graph
from edge.model.pages import Turns, let_go
from edge.model.prepared import Prepared
from edge.model.preprocess import video_size
from edge.model.sampling import Sampling
from edge.model.sessions import physical_cores, session_options
from edge.model.stream import RESERVE_TOKENS, Stream, Timing
from edge.model.tokenizer import Tokenizer
from edge.model.vision import VisionTower
from edge.records import Size

__all__ = ["RESERVE_TOKENS", "Engine", "Fork", "Reply", "Sampling", "Stream", "Timing"]


class Engine:
    """The sessions of one bundle; a context manager, to be used from one thread at a time.

    Args:
        bundle: A checked bundle.
        threads: Threads for one operator; 0 means one per physical core.
        chunk: Tokens of one prefill run; None takes the decoder's own.
        cache: Directory in which packed weights are kept: the first engine of a bundle writes them, which takes some
            seconds and two to three times the bundle's size; later ones load faster and take less memory. None keeps
            nothing.
        packed: False leaves the weights where they are mapped from, instead of copying them into the order that kernels
            want: for float32, which loses little speed by it; quantised products become fifty times slower.

    Raises:
        BundleError: A file of the bundle cannot be used.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int = 0,
        chunk: int | None = None,
        cache: Path | None = None,
        packed: bool = True,
    ) -> None:
        self.bundle = bundle
        manifest = bundle.manifest
        threads = threads or physical_cores()
        prepared = None if cache is None else _prepared(bundle, cache, threads)
        how: dict[str, Any] = {"threads": threads, "prepared": prepared, "packed": packed}
        with ThreadPoolExecutor(1, "decoder") as aside:
            opening = aside.submit(Decoder, bundle, chunk=chunk, **how)
            vision = VisionTower(bundle, **how)
            # As long as all graphs together, and llguidance lets no other thread run Python meanwhile: so it comes last, when
            # onnxruntime has long begun with the decoder's.
            self.tokenizer = Tokenizer(bundle.path / TOKENIZER, manifest.tokens)
            decoder = opening.result()
        grammars = Grammars(self.tokenizer, manifest.tokens)
        turns = _turns(bundle, prepared)
        trim()  # packing weights, and reading a vocabulary, leave free pages behind
        self._parts: Parts | None = Parts(manifest, self.tokenizer, grammars, vision, decoder, turns)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the sessions; they are freed with the last stream and fork."""
        self._parts = None

    @property
    def parts(self) -> Parts:
        """What streams and forks work with.

        Raises:
            ModelError: The engine is closed.
        """
        if self._parts is None:
            raise ModelError("the engine is closed", next_step="Open another one.")
        return self._parts

    def frame_size(self, source: Size, ticks: int) -> Size:
        """Return the size at which frames of a clip are pushed; ``ticks`` are those of the full clip.

        Raises:
            VideoError: The picture is too narrow to be shown to the model.
        """
        return video_size(source, ticks, self.bundle.manifest.video_pixels, self.bundle.manifest.vision)

    def closes(self, schema: dict[str, Any], max_tokens: int) -> bool:
        """Whether every answer under a JSON Schema can be brought to its end within so many tokens.

        Raises:
            ModelError: The schema cannot be compiled.
        """
        return self.parts.grammars.constraint(schema).tokens_to_end(max_tokens) is not None

    def stream(self, size: Size, ticks: int, *, reserve_tokens: int = RESERVE_TOKENS) -> Stream:
        """Open a clip.

        Args:
            size: Size of the frames, as `frame_size` gave it.
            ticks: Ticks of the full clip; they fix how much context is set aside.
            reserve_tokens: Rows for stills, a question and its answer; each fork uses them anew.

        Raises:
            ContextFullError: The model's context is too short for such a clip.
        """
        return Stream(self.parts, size, ticks, reserve_tokens=reserve_tokens)


def _turns(bundle: Bundle, prepared: Prepared | None) -> Turns:
    """Return who needs which weights, after letting go of what loading has read: what is packed needs scales no more."""
    graphs = bundle.manifest.graphs
    files = {graph.file: _weights(bundle, graph, prepared) for graph in graphs.all()}
    let_go([path for mapped in files.values() for path in mapped])

    def of(*which: Graph | None) -> list[Path]:
        return [path for graph in which if graph for path in files[graph.file]]

    # Of the embedding both need rows here and there. Where there is no second graph for prefill, seeing needs the decoder,
    # too, but not its head.
    shared = graphs.prefill is None and graphs.head is not None
    writing = of(graphs.head, graphs.embed, None if shared else graphs.decoder)
    return Turns(of(graphs.vision, graphs.embed, graphs.prefill), writing)


def _weights(bundle: Bundle, graph: Graph, prepared: Prepared | None) -> tuple[Path, ...]:
    """Return the files of which a session of this graph may have mapped something."""
    own = bundle.path / f"{Path(graph.file).stem}.data"
    return (own,) if prepared is None else (own, prepared.weights(graph))


def _prepared(bundle: Bundle, cache: Path, threads: int) -> Prepared:
    graphs = bundle.manifest.graphs
    wanted = tuple(graph for graph in graphs.all() if graph is not graphs.embed)
    prepared = Prepared(bundle, cache)
    if any(prepared.find(graph) is None for graph in wanted):
        prepared.make(wanted, partial(session_options, threads))
    return prepared
