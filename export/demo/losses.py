"""What the model is marked on: the next token of the answers, and, through the heads, what it sees and what happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from export.demo.batches import Asked, Batch
from export.demo.forked import Trace, ask, visual_tokens, watch
from export.demo.heads import Heads
from export.demo.kernels import EPS

HAPPENED: Final = 0.1
"""Weight of the pairs' loss, a sum over twenty labels, beside the answers'; halfway and once more late."""
CELLS: Final = 0.1
"""Weight of the cells' loss on the language model's states; the tower's own has weight 1."""


@dataclass(frozen=True, slots=True)
class Marks:
    """One step's marks, as 0-d tensors; nan where the step has none.

    Attributes:
        loss: All of it.
        answers: Mean loss of the answers' tokens, nats.
        tokens: Share of the answers' tokens that would have been chosen.
        exact: Share of the answers of which every token would have been.
        happened: Loss of the pairs, nats, of the late states.
        followed: Share of the pairs at which all is known of the event that began last.
        cells: Loss of the cells, nats.
        named: Share of the cells in which something lies whose kind, colour and way are all named.
        placed: Share of these the box in which it lies is about right.
    """

    loss: Tensor
    answers: Tensor
    tokens: Tensor
    exact: Tensor
    happened: Tensor
    followed: Tensor
    cells: Tensor
    named: Tensor
    placed: Tensor


def see(model: Any, heads: Heads, batch: Batch, dtype: torch.dtype = torch.float32) -> Marks:
    """Mark what the vision tower sees, and nothing else."""
    labels = torch.from_numpy(batch.cells).to(model.device).flatten(0, 1)
    seen = heads.cells(look(model, batch, dtype).flatten(0, 1).float(), labels)
    none = seen.loss.new_tensor(torch.nan)
    return Marks(seen.loss, none, none, none, none, none, seen.loss.detach(), seen.named, seen.placed)


def look(model: Any, batch: Batch, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the visual tokens of a batch, shape (B, N * P / 4, H)."""
    patches = torch.from_numpy(batch.patches).to(model.device)
    seen = visual_tokens(model.model.visual, patches, batch.rows, batch.columns, dtype)
    return seen.reshape(len(batch.cells), -1, seen.shape[-1])


def tell(
    model: Any,
    heads: Heads,
    batch: Batch,
    seen: Tensor,
    use: int,
    *,
    dtype: torch.dtype = torch.float32,
) -> Marks:
    """Mark what the language model makes of clips, and what it answers where it is asked.

    Args:
        model: ``Qwen3_5ForConditionalGeneration``.
        heads: The heads.
        batch: The clips.
        seen: Their visual tokens.
        use: Which of the batch's questions are asked.
        dtype: Of the products.
    """
    trace, *layers = follow(model, batch, seen, dtype)
    device = model.device
    halfway, late = (functional.rms_norm(each, each.shape[-1:], None, EPS) for each in layers)
    cells = heads.cells(
        halfway[:, torch.from_numpy(batch.visual).to(device)].flatten(0, 1),
        torch.from_numpy(batch.cells).to(device).flatten(0, 1),
        told=True,
    )
    ends, labels = torch.from_numpy(batch.ends).to(device), torch.from_numpy(batch.happened).to(device)
    early, _ = heads.pairs(halfway[:, ends].flatten(0, 1), labels.flatten(0, 1))
    happened, followed = heads.pairs(late[:, ends].flatten(0, 1), labels.flatten(0, 1), late=True)
    loss = HAPPENED * (early + happened) + CELLS * cells.loss
    answers = tokens = exact = loss.new_tensor(torch.nan)
    if batch.asked:
        answers, right = _answers(model, trace, batch, batch.asked[use % len(batch.asked)], dtype)
        loss = loss + answers
        tokens = right[right >= 0].float().mean()
        exact = (right != 0).all(1).float().mean()
    return Marks(
        loss,
        answers.detach(),
        tokens,
        exact,
        happened.detach(),
        followed,
        cells.loss.detach(),
        cells.named,
        cells.placed,
    )


def follow(
    model: Any, batch: Batch, seen: Tensor, dtype: torch.dtype = torch.float32
) -> tuple[Trace, Tensor, Tensor]:
    """Run a batch's clips; return what they leave, and the states halfway and late."""
    language = model.model.language_model
    device = model.device
    embeds = language.embed_tokens(torch.from_numpy(batch.clip_ids).to(device)).repeat(len(seen), 1, 1)
    embeds[:, torch.from_numpy(batch.visual).to(device)] = seen.to(embeds.dtype)
    return watch(language, embeds, torch.from_numpy(batch.clip_positions).to(device), dtype)


def reply(
    model: Any, trace: Trace, asked: Asked, start: int, dtype: torch.dtype = torch.float32
) -> list[tuple[slice, Tensor]]:
    """Run questions with their answers from the clips' end, the shorter half apart from the longer one.

    Returns:
        Rows of ``asked``, and the last states over all tokens but the last, shape (Q, S - 1, H).
    """
    language = model.model.language_model
    ids = torch.from_numpy(asked.ids).to(model.device)
    owner = torch.from_numpy(asked.owner).to(model.device)
    found = []
    half = len(ids) // 2
    for rows in (slice(0, half), slice(half, len(ids))):
        if rows.start < rows.stop:
            length = int(asked.lengths[rows, 1].max())
            words = language.embed_tokens(ids[rows, : length - 1])
            found.append((rows, ask(language, trace, owner[rows], words, start, dtype=dtype)))
    return found


def answer_mask(lengths: Tensor, width: int) -> Tensor:
    """Return which of the next tokens belong to answers: bool, shape (Q, width).

    Args:
        lengths: int64, shape (Q, 2): tokens of the question, and of the question with its answer.
        width: One less than the tokens of the longest.
    """
    places = torch.arange(1, width + 1, device=lengths.device)
    return (places >= lengths[:, :1]) & (places < lengths[:, 1:])


def _answers(
    model: Any, trace: Trace, batch: Batch, asked: Asked, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the loss, and for every place 1 for right, 0 for wrong, -1 where nothing is asked.

    A token of an answer of n weighs 1/sqrt(n): a box must not drown in JSON, nor a "yes" in boxes.
    """
    ids = torch.from_numpy(asked.ids).to(model.device)
    lengths = torch.from_numpy(asked.lengths).to(model.device)
    right = torch.full_like(ids[:, 1:], -1)
    total, weights = torch.zeros((), device=model.device), torch.zeros((), device=model.device)
    for rows, hidden in reply(model, trace, asked, batch.next_pos, dtype):
        width = hidden.shape[1]
        mask = answer_mask(lengths[rows], width)
        wanted = ids[rows, 1 : width + 1][mask]
        logits = functional.linear(hidden[mask].to(dtype), model.lm_head.weight.to(dtype)).float()
        each = functional.cross_entropy(logits, wanted, reduction="none")
        weight = mask.sum(1, keepdim=True).float().rsqrt().expand_as(mask)[mask]
        total, weights = total + (each * weight).sum(), weights + weight.sum()
        found = right[rows, :width]
        found[mask] = (logits.detach().argmax(-1) == wanted).to(right.dtype)
    return total / weights, right
