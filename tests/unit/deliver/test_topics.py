"""Topics are built from configured names only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.deliver.topics import Topics
from edge.errors import DeliveryError
from edge.messages import RESERVED_PROMPTS


def test_the_topics_of_a_device() -> None:
    topics = Topics("site/edgeclip", "pi-5")
    assert topics.answer("door", "summary") == "site/edgeclip/v1/pi-5/door/summary"
    assert topics.skipped("door") == "site/edgeclip/v1/pi-5/door/skipped"
    assert topics.dropped("door") == "site/edgeclip/v1/pi-5/door/dropped"
    assert topics.dropped("") == "site/edgeclip/v1/pi-5/dropped"
    assert topics.state("door") == "site/edgeclip/v1/pi-5/door/state"
    assert topics.health() == "site/edgeclip/v1/pi-5/health"
    assert topics.availability() == "site/edgeclip/v1/pi-5/availability"


@pytest.mark.parametrize("name", sorted(RESERVED_PROMPTS))
def test_a_prompt_cannot_take_the_services_own_topic(name: str) -> None:
    with pytest.raises(DeliveryError, match="cannot be called"):
        Topics("edgeclip", "pi").answer("door", name)


@pytest.mark.parametrize(
    "root", ["", "/edgeclip", "edgeclip/", "a//b", "Edge", "a/#", "+", "a b", "$SYS", "a\n"]
)
def test_a_root_that_is_no_plain_path_is_refused(root: str) -> None:
    with pytest.raises(DeliveryError, match="root"):
        Topics(root, "pi")


@given(
    st.text().filter(lambda text: not set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-") or not text)
)
def test_no_other_text_ever_becomes_part_of_a_topic(text: str) -> None:
    topics = Topics("edgeclip", "pi")
    for build in (
        topics.skipped,
        topics.state,
        lambda t: topics.answer(t, "x"),
        lambda t: topics.answer("x", t),
    ):
        with pytest.raises(DeliveryError, match="cannot be part of a topic"):
            build(text)
    with pytest.raises(DeliveryError, match="device"):
        Topics("edgeclip", text)
