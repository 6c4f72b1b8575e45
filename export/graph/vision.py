"""The vision graph: the patches of frame pairs to visual tokens; attention stays within a pair, which is exact.

The mathematics is that of transformers' `Qwen3_5VisionModel`. Shapes in comments: N pairs, P patches of one pair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from export.checkpoint.dims import VisionDims
from export.checkpoint.names import VISION
from export.checkpoint.processor import Processor
from export.graph.products import Products
from export.graph.weights import Weights
from export.graph.writer import MICROSOFT, GraphWriter

_EPS: Final = 1e-6  # of every LayerNorm; transformers hard-codes it


def build_vision(graph: GraphWriter, weights: Weights, vision: VisionDims, processor: Processor) -> None:
    """Add the whole tower, from raw values 0..255 to the decoder's width."""
    graph.input("patches", "uint8", ("N", "P", vision.patch_values))
    graph.input("pos_index", "int64", (4, "P"))
    graph.input("pos_weight", "float32", (4, "P"))
    graph.input("rope_cos", "float32", ("P", vision.head_dim // 2))
    graph.input("rope_sin", "float32", ("P", vision.head_dim // 2))
    tokens = f"P/{vision.merge**2}"
    graph.output("embeds", "float32", ("N", tokens, vision.out))
    tower = _Tower(graph, weights, Products(graph, weights), vision)
    x = tower.joined(graph.op("Add", tower.patch_embedding(processor), tower.positions()), vision.hidden)
    for block in range(vision.depth):
        at = f"{VISION}.blocks.{block}"
        x = graph.op("Add", x, tower.attention(tower.layer_norm(x, f"{at}.norm1"), f"{at}.attn"))
        inner = tower.linear(tower.layer_norm(x, f"{at}.norm2"), f"{at}.mlp.linear_fc1")
        x = graph.op("Add", x, tower.linear(tower.activation(inner), f"{at}.mlp.linear_fc2"))
    tower.merger(x)


@dataclass(frozen=True, slots=True)
class _Tower:
    graph: GraphWriter
    weights: Weights
    products: Products
    vision: VisionDims

    def patch_embedding(self, processor: Processor) -> str:
        """Add the one linear map over a patch, with rescaling and normalisation folded in; always float32.

        W ((v * scale - mean) / std) + b = W' v + b', per channel.
        """
        graph, vision, name = self.graph, self.vision, f"{VISION}.patch_embed.proj"
        weight = self.weights.small(f"{name}.weight").astype(np.float64)
        bias = self.weights.small(f"{name}.bias").astype(np.float64)
        shape = (1, vision.channels, 1, 1, 1)
        weight /= np.reshape(processor.std, shape)
        bias -= (weight * np.reshape(processor.mean, shape)).sum(axis=(1, 2, 3, 4))
        folded = (weight * processor.scale).reshape(vision.hidden, vision.patch_values).T
        product = graph.op(
            "MatMul",
            graph.cast("patches", "float32"),
            graph.constant(f"{name}.weight", folded.astype(np.float32)),
        )
        return graph.op("Add", product, graph.constant(f"{name}.bias", bias.astype(np.float32)))

    def positions(self) -> str:
        """Add the bilinear look-up in the position table: [4, P] corners to [P, hidden]."""
        graph, name = self.graph, f"{VISION}.pos_embed.weight"
        corners = graph.op("Gather", graph.constant(name, self.weights.small(name)), "pos_index", axis=0)
        parts = graph.op("Unsqueeze", "pos_weight", graph.integers(-1))
        return graph.op("ReduceSum", graph.op("Mul", corners, parts), graph.integers(0), keepdims=0)

    def joined(self, x: str, width: int) -> str:
        """Put the patches of all pairs behind one another: [N, P, width] to [1, N * P, width]."""
        return self.graph.op("Reshape", x, self.graph.integers(1, -1, width))

    def parted(self, x: str, dimensions: int, to: str = "") -> str:
        """Undo `joined`, with the first one or two dimensions of the patches."""
        graph = self.graph
        leading = graph.op("Shape", "patches", start=0, end=dimensions)
        rest = graph.integers(-1) if dimensions == 2 else graph.integers(-1, self.vision.out)
        return graph.op("Reshape", x, graph.op("Concat", leading, rest, axis=0), to=to)

    def attention(self, x: str, name: str) -> str:
        """Add attention within each pair, rotated by row and column."""
        graph, heads = self.graph, self.vision.heads
        query, key, value = graph.ops(
            "Split", self.parted(self.linear(x, f"{name}.qkv"), 2), to=("", "", ""), axis=-1, num_outputs=3
        )
        first = graph.integers(0)  # the tables' row of the first patch, in every pair of the batch
        query, key = (
            graph.op("RotaryEmbedding", part, first, "rope_cos", "rope_sin", domain=MICROSOFT)
            for part in (query, key)
        )
        mixed = graph.op("MultiHeadAttention", query, key, value, domain=MICROSOFT, num_heads=heads)
        return self.linear(self.joined(mixed, self.vision.hidden), f"{name}.proj")

    def merger(self, x: str) -> None:
        """Add the merger: the processor's patch order puts the patches of one visual token side by side."""
        graph, name = self.graph, f"{VISION}.merger"
        normed = self.layer_norm(x, f"{name}.norm")
        merged = self.joined(normed, self.vision.merged)
        inner = graph.op("Gelu", self.linear(merged, f"{name}.linear_fc1"), approximate="none")
        self.parted(self.linear(inner, f"{name}.linear_fc2"), 1, to="embeds")

    def activation(self, x: str) -> str:
        """Add the activation of the blocks."""
        match self.vision.activation:
            case "gelu_pytorch_tanh":
                return self.graph.op("Gelu", x, approximate="tanh")
            case "gelu":
                return self.graph.op("Gelu", x, approximate="none")
            case "silu":
                return self.graph.op("QuickGelu", x, domain=MICROSOFT, alpha=1.0)

    def layer_norm(self, x: str, name: str) -> str:
        """Add a LayerNorm with scale and bias."""
        scale, bias = (
            self.graph.constant(f"{name}.{part}", self.weights.small(f"{name}.{part}"))
            for part in ("weight", "bias")
        )
        return self.graph.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=_EPS)

    def linear(self, x: str, name: str) -> str:
        """Add a product with bias in the recipe's format."""
        return self.products.linear(x, f"{name}.weight", "vision", bias=f"{name}.bias")
