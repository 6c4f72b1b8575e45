"""Home Assistant's own judgement of discovery messages; runs on its Python, with nothing of ours.

    python homeassistant_judge.py < cases.json > problems.json

A case is a topic below the discovery prefix, the message's payload, and messages (payload by topic) that feed its
entities. What Home Assistant would refuse, ignore, warn of or show as an error is a problem.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import voluptuous as vol
from homeassistant.components.mqtt import discovery
from homeassistant.components.mqtt.const import SUPPORTED_COMPONENTS
from homeassistant.components.mqtt.schemas import DEVICE_DISCOVERY_SCHEMA
from homeassistant.const import MAX_LENGTH_STATE_STATE
from homeassistant.core import HomeAssistant, async_get_hass
from homeassistant.helpers.template import Template

QUESTION = 'Is "it" there, or {{ elsewhere }}?\''
PAYLOAD_NONE = "None"  # homeassistant.components.mqtt.const: the state is then unknown


class Warnings(logging.Handler):
    """Collects what is logged as a warning or worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def judge(case: dict[str, Any]) -> Iterator[str]:
    """Yield the problems of one message."""
    match = discovery.TOPIC_MATCHER.fullmatch(case["topic"])
    if match is None or match["component"] != "device":
        yield f"{case['topic']} is no topic of device discovery"
    message = discovery.MQTTDiscoveryPayload(json.loads(case["payload"]))
    discovery._replace_all_abbreviations(message)  # as async_discovery_message_received does
    try:
        DEVICE_DISCOVERY_SCHEMA(message)
    except vol.Invalid as error:
        yield f"refused: {error}"
        return
    for key, component in message["components"].items():
        for problem in judge_component(component, message, case["messages"]):
            yield f"{key}: {problem}"


def judge_component(
    component: dict[str, Any], message: discovery.MQTTDiscoveryPayload, messages: dict[str, str]
) -> Iterator[str]:
    config = discovery.MQTTDiscoveryPayload(component)
    platform = config.pop("platform")
    if platform not in SUPPORTED_COMPONENTS:
        yield f"{platform} is no platform"
        return
    if not config:
        return  # it is removed
    config |= {"device": message["device"], "origin": message["origin"]}
    discovery._merge_common_device_options(config, message)
    try:
        accepted = importlib.import_module(f"homeassistant.components.mqtt.{platform}").DISCOVERY_SCHEMA(
            dict(config)
        )
    except vol.Invalid as error:
        yield f"refused by {platform}: {error}"
        return
    ignored = config.keys() - accepted.keys()
    if ignored:
        yield f"{platform} knows nothing of {sorted(ignored)}"
    yield from judge_commands(config)
    payload = messages.get(config.get("state_topic", ""))
    if payload:
        yield from judge_state(config, Template(str(config["value_template"]), async_get_hass()), payload)


def judge_commands(config: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with what an entity would publish."""
    payloads = [str(config[key]) for key in config if key.startswith("payload_")]
    if "command_template" in config:
        template = Template(str(config["command_template"]), async_get_hass())
        payloads.append(template.async_render({"value": QUESTION}, parse_result=False))
        if json.loads(payloads[-1])["question"] != QUESTION:
            yield f"{template.template} does not keep the words"
    for payload in payloads:
        if not isinstance(json.loads(payload), dict):
            yield f"{payload!r} is no command"


def judge_state(config: dict[str, Any], template: Template, payload: str) -> Iterator[str]:
    failed = object()
    state = template.async_render_with_possible_json_value(payload, error_value=failed)
    if state is failed:
        yield f"{template.template} fails on {payload[:200]}"
    elif state == PAYLOAD_NONE:
        pass
    elif len(state) > MAX_LENGTH_STATE_STATE:
        yield f"a state of {len(state)} characters"
    elif "options" in config and state not in config["options"]:
        yield f"{state!r} is none of {config['options']}"
    elif "state_on" in config and state not in (config["state_on"], config["state_off"]):
        yield f"{state!r} is neither on nor off"
    elif "state_class" in config and not state.replace(".", "", 1).isdigit():
        yield f"{state!r} is no number"


async def main() -> None:
    """Judge all cases; templates are only accepted where a Home Assistant lives, so one is brought up, empty."""
    warnings = Warnings()
    logging.getLogger().addHandler(warnings)
    with tempfile.TemporaryDirectory() as directory:
        HomeAssistant(directory)
        problems = [problem for case in json.load(sys.stdin) for problem in judge(case)]
    json.dump([*problems, *warnings.lines], sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
