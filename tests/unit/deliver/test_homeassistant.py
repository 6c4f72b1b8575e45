"""What Home Assistant is told: entities that never collide, templates that only pick fields, and clean removal."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import Settings, load
from edge.deliver.commands import Incoming, Intake, Request
from edge.deliver.homeassistant import cameras_of, discovery, find_leftovers, keys
from edge.deliver.topics import Topics
from tests.homeassistant import commands_of

SLUG = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,5}", fullmatch=True)


def settings(
    cameras: tuple[str, ...] = ("door",),
    prompts: tuple[tuple[str, str], ...] = (("summary", "summary"), ("spatial", "spatial")),
    device: str = "pi-5",
    **more: Any,
) -> Settings:
    return Settings.model_validate(
        {
            "device": {"id": device},
            "bundle": {"path": "b"},
            "camera": [{"id": camera, "source": "v.mp4"} for camera in cameras],
            "prompt": [{"name": name, "kind": kind, "text": "Is it open?"} for name, kind in prompts],
            **more,
        }
    )


def topics(found: Settings) -> Topics:
    return Topics(found.mqtt.root, found.device.id)


def message(found: Settings, leftovers: dict[str, str] | None = None) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(discovery(found, topics(found), leftovers))
    return decoded


def unique_ids(found: Settings) -> list[str]:
    return [component["unique_id"] for component in message(found)["components"].values()]


def test_the_message_lies_where_home_assistant_looks_and_an_acl_can_confine_it() -> None:
    assert (
        Topics("edgeclip", "pi-5").discovery("homeassistant") == "homeassistant/device/edgeclip/pi-5/config"
    )
    deep = Topics("house/garden", "pi-5").discovery("ha")
    # Home Assistant's own pattern of what follows the prefix
    assert re.fullmatch(r"ha/\w+/(?:[a-zA-Z0-9_-]+/)?[a-zA-Z0-9_-]+/config", deep)


def test_device_origin_and_availability_are_said() -> None:
    said = message(settings())
    assert said["device"]["identifiers"] == ["edgeclip/v1/pi-5"]
    assert said["device"]["name"] == "edgeclip pi-5"
    assert said["origin"]["name"] == "edgeclip"
    assert said["availability_topic"] == "edgeclip/v1/pi-5/availability"


def test_the_same_settings_give_the_same_bytes() -> None:
    assert len({discovery(settings(), topics(settings())) for _ in range(2)}) == 1


def test_a_camera_has_its_headlines_counts_figures_connection_and_controls() -> None:
    names = {component["name"] for component in message(settings())["components"].values()}
    assert {name for name in names if name.startswith("door")} == {
        "door headline",
        "door summary events",
        "door spatial",
        "door spatial objects",
        "door latency",
        "door rung",
        "door energy",
        "door paused",
        "door analyse now",
        "door question",
        "door answer",
        "door camera",
        "door camera state",
        "door coverage",
    }
    assert {"coverage", "backlog", "engine", "outbox waiting", "memory", "temperature", "model"} <= names
    assert {
        "reload configuration",
        "last command",
        "mode",
        "power",
        "battery",
        "throttled",
        "supply",
    } <= names


def test_a_question_of_one_s_own_is_a_headline_with_the_answer_as_attributes() -> None:
    found = settings(prompts=(("gate", "ask"), ("summary", "summary"), ("night", "summary")))
    components = message(found)["components"]
    headline = components["door.state.headline"]
    assert (
        headline["json_attributes_topic"] == "edgeclip/v1/pi-5/door/gate"
    )  # the prompt of the last headline
    assert components["door.night.headline"]["state_topic"] == "edgeclip/v1/pi-5/door/night"
    assert {"door.summary.events", "door.night.events"} <= components.keys()
    assert "door.gate.events" not in components


def test_a_watch_is_on_while_it_is_raised() -> None:
    watch = [{"id": "parcel", "question": "Is a parcel there?"}]
    found = message(settings(watch=watch))["components"]
    mine = [each for each in found.values() if each.get("state_topic", "").endswith("/alert/parcel/state")]
    assert [(each["platform"], each["value_template"]) for each in mine] == [
        ("binary_sensor", "{{ 'ON' if value_json.state == 'raised' else 'OFF' }}")
    ] * len(settings().camera)


def test_what_must_be_fresh_expires_after_three_periods() -> None:
    found = settings(clip={"seconds": 20.0}, health={"every_s": 1.5})
    components = message(found)["components"]
    assert components["door.state.headline"]["expire_after"] == 60
    assert components["health.coverage"]["expire_after"] == 5
    lasting = {"answer", "status"}  # of commands: what was said stays until something else is said
    shown = [key for key, component in components.items() if "sensor" in component["platform"]]
    assert {key.rpartition(".")[2] for key in shown if "expire_after" not in components[key]} == lasting


@given(
    cameras=st.lists(SLUG, min_size=1, max_size=3, unique=True),
    prompts=st.lists(SLUG, min_size=1, max_size=3, unique=True),
    devices=st.lists(SLUG, min_size=2, max_size=2, unique=True),
)
def test_whatever_the_names_no_two_entities_on_a_broker_are_the_same(
    cameras: list[str], prompts: list[str], devices: list[str]
) -> None:
    kinds = tuple(zip(prompts, ("summary", "spatial", "ask"), strict=False))
    try:
        both = [settings(tuple(cameras), kinds, device) for device in devices]
    except ValueError:  # a reserved name
        return
    ids = [unique for found in both for unique in unique_ids(found)]
    assert len(set(ids)) == len(ids)
    assert len(keys(both[0], topics(both[0]))) == len(ids) / 2


def test_sixteen_cameras_with_sixteen_prompts_are_one_message_that_a_broker_takes() -> None:
    cameras = tuple(f"camera-{n:02d}-at-the-far-end" for n in range(16))
    prompts = tuple((f"question-{n:02d}-of-the-operator", "summary") for n in range(16))
    found = settings(cameras, prompts)
    assert len(discovery(found, topics(found))) < 2**19
    assert not find_leftovers(discovery(found, topics(found)), keys(found, topics(found)))
    assert len(find_leftovers(discovery(found, topics(found)), ())) == len(unique_ids(found))


def test_a_camera_that_is_gone_is_removed_by_name_and_once() -> None:
    before, after = settings(("door", "yard")), settings(("door",))
    earlier = discovery(before, topics(before))
    leftovers = find_leftovers(earlier, keys(after, topics(after)))
    assert len(leftovers) == 14
    assert all("yard" in key for key in leftovers)
    assert cameras_of(leftovers) == ["yard"]
    said = message(after, leftovers)["components"]
    assert said["yard.state.headline"] == {"platform": "sensor"}
    assert said["health.yard.connected"] == {"platform": "binary_sensor"}
    again = discovery(after, topics(after), leftovers)
    assert find_leftovers(again, keys(after, topics(after))) == {}


def test_a_camera_has_a_key_frame_where_the_operator_lets_it_leave_also_without_commands() -> None:
    for allowed in (False, True):
        found = settings(("door",), privacy={"annotated": allowed}, commands={"enabled": False})
        images = [c for c in message(found)["components"].values() if c["platform"] == "image"]
        assert [image["image_topic"] for image in images] == [topics(found).annotated("door")] * allowed


def test_every_control_sends_a_command_that_is_accepted_and_says_where_it_wants_the_reply() -> None:
    found = settings(("door", "yard"), privacy={"snapshots": True})
    where = topics(found)
    intake = Intake(where, device="pi-5", cameras=("door", "yard"), per_minute=600, now_s=0.0)
    said = message(found)["components"]
    sent = {
        component["name"]: commands_of(component, 'Is "it"\n{{ there }}?')
        for component in said.values()
        if "command_topic" in component
    }
    taken = {
        name: [intake.take(Incoming(topic, payload.encode(), retain=False), 0.0) for topic, payload in pairs]
        for name, pairs in sent.items()
    }
    assert all(isinstance(request, Request) for requests in taken.values() for request in requests)
    asked = {
        name: [(r.verb, r.cameras, r.command.paused) for r in requests if isinstance(r, Request)]
        for name, requests in taken.items()
    }
    assert asked == {
        "reload configuration": [("reload", ("door", "yard"), None)],
        **{
            f"{camera} {name}": [(verb, (camera,), paused) for paused in switch]
            for camera in ("door", "yard")
            for name, verb, switch in (
                ("paused", "pause", (True, False)),
                ("analyse now", "analyse-now", (None,)),
                ("question", "ask", (None,)),
                ("snapshot", "snapshot", (None,)),
            )
        },
    }
    (question,) = (r for r in taken["yard question"] if isinstance(r, Request))
    assert question.command.question == 'Is "it"\n{{ there }}?'
    assert question.sender.topic == "edgeclip/v1/pi-5/reply/home-assistant-yard"
    shown = {component.get("state_topic") for component in said.values()}
    replies = {r.sender.topic for requests in taken.values() for r in requests if isinstance(r, Request)}
    assert replies <= shown


def test_what_is_not_allowed_has_no_control() -> None:
    names = {component["name"] for component in message(settings())["components"].values()}
    assert not {"door snapshot", "door picture"} & names
    deaf = message(settings(commands={"enabled": False}))["components"].values()
    assert {component["platform"] for component in deaf} == {"sensor", "binary_sensor"}
    assert not {"door answer", "last command"} & {component["name"] for component in deaf}


@pytest.mark.parametrize(
    "foreign",
    [
        b"",
        b"online",
        b"[]",
        b"[" * 100_000,
        b'{"origin":{"name":"another"},"components":{"a":{"platform":"sensor","name":"x"}}}',
        b'{"origin":"edgeclip","components":{}}',
        b'{"origin":{"name":"edgeclip"},"components":[1]}',
        b'{"origin":{"name":"edgeclip"},"components":{"a":7,"b":{"platform":["sensor"]}}}',
        b'{"origin":{"name":"edgeclip"},"components":{"a":{"platform":"no such thing","name":"x"}}}',
        b'{"origin":{"name":"edgeclip"},"components":{"A/#":{"platform":"sensor","name":"x"}}}',
        b'{"origin":{"name":"edgeclip"},"pad":"' + b"x" * 2**20 + b'"}',
    ],
    ids=range(11),
)
def test_nothing_is_taken_over_from_a_message_that_is_not_ours(foreign: bytes) -> None:
    assert find_leftovers(foreign, ()) == {}


def test_the_dashboard_card_shows_entities_that_the_example_configuration_has() -> None:
    configs = Path(__file__).parents[3] / "configs"
    found = load(configs / "edge.toml")
    said = message(found)
    slug = re.compile(r"[^a-z0-9]+")  # as Home Assistant forms an entity's id of device and name
    ids = {
        f"{component['platform']}.{slug.sub('_', said['device']['name'] + ' ' + component['name'])}"
        for component in said["components"].values()
    }
    for name in ("dashboard.yaml", "README.md"):
        text = (configs / "homeassistant" / name).read_text(encoding="utf-8")
        shown = set(re.findall(r"\b(?:binary_sensor|sensor|switch|button|text)\.\w+", text))
        assert shown
        assert shown <= ids, name
