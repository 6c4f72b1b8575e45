"""Text and ids; the ids themselves are compared with transformers in tests/parity."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import BundleError
from edge.model.tokenizer import Tokenizer
from tests import vocabulary
from tests.unit.model import example

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def test_special_tokens_in_a_text_become_their_ids(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("<|vision_start|>car<|vision_end|>")
    assert (ids[0], ids[-1]) == (example.VISION_START, example.VISION_END)
    assert tokenizer.decode(ids) == "car"


@given(TEXT)
def test_pieces_of_a_stream_joined_are_the_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    stream = tokenizer.stream()
    pieces = [stream.push(token) for token in ids]
    assert "".join(pieces) + stream.flush() == tokenizer.decode(ids)
    assert not any(piece.endswith("\N{REPLACEMENT CHARACTER}") for piece in pieces)


@given(st.lists(st.integers(0, vocabulary.TOY_SIZE - 1), max_size=30))
def test_a_stream_of_any_ids_loses_nothing(tokenizer: Tokenizer, ids: list[int]) -> None:
    stream = tokenizer.stream()
    pieces = [stream.push(token) for token in ids]
    assert "".join([*pieces, stream.flush()]) == tokenizer.decode(ids)


def test_half_a_character_is_held_back(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("🙂")
    assert len(ids) == 4
    stream = tokenizer.stream()
    assert [stream.push(token) for token in ids] == ["", "", "", "🙂"]


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    for content in (b"{}", b"\xff", b""):
        (tmp_path / "tokenizer.json").write_bytes(content)
        with pytest.raises(BundleError, match="cannot be read"):
            Tokenizer(tmp_path / "tokenizer.json", vocab_used=673)


def test_a_tokenizer_of_another_model_is_refused(tokenizer_file: Path) -> None:
    with pytest.raises(BundleError, match="does not belong") as caught:
        Tokenizer(tokenizer_file, vocab_used=672)
    assert caught.value.evidence == ("it has 673 ids, manifest.json says 672",)
