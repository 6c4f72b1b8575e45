"""The decoder session, and arenas: the states of one context, written in place."""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ContextFullError, ModelError, StaleForkError
from edge.model.bundle import Bundle
from edge.model.cache import RoundedRows
from edge.model.layout import rope_rows
from edge.model.pages import Rows
from edge.model.prepared import Prepared
from edge.model.sampling import largest
from edge.model.sessions import NUMPY, open_session, shrinking, translated

CHUNK = 256
"""Tokens of one prefill run. At 0.8B, int4, 128 to 1,024 were equally fast on x86; 512 took 200 MiB more, 1,024 570."""

FEW = 16
"""Up to so many tokens are prefilled by the decoding graph, also where there is a second one for prefill."""

_epochs = itertools.count()


class Mark:
    """A point in an arena to which it can return: a length, a position, a copy of the small states, and a point of each cache.

    The rows before the point stay in the arena; ``overwritten`` says that somebody wrote over some of them.
    """

    __slots__ = ("__weakref__", "epoch", "length", "next_pos", "overwritten", "points", "small")

    def __init__(
        self, epoch: int, length: int, next_pos: int, small: tuple[NDArray[Any], ...], points: tuple[int, ...]
    ) -> None:
        self.epoch = epoch
        self.length = length
        self.next_pos = next_pos
        self.small = small
        self.points = points
        self.overwritten = False


def _cuts(at: int, end: int, chunk: int) -> Iterator[tuple[int, int]]:
    """Yield the chunks of a prefill, [start, stop); none but a lone token has a length of one.

    The graph itself rounds a single token's rows, by the scales that it finds; those of more tokens may widen the scales.
    """
    while at < end:
        stop = min(at + chunk, end)
        if end - stop == 1 and stop - at > 2:
            stop -= 1
        yield at, stop
        at = stop


class Decoder:
    """The embedding and decoder sessions; all state is in arenas.

    Args:
        bundle: A checked bundle.
        threads: Threads for one operator, >= 1.
        chunk: Tokens of one prefill run, None for `CHUNK`; it changes speed and memory and, but for rounding, nothing
            else.
        prepared: Where packed weights may lie.
        packed: As in `edge.model.sessions.session_options`.

    Raises:
        BundleError: A graph cannot be loaded or is not the manifest's.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int,
        chunk: int | None = None,
        prepared: Prepared | None = None,
        packed: bool = True,
    ) -> None:
        self.manifest = bundle.manifest
        self.chunk = chunk or CHUNK
        graphs = bundle.manifest.graphs
        self.embed_session = open_session(bundle, graphs.embed, threads=threads)  # a look-up: nothing to pack
        self.words = Rows((bundle.path / graphs.embed.file).with_suffix(".data"))
        how: dict[str, Any] = {"threads": threads, "prepared": prepared, "packed": packed}
        # One thread goes through a graph's nodes to load it: beside each other they take as long as the slowest.
        wanted = [graph for graph in (graphs.decoder, graphs.prefill, graphs.head) if graph]
        with ThreadPoolExecutor(len(wanted), "session") as aside:
            found = list(aside.map(lambda graph: open_session(bundle, graph, **how), wanted))
        sessions: dict[str, Any] = {graph.file: session for graph, session in zip(wanted, found, strict=True)}
        self.session = sessions[graphs.decoder.file]
        self.prefill_session: Any = graphs.prefill and sessions[graphs.prefill.file]
        self.head_session: Any = graphs.head and sessions[graphs.head.file]
        self.shrinking = shrinking()

    def embed(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the embeddings of token ids, shape (n, hidden)."""
        with translated("embedding"):
            rows: NDArray[np.float32] = self.embed_session.run(["embeds"], {"input_ids": ids[None]})[0][0]
        self.words.read(len(ids))
        return rows

    def arena(self, rows: int) -> Arena:
        """Allocate the states of a context of at most ``rows`` tokens; pages that are never written cost nothing."""
        return Arena(self, rows)


class Arena:
    """One context: a KV allocation per state, the small states, and the rotary tables; length 0 at first.

    Past and present of a state are one buffer, so a run writes its new rows in place and nothing is copied. Going back is
    a shorter length, and the small states (convolution, recurrent) copied from a `Mark`.
    """

    def __init__(self, decoder: Decoder, rows: int) -> None:
        from onnxruntime import OrtValue

        manifest = decoder.manifest
        self.rows = rows
        self.length = 0
        self.next_pos = 0
        self._epoch = next(_epochs)
        self._decoder = decoder
        self._busy = Lock()
        self._marks: weakref.WeakSet[Mark] = weakref.WeakSet()
        self._small: list[NDArray[Any]] = []
        self._kv: list[NDArray[Any]] = []
        self._rounded: list[tuple[str, RoundedRows]] = []  # with the outputs that hold a chunk's own rows
        half = manifest.text.rope_dims // 2
        self._cos = np.zeros((rows, half), np.float32)
        self._sin = np.zeros((rows, half), np.float32)
        self._last = np.zeros(1, np.int32)
        self._total = np.zeros((), np.int32)
        self._logits: NDArray[np.float32] = np.zeros((1, manifest.tokens.vocab_rows), np.float32)
        # The inputs of a decoding step: bound once, then only written to.
        self._step_id = np.zeros((1, 1), np.int64)
        self._step_place = np.zeros((1, 1), np.int64)
        self._step_embed = np.zeros((1, 1, manifest.text.hidden), np.float32)

        def value(array: NDArray[Any]) -> Any:
            return OrtValue.ortvalue_from_numpy(array)  # shares the array's memory

        self._hidden: NDArray[np.float32] = np.zeros((1, manifest.text.hidden), np.float32)
        self._chunk_run = decoder.session.io_binding()
        self._step_run = decoder.session.io_binding()
        self._embed_run = decoder.embed_session.io_binding()
        step_embed = value(self._step_embed)
        self._embed_run.bind_ortvalue_input("input_ids", value(self._step_id))
        self._embed_run.bind_ortvalue_output("embeds", step_embed)
        self._step_run.bind_ortvalue_input("inputs_embeds", step_embed)
        self._step_run.bind_ortvalue_input("position_ids", value(self._step_place))
        shared = {
            "rope_cos": value(self._cos),
            "rope_sin": value(self._sin),
            "seqlens_k": value(self._last),
            "total_length": value(self._total),
        }
        logits, hidden = value(self._logits), value(self._hidden)
        states: list[tuple[str, str, Any]] = []
        for state in manifest.states:
            shape = [rows if dim == "M" else int(dim) for dim in state.shape]
            if state.scale is not None and state.rows is not None:
                cache = RoundedRows(shape[1], rows, shape[3])
                self._rounded.append((state.rows, cache))
                shared[state.scale] = value(cache.scale)
                array: NDArray[Any] = cache.values
            else:
                array = np.zeros(shape, NUMPY[state.dtype])
                (self._kv if state.kind == "kv" else self._small).append(array)
            states.append((state.input, state.output, value(array)))
        self._head_run: Any = decoder.head_session and decoder.head_session.io_binding()
        if self._head_run is not None:
            self._head_run.bind_ortvalue_input("hidden", hidden)
            self._head_run.bind_ortvalue_output("logits", logits)
        # Where there is a second graph for prefill it takes whole chunks; it gives no logits.
        self._prefill_run: Any = decoder.prefill_session and decoder.prefill_session.io_binding()
        given = ("logits", logits) if decoder.head_session is None else ("hidden", hidden)
        for run in (self._chunk_run, self._step_run, self._prefill_run):
            if run is None:
                continue
            for name, tensor in shared.items():
                run.bind_ortvalue_input(name, tensor)
            if run is not self._prefill_run:
                run.bind_ortvalue_output(*given)
            for past, present, tensor in states:
                run.bind_ortvalue_input(past, tensor)
                run.bind_ortvalue_output(present, tensor)

    @property
    def held_bytes(self) -> int:
        """Memory that the context takes as far as it is filled; pages that were never written cost nothing."""
        growing = (*self._kv, *(cache.values for _, cache in self._rounded), self._cos, self._sin)
        filled = sum(array.nbytes for array in growing) * self.length // self.rows
        return filled + sum(array.nbytes for array in self._small)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the arena for one piece of work.

        Raises:
            ModelError: Another one is under way, in another thread or around this one.
        """
        if not self._busy.acquire(blocking=False):
            raise ModelError(
                "this clip is being worked on",
                evidence=["one question at a time, and none while pairs are pushed"],
                next_step="Wait for the answer under way.",
            )
        try:
            yield
        finally:
            self._busy.release()

    def mark(self) -> Mark:
        """Return the present point."""
        small = tuple(state.copy() for state in self._small)
        points = tuple(cache.point() for _, cache in self._rounded)
        mark = Mark(self._epoch, self.length, self.next_pos, small, points)
        self._marks.add(mark)
        return mark

    def check(self, mark: Mark) -> None:
        """Refuse a mark of another epoch.

        Raises:
            StaleForkError: The arena has gone on or was given up since.
        """
        if mark.epoch != self._epoch:
            raise StaleForkError(
                "this fork belongs to a clip that has gone on or was closed",
                evidence=[f"epoch {mark.epoch} of the arena is over"],
                next_step="Fork again after the last pair, and ask before the stream is closed.",
            )

    def rewind(self, mark: Mark) -> None:
        """Return to a mark whose rows still stand (``not mark.overwritten``)."""
        self.check(mark)
        for state, saved in zip(self._small, mark.small, strict=True):
            np.copyto(state, saved)
        for (_, cache), point in zip(self._rounded, mark.points, strict=True):
            if cache.go_back(point):
                self._overwrite(mark.length)  # rows behind it have lost the scales that they were rounded by
        self.length, self.next_pos = mark.length, mark.next_pos

    def end_epoch(self) -> None:
        """Make every mark so far stale."""
        self._epoch = next(_epochs)
        self._marks.clear()
        for _, cache in self._rounded:
            cache.forget()

    def need(self, count: int, *, after: Mark | None = None) -> None:
        """Check that ``count`` more tokens fit, after the present point or a mark.

        Raises:
            ContextFullError: They do not.
        """
        length = self.length if after is None else after.length
        if length + count > self.rows:
            raise ContextFullError(
                "the clip and its question do not fit the context",
                evidence=[f"{length} tokens are in it, {count} more are needed, {self.rows} fit"],
                next_step="Ask for a shorter answer or a smaller still, or reserve more tokens for the clip.",
            )

    def prefill(
        self,
        embeds: NDArray[np.float32],
        positions: NDArray[np.int64],
        next_pos: int,
        *,
        logits: bool = True,
        ids: NDArray[np.int64] | None = None,
        mask: NDArray[np.bool_] | None = None,
        more: bool = False,
    ) -> NDArray[np.float32]:
        """Append tokens in chunks.

        Args:
            embeds: Shape (n, hidden), n >= 1.
            positions: M-RoPE positions, shape (3, n).
            next_pos: Position of the token that comes next when all is in, for `step` and `mark`.
            logits: Whether they are needed after the last token.
            ids: Tokens whose logits are needed, shape (m,); None: of all.
            mask: Which tokens may come next, shape (vocab_used,); the logits of others are minus infinity. None: all.
            more: Whether chunks follow soon; memory for activations is kept for them then.

        Returns:
            The logits after the last one, shape (V,) or (m,): it may be a view that the next run overwrites; of no
            meaning where they were not asked for.

        Raises:
            ContextFullError: They do not fit; nothing was appended.
            ModelError: onnxruntime failed.
        """
        from onnxruntime import OrtValue

        decoder, count = self._decoder, len(embeds)
        self.need(count)
        self._overwrite()
        rows = slice(self.length, self.length + count)
        self._cos[rows], self._sin[rows] = rope_rows(positions, decoder.manifest.text)
        # The second graph gives no logits: the last token goes through the first one, and so do few tokens, for which
        # reading the weights is most of the work.
        second = count - (1 if logits else 0) if decoder.prefill_session and count > FEW else 0
        for start, end in ((0, second), (second, count)):
            run = self._prefill_run if end == second else self._chunk_run
            for at, stop in _cuts(start, end, decoder.chunk):
                part = np.ascontiguousarray(embeds[at:stop], np.float32)[None]
                before, length = self.length, stop - at
                places = np.arange(before, before + length, dtype=np.int64)[None]
                run.bind_ortvalue_input("inputs_embeds", OrtValue.ortvalue_from_numpy(part))
                run.bind_ortvalue_input("position_ids", OrtValue.ortvalue_from_numpy(places))
                own = self._own_rows(run, length)
                self._run(run, before + length, shrink=stop == end and length > FEW and not more)
                for (_, cache), written in zip(self._rounded, own, strict=True):
                    cache.write(before, written)
        self.next_pos = next_pos
        return self._said(ids, mask) if logits else self._logits.reshape(-1)

    def _said(self, ids: NDArray[np.int64] | None, mask: NDArray[np.bool_] | None) -> NDArray[np.float32]:
        """Return logits after the last run, of some ids or of all; those that a mask forbids are minus infinity."""
        decoder = self._decoder
        if ids is not None and decoder.head_session is not None and decoder.manifest.text.tied:
            # So few rows of the embedding, which is the head, are read faster one by one.
            scores: NDArray[np.float32] = decoder.embed(ids) @ self._hidden[0]
            return scores
        if decoder.head_session is not None:
            with translated("head"):
                decoder.head_session.run_with_iobinding(self._head_run)
        logits = self._logits.reshape(-1)
        used = logits[: decoder.manifest.tokens.vocab_used]
        if mask is not None:
            np.copyto(used, -np.inf, where=~mask)
        if decoder.manifest.text.exact_logits is not None:
            best = largest(used, decoder.manifest.text.exact_logits)
            used[best] = decoder.embed(best) @ self._hidden[0]
        return logits if ids is None else logits[ids]

    def _own_rows(self, run: Any, count: int) -> list[NDArray[np.float32]]:
        """Bind room for the rows that a chunk adds to rounded states."""
        from onnxruntime import OrtValue

        room = []
        for name, cache in self._rounded:
            _, heads, _, size = cache.values.shape
            room.append(np.empty((1, heads, count, size), np.float32))
            run.bind_ortvalue_output(name, OrtValue.ortvalue_from_numpy(room[-1]))
        return room

    def pad(self, count: int) -> None:
        """Append rows of noise that no model has seen: a depth at which to measure, without the work of getting there.

        Raises:
            ContextFullError: They do not fit.
        """
        if not count:
            return
        self.need(count)
        self._overwrite()
        rng = np.random.default_rng(self.length)
        rows = slice(self.length, self.length + count)
        for cache in self._kv:
            part = cache[:, :, rows]
            part[...] = rng.standard_normal(part.shape, np.float32)
        for _, rounded in self._rounded:
            _, heads, _, size = rounded.values.shape
            rounded.write(self.length, rng.standard_normal((1, heads, count, size), np.float32))
        self.length += count
        self.next_pos += count

    def step(
        self, token: int, ids: NDArray[np.int64] | None = None, mask: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Append one text token; as `prefill`, without allocating anything."""
        self.need(1)
        self._overwrite()
        self._step_id[0, 0] = token
        self._step_place[0, 0] = self.length
        position = np.full((3, 1), self.next_pos, np.int64)
        self._cos[self.length], self._sin[self.length] = (
            part[0] for part in rope_rows(position, self._decoder.manifest.text)
        )
        with translated("embedding"):
            self._decoder.embed_session.run_with_iobinding(self._embed_run)
        self._decoder.words.read(1)
        self._run(self._step_run, self.length + 1)
        self.next_pos += 1
        return self._said(ids, mask)

    def _run(self, binding: Any, end: int, *, shrink: bool = False) -> None:
        decoder = self._decoder
        self._last[0] = end - 1
        self._total[()] = end
        session = decoder.prefill_session if binding is self._prefill_run else decoder.session
        with translated("decoder"):
            session.run_with_iobinding(binding, decoder.shrinking if shrink else None)
        self.length = end

    def _overwrite(self, length: int | None = None) -> None:
        """Tell the marks behind a length, the present one unless it is given, that their rows stand no more."""
        for mark in self._marks:
            if mark.length > (self.length if length is None else length):
                mark.overwritten = True
