"""Auxiliary heads: linear maps from hidden states to what lies in a cell and what has happened by a pair.

They are trained with the model and no part of it. Trained from answers alone the vision tower starves (its gradient is a
hundredth of the language part's), and the language model learns when something happened from a few digits at the end of
a long clip; the heads tell both what is true at every cell and every pair. What an answer copies, times and the sides of
boxes, they are told as classes, one for each token: a model that had been told boxes as numbers wrote one first
digit in six right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.demo.labels import (
    BEGUN,
    BOX_CLASSES,
    BOX_STEP,
    CELL_CLASSES,
    FINE,
    NONE,
    PAIR_CLASSES,
)

_BOX: Final = 0.25  # weight of a box's four sides, nats summed, beside the other classes'
_NEAR: Final = 60 // BOX_STEP  # steps by which a side that counts as found may be off


@dataclass(frozen=True, slots=True)
class Seen:
    """How well cells are named, as 0-d tensors.

    Attributes:
        loss: Of kind, colour, way, parts and box, in nats.
        named: Share of the taken cells whose kind, colour and way are all named; nan where nothing lies.
        placed: Share of the taken cells the four sides of whose box are all about right; nan where nothing lies.
    """

    loss: Tensor
    named: Tensor
    placed: Tensor


class Heads(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """The heads.

    Args:
        hidden: Width of the visual tokens and of the language model.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        width = sum(CELL_CLASSES) + FINE**2 + sum(BOX_CLASSES)
        self.seeing = nn.Linear(hidden, width)
        self.telling = nn.Linear(hidden, width)
        self.watching = nn.Linear(hidden, sum(PAIR_CLASSES))
        self.knowing = nn.Linear(hidden, sum(PAIR_CLASSES))

    def cells(self, states: Tensor, labels: Tensor, *, told: bool = False) -> Seen:
        """Mark cells.

        Two cells in three are empty or more; they weigh as much as the taken ones.

        Args:
            states: Shape (n, hidden).
            labels: int64, shape (n, `labels.CELL_WIDTH`).
            told: The states are the language model's, not the vision tower's.
        """
        head = self.telling if told else self.seeing
        *classes, parts, box = head(states).float().split([*CELL_CLASSES, FINE**2, sum(BOX_CLASSES)], dim=-1)
        fine, sides = labels[:, len(CELL_CLASSES) :].split([FINE**2, len(BOX_CLASSES)], dim=1)
        taken = labels[:, 0] > 0
        each = functional.binary_cross_entropy_with_logits(parts, fine.float(), reduction="none").sum(1) / 4
        right = torch.ones_like(taken)
        for place, logits in enumerate(classes):
            each = each + functional.cross_entropy(logits, labels[:, place], reduction="none")
            right &= logits.detach().argmax(-1) == labels[:, place]
        count, full, empty = taken.sum().clamp(min=1), taken.to(each.dtype), (~taken).to(each.dtype)
        loss = ((each * full).sum() / count + (each * empty).sum() / empty.sum().clamp(min=1)) / 2
        edges, sides = box[taken].split(BOX_CLASSES, dim=-1), sides[taken]
        for place, logits in enumerate(edges):
            off = functional.cross_entropy(logits, sides[:, place], reduction="sum")
            loss = loss + _BOX * off / count
        found = torch.stack([logits.detach().argmax(-1) for logits in edges], 1)
        miss = (found - sides).abs()
        return Seen(loss, right[taken].float().mean(), (miss <= _NEAR).all(1).float().mean())

    def pairs(self, states: Tensor, labels: Tensor, *, late: bool = False) -> tuple[Tensor, Tensor]:
        """Mark what has happened by the end of each pair.

        Args:
            states: Shape (n, hidden).
            labels: int64, shape (n, len(`PAIR_CLASSES`)).
            late: The states are those that the last layer of attention looks back at, not those halfway.

        Returns:
            The loss, nats summed over the labels; and the share of the pairs at which all is known of the event that
            began last.
        """
        head = self.knowing if late else self.watching
        parts = head(states).float().split(PAIR_CLASSES, dim=-1)
        losses = [
            functional.cross_entropy(logits, labels[:, place], ignore_index=NONE, reduction="sum")
            / len(labels)
            for place, logits in enumerate(parts)
        ]
        known = torch.stack(
            [
                parts[place].detach().argmax(-1) == labels[:, place]
                for place in range(len(PAIR_CLASSES))[BEGUN]
            ]
        )
        return torch.stack(losses).sum(), known.all(0).float().mean()
