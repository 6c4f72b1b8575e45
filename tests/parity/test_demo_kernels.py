"""The training's compiled loops give what PyTorch's operators give, forth and back."""

from collections.abc import Callable
from typing import Any

import pytest

WIDTH = 32  # of a DeltaNet head


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    from export.demo.kernels import library
    from export.reference.libraries import import_libraries

    import_libraries()
    if library() is None:
        pytest.skip("there is no C++ compiler here")


def both(run: Callable[..., Any], *inputs: Any) -> None:
    """Compare results and gradients in float32 with those in float64, which only PyTorch's operators take."""
    import torch

    found = []
    for dtype in (torch.float32, torch.float64):
        leaves = [each.detach().to(dtype, copy=True).requires_grad_() for each in inputs]
        results = run(*(each * 1 for each in leaves))
        results = results if isinstance(results, tuple) else (results,)
        draws = torch.Generator().manual_seed(1)
        sum((each.double() * torch.randn(each.shape, generator=draws)).sum() for each in results).backward()
        found.append([*results, *(each.grad for each in leaves)])
    for ours, wanted in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), wanted.double(), rtol=1e-4, atol=2e-5)


def draw(*shape: int) -> Any:
    import torch

    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_norms_gates_and_convolution() -> None:
    from export.demo import kernels

    both(lambda x, w: kernels.rms_norm(x, w, x.dtype), draw(3, 50, 48), draw(48))
    both(kernels.swiglu, draw(3, 50, 96))
    both(kernels.gated_norm, draw(2, 50, 4, WIDTH), draw(2, 50, 4, WIDTH), draw(WIDTH))
    both(kernels.convolve, draw(2, 50, 96), draw(96, 4), draw(2, 3, 96))
    both(kernels.convolve, draw(2, 2, 96), draw(96, 4), draw(2, 3, 96))  # shorter than the kernel


def test_nobody_looks_ahead() -> None:
    from export.demo import kernels

    both(lambda x: kernels.causal_softmax(x, 20), draw(2, 3, 30, 50) * 3)
    assert not kernels.causal_softmax(draw(1, 4, 6), 2)[0].triu(3).any()


@pytest.mark.parametrize("length", [1, 31, 32, 33, 100])
@pytest.mark.parametrize("width", [32, 48])
def test_the_delta_rule_over_any_number_of_tokens(length: int, width: int) -> None:
    from export.demo import kernels

    decay, rate = -draw(2, length, 2).abs(), draw(2, length, 2).sigmoid()
    both(kernels.delta_rule, draw(2, length, 3 * 2 * width), decay, rate, draw(2, 2, width, width))


def test_products_in_bfloat16_are_rounded_once() -> None:
    import torch

    from export.demo import kernels

    x = draw(40, 64)
    ours = kernels.rms_norm(x, torch.ones(64), torch.bfloat16)
    wanted = torch.nn.functional.rms_norm(x, (64,), None, kernels.EPS)
    torch.testing.assert_close(ours, wanted.bfloat16(), rtol=0.0079, atol=0)
    assert (ours == wanted.bfloat16()).float().mean() > 0.99
