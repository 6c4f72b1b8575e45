"""Attention of a chunk over a cache of rounded keys and values: exact within the chunk, int8 before it.

A cached channel has one scale, which the runtime chooses and widens (`edge.model.cache`); it multiplies queries and outputs
instead of the cache. A few tokens take GroupQueryAttention's int8 path, which reads a quarter of the bytes; for chunks
that path is three times slower than float32, so they are attended to in two parts. So is the beginning of a context, where
scales are not settled: that path rounds a chunk's own rows by those that it finds.

The operator knows scales per channel, too, and its blocked (flash) kernel is what it takes by default. Both are slower: with
one scale of 1 nothing is multiplied inside the kernel, and for one token whole rows of scores fit any cache. Only without a
sink it takes the blocked kernel, so each head gets one whose share is exactly 0.

Part one is the past, without a mask: MultiHeadAttention's blocked (flash) kernel. Part two is the chunk itself, causal and
small. To join them the share of each is needed, which the kernel does not tell; so the past gets one more key, the sink,
whose score c is the row's largest in part two, and whose value is 1 in a channel of its own. That channel then holds the
sink's probability p. With past scores s, chunk scores t, both relative to c, and o the first part's output:

    o = sum(exp(s) v) / (sum(exp(s)) + 1),  p = 1 / (sum(exp(s)) + 1)
    result = (o + p sum(exp(t) v)) / (1 + p (sum(exp(t)) - 1))

Nothing in it cancels, and nothing overflows before exp of the largest difference of scores does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from edge.model.manifest import State
from export.checkpoint.dims import TextDims
from export.graph.writer import MICROSOFT, GraphWriter

_END: Final = np.iinfo(np.int64).max
_EXTRA: Final = 8  # channels beside the head's own: the sink's, and seven that keep rows aligned
_MASKED: Final = -1e30  # finite: a difference of two infinities is not a number
_FEW: Final = 16  # tokens that are attended to like a single one
_SETTLED: Final = 128  # tokens of context behind which they are


@dataclass(frozen=True, slots=True)
class RoundedCache:
    """The nodes that attention layers share.

    Attributes:
        graph: Where nodes go.
        text: Dimensions.
        past: int64 [1], tokens before the chunk.
        parted: bool, whether the chunk is attended to in two parts.
        first: int64 [1], where the tokens begin that are attended to in one: the last one only where it does not matter.
        mask: float32 [T, 1, T], what is added to a chunk's own scores.
        frugal: Whether one KV head at a time has its rows in float32, which are most of the memory that a long context takes;
            all of them at once are up to a third faster.
    """

    graph: GraphWriter
    text: TextDims
    past: str
    parted: str
    first: str
    mask: str
    frugal: bool

    @classmethod
    def open(cls, graph: GraphWriter, text: TextDims, *, frugal: bool) -> RoundedCache:
        """Add what all layers share; ``inputs_embeds`` and ``total_length`` must be declared."""
        length = graph.op("Shape", "inputs_embeds", start=1, end=2)
        total = graph.op("Reshape", graph.cast("total_length", "int64"), graph.integers(1))
        past = graph.op("Sub", total, length)
        many = graph.op("Greater", length, graph.integers(_FEW))
        parted = graph.op("Or", many, graph.op("Less", past, graph.integers(_SETTLED)))
        first = graph.op("Where", parted, graph.integers(-1), graph.integers(-_FEW))
        shape = graph.op("Concat", length, length, axis=0)
        zeros = graph.op("Expand", graph.constant("masked", np.array(_MASKED, np.float32)), shape)
        above = graph.op("Trilu", zeros, graph.constant("one_above", np.array(1, np.int64)), upper=1)
        mask = graph.op("Unsqueeze", above, graph.integers(1))
        return cls(graph, text, past, graph.op("Squeeze", parted), first, mask, frugal)

    def attend(self, query: str, key: str, value: str, keys: State, values: State, *, heads: int = 0) -> str:
        """Add attention of a chunk to all so far, and what brings the cache forward.

        Args:
            query: [1, T, heads * D], normalised and turned.
            key: [1, T, KV heads * D], as ``query``.
            value: As ``key``.
            keys: State of the keys, with names for scales and rows.
            values: As ``keys``.
            heads: Of the query; 0: the model's own number.

        Returns:
            [1, T, heads * D].
        """
        graph, text = self.graph, self.text
        heads = heads or text.heads
        shape = graph.integers(1, -1, text.kv_heads, text.head_dim)
        by_head = graph.integers(text.kv_heads, 1, text.head_dim)
        for name, state in ((key, keys), (value, values)):
            rows = graph.op("Reshape", name, shape)
            graph.op("Transpose", rows, perm=[0, 2, 1, 3], to=state.rows or "")
        scales = [graph.op("Reshape", state.scale or "", by_head) for state in (keys, values)]
        asked = self._scaled(self._few(query), scales[0], heads)
        added = [
            graph.op("Div", self._few(name), graph.op("Reshape", state.scale or "", graph.integers(-1)))
            for name, state in ((key, keys), (value, values))
        ]
        one = graph.constant("unit_scale", np.ones(1, np.float32))
        together, *_ = graph.ops(
            "GroupQueryAttention",
            asked,
            *added,
            keys.input,
            values.input,
            "seqlens_k",
            "total_length",
            *[""] * 4,
            graph.constant(f"no_sink.{heads}", np.full(heads, _MASKED, np.float32)),
            one,
            one,
            to=("", keys.output, values.output),
            domain=MICROSOFT,
            num_heads=heads,
            kv_num_heads=text.kv_heads,
            scale=text.head_dim**-0.5,
            k_quant_type="PER_TENSOR",
            v_quant_type="PER_TENSOR",
            kv_cache_bit_width=8,
        )
        with graph.branch("chunk") as chunk:
            chunk.result = self._chunk(query, keys, values, heads // text.kv_heads)
        with graph.branch("few") as short:
            short.result = self._scaled(together, scales[1], heads)
        return graph.choose(self.parted, chunk, short)

    def _scaled(self, x: str, scale: str, heads: int) -> str:
        """Add the product of x [1, T, heads * D] with scales [KV heads, 1, D]."""
        graph, size = self.graph, self.text.head_dim
        group = heads // self.text.kv_heads
        grouped = graph.op("Reshape", x, graph.integers(-1, self.text.kv_heads, group, size))
        return graph.op("Reshape", graph.op("Mul", grouped, scale), graph.integers(1, -1, heads * size))

    def _few(self, x: str) -> str:
        graph = self.graph
        return graph.op("Slice", x, self.first, graph.integers(_END), graph.integers(1))

    def _chunk(self, query: str, keys: State, values: State, group: int) -> str:
        graph, text = self.graph, self.text
        heads, size = text.kv_heads, text.head_dim
        grouped = graph.op("Reshape", query, graph.integers(-1, heads, group, size))
        root = graph.constant("root", np.array(size**-0.5, np.float32))
        scaled = graph.op("Mul", graph.op("Transpose", grouped, perm=[0, 2, 1, 3]), root)  # [T, group, KV, D]
        # The chunk itself, by KV head: scores [KV, T, group, T].
        own = graph.op(
            "Reshape", graph.op("Transpose", scaled, perm=[2, 0, 1, 3]), graph.integers(heads, -1, size)
        )
        new = [
            graph.op("Reshape", state.rows or "", graph.integers(heads, -1, size)) for state in (keys, values)
        ]
        scores = graph.op("FusedMatMul", own, new[0], domain=MICROSOFT, transB=1)
        count = graph.op("Shape", "inputs_embeds", start=1, end=2)
        by_head = graph.op("Concat", graph.integers(heads), count, graph.integers(group), count, axis=0)
        masked = graph.op("Add", graph.op("Reshape", scores, by_head), self.mask)
        top = graph.op("ReduceMax", masked, graph.integers(-1), keepdims=1)
        weights = graph.op("Exp", graph.op("Sub", masked, top))
        total = graph.op("ReduceSum", weights, graph.integers(-1), keepdims=1)
        flat = graph.op(
            "Reshape", weights, graph.op("Concat", graph.integers(heads), graph.integers(-1), count, axis=0)
        )
        summed = graph.op("MatMul", flat, new[1])
        rows = graph.op(
            "Concat", graph.integers(heads), count, graph.integers(group), graph.integers(size), axis=0
        )
        summed = graph.op("Transpose", graph.op("Reshape", summed, rows), perm=[1, 2, 0, 3])
        top, total = (graph.op("Transpose", x, perm=[1, 2, 0, 3]) for x in (top, total))
        # The past and the sink.
        scales = [
            graph.op("Reshape", state.scale or "", graph.integers(heads, size)) for state in (keys, values)
        ]
        mine = np.eye(1, _EXTRA, dtype=np.float32)[0]
        asked = graph.op(
            "Concat",
            graph.op("Mul", scaled, scales[0]),
            graph.op("Mul", top, graph.constant("sink", mine)),
            axis=-1,
        )
        # The kernel deals out blocks of some hundred rows of one head: of one head alone too few for threads to share fairly.
        parts, at_once = [], 1 if self.frugal else heads
        for first in range(0, heads, at_once):
            own_heads = graph.op(
                "Slice", asked, graph.integers(first), graph.integers(first + at_once), graph.integers(2)
            )
            found = graph.op(
                "MultiHeadAttention",
                graph.op("Reshape", own_heads, graph.integers(1, -1, at_once * (size + _EXTRA))),
                self._before(keys, first, at_once),
                self._before(values, first, at_once),
                domain=MICROSOFT,
                num_heads=at_once,
                scale=1.0,
            )
            parts.append(graph.op("Reshape", found, graph.integers(-1, group, at_once, size + _EXTRA)))
        split = graph.op("Concat", *parts, axis=2)
        past, share, _ = graph.ops(
            "Split", split, graph.integers(size, 1, _EXTRA - 1), to=("", "", ""), axis=-1
        )
        above = graph.op("Add", graph.op("Mul", past, scales[1]), graph.op("Mul", share, summed))
        unit = graph.constant("unit", np.array(1, np.float32))
        below = graph.op("Add", unit, graph.op("Mul", share, graph.op("Sub", total, unit)))
        joined = graph.op("Transpose", graph.op("Div", above, below), perm=[0, 2, 1, 3])
        return graph.op("Reshape", joined, graph.integers(1, -1, group * heads * size))

    def _before(self, state: State, first: int, count: int) -> str:
        """Add some heads' cached rows before the chunk, and the sink's, the same for keys and values: [1, count, n + 1, D + 8]."""
        graph, size = self.graph, self.text.head_dim
        ends = graph.op("Concat", graph.integers(first + count), self.past, axis=0)
        rows = graph.op("Slice", state.input, graph.integers(first, 0), ends, graph.integers(1, 2))
        zero = graph.constant("int8_zero", np.array(0, np.int8))
        wide = graph.op("Pad", rows, graph.integers(0, 0, 0, 0, 0, 0, 0, _EXTRA), zero)
        sink = np.zeros((1, count, 1, size + _EXTRA), np.int8)
        sink[..., size] = 1
        row = graph.constant("sink_row", sink)
        return graph.cast(graph.op("Concat", wide, row, axis=2), "float32")
