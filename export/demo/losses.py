"""What the model is marked on: the next token of the answers, and what lies in each cell of the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from export.demo.batches import CLASSES, FINE, Batch
from export.demo.forked import ask, visual_tokens, watch


@dataclass(frozen=True, slots=True)
class Marks:
    """One step's marks, as 0-d tensors.

    Attributes:
        answers: Mean loss of the answers' tokens, nats; 0 where nothing is asked, and the shares are nan.
        cells: Mean loss of the cells: of kind, of colour, and of each part, nats.
        tokens: Share of the answers' tokens that would have been chosen.
        exact: Share of the answers of which every token would have been.
        seen: Share of the cells in which something lies whose kind and colour are both named; nan where nothing does.
    """

    answers: Tensor
    cells: Tensor
    tokens: Tensor
    exact: Tensor
    seen: Tensor


def cell_head(hidden: int, seed: int) -> Any:
    """Make the linear map that names what lies in a cell from its visual token; it is not part of the model."""
    torch.manual_seed(seed + 1)
    return torch.nn.Linear(hidden, sum(CLASSES) + FINE**2)


def mark(model: Any, head: Any, batch: Batch) -> Marks:
    """Run a batch.

    Trained from answers alone the vision tower starves: its gradient is a hundredth of the language part's, and for ten
    thousand clips the model learns no more than how answers are spelt. The cells reach it directly.

    Args:
        model: ``Qwen3_5ForConditionalGeneration``.
        head: As `cell_head` made it.
        batch: The clips.
    """
    device = model.device
    labels = torch.from_numpy(batch.cells).to(device)
    if not len(batch.owner):
        cells, named = _cells(head(_visual_tokens(model, batch)).flatten(0, 1).float(), labels)
        none = torch.full_like(named, torch.nan)
        return Marks(torch.zeros_like(named), cells, none, none, named)
    hidden, seen = hidden_states(model, batch)
    wanted = torch.from_numpy(batch.ids[:, 1:]).to(device)
    answers, right = _answers(model.lm_head, hidden, wanted, torch.from_numpy(batch.lengths).to(device))
    cells, named = _cells(head(seen).flatten(0, 1).float(), labels)
    tokens = right[right >= 0].float().mean()
    return Marks(answers, cells, tokens, (right != 0).all(1).float().mean(), named)


def hidden_states(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Run the model on a batch: each clip once, and every question from its clip's end.

    Returns:
        The last layer's states over questions and answers but for the last token, shape (Q, S - 1, H), and the visual
        tokens, shape (B, N * P / 4, H).
    """
    language = model.model.language_model
    device = model.device
    seen = _visual_tokens(model, batch)
    clips = len(seen)
    embeds = language.embed_tokens(torch.from_numpy(batch.clip_ids).to(device)).repeat(clips, 1, 1)
    embeds[:, torch.from_numpy(batch.visual).to(device)] = seen.to(embeds.dtype)
    trace = watch(language, embeds, torch.from_numpy(batch.clip_positions).to(device))
    words = language.embed_tokens(torch.from_numpy(batch.ids[:, :-1]).to(device))
    owner = torch.from_numpy(batch.owner).to(device)
    return ask(language, trace, owner, words, batch.next_pos), seen


def _visual_tokens(model: Any, batch: Batch) -> Tensor:
    patches = torch.from_numpy(batch.patches).to(model.device)
    seen = visual_tokens(model.model.visual, patches, batch.rows, batch.columns)
    return seen.reshape(len(batch.cells), -1, seen.shape[-1])


def answer_mask(lengths: Tensor, width: int) -> Tensor:
    """Return which of the next tokens belong to answers: bool, shape (Q, width).

    Args:
        lengths: int64, shape (Q, 2): tokens of the question, and of the question with its answer.
        width: One less than the tokens of the longest.
    """
    places = torch.arange(1, width + 1, device=lengths.device)
    return (places >= lengths[:, :1]) & (places < lengths[:, 1:])


def _answers(head: Any, hidden: Tensor, wanted: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss, and for every place 1 for right, 0 for wrong, -1 where nothing is asked.

    A token of an answer of n weighs 1/sqrt(n): a box must not drown in JSON, nor a "yes" in boxes.
    """
    asked = answer_mask(lengths, wanted.shape[1])
    logits = head(hidden[asked]).float()
    each = functional.cross_entropy(logits, wanted[asked], reduction="none")
    weight = asked.sum(1, keepdim=True).float().rsqrt().expand_as(asked)[asked]
    right = torch.full_like(wanted, -1)
    right[asked] = (logits.detach().argmax(-1) == wanted[asked]).to(right.dtype)
    return (each * weight).sum() / weight.sum(), right


def _cells(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss, and the share of taken cells that are named right.

    Nine cells in ten are empty; they weigh as much as the taken ones, or what lies there would hardly be learnt.
    """
    flat = labels.flatten(0, 1)
    kind, colour, taken = logits.split([*CLASSES, FINE**2], dim=-1)
    each = (
        functional.cross_entropy(kind, flat[:, 0], reduction="none")
        + functional.cross_entropy(colour, flat[:, 1], reduction="none")
        + functional.binary_cross_entropy_with_logits(taken, flat[:, 2:].float(), reduction="none").mean(1)
    )
    full = (flat[:, 0] > 0).to(each.dtype)
    loss = sum((each * part).sum() / part.sum().clamp(min=1) for part in (full, 1 - full)) / 2
    named = (kind.detach().argmax(-1) == flat[:, 0]) & (colour.detach().argmax(-1) == flat[:, 1])
    return loss, named[flat[:, 0] > 0].float().mean()
