"""The training's inner loops: each as PyTorch spells it, and, on a CPU with a C++ compiler, as one pass over memory.

PyTorch runs them as dozens of small operators, which take five times as long as the matrix products between them. The
compiled ones (`kernels.cpp`) are built on first use for this very processor, into the user's cache. They run on one thread;
a second core is better used by a second process.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from edge.errors import CheckpointError

EPS: Final = 1e-6
"""Of all norms, as in the family's configuration."""
WIDTHS: Final = (32, 48)
"""Widths of a DeltaNet head that the compiled recurrence knows."""
_SOURCE: Final = Path(__file__).with_name("kernels.cpp")
# What of -ffast-math the loops need. The flag itself would link a start-up object that makes the whole process flush
# subnormal numbers to zero, also in everybody else's arithmetic.
_MATH: Final = (
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fassociative-math",
    "-freciprocal-math",
    "-ffinite-math-only",
)
_FLAGS: Final = ("-O3", "-march=native", *_MATH, "-shared", "-fPIC", "-std=c++20")
_STRIDE: Final = 32  # as in the source
_NAMES: Final = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


@cache
def library() -> Any:
    """Return the compiled library, or None where there is no compiler.

    Raises:
        CheckpointError: The compiler does not take the source.
    """
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        return None
    source = _SOURCE.read_bytes()
    processor = (
        Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0] if os.name == "posix" else ""
    )
    flags = next((line for line in processor.splitlines() if line.startswith(("flags", "Features"))), "")
    name = hashlib.sha256(source + " ".join((*_FLAGS, flags)).encode()).hexdigest()[:16]
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeclip"
    target = root / f"kernels-{name}.so"
    if not target.exists():
        root.mkdir(parents=True, exist_ok=True)
        aside = target.with_suffix(f".{os.getpid()}")
        done = subprocess.run(
            [compiler, *_FLAGS, "-o", str(aside), str(_SOURCE)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise CheckpointError(
                f"{compiler} does not take the training's kernels",
                evidence=done.stderr.splitlines()[:3],
                next_step="Install a g++ of version 12 or later.",
            )
        aside.replace(target)
    return ctypes.CDLL(str(target))


def usable(tensor: Tensor) -> bool:
    """Whether the compiled kernels take a tensor."""
    return tensor.device.type == "cpu" and tensor.dtype in _NAMES and library() is not None


def _call(name: str, *arguments: Tensor | int) -> None:
    getattr(library(), name)(
        *(
            ctypes.c_void_p(each.data_ptr()) if isinstance(each, Tensor) else ctypes.c_long(each)
            for each in arguments
        )
    )


class _Norm(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
        x = x.contiguous()
        width = x.shape[-1]
        out, inverse = torch.empty(x.shape, dtype=dtype), torch.empty(x.numel() // width)
        _call(f"norm_forward_{_NAMES[dtype]}", len(inverse), width, x, weight, out, inverse)
        ctx.save_for_backward(x, weight, inverse)
        ctx.dtype = dtype
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, inverse = ctx.saved_tensors
        grad = grad.contiguous()
        dx, dweight = torch.empty_like(x), torch.zeros_like(weight)
        name = f"norm_backward_{_NAMES[ctx.dtype]}"
        _call(name, len(inverse), x.shape[-1], grad, x, weight, inverse, dx, dweight)
        return dx, dweight, None


def rms_norm(x: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return x by its root mean square, times weight, in another dtype; x: float32, shape (..., n), weight: (n,)."""
    if usable(x) and dtype in _NAMES:
        found: Tensor = _Norm.apply(x, weight.contiguous(), dtype)
        return found
    return functional.rms_norm(x, (x.shape[-1],), weight, EPS).to(dtype)


class _Swiglu(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        width = x.shape[-1] // 2
        out = x.new_empty((*x.shape[:-1], width))
        _call(f"swiglu_forward_{_NAMES[x.dtype]}", out.numel() // width, width, x, out)
        ctx.save_for_backward(x)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        width = x.shape[-1] // 2
        dx = torch.empty_like(x)
        name = f"swiglu_backward_{_NAMES[x.dtype]}"
        _call(name, x.numel() // (2 * width), width, grad.contiguous(), x, dx)
        return dx


def swiglu(x: Tensor) -> Tensor:
    """Return silu(gate) * up of x = (gate, up), shape (..., 2 n)."""
    if usable(x):
        found: Tensor = _Swiglu.apply(x)
        return found
    gate, up = x.chunk(2, -1)
    return functional.silu(gate) * up


class _Convolution(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, before: Tensor) -> Tensor:
        x, before, rows = x.contiguous(), before.contiguous(), weight.t().contiguous()
        out = torch.empty(x.shape)
        _call(f"conv_forward_{_NAMES[x.dtype]}", *x.shape, x, rows, before, out)
        ctx.save_for_backward(x, rows, before)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, rows, before = ctx.saved_tensors
        dx, drows, dbefore = torch.zeros(x.shape), torch.zeros_like(rows), torch.zeros(before.shape)
        name = f"conv_backward_{_NAMES[x.dtype]}"
        _call(name, *x.shape, grad.contiguous(), x, rows, before, dx, drows, dbefore)
        return dx.to(x.dtype), drows.t(), dbefore.to(x.dtype)


def convolve(x: Tensor, weight: Tensor, before: Tensor) -> Tensor:
    """Return silu of a causal depthwise convolution, float32.

    Args:
        x: Shape (B, T, C).
        weight: Shape (C, 4), float32.
        before: What came before, shape (B, 3, C), in x's dtype.
    """
    if usable(x):
        found: Tensor = _Convolution.apply(x, weight, before)
        return found
    whole = torch.cat([before, x], 1).to(weight.dtype).transpose(1, 2)
    return functional.silu(functional.conv1d(whole, weight[:, None], groups=len(weight))).transpose(1, 2)


class _Gated(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor, weight: Tensor) -> Tensor:
        x, gate = x.contiguous(), gate.contiguous()
        width, out = x.shape[-1], torch.empty_like(gate)
        _call(f"gated_forward_{_NAMES[gate.dtype]}", x.numel() // width, width, x, gate, weight, out)
        ctx.save_for_backward(x, gate, weight)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, gate, weight = ctx.saved_tensors
        width = x.shape[-1]
        dx, dgate, dweight = torch.empty_like(x), torch.empty_like(gate), torch.zeros_like(weight)
        name = f"gated_backward_{_NAMES[gate.dtype]}"
        _call(name, x.numel() // width, width, grad.contiguous(), x, gate, weight, dx, dgate, dweight)
        return dx, dgate, dweight


def gated_norm(x: Tensor, gate: Tensor, weight: Tensor) -> Tensor:
    """Return the RMS norm of x times silu(gate), in the gate's dtype; x: float32, both of shape (..., n)."""
    if usable(gate):
        found: Tensor = _Gated.apply(x, gate, weight)
        return found
    return (functional.rms_norm(x, (x.shape[-1],), weight, EPS) * functional.silu(gate.float())).to(
        gate.dtype
    )


class _Softmax(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    @staticmethod
    def forward(ctx: Any, scores: Tensor, before: int) -> Tensor:
        rows, columns = scores.shape[-2:]
        out = scores.detach()
        count = out.numel() // (rows * columns)
        _call(f"softmax_forward_{_NAMES[out.dtype]}", count, rows, columns, before, out)
        ctx.save_for_backward(out)
        ctx.before = before
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (out,) = ctx.saved_tensors
        rows, columns = out.shape[-2:]
        grad = grad.contiguous()
        count = out.numel() // (rows * columns)
        _call(f"softmax_backward_{_NAMES[out.dtype]}", count, rows, columns, ctx.before, out, grad)
        return grad, None


def causal_softmax(scores: Tensor, before: int) -> Tensor:
    """Return the softmax of scores over what a token may look at; the scores are lost.

    Args:
        scores: Shape (..., S, before + S), contiguous; row i looks at its first ``before + i + 1`` columns.
        before: Tokens before the first row's.
    """
    if usable(scores):
        found: Tensor = _Softmax.apply(scores, before)
        return found
    rows, columns = scores.shape[-2:]
    seen = torch.ones(rows, columns, dtype=torch.bool, device=scores.device).tril(before)
    return scores.float().masked_fill(~seen, -torch.inf).softmax(-1).to(scores.dtype)


class _Delta(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    @staticmethod
    def forward(ctx: Any, mixed: Tensor, decay: Tensor, rate: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        batch, length, heads = decay.shape
        width = state.shape[-1]
        mixed, decay, rate = mixed.contiguous(), decay.contiguous(), rate.contiguous()
        out, after = (
            torch.empty(batch, length, heads, width),
            state.clone(memory_format=torch.contiguous_format),
        )
        kept = torch.empty(batch, heads, -(-length // _STRIDE), width, width)
        _call(f"delta_forward_{width}", batch, length, heads, mixed, decay, rate, after, out, kept)
        ctx.save_for_backward(mixed, decay, rate, kept)
        return out, after

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_after: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mixed, decay, rate, kept = ctx.saved_tensors
        batch, length, heads = decay.shape
        width = kept.shape[-1]
        dstate = grad_after.clone(memory_format=torch.contiguous_format)
        dmixed, ddecay, drate = torch.empty_like(mixed), torch.empty_like(decay), torch.empty_like(rate)
        room = torch.empty(_STRIDE, width, width)
        _call(
            f"delta_backward_{width}",
            *(batch, length, heads, mixed, decay, rate, kept, grad.contiguous()),
            *(dstate, dmixed, ddecay, drate, room),
        )
        return dmixed, ddecay, drate, dstate


def delta_rule(mixed: Tensor, decay: Tensor, rate: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Run the gated delta rule over a sequence; equal numbers of key and value heads, of one width.

    Args:
        mixed: Queries, keys and values before they are normed, float32, shape (B, T, 3 * H * D).
        decay: Logarithm of what is kept of the state, shape (B, T, H).
        rate: How much of a value is written, shape (B, T, H).
        state: Before the first token, shape (B, H, D, D), keys down.

    Returns:
        What is read, shape (B, T, H, D), and the state after the last token.
    """
    heads, width = state.shape[1], state.shape[-1]
    if usable(mixed) and width in WIDTHS:
        out, after = _Delta.apply(mixed, decay, rate, state)
        return out, after
    from transformers.models.qwen3_5.modeling_qwen3_5 import torch_chunk_gated_delta_rule

    query, key, value = mixed.unflatten(-1, (3, heads, width)).unbind(2)
    out, after = torch_chunk_gated_delta_rule(
        *(query, key, value, decay, rate),
        initial_state=state,
        output_final_state=True,
        use_qk_l2norm_in_kernel=True,
    )
    return out, after
