"""The entities through which Home Assistant gives commands: buttons, a switch, a question, and what came of them.

Home Assistant can name no response topic, so each of its commands says with ``reply_to`` where it wants the reply: all
buttons and switches share one topic, and the questions to each camera have one, which a sensor shows as their answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from edge.config import CameraSettings, Settings
from edge.deliver.entities import Entity, of_camera, sensor
from edge.deliver.topics import Topics
from edge.messages import Verb

ASKER = "home-assistant"
_STATE_CHARS = 255  # of a state, and so of a text entity: Home Assistant's limit
_CONTROL = {"qos": 1, "retain": False}


def camera_controls(camera: CameraSettings, settings: Settings, topics: Topics) -> Iterator[Entity]:
    """Yield what can be asked of a camera, and the replies."""
    paused = f"({of_camera(camera.id)} | map(attribute='paused') | first | default(none))"
    yield Entity(
        "switch",
        f"{topics.command('pause')}/{camera.id}",
        "paused",
        f"{camera.id} paused",
        {
            "state_topic": topics.health(),
            "value_template": f"{{{{ none if {paused} is none else 'ON' if {paused} else 'OFF' }}}}",
            "state_on": "ON",
            "state_off": "OFF",
            "command_topic": topics.command("pause"),
            "payload_on": _payload(camera=camera.id, paused=True),
            "payload_off": _payload(camera=camera.id, paused=False),
            "icon": "mdi:pause-circle-outline",
            **_CONTROL,
        },
    )
    yield _button(topics, "analyse-now", f"{camera.id} analyse now", "movie-search-outline", camera)
    yield from _question(camera, topics)
    if settings.privacy.snapshots:
        yield _button(topics, "snapshot", f"{camera.id} snapshot", "camera", camera)
        yield Entity(
            "image",
            topics.image(camera.id),
            "picture",
            f"{camera.id} picture",
            {"image_topic": topics.image(camera.id), "content_type": "image/jpeg"},
        )


def camera_pictures(camera: CameraSettings, settings: Settings, topics: Topics) -> Iterator[Entity]:
    """Yield the annotated key frame, where it may leave the device; nobody has to ask for it."""
    if settings.privacy.annotated:
        yield Entity(
            "image",
            topics.annotated(camera.id),
            "picture",
            f"{camera.id} key frame",
            {"image_topic": topics.annotated(camera.id), "content_type": "image/jpeg"},
        )


def device_controls(topics: Topics) -> Iterator[Entity]:
    """Yield what can be asked of the device, and what became of the last command of a button or a switch."""
    yield _button(topics, "reload", "reload configuration", "file-refresh-outline")
    reason = "(': ' ~ value_json.reason if value_json.reason else '')"
    yield sensor(
        topics.reply(ASKER),
        "status",
        "last command",
        value_template=f"{{{{ value_json.verb ~ ' ' ~ value_json.status ~ {reason} }}}}",
        json_attributes_topic=topics.reply(ASKER),
        # The answers of analyse-now may be longer than what Home Assistant keeps of attributes.
        json_attributes_template="{{ dict(value_json, answers=value_json.answers | length) | to_json }}",
        icon="mdi:console-line",
        entity_category="diagnostic",
    )


def _question(camera: CameraSettings, topics: Topics) -> Iterator[Entity]:
    reply_to = f"{ASKER}-{camera.id}"
    command = _payload(camera=camera.id, reply_to=reply_to)
    yield Entity(
        "text",
        f"{topics.command('ask')}/{camera.id}",
        "question",
        f"{camera.id} question",
        {
            "command_topic": topics.command("ask"),
            "command_template": f"{{{{ dict({command}, question=value) | to_json }}}}",
            "min": 1,
            "max": _STATE_CHARS,
            "pattern": r".*\S.*",
            "icon": "mdi:comment-question-outline",
            **_CONTROL,
        },
    )
    text = "(value_json.answers[0].text if value_json.answers else value_json.detail or value_json.status)"
    yield sensor(
        topics.reply(reply_to),
        "answer",
        f"{camera.id} answer",
        value_template=f"{{{{ {text}[:{_STATE_CHARS}] }}}}",
        json_attributes_topic=topics.reply(reply_to),
        icon="mdi:comment-text-outline",
    )


def _button(topics: Topics, verb: Verb, name: str, icon: str, camera: CameraSettings | None = None) -> Entity:
    where = {} if camera is None else {"camera": camera.id}
    category = {"entity_category": "config"} if camera is None else {}
    return Entity(
        "button",
        "/".join((topics.command(verb), *where.values())),
        "press",
        name,
        {
            "command_topic": topics.command(verb),
            "payload_press": _payload(**where),
            "icon": f"mdi:{icon}",
            **category,
            **_CONTROL,
        },
    )


def _payload(**command: Any) -> str:
    return json.dumps({"reply_to": ASKER, **command}, separators=(",", ":"))
