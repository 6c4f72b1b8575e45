"""The reference: Optimum resolves and loads the checkpoint, transformers runs it. The only home of torch in `export`."""

from export.reference.exporter import GRAPHS, MODEL_TYPE, TASK
from export.reference.libraries import import_libraries
from export.reference.model import Continuation, Dtype, Inputs, Reference

__all__ = [
    "GRAPHS",
    "MODEL_TYPE",
    "TASK",
    "Continuation",
    "Dtype",
    "Inputs",
    "Reference",
    "import_libraries",
]
