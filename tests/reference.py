"""transformers, importable beside the CPU build of torch and under warnings as errors."""

import functools
import warnings
from typing import Any


@functools.cache
def transformers() -> Any:
    """Import transformers with its torchvision half.

    torchvision's own operators are built against the CUDA build of torch; beside the CPU build it imports once the two
    that it registers at import are declared.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch

        if not hasattr(torch.ops.torchvision, "nms"):
            torch.library.define(
                "torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
            torch.library.define(
                "torchvision::qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        import torchvision  # noqa: F401
        import transformers
        from transformers.models.qwen3_5 import modeling_qwen3_5  # noqa: F401
    return transformers
