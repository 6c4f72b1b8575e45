"""What the model is marked on: the next token of the answers, and, through the heads, what it sees and what happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from export.demo.batches import Asked, Batch, Stills
from export.demo.forked import Trace, ask, visual_tokens, watch
from export.demo.heads import Heads
from export.demo.kernels import EPS

HAPPENED: Final = 0.05
"""Weight of the pairs' loss, a sum over thirty-two labels, beside the answers'; halfway and once more late."""
STILLS: Final = 0.2
"""Weight of what a key frame shows, kinds, colours and boxes: of it there is one where a clip has a hundred pairs."""
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
    seen = heads.cells(look(model, batch, dtype).clips.flatten(0, 1).float(), labels)
    none = seen.loss.new_tensor(torch.nan)
    return Marks(seen.loss, none, none, none, none, none, seen.loss.detach(), seen.named, seen.placed)


@dataclass(frozen=True, slots=True)
class Looked:
    """Visual tokens of a batch.

    Attributes:
        clips: Shape (B, N * P / 4, H).
        stills: Of the key frames, shape (B, P / 4, H); None where there are none.
    """

    clips: Tensor
    stills: Tensor | None


def look(model: Any, batch: Batch, dtype: torch.dtype = torch.float32) -> Looked:
    """Run the vision tower on a batch."""

    def tokens(shown: Batch | Stills) -> Tensor:
        patches = torch.from_numpy(shown.patches).to(model.device)
        seen = visual_tokens(model.model.visual, patches, shown.rows, shown.columns, dtype)
        return seen.reshape(len(batch.cells), -1, seen.shape[-1])

    return Looked(tokens(batch), None if batch.stills is None else tokens(batch.stills))


def tell(
    model: Any,
    heads: Heads,
    batch: Batch,
    seen: Looked,
    use: int,
    *,
    aids: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Marks:
    """Mark what the language model makes of clips, and what it answers where it is asked.

    Args:
        model: ``Qwen3_5ForConditionalGeneration``.
        heads: The heads.
        batch: The clips.
        seen: What it shows.
        use: Which of the batch's questions are asked.
        aids: Weight of what the heads are told beside the answers.
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
    loss = aids * (HAPPENED * (early + happened) + CELLS * cells.loss)
    answers = tokens = exact = loss.new_tensor(torch.nan)
    if batch.asked:
        still, answers, tokens, exact = _answers(
            model, heads, trace, batch, seen, use % len(batch.asked), dtype
        )
        loss = loss + answers + aids * STILLS * still
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
    model: Any, batch: Batch, seen: Looked, dtype: torch.dtype = torch.float32
) -> tuple[Trace, Tensor, Tensor]:
    """Run a batch's clips; return what they leave, and the states halfway and late."""
    language = model.model.language_model
    device = model.device
    embeds = language.embed_tokens(torch.from_numpy(batch.clip_ids).to(device)).repeat(len(seen.clips), 1, 1)
    embeds[:, torch.from_numpy(batch.visual).to(device)] = seen.clips.to(embeds.dtype)
    return watch(language, embeds, torch.from_numpy(batch.clip_positions).to(device), dtype)


@dataclass(frozen=True, slots=True)
class Replied:
    """Some of a batch's questions with their answers, run.

    Attributes:
        rows: Of ``Asked``.
        states: The last ones over all tokens but the last, shape (Q, S - 1, H).
        stills: The late ones at the end of the key frame, shape (Q, H); None where none is shown.
    """

    rows: slice
    states: Tensor
    stills: Tensor | None


def reply(
    model: Any, trace: Trace, batch: Batch, asked: Asked, seen: Looked, *, dtype: torch.dtype = torch.float32
) -> list[Replied]:
    """Run questions with their answers from the clips' end, the shorter half apart from the longer one."""
    language = model.model.language_model
    ids = torch.from_numpy(asked.ids).to(model.device)
    owner = torch.from_numpy(asked.owner).to(model.device)
    front, positions, start = None, ids.new_zeros(3, 0), batch.next_pos
    if asked.shown and batch.stills is not None and seen.stills is not None:
        front = language.embed_tokens(torch.from_numpy(batch.stills.ids).to(model.device))
        front[:, torch.from_numpy(batch.stills.visual).to(model.device)] = seen.stills.to(front.dtype)
        positions, start = torch.from_numpy(batch.stills.positions).to(ids), batch.stills.next_pos
    found = []
    half = len(ids) // 2
    for rows in (slice(0, half), slice(half, len(ids))):
        if rows.start < rows.stop:
            length = int(asked.lengths[rows, 1].max())
            words = language.embed_tokens(ids[rows, : length - 1])
            after = torch.arange(start, start + length - 1, device=ids.device).expand(3, -1)
            if front is not None:
                words = torch.cat([front[owner[rows]], words], 1)
            places = torch.cat([positions, after], 1)
            late, states = ask(language, trace, owner[rows], words, places, dtype=dtype)
            count = positions.shape[1]
            found.append(Replied(rows, states[:, count:], late[:, count - 1] if count else None))
    return found


def answer_mask(lengths: Tensor, width: int) -> Tensor:
    """Return which of the next tokens belong to answers: bool, shape (Q, width).

    Args:
        lengths: int64, shape (Q, 2): tokens of the question, and of the question with its answer.
        width: One less than the tokens of the longest.
    """
    places = torch.arange(1, width + 1, device=lengths.device)
    return (places >= lengths[:, :1]) & (places < lengths[:, 1:])


def _answers(  # noqa: PLR0917  # a part of `tell`
    model: Any, heads: Heads, trace: Trace, batch: Batch, seen: Looked, use: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the loss of the heads at key frames, that of the answers, and the shares of tokens and of answers that are right."""
    losses, weights, right, exact = [], [], [], []
    stills: list[Tensor] = []
    for group in batch.asked[use]:
        ids = torch.from_numpy(group.ids).to(model.device)
        lengths = torch.from_numpy(group.lengths).to(model.device)
        for part in reply(model, trace, batch, group, seen, dtype=dtype):
            width = part.states.shape[1]
            mask = answer_mask(lengths[part.rows], width)
            wanted = ids[part.rows, 1 : width + 1][mask]
            logits = functional.linear(part.states[mask].to(dtype), model.lm_head.weight.to(dtype)).float()
            losses.append(functional.cross_entropy(logits, wanted, reduction="none"))
            weights.append(torch.from_numpy(group.weights).to(wanted.device)[part.rows, 1 : width + 1][mask])
            right.append(logits.detach().argmax(-1) == wanted)
            wrong = mask.clone()
            wrong[mask] = ~right[-1]
            exact.append(~wrong.any(1))
            if part.stills is not None and batch.stills is not None:
                labels = torch.from_numpy(batch.stills.labels[group.owner[part.rows]]).to(model.device)
                states = functional.rms_norm(part.stills, part.stills.shape[-1:], None, EPS)
                stills.append(heads.pairs(states, labels, late=True)[0])
    weight = torch.cat(weights)
    answers = (torch.cat(losses) * weight).sum() / weight.sum()
    still = torch.stack(stills).mean() if stills else answers.new_zeros(())
    return still, answers, torch.cat(right).float().mean(), torch.cat(exact).float().mean()
