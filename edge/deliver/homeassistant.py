"""What Home Assistant is told of this device: one MQTT discovery message with every entity, a function of the settings.

    <prefix>/device/<root>/<device>/config    the message, retained; Home Assistant makes one device of it
    <prefix>/status                           "online" when Home Assistant has started

Entities only point at topics that are published anyway, and their templates only pick fields of that JSON, so no text
that a model wrote is ever part of the message. A unique id is the topic that feeds the entity and the field it shows:
whatever cameras and devices share a broker, two entities cannot have the same one.

The format is Home Assistant's "device discovery": https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from edge import __version__
from edge.config import CameraSettings, Settings
from edge.deliver.topics import Topics
from edge.messages import CameraHealth, Health

ORIGIN = "edgeclip"
STATUS_ONLINE = b"online"
FRESH_PERIODS = 3  # an entity that misses so many messages in a row becomes unavailable

_MAX_BYTES = 2**20  # of a message of an earlier run
_MAX_LEFTOVERS = 1024  # 16 cameras with 16 prompts each have fewer
_KEY = re.compile(r"[a-z0-9][a-z0-9_.-]{0,127}")
_LAST_HEADLINE = re.compile(r"([a-z0-9][a-z0-9_-]{0,31})\.state\.headline")
# A single unknown platform would make Home Assistant refuse the whole message.
_PLATFORMS = frozenset({"binary_sensor", "button", "event", "image", "sensor", "switch", "text"})


@dataclass(frozen=True, slots=True)
class Entity:
    """One entity of the device.

    Attributes:
        platform: What Home Assistant makes of it, such as ``sensor``.
        source: The topic that it is about, or the topic and a camera's name for a part of it.
        field: What of that; together with ``source`` it identifies the entity for ever.
        name: For people; Home Assistant puts the device's name before it.
        options: Settings of the platform.
    """

    platform: str
    source: str
    field: str
    name: str
    options: Mapping[str, Any]


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
        known = isinstance(component, dict) and str(component.get("platform")) in _PLATFORMS
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
    """Return everything that the device shows; what can be asked of it (buttons, switches) joins this list."""
    return [
        *(entity for camera in settings.camera for entity in _camera(camera, settings, topics)),
        *_device(settings, topics),
    ]


def _camera(camera: CameraSettings, settings: Settings, topics: Topics) -> Iterator[Entity]:
    first, *others = settings.prompts
    fresh = _fresh(settings.clip.seconds)
    headline = {"value_template": "{{ value_json.headline }}", **fresh}
    answers = topics.answer(camera.id, first.name)
    yield _sensor(
        topics.state(camera.id),
        "headline",
        f"{camera.id} headline",
        json_attributes_topic=answers,
        icon="mdi:cctv",
        **headline,
    )
    for prompt in others:
        topic = topics.answer(camera.id, prompt.name)
        yield _sensor(
            topic,
            "headline",
            f"{camera.id} {prompt.name}",
            json_attributes_topic=topic,
            icon="mdi:message-text-outline",
            **headline,
        )
    for prompt in settings.prompt:
        field = _COUNTED.get(prompt.kind)
        if field is not None:
            yield _sensor(
                topics.answer(camera.id, prompt.name),
                field,
                f"{camera.id} {prompt.name} {field}",
                value_template=f"{{{{ value_json.{field} | selectattr('valid') | list | length }}}}",
                state_class="measurement",
                unit_of_measurement=field,
                icon="mdi:counter",
                **fresh,
            )
    yield _sensor(
        answers,
        "latency",
        f"{camera.id} latency",
        value_template="{{ value_json.provenance.latency.after_end }}",
        device_class="duration",
        unit_of_measurement="s",
        suggested_display_precision=1,
        **_MEASURED,
        **fresh,
    )
    for watch in settings.watch:
        if not watch.cameras or camera.id in watch.cameras:
            yield _shown(
                "binary_sensor",
                topics.alert_state(camera.id, watch.id),
                "state",
                f"{camera.id} {watch.id}",
                value_template="{{ 'ON' if value_json.state == 'raised' else 'OFF' }}",
                json_attributes_topic=topics.alert_state(camera.id, watch.id),
                icon="mdi:eye-outline",
            )
    yield from _camera_health(camera, settings, topics)


def _camera_health(camera: CameraSettings, settings: Settings, topics: Topics) -> Iterator[Entity]:
    source = f"{topics.health()}/{camera.id}"
    common = {"state_topic": topics.health(), **_fresh(settings.health.every_s)}
    # A retained message of an earlier run may know nothing of this camera: then it is unknown, and not connected.
    mine = f"value_json.cameras | selectattr('camera', 'eq', '{camera.id}')"
    state = f"({mine} | map(attribute='state') | first | default(none))"
    yield _shown(
        "binary_sensor",
        source,
        "connected",
        f"{camera.id} camera",
        value_template=f"{{{{ 'ON' if {state} == 'live' else 'OFF' }}}}",
        device_class="connectivity",
        entity_category="diagnostic",
        **common,
    )
    yield _sensor(
        source,
        "state",
        f"{camera.id} camera state",
        value_template=f"{{{{ {state} }}}}",
        **_enum(get_args(CameraHealth.model_fields["state"].annotation)),
        **common,
    )
    yield _sensor(
        source,
        "coverage",
        f"{camera.id} coverage",
        value_template=f"{{{{ {mine} | map(attribute='coverage.percent') | first | default(none) }}}}",
        **_PERCENT,
        **common,
    )


def _device(settings: Settings, topics: Topics) -> Iterator[Entity]:
    fresh = _fresh(settings.health.every_s)
    for field, name, template, options in _DEVICE_SENSORS:
        yield _sensor(topics.health(), field, name, value_template=template, **options, **fresh)
    for field, name, template in _DEVICE_PROBLEMS:
        problem = {"device_class": "problem", "entity_category": "diagnostic", **fresh}
        yield _shown("binary_sensor", topics.health(), field, name, value_template=template, **problem)


def _sensor(source: str, field: str, name: str, **options: Any) -> Entity:
    return _shown("sensor", source, field, name, **options)


def _shown(platform: str, source: str, field: str, name: str, **options: Any) -> Entity:
    return Entity(platform, source, field, name, {"state_topic": source, **options})


def _enum(options: Collection[str]) -> dict[str, Any]:
    return {"device_class": "enum", "options": list(options), "entity_category": "diagnostic"}


def _plain(icon: str) -> dict[str, Any]:
    return {"icon": f"mdi:{icon}", "entity_category": "diagnostic"}


def _measured(unit: str, **more: Any) -> dict[str, Any]:
    return {**_MEASURED, "unit_of_measurement": unit, **more}


_COUNTED = {"summary": "events", "spatial": "objects"}  # by kind of prompt
_MEASURED: dict[str, Any] = {"state_class": "measurement", "entity_category": "diagnostic"}
_PERCENT = _measured("%", suggested_display_precision=1, icon="mdi:shield-check-outline")

# Field of the health message, name, template, options.
_DEVICE_SENSORS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("coverage", "coverage", "{{ value_json.coverage.percent }}", _PERCENT),
    (
        "backlog",
        "backlog",
        "{{ value_json.cameras | map(attribute='clips_in_hand') | sum }}",
        _measured("clips", icon="mdi:tray-full"),
    ),
    (
        "engine",
        "engine",
        "{{ value_json.engine }}",
        _enum(get_args(Health.model_fields["engine"].annotation)),
    ),
    ("model", "model", "{{ value_json.model[:255] }}", _plain("brain")),
    ("note", "note", "{{ value_json.note[:255] }}", _plain("note-text-outline")),
    (
        "outbox_pending",
        "outbox waiting",
        "{{ value_json.outbox_pending }}",
        _measured("messages", icon="mdi:mailbox-outline"),
    ),
    (
        "outbox_dropped",
        "outbox dropped",
        "{{ value_json.outbox_dropped }}",
        _measured("messages", icon="mdi:mailbox-off-outline", state_class="total_increasing"),
    ),
    (
        "rss_mib",
        "memory",
        "{{ value_json.rss_mib }}",
        _measured("MiB", device_class="data_size", suggested_display_precision=0),
    ),
    (
        "temperature_c",
        "temperature",
        "{{ value_json.temperature_c }}",
        _measured("°C", device_class="temperature", suggested_display_precision=1),
    ),
)
_DEVICE_PROBLEMS = (
    ("outbox_trouble", "outbox", "{{ 'ON' if value_json.outbox_trouble else 'OFF' }}"),
    ("clock_synced", "clock", "{{ 'OFF' if value_json.clock_synced else 'ON' }}"),
)


def _fresh(period_s: float) -> dict[str, int]:
    return {"expire_after": max(1, math.ceil(FRESH_PERIODS * period_s))}


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
