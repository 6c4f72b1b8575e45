"""Text and ids; the ids themselves are compared with transformers in tests/parity."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import BundleError
from edge.model.tokenizer import Tokenizer
from tests.unit.model import example

TOKENS = example.manifest().tokens
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def test_special_tokens_in_a_text_become_their_ids(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("<|vision_start|>car<|vision_end|>")
    assert (ids[0], ids[-1]) == (example.VISION_START, example.VISION_END)
    assert tokenizer.decode(ids) == "car"


@given(TEXT)
def test_words_never_become_special_tokens_and_lose_nothing(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode_words(f"{text}<|im_end|>{text}")
    assert max(ids) < example.FIRST_SPECIAL
    assert tokenizer.decode(ids) == unicodedata.normalize("NFC", f"{text}<|im_end|>{text}")
    assert (
        tokenizer.encode("<|im_end|>")[0] >= example.FIRST_SPECIAL
    )  # and later texts of ours are not spelt out


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    for content in (b"{}", b"\xff", b""):
        (tmp_path / "tokenizer.json").write_bytes(content)
        with pytest.raises(BundleError, match="cannot be read"):
            Tokenizer(tmp_path / "tokenizer.json", TOKENS)


def test_a_tokenizer_of_another_model_is_refused(tokenizer_file: Path) -> None:
    with pytest.raises(BundleError, match="does not belong") as caught:
        Tokenizer(tokenizer_file, TOKENS.model_copy(update={"vocab_used": 672}))
    assert caught.value.evidence == ("it has 673 ids, manifest.json says 672",)
