"""Home Assistant's side of discovery for tests: its template names over a published payload, its limit of a state."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from jinja2 import StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

STATE_CHARS = 255  # homeassistant.const.MAX_LENGTH_STATE_STATE
_TEMPLATES = SandboxedEnvironment(
    undefined=StrictUndefined
)  # Home Assistant logs what is undefined; here it fails
_TEMPLATES.filters["to_json"] = json.dumps


def render(template: str, payload: str) -> str:
    """Render a value template over a JSON payload as Home Assistant does."""
    return _TEMPLATES.from_string(template).render(value=payload, value_json=json.loads(payload))


def commands_of(component: dict[str, Any], text: str = "") -> list[tuple[str, str]]:
    """Return what an entity publishes, topic and payload: when it is pressed, switched on and off, or given a text."""
    payloads = [component[key] for key in ("payload_press", "payload_on", "payload_off") if key in component]
    if "command_template" in component:
        payloads.append(_TEMPLATES.from_string(component["command_template"]).render(value=text))
    return [(component["command_topic"], payload) for payload in payloads]


def states(discovery: str, messages: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return every entity's state by its name, fed with messages (topic and payload), the last one counting.

    An entity that no message fed is missing, as is one that the message removes.
    """
    newest = dict(messages)
    found: dict[str, str] = {}
    for component in json.loads(discovery)["components"].values():
        payload = newest.get(component.get("state_topic", ""))
        if payload:
            found[component["name"]] = render(component["value_template"], payload)
    return found


def attributes(discovery: str, name: str, messages: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the attributes of the entity of that name."""
    (component,) = (c for c in json.loads(discovery)["components"].values() if c.get("name") == name)
    found: dict[str, Any] = json.loads(dict(messages)[component["json_attributes_topic"]])
    return found
