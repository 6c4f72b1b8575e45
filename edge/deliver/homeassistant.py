"""What Home Assistant is told of this device: one MQTT discovery message with every entity, a function of the settings.

    <prefix>/device/<root>/<device>/config    the message, retained; Home Assistant makes one device of it
    <prefix>/status                           "online" when Home Assistant has started

The format is Home Assistant's "device discovery": https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from edge import __version__
from edge.config import Settings
from edge.deliver.controls import camera_controls, camera_pictures, device_controls
from edge.deliver.entities import PLATFORMS, Entity, answers, camera_health, device_health
from edge.deliver.topics import Topics

ORIGIN = "edgeclip"
STATUS_ONLINE = b"online"

_MAX_BYTES = 2**20  # of a message of an earlier run
_MAX_LEFTOVERS = 1024  # 16 cameras with 16 prompts each have fewer
_KEY = re.compile(r"[a-z0-9][a-z0-9_.-]{0,127}")
_LAST_HEADLINE = re.compile(r"([a-z0-9][a-z0-9_-]{0,31})\.state\.headline")


def status_topic(prefix: str) -> str:
    """Return the topic on which Home Assistant says that it has started; its own default is homeassistant/status."""
    return f"{prefix}/status"


def discovery(settings: Settings, topics: Topics, leftovers: Mapping[str, str] | None = None) -> bytes:
    """Return the discovery message of a device, UTF-8 JSON.

    The same settings give the same bytes: what is known only later, such as the model, is shown by entities instead.

    Args:
        settings: The configuration.
        topics: Of the device.
        leftovers: Entities of an earlier message that are gone, platform by key; Home Assistant removes them.
    """
    message = {
        "device": {
            "identifiers": [topics.base],
            "name": f"edgeclip {settings.device.id}",
            "manufacturer": ORIGIN,
            "sw_version": __version__,
        },
        "origin": {"name": ORIGIN, "sw_version": __version__},
        "availability_topic": topics.availability(),
        "components": {
            **{key: {"platform": platform} for key, platform in (leftovers or {}).items()},
            **{_key(entity, topics): _component(entity) for entity in entities(settings, topics)},
        },
    }
    return json.dumps(message, separators=(",", ":")).encode()


def keys(settings: Settings, topics: Topics) -> frozenset[str]:
    """Return the keys of all entities."""
    return frozenset(_key(entity, topics) for entity in entities(settings, topics))


def find_leftovers(message: bytes, present: Collection[str]) -> dict[str, str]:
    """Return the entities of an earlier discovery message that are not ``present``, platform by key.

    The message comes from the broker, so nothing of it is taken over unchecked; one that is not ours has none.
    Entities that the message itself removes are no leftovers.
    """
    if len(message) > _MAX_BYTES:
        return {}
    try:
        earlier = json.loads(message)
    except (ValueError, RecursionError):
        return {}
    if not is_ours(earlier) or not isinstance(earlier.get("components"), dict):
        return {}
    found = {}
    for key, component in earlier["components"].items():
        known = isinstance(component, dict) and str(component.get("platform")) in PLATFORMS
        if known and len(component) > 1 and key not in present and _KEY.fullmatch(key):
            found[key] = str(component["platform"])
    return dict(list(found.items())[:_MAX_LEFTOVERS])


def is_ours(message: Any) -> bool:
    """Whether a decoded discovery message was written by this program."""
    origin = message.get("origin") if isinstance(message, dict) else None
    return isinstance(origin, dict) and origin.get("name") == ORIGIN


def cameras_of(leftovers: Collection[str]) -> list[str]:
    """Return the cameras whose last headline is among the leftovers: they are gone."""
    matches = map(_LAST_HEADLINE.fullmatch, leftovers)
    return [match[1] for match in matches if match is not None]


def entities(settings: Settings, topics: Topics) -> list[Entity]:
    """Return everything that the device shows, and what can be asked of it where commands are allowed."""
    found: list[Entity] = []
    for camera in settings.camera:
        found += answers(camera, settings, topics)
        found += camera_health(camera, settings, topics)
        found += camera_pictures(camera, settings, topics)
        if settings.commands.enabled:
            found += camera_controls(camera, settings, topics)
    found += device_health(settings, topics)
    if settings.commands.enabled:
        found += device_controls(topics)
    return found


def _unique_id(entity: Entity) -> str:
    return f"{entity.source}/{entity.field}"


def _key(entity: Entity, topics: Topics) -> str:
    """Return the entity's name within the device; the dot occurs in no name of a camera or a prompt."""
    return _unique_id(entity).removeprefix(f"{topics.base}/").replace("/", ".")


def _component(entity: Entity) -> dict[str, Any]:
    return {
        "platform": entity.platform,
        "unique_id": _unique_id(entity),
        "name": entity.name,
        **entity.options,
    }
