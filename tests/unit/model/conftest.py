"""The small tokenizer, trained once."""

from pathlib import Path

import pytest

from edge.model.tokenizer import Tokenizer
from tests import vocabulary
from tests.unit.model import example


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tokenizer")
    vocabulary.write(place, "toy")
    return place / "tokenizer.json"


@pytest.fixture(scope="session")
def tokenizer(tokenizer_file: Path) -> Tokenizer:
    return Tokenizer(tokenizer_file, example.manifest().tokens)
