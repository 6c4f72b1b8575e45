"""The embedding graph: token ids to vectors."""

from __future__ import annotations

from export.checkpoint.dims import TextDims
from export.graph.products import look_up
from export.graph.weights import StoredMatrix
from export.graph.writer import GraphWriter


def build_embed(graph: GraphWriter, text: TextDims, table: StoredMatrix) -> None:
    """Add one look-up in the table, whose bytes a tied head shares."""
    ids = graph.input("input_ids", "int64", (1, "T"))
    graph.output("embeds", "float32", (1, "T", text.hidden))
    look_up(graph, ids, table, to="embeds")
