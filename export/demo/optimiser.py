"""What makes weights of gradients: Muon for matrices, AdamW for the rest, their running mean, and the sum over processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

REST: Final = 0.2
"""Learning rate of what is no matrix, as a share of the matrices'."""
_BETAS: Final = (0.9, 0.98)
_MOMENTUM: Final = 0.95
_WEIGHT_DECAY: Final = 0.01
_CLIP: Final = 1.0  # largest norm of a step's gradient
_MEAN: Final = 0.998  # of the running mean is kept at each step


class Optimiser:
    """Steps, and a running mean of the weights, which scores as if the rate had been brought down.

    In a trial of 60 s on the vision tower Muon (Jordan 2024) named 50 % of the taken cells where AdamW named 11 %.

    Args:
        modules: Whose parameters are learnt, by name.
        peak: Highest learning rate.
    """

    def __init__(self, modules: Mapping[str, torch.nn.Module], peak: float) -> None:
        self._named = {
            f"{prefix}.{name}": weight
            for prefix, module in modules.items()
            for name, weight in module.named_parameters()
        }
        matrices = [weight for name, weight in self._named.items() if _is_matrix(name, weight)]
        rest = [weight for name, weight in self._named.items() if not _is_matrix(name, weight)]
        self._peak = peak
        self._muon = torch.optim.Muon(
            matrices,
            lr=peak,
            momentum=_MOMENTUM,
            weight_decay=_WEIGHT_DECAY,
            adjust_lr_fn="match_rms_adamw",
        )
        self._adam = torch.optim.AdamW(rest, lr=peak * REST, betas=_BETAS, weight_decay=_WEIGHT_DECAY)
        self.mean = {name: weight.detach().clone() for name, weight in self._named.items()}
        self._steps = 0

    def gradients(self) -> list[Tensor]:
        """Return the gradients that there are, in the order of the names."""
        return [weight.grad for weight in self._named.values() if weight.grad is not None]

    def step(self, rate: float) -> float:
        """Take a step.

        Args:
            rate: Share of the highest learning rate.

        Returns:
            The norm of the gradient before it is cut.
        """
        learnt = {name: weight for name, weight in self._named.items() if weight.grad is not None}
        norm = float(torch.nn.utils.clip_grad_norm_(learnt.values(), _CLIP))
        for optimiser, share in ((self._muon, 1.0), (self._adam, REST)):
            for group in optimiser.param_groups:
                group["lr"] = self._peak * share * rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self._steps += 1
        new = 1 - min(_MEAN, (1 + self._steps) / (10 + self._steps))
        torch._foreach_lerp_(  # one call for hundreds of small tensors; the public way is a loop
            [self.mean[name] for name in learnt], [weight.detach() for weight in learnt.values()], new
        )
        return norm

    def settle(self, prefix: str) -> None:
        """Put the running mean into the place of the weights whose names begin so."""
        with torch.no_grad():
            for name, weight in self._named.items():
                if name.startswith(prefix):
                    weight.copy_(self.mean[name])

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to go on."""
        return {
            "muon": self._muon.state_dict(),
            "adam": self._adam.state_dict(),
            "mean": self.mean,
            "steps": self._steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._muon.load_state_dict(state["muon"])
        self._adam.load_state_dict(state["adam"])
        self._steps = int(state["steps"])
        for name, weight in self.mean.items():
            weight.copy_(state["mean"][name])


def _is_matrix(name: str, weight: Tensor) -> bool:
    """Whether a weight is a matrix between hidden states; tables of embeddings and the heads are none."""
    return (
        weight.ndim == 2
        and "embed." not in name
        and "embed_tokens" not in name
        and not name.startswith("heads")
    )


class Ranks:
    """Processes of one machine that learn together: each adds up gradients and marks with the others at every step.

    Two processes of one thread each learn faster than one of two: they wait for each other once a step, not at each of a
    thousand operators, which matters most on a busy machine.

    Args:
        rank: Of this process, 0 for the one that reports and saves.
        count: How many there are.
        meeting: A file that does not exist yet, the same for all.
    """

    def __init__(self, rank: int, count: int, meeting: Path) -> None:
        self.rank = rank
        self.count = count
        if count > 1:
            torch.distributed.init_process_group(
                "gloo", init_method=f"file://{meeting}", rank=rank, world_size=count
            )

    def mean(self, gradients: Sequence[Tensor], marks: Tensor) -> Tensor:
        """Replace gradients by their mean over all; return the sum of the marks."""
        if self.count == 1:
            return marks
        flat = torch.cat([each.reshape(-1) for each in gradients] + [marks])
        torch.distributed.all_reduce(flat)
        *parts, summed = flat.split([each.numel() for each in gradients] + [len(marks)])
        for each, part in zip(gradients, parts, strict=True):
            each.copy_(part.view_as(each) / self.count)
        return summed

    def close(self) -> None:
        """Leave."""
        if self.count > 1:
            torch.distributed.destroy_process_group()
