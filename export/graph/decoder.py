"""The decoder graph: Gated DeltaNet and gated attention layers over explicit state, one graph for any chunk length.

The mathematics is that of transformers' `models/qwen3_5/modeling_qwen3_5.py`; the operators are chosen for onnxruntime's
CPU provider. Shapes in comments: T tokens of the chunk, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.model.manifest import State
from export.checkpoint.dims import TextDims, state_parts
from export.checkpoint.names import TEXT
from export.graph.attention import RoundedCache
from export.graph.products import Products, Scaled, multiply
from export.graph.weights import Matrix, StoredMatrix, Weights
from export.graph.writer import MICROSOFT, GraphWriter

_FUSED_ROPE: Final = 16  # GroupQueryAttention rotates by itself only multiples of this many dimensions
_END: Final = np.iinfo(np.int64).max
_L2_EPS: Final = 1e-6  # of the DeltaNet's key and query norm (transformers: l2norm)


def build_decoder(graph: GraphWriter, weights: Weights, text: TextDims) -> tuple[State, ...]:
    """Add the whole decoder but its head.

    Args:
        graph: Where to.
        weights: Where from.
        text: Dimensions.

    Returns:
        Every state, in the order of the layers.
    """
    builder, x = _layers(graph, weights, text, prefill=False)
    graph.output("hidden", "float32", (1, text.hidden))
    row = graph.op("Reshape", x, graph.integers(1, text.hidden))
    builder.rms_norm(row, f"{TEXT}.norm.weight", to="hidden")
    builder.declare_states()
    return tuple(builder.states)


def build_head(graph: GraphWriter, text: TextDims, matrix: StoredMatrix) -> None:
    """Add the head: a graph of its own, because a third of a step's bytes are in it, and often few logits are needed.

    Args:
        graph: Where to.
        text: Dimensions.
        matrix: The stored head; where it is tied, the embedding table.
    """
    graph.input("hidden", "float32", (1, text.hidden))
    graph.output("logits", "float32", (1, text.vocab_rows))
    multiply(graph, "hidden", matrix, to="logits")


def build_prefill(graph: GraphWriter, weights: Weights, text: TextDims) -> None:
    """Add a decoder that only brings the states forward: same inputs and states, no output beside them.

    It has no head, and of the last layer no more than the states need.
    """
    builder, _ = _layers(graph, weights, text, prefill=True)
    builder.declare_states()


def _layers(graph: GraphWriter, weights: Weights, text: TextDims, *, prefill: bool) -> tuple[_Decoder, str]:
    graph.input("inputs_embeds", "float32", (1, "T", text.hidden))
    graph.input("position_ids", "int64", (1, "T"))
    graph.input("rope_cos", "float32", ("M", text.rope_dims // 2))
    graph.input("rope_sin", "float32", ("M", text.rope_dims // 2))
    graph.input("seqlens_k", "int32", (1,))
    graph.input("total_length", "int32", ())
    # Who has a second copy of the layers for prefill has memory for its speed.
    rounded = RoundedCache.open(graph, text, frugal=not prefill) if weights.recipe.cache_bits == 8 else None
    builder = _Decoder(graph, weights, Products(graph, weights), text, [], rounded, prefill)
    x = "inputs_embeds"
    for layer in range(len(text.mixers)):
        x = builder.layer(x, layer)
    return builder, x


@dataclass(frozen=True, slots=True)
class _Decoder:
    """Attributes: ``prefill`` says that no logits are wanted."""

    graph: GraphWriter
    weights: Weights
    products: Products
    text: TextDims
    states: list[State]
    rounded: RoundedCache | None
    prefill: bool

    def layer(self, x: str, layer: int) -> str:
        """Add one block: x += mixer(norm(x)); x += mlp(norm(x)).

        Only the chunk's last token is asked for logits, so behind the last mixer all others are dropped.
        """
        at, last = f"{TEXT}.layers.{layer}", layer == len(self.text.mixers) - 1
        y = self.rms_norm(x, f"{at}.input_layernorm.weight")
        if self.prefill and last:
            self.last_states(y, layer)
            return x
        linear = self.text.mixers[layer] == "linear_attention"
        mixed = (self.delta_net if linear else self.attention)(y, layer, last=last)
        x = self.products.add(self.kept(x, last=last), mixed)
        y = self.rms_norm(x, f"{at}.post_attention_layernorm.weight")
        gate = self.products.linear(y, f"{at}.mlp.gate_proj.weight", "mlp")
        up = self.products.unscaled(Scaled(y), f"{at}.mlp.up_proj.weight", "mlp")
        inner = Scaled(self.graph.op("Mul", self.silu(gate), up.values), up.scale)
        return self.products.add(x, self.products.unscaled(inner, f"{at}.mlp.down_proj.weight", "mlp"))

    def last_states(self, y: str, layer: int) -> None:
        """Add what the states of the last layer need."""
        if self.text.mixers[layer] == "linear_attention":
            self.recurrence(y, layer)
        else:
            self.cached(y, layer, query="")

    def delta_net(self, y: str, layer: int, *, last: bool) -> Scaled:
        """Add a Gated DeltaNet: convolution, gated delta rule over a [key, value] state a head, gated norm."""
        graph, text, at = self.graph, self.text, f"{TEXT}.layers.{layer}.linear_attn"
        mixed = self.kept(self.recurrence(y, layer), last=last)
        matrix = f"{at}.in_proj_z.weight"
        gate = self.products.linear(self.kept(y, last=last), matrix, "deltanet")
        heads = graph.op("Reshape", mixed, graph.integers(1, -1, text.value_heads, text.value_dim))
        scale = graph.constant(f"{at}.norm.weight", self.weights.small(f"{at}.norm.weight"))
        normed = graph.op("SimplifiedLayerNormalization", heads, scale, axis=-1, epsilon=text.eps)
        flat = graph.op("Reshape", normed, graph.integers(1, -1, text.value_width))
        gated = graph.op("Mul", flat, self.silu(gate))
        return self.products.unscaled(Scaled(gated), f"{at}.out_proj.weight", "deltanet")

    def recurrence(self, y: str, layer: int) -> str:
        """Add convolution and delta rule; both states are brought forward."""
        graph, text, at = self.graph, self.text, f"{TEXT}.layers.{layer}.linear_attn"
        qkv = self.products.linear(y, f"{at}.in_proj_qkv.weight", "deltanet")
        convolved = self.grouped_convolution(qkv, layer) if self.prefill else self.convolution(qkv, layer)
        query, key, value = graph.ops(
            "Split",
            self.silu(convolved),
            graph.integers(text.key_width, text.key_width, text.value_width),
            to=("", "", ""),
            axis=-1,
        )
        parts = state_parts(text.value_dim)

        def each(name: str) -> NDArray[np.float32]:
            return np.repeat(self.weights.small(f"{at}.{name}"), parts, axis=0)

        # The step's decay (as its logarithm) and rate, [1, T, value heads * parts], in float32 whatever the recipe.
        columns = np.concatenate([each("in_proj_a.weight"), each("in_proj_b.weight")]).T
        both = graph.constant(f"{at}.in_proj_ab.weight", columns)
        a_out, b_out = graph.ops("Split", graph.op("MatMul", y, both), to=("", ""), axis=-1, num_outputs=2)
        decay, rate = graph.ops(
            "LinearAttentionGate",
            a_out,
            graph.constant(f"{at}.dt_bias", each("dt_bias")),
            graph.constant(f"{at}.minus_A", -np.exp(each("A_log"))),
            b_out,
            to=("", ""),
            domain=MICROSOFT,
        )
        heads = text.value_heads * parts
        shape = ("recurrent", (1, heads, text.key_dim, text.value_dim // parts))
        state = self.state(*shape, layer, "recurrent")
        mixed, _ = graph.ops(
            "LinearAttention",
            self.l2_norm(query),
            self.l2_norm(key),
            value,
            state.input,
            decay,
            rate,
            to=("", state.output),
            domain=MICROSOFT,
            q_num_heads=text.key_heads,
            kv_num_heads=heads,
            update_rule="gated_delta",
            scale=text.key_dim**-0.5,
        )
        return mixed

    def convolution(self, x: str, layer: int) -> str:
        """Add a causal depthwise convolution as shifted products: several times faster than the fused operator.

        The state holds the last kernel - 1 columns of the input.
        """
        graph, width, kernel = self.graph, self.text.conv_width, self.text.conv_kernel
        name = f"{TEXT}.layers.{layer}.linear_attn.conv1d.weight"
        taps = self.weights.small(name).reshape(width, kernel)
        state = self.state("conv", (1, kernel - 1, width), layer, "conv")
        joined = graph.op("Concat", state.input, x, axis=1)  # [1, kernel - 1 + T, width]
        terms = []
        for tap in range(kernel):
            end = tap - kernel + 1 or _END
            window = graph.op("Slice", joined, graph.integers(tap), graph.integers(end), graph.integers(1))
            terms.append(graph.op("Mul", window, graph.constant(f"{name}.{tap}", taps[:, tap])))
        graph.op(
            "Slice",
            joined,
            graph.integers(1 - kernel),
            graph.integers(_END),
            graph.integers(1),
            to=state.output,
        )
        return graph.op("Sum", *terms)

    def grouped_convolution(self, x: str, layer: int) -> str:
        """Add the same convolution as a grouped one over [1, width, 1, T].

        For whole chunks onnxruntime's blocked kernels are three times faster than shifted products where it has them
        (x86), and as fast where it has not; for a single token there they are slow.
        """
        graph, width, kernel = self.graph, self.text.conv_width, self.text.conv_kernel
        name = f"{TEXT}.layers.{layer}.linear_attn.conv1d.weight"
        taps = self.weights.small(name).reshape(width, 1, 1, kernel)
        state = self.state("conv", (1, kernel - 1, width), layer, "conv")
        joined = graph.op("Concat", state.input, x, axis=1)  # [1, kernel - 1 + T, width]
        planes = graph.op("Transpose", graph.op("Unsqueeze", joined, graph.integers(1)), perm=[0, 3, 1, 2])
        mixed = graph.op(
            "Conv",
            planes,
            graph.constant(name, taps),
            group=width,
            kernel_shape=[1, kernel],
            pads=[0, 0, 0, 0],
        )
        graph.op(
            "Slice",
            joined,
            graph.integers(1 - kernel),
            graph.integers(_END),
            graph.integers(1),
            to=state.output,
        )
        return graph.op("Squeeze", graph.op("Transpose", mixed, perm=[0, 2, 3, 1]), graph.integers(1))

    def attention(self, y: str, layer: int, *, last: bool) -> Scaled:
        """Add gated attention: q_proj holds, for each head, the rows of its query and then those of its gate."""
        graph, text, at = self.graph, self.text, f"{TEXT}.layers.{layer}.self_attn"
        size, tensor = text.head_dim, f"{at}.q_proj.weight"
        queries = tuple((2 * head * size, (2 * head + 1) * size) for head in range(text.heads))
        gates = tuple((stop, stop + size) for _, stop in queries)
        query = self.products.linear(y, Matrix(tensor, tensor, queries), "attention")
        mixed = self.cached(y, layer, query)
        rows = Matrix(f"{at}.q_proj.gate", tensor, gates)
        gate = self.products.linear(self.kept(y, last=last), rows, "attention")
        gated = graph.op("Mul", self.kept(mixed, last=last), graph.op("Sigmoid", gate))
        return self.products.unscaled(Scaled(gated), f"{at}.o_proj.weight", "attention")

    def cached(self, y: str, layer: int, query: str) -> str:
        """Add attention of queries to all keys so far; keys and values of the chunk are appended.

        Without queries only the appending matters: the operator attends from the keys then, as few heads as it can.
        """
        graph, text, at = self.graph, self.text, f"{TEXT}.layers.{layer}.self_attn"
        size = text.head_dim
        key = self.products.linear(y, f"{at}.k_proj.weight", "attention")
        value = self.products.linear(y, f"{at}.v_proj.weight", "attention")
        cache = ("kv", (1, text.kv_heads, "M", size))
        keys, values = self.state(*cache, layer, "key"), self.state(*cache, layer, "value")
        key = self.head_norm(key, f"{at}.k_norm.weight", text.kv_heads)
        heads = text.heads if query else text.kv_heads
        query = self.head_norm(query, f"{at}.q_norm.weight", heads) if query else key
        rotary = ["rope_cos", "rope_sin", "position_ids"]
        if text.rope_dims % _FUSED_ROPE or self.rounded is not None:
            query, key = self.rotated(query, heads), self.rotated(key, text.kv_heads)
            rotary = []
        if self.rounded is not None:
            return self.rounded.attend(query, key, value, keys, values, heads=heads)
        mixed, *_ = graph.ops(
            "GroupQueryAttention",
            query,
            key,
            value,
            keys.input,
            values.input,
            "seqlens_k",
            "total_length",
            *rotary,
            to=("", keys.output, values.output),
            domain=MICROSOFT,
            num_heads=heads,
            kv_num_heads=text.kv_heads,
            do_rotary=int(bool(rotary)),
            scale=size**-0.5,
        )
        return mixed

    def rotated(self, x: str, heads: int) -> str:
        """Add a rotation of the leading dimensions of every head by the angles of its token."""
        return self.graph.op(
            "RotaryEmbedding",
            x,
            "position_ids",
            "rope_cos",
            "rope_sin",
            domain=MICROSOFT,
            num_heads=heads,
            rotary_embedding_dim=self.text.rope_dims,
        )

    def rms_norm(self, x: str, name: str, *, to: str = "") -> str:
        """Add an RMS norm that multiplies with 1 + w."""
        scale = self.graph.constant(name, self.weights.norm(name))
        return self.graph.op("SimplifiedLayerNormalization", x, scale, axis=-1, epsilon=self.text.eps, to=to)

    def head_norm(self, x: str, name: str, heads: int) -> str:
        """Add an RMS norm of every head of [1, T, heads * size]."""
        split = self.graph.op("Reshape", x, self.graph.integers(1, -1, heads, self.text.head_dim))
        normed = self.rms_norm(split, name)
        return self.graph.op("Reshape", normed, self.graph.integers(1, -1, heads * self.text.head_dim))

    def l2_norm(self, x: str) -> str:
        """Add x / sqrt(sum x^2 + eps) per key head, as an RMS norm: eps / d and a scale of 1 / sqrt(d) make it exact."""
        size, heads = self.text.key_dim, self.text.key_heads
        scale = self.graph.constant("l2_scale", np.full(size, size**-0.5, np.float32))
        split = self.graph.op("Reshape", x, self.graph.integers(1, -1, heads, size))
        normed = self.graph.op("SimplifiedLayerNormalization", split, scale, axis=-1, epsilon=_L2_EPS / size)
        return self.graph.op("Reshape", normed, self.graph.integers(1, -1, heads * size))

    def silu(self, x: str) -> str:
        """Add x * sigmoid(x)."""
        return self.graph.op("QuickGelu", x, domain=MICROSOFT, alpha=1.0)

    def kept(self, x: str, *, last: bool) -> str:
        """Cut [1, T, width] down to the last token, in the last layer."""
        if not last:
            return x
        graph = self.graph
        return graph.op("Slice", x, graph.integers(-1), graph.integers(_END), graph.integers(1))

    def state(self, kind: str, shape: tuple[int | str, ...], layer: int, name: str) -> State:
        """Declare a state; its output is written by the caller's node."""
        rounded = kind == "kv" and self.rounded is not None
        found = State.model_validate(
            {
                "kind": kind,
                "input": f"past_{name}.{layer}",
                "output": f"present_{name}.{layer}",
                "dtype": "int8" if rounded else "float32",
                "shape": shape,
                "scale": f"{name}_scale.{layer}" if rounded else None,
                "rows": f"{name}_rows.{layer}" if rounded else None,
            }
        )
        self.states.append(found)
        return found

    def declare_states(self) -> None:
        """Make every state an input and an output of the graph."""
        for state in self.states:
            self.graph.input(state.input, state.dtype, state.shape)
            self.graph.output(state.output, state.dtype, state.shape)
            _, heads, _, size = (*state.shape, 0)[:4]
            if state.scale:
                self.graph.input(state.scale, "float32", (1, heads, 1, size))
            if state.rows:
                self.graph.output(state.rows, "float32", (1, heads, "T", size))
