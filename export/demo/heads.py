"""Auxiliary heads: linear maps from hidden states to what lies in a cell and what has happened by a pair.

They are trained with the model and no part of it. Trained from answers alone the vision tower starves (its gradient is a
hundredth of the language part's), and the language model learns when something happened from a few digits at the end of
a long clip; the heads tell both what is true at every cell and every pair.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.demo.labels import BEGUN, CELL_CLASSES, FINE, PAIR_CLASSES

_BOX: float = 5.0  # weight of a box's mean error, in shares of the picture, beside the classes' nats


@dataclass(frozen=True, slots=True)
class Seen:
    """How well cells are named, as 0-d tensors.

    Attributes:
        loss: Of kind, colour, way, parts and box, in nats.
        named: Share of the taken cells whose kind, colour and way are all named; nan where nothing lies.
        found: Share of the cells in which something lies or not as said.
    """

    loss: Tensor
    named: Tensor
    found: Tensor


class Heads(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """The heads.

    Args:
        hidden: Width of the visual tokens and of the language model.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.seeing = nn.Linear(hidden, sum(CELL_CLASSES) + FINE**2 + 4)
        self.telling = nn.Linear(hidden, sum(CELL_CLASSES) + FINE**2 + 4)
        self.watching = nn.Linear(hidden, sum(PAIR_CLASSES))

    def cells(self, states: Tensor, labels: Tensor, *, told: bool = False) -> Seen:
        """Mark cells.

        Two cells in three are empty or more; they weigh as much as the taken ones.

        Args:
            states: Shape (n, hidden).
            labels: int64, shape (n, `labels.CELL_WIDTH`).
            told: The states are the language model's, not the vision tower's.
        """
        head = self.telling if told else self.seeing
        *classes, parts, box = head(states).float().split([*CELL_CLASSES, FINE**2, 4], dim=-1)
        taken = labels[:, 0] > 0
        each = (
            functional.binary_cross_entropy_with_logits(
                parts, labels[:, len(CELL_CLASSES) : -4].float(), reduction="none"
            ).sum(1)
            / 4
        )
        right = torch.ones_like(taken)
        for place, logits in enumerate(classes):
            each = each + functional.cross_entropy(logits, labels[:, place], reduction="none")
            right &= logits.detach().argmax(-1) == labels[:, place]
        full, empty = taken.to(each.dtype), (~taken).to(each.dtype)
        off = (box - labels[:, -4:].float() / 1000).abs().mean(1)
        loss = (each * full).sum() / full.sum().clamp(min=1) + (each * empty).sum() / empty.sum().clamp(min=1)
        loss = loss / 2 + _BOX * (off * full).sum() / full.sum().clamp(min=1)
        found = ((classes[0].detach().argmax(-1) > 0) == taken).float().mean()
        return Seen(loss, right[taken].float().mean(), found)

    def pairs(self, states: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mark what has happened by the end of each pair.

        Args:
            states: Shape (n, hidden).
            labels: int64, shape (n, len(`PAIR_CLASSES`)).

        Returns:
            The loss, nats summed over the labels; and the share of the pairs at which all is known of the event that
            began last.
        """
        parts = self.watching(states).float().split(PAIR_CLASSES, dim=-1)
        losses = [functional.cross_entropy(logits, labels[:, place]) for place, logits in enumerate(parts)]
        known = torch.stack(
            [
                parts[place].detach().argmax(-1) == labels[:, place]
                for place in range(len(PAIR_CLASSES))[BEGUN]
            ]
        )
        return torch.stack(losses).sum(), known.all(0).float().mean()
