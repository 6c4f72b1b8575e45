"""Imports torch, transformers and Optimum, together or not at all, and keeps them quiet."""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from edge.errors import CheckpointError

_OPERATORS: Final = ("nms", "qnms")  # of torchvision; it registers meta kernels for them when it is imported


@dataclass(frozen=True, slots=True)
class Libraries:
    """The modules of the extra ``export``."""

    torch: Any
    transformers: Any
    tasks: Any


@functools.cache
def import_libraries() -> Libraries:
    """Import torch, torchvision, transformers and Optimum's TasksManager, together or not at all.

    Raises:
        CheckpointError: One of them is missing or does not import.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchvision warns of image codecs that nobody needs here
            import torch

            _import_torchvision(torch)
            import transformers
            from optimum.exporters.tasks import TasksManager
            from transformers.models.qwen3_5 import modeling_qwen3_5  # noqa: F401 - imports its kernels' checks now
    except (ImportError, RuntimeError) as error:
        raise CheckpointError(
            "the reference cannot run: torch, transformers or optimum is missing",
            evidence=[str(error).splitlines()[0]],
            next_step="Install them: pip install 'edgeclip[export]'",
        ) from error
    return Libraries(torch, transformers, TasksManager)


def _import_torchvision(torch: Any) -> None:
    """Import torchvision, also beside a build of torch for which it was not compiled (a CPU wheel from elsewhere).

    Its compiled operators do not load there, and its import stops at the first one that it describes. The processors
    need none of them, so they are declared without an implementation.
    """
    try:
        import torchvision
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]  # half imported
        for operator in _OPERATORS:
            if not hasattr(torch.ops.torchvision, operator):
                torch.library.define(
                    f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )
        import torchvision  # noqa: F401


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' advice and bars off the terminal: verify draws its own."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
