"""The entities that Home Assistant shows of a device: what it says, and (`edge.deliver.controls`) what it can be asked.

They only point at topics that are published anyway, and their templates only pick fields of that JSON, so no text that a
model wrote is ever part of them. A unique id is the topic that feeds an entity and the field that it shows: whatever
cameras and devices share a broker, two entities cannot have the same one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from edge.config import CameraSettings, Settings
from edge.deliver.topics import Topics
from edge.messages import CameraHealth, Health

FRESH_PERIODS = 3  # an entity that misses so many messages in a row becomes unavailable
# A single unknown platform would make Home Assistant refuse the whole message.
PLATFORMS = frozenset({"binary_sensor", "button", "event", "image", "sensor", "switch", "text"})


@dataclass(frozen=True, slots=True)
class Entity:
    """One entity of the device.

    Attributes:
        platform: What Home Assistant makes of it, such as ``sensor``; one of `PLATFORMS`.
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


def sensor(source: str, field: str, name: str, **options: Any) -> Entity:
    """Return a sensor that shows a field of what is published on ``source``."""
    return _shown("sensor", source, field, name, **options)


def of_camera(camera: str) -> str:
    """Return the template expression that picks a camera's entry out of the health message.

    A retained message of an earlier run may know nothing of this camera; then there is none.
    """
    return f"value_json.cameras | selectattr('camera', 'eq', '{camera}')"


def answers(camera: CameraSettings, settings: Settings, topics: Topics) -> Iterator[Entity]:
    """Yield what a camera's answers show."""
    first, *others = settings.prompts
    fresh = _fresh(settings.clip.seconds)
    headline = {"value_template": "{{ value_json.headline }}", **fresh}
    topic = topics.answer(camera.id, first.name)
    yield sensor(
        topics.state(camera.id),
        "headline",
        f"{camera.id} headline",
        json_attributes_topic=topic,
        icon="mdi:cctv",
        **headline,
    )
    for prompt in others:
        other = topics.answer(camera.id, prompt.name)
        yield sensor(
            other,
            "headline",
            f"{camera.id} {prompt.name}",
            json_attributes_topic=other,
            icon="mdi:message-text-outline",
            **headline,
        )
    for prompt in settings.prompt:
        field = _COUNTED.get(prompt.kind)
        if field is not None:
            yield sensor(
                topics.answer(camera.id, prompt.name),
                field,
                f"{camera.id} {prompt.name} {field}",
                value_template=f"{{{{ value_json.{field} | selectattr('valid') | list | length }}}}",
                state_class="measurement",
                unit_of_measurement=field,
                icon="mdi:counter",
                **fresh,
            )
    for field, path, options in _OF_AN_ANSWER:
        template = f"{{{{ value_json.provenance.{path} }}}}"
        yield sensor(topic, field, f"{camera.id} {field}", value_template=template, **options, **fresh)
    for watch in settings.watch:
        if not watch.cameras or camera.id in watch.cameras:
            alert = topics.alert_state(camera.id, watch.id)
            yield _shown(
                "binary_sensor",
                alert,
                "state",
                f"{camera.id} {watch.id}",
                value_template="{{ 'ON' if value_json.state == 'raised' else 'OFF' }}",
                json_attributes_topic=alert,
                icon="mdi:eye-outline",
            )


def camera_health(camera: CameraSettings, settings: Settings, topics: Topics) -> Iterator[Entity]:
    """Yield what the health message says of a camera."""
    source = f"{topics.health()}/{camera.id}"
    common = {"state_topic": topics.health(), **_fresh(settings.health.every_s)}
    state = f"({of_camera(camera.id)} | map(attribute='state') | first | default(none))"
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
    yield sensor(
        source,
        "state",
        f"{camera.id} camera state",
        value_template=f"{{{{ {state} }}}}",
        **_enum(get_args(CameraHealth.model_fields["state"].annotation)),
        **common,
    )
    for field, path, options in _OF_A_CAMERA:
        entry = f"{of_camera(camera.id)} | map(attribute='{path}') | first | default(none)"
        template = f"{{{{ {entry} }}}}"
        yield sensor(source, field, f"{camera.id} {field}", value_template=template, **options, **common)


def device_health(settings: Settings, topics: Topics) -> Iterator[Entity]:
    """Yield what the health message says of the device."""
    fresh = _fresh(settings.health.every_s)
    for field, name, template, options in _DEVICE_SENSORS:
        yield sensor(topics.health(), field, name, value_template=template, **options, **fresh)
    for field, name, template in _DEVICE_PROBLEMS:
        problem = {"device_class": "problem", "entity_category": "diagnostic", **fresh}
        yield _shown("binary_sensor", topics.health(), field, name, value_template=template, **problem)


def _shown(platform: str, source: str, field: str, name: str, **options: Any) -> Entity:
    return Entity(platform, source, field, name, {"state_topic": source, **options})


def _enum(options: Collection[str]) -> dict[str, Any]:
    return {"device_class": "enum", "options": list(options), "entity_category": "diagnostic"}


def _plain(icon: str) -> dict[str, Any]:
    return {"icon": f"mdi:{icon}", "entity_category": "diagnostic"}


def _measured(unit: str, **more: Any) -> dict[str, Any]:
    return {**_MEASURED, "unit_of_measurement": unit, **more}


def _fresh(period_s: float) -> dict[str, int]:
    return {"expire_after": max(1, math.ceil(FRESH_PERIODS * period_s))}


def _governor(field: str) -> str:
    """Return the template that picks a field of the governor's, which a message of an earlier version may lack."""
    return f"{{{{ {_OF_THE_GOVERNOR}.{field} | default(none) }}}}"


def _flag(field: str) -> str:
    return f"{{{{ 'ON' if {_OF_THE_GOVERNOR}.{field} | default(false) else 'OFF' }}}}"


_OF_THE_GOVERNOR = "((value_json.governor | default(none)) or {})"
_COUNTED = {"summary": "events", "spatial": "objects"}  # by kind of prompt
_MEASURED: dict[str, Any] = {"state_class": "measurement", "entity_category": "diagnostic"}
_PERCENT = _measured("%", suggested_display_precision=1, icon="mdi:shield-check-outline")

# Field and name, where in the provenance it stands, options. Home Assistant's device class energy is for meters, which
# add up; this is what one clip cost.
_OF_AN_ANSWER: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("latency", "latency.after_end", _measured("s", device_class="duration", suggested_display_precision=1)),
    ("energy", "energy_j", _measured("J", icon="mdi:lightning-bolt", suggested_display_precision=1)),
)
# The same of a camera's entry in the health message.
_OF_A_CAMERA: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("coverage", "coverage.percent", _PERCENT),
    ("rung", "rung", {**_MEASURED, "icon": "mdi:stairs-down"}),
)
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
    ("mode", "mode", _governor("name"), _plain("speedometer")),
    ("power", "power", _governor("power_w"), _measured("W", device_class="power")),
    ("battery", "battery", _governor("battery_percent"), _measured("%", device_class="battery")),
)
_DEVICE_PROBLEMS = (
    ("throttled", "throttled", _flag("throttled")),
    ("under_voltage", "supply", _flag("under_voltage")),
    ("outbox_trouble", "outbox", "{{ 'ON' if value_json.outbox_trouble else 'OFF' }}"),
    ("clock_synced", "clock", "{{ 'OFF' if value_json.clock_synced else 'ON' }}"),
)
