"""The contract between `edge-export convert` and the engine: what `manifest.json` of a bundle says.

A bundle is a directory: ``manifest.json``, ``vision.onnx``, ``embed.onnx``, ``decoder.onnx``, their external data files
and ``tokenizer.json``. Nothing in the runtime counts layers or knows a dimension: it reads them here. Reports
(``verify.json``, ``report.md``) may lie beside and are not part of the bundle.

Bundles without ``head`` have a decoder that gives logits instead of hidden.

Graph signatures, by name (T tokens of a chunk, M rows of the arena, N pairs, P patches of a pair, P/4 visual tokens):

=========  ==================  ===============  ==========================================================================
graph      tensor              dtype, shape     meaning
=========  ==================  ===============  ==========================================================================
vision     patches             uint8 [N,P,C]    RGB values 0..255 in the processor's patch order, C = 3*2*16*16; rescaling
                                                and normalisation are folded into the patch embedding
           pos_index           int64 [4,P]      the four corners of the bilinear look-up in the position table
           pos_weight          float32 [4,P]    and their weights
           rope_cos, rope_sin  float32 [P,d/2]  of the row frequencies, then the column frequencies (d = head size)
           embeds (out)        float32 [N,P/4,H]
embed      input_ids           int64 [1,T]
           embeds (out)        float32 [1,T,H]
decoder    inputs_embeds       float32 [1,T,H]
           position_ids        int64 [1,T]      rows of the rope tables: the tokens' places in the sequence
           rope_cos, rope_sin  float32 [M,R/2]  row i holds token i's angles, M-RoPE already mixed in
           seqlens_k           int32 [1]        valid tokens after this chunk, minus 1
           total_length        int32 []         valid tokens after this chunk
           every state         see ``states``   input and output may be bound to one buffer
           hidden (out)        float32 [1,H]    of the chunk's last token, normalised
head       hidden              float32 [1,H]
           logits (out)        float32 [1,V]
prefill    as decoder, without hidden: it only brings the states forward; not in every bundle
=========  ==================  ===============  ==========================================================================
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = "edgeclip.bundle/1"
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"

Dtype = Literal["float32", "float16", "uint8", "int8", "int32", "int64"]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Count = Annotated[int, Field(gt=0)]
TokenId = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class FileEntry(_Part):
    """Size in bytes and SHA-256 of one file."""

    size: Annotated[int, Field(ge=0)]
    sha256: Digest


class Tensor(_Part):
    """One graph input or output; a string in the shape is a symbolic dimension."""

    name: str
    dtype: Dtype
    shape: tuple[int | str, ...]


class Graph(_Part):
    """One ONNX file and its signature, states included."""

    file: FileName
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class Graphs(_Part):
    """The graphs; ``prefill`` is there where a second copy of the layers makes prefill faster."""

    vision: Graph
    embed: Graph
    decoder: Graph
    head: Graph | None = None
    prefill: Graph | None = None

    def all(self) -> tuple[Graph, ...]:
        """Return those that are there."""
        every = (self.vision, self.embed, self.decoder, self.head, self.prefill)
        return tuple(graph for graph in every if graph)


class State(_Part):
    """One state tensor of the decoder.

    ``kv`` has the symbolic dimension ``"M"`` (rows of the arena) and is rewound by a shorter length; ``conv`` and
    ``recurrent`` have fixed shapes, start as zeros and are copied by a fork.

    A ``kv`` of int8 has two more tensors. ``scale``, an input of shape [1, heads, 1, size]: a row's channel is its int8 value
    times its scale. ``rows``, an output of shape [1, heads, T, size]: the chunk's own rows in float32. The graph itself
    writes the chunk's last row; where there are more, it is for the runtime to round and to keep them.
    """

    kind: Literal["kv", "conv", "recurrent"]
    input: str
    output: str
    dtype: Dtype
    shape: tuple[int | str, ...]
    scale: str | None = None
    rows: str | None = None


class Model(_Part):
    """Which model this is; ``note`` is shown wherever its words are (random weights say so here)."""

    id: str
    revision: str
    architecture: Literal["qwen3_5"]
    license: str
    note: str
    parameters: Count


class Recipe(_Part):
    """The quantisation recipe as it was applied; ``precision`` maps a class of weights to its format."""

    name: str
    precision: dict[str, str]


class Runtime(_Part):
    """Versions of onnxruntime, [at_least, below), for which the graphs were made."""

    onnxruntime_at_least: str
    onnxruntime_below: str


class Text(_Part):
    """Dimensions of the language part that the runtime needs.

    ``tied``: the head's rows are those of ``embed``. ``exact_logits``: the head's graph gives logits roughly, from fewer
    bytes; so many of the largest are for the runtime to work out from the rows of ``embed``. None: it gives what it should.
    """

    hidden: Count
    context: Count
    rope_theta: Annotated[float, Field(gt=0)]
    rope_dims: Count
    mrope_section: tuple[int, int, int]
    tied: bool = False
    exact_logits: Count | None = None


class Vision(_Part):
    """Dimensions of the vision tower that the runtime needs; ``positions`` is one side of the square table."""

    patch_size: Count
    temporal_patch_size: Literal[2]
    merge_size: Count
    channels: Literal[3]
    positions: Count
    head_dim: Count
    rope_theta: Annotated[float, Field(gt=0)]


class Pixels(_Part):
    """Limits on the total pixels of a resized input: T*H*W for a video, H*W for an image."""

    minimum: Count
    maximum: Count


class Tokens(_Part):
    """Token ids. Rows of the head from ``vocab_used`` on are padding and are masked."""

    vocab_rows: Count
    vocab_used: Count
    eos: Annotated[tuple[TokenId, ...], Field(min_length=1)]
    vision_start: TokenId
    vision_end: TokenId
    image_pad: TokenId
    video_pad: TokenId


class PromptPieces(_Part):
    """Literal pieces of the prompt, rendered from the checkpoint's chat template when the bundle was made.

    A prompt is ``user_open + vision + text + user_close``; generation follows ``user_close`` (which opens the assistant's
    turn, with an empty thought). ``timestamp`` precedes each pair and is formatted with ``time`` in seconds.
    """

    user_open: str
    user_close: str
    timestamp: str


class Generation(_Part):
    """Sampling defaults of the model card, non-thinking, with vision."""

    temperature: Annotated[float, Field(ge=0)]
    top_p: Annotated[float, Field(gt=0, le=1)]
    top_k: Annotated[int, Field(ge=0)]
    min_p: Annotated[float, Field(ge=0, le=1)]
    presence_penalty: float
    repetition_penalty: Annotated[float, Field(gt=0)]


class Manifest(_Part):
    """All of ``manifest.json``; relations between fields are checked by `edge.model.bundle`."""

    schema_: Literal["edgeclip.bundle/1"] = Field("edgeclip.bundle/1", alias="schema")
    created: str
    software: str
    model: Model
    recipe: Recipe
    runtime: Runtime
    files: dict[FileName, FileEntry]
    graphs: Graphs
    states: tuple[State, ...]
    text: Text
    vision: Vision
    video_pixels: Pixels
    image_pixels: Pixels
    tokens: Tokens
    prompt: PromptPieces
    generation: Generation

    def dump(self) -> bytes:
        """Return the file's bytes: indented JSON with a stable order of keys."""
        return (self.model_dump_json(by_alias=True, indent=1, exclude_none=True) + "\n").encode()


def bundle_hash(manifest_bytes: bytes) -> str:
    """Return the bundle's identity: SHA-256 of ``manifest.json`` as it lies on the disk, which pins every file."""
    return hashlib.sha256(manifest_bytes).hexdigest()
