"""The MQTT topics: ``<root>/v1/<device>/...``, built only from checked names.

    <root>/v1/<device>/<camera>/<prompt>    answers
    <root>/v1/<device>/<camera>/skipped     clips that nobody will answer
    <root>/v1/<device>/<camera>/dropped     messages that were given up for want of room
    <root>/v1/<device>/<camera>/state       last headline (retained)
    <root>/v1/<device>/<camera>/alert/<rule>          a watch was raised or cleared
    <root>/v1/<device>/<camera>/alert/<rule>/state    how it stands (retained)
    <root>/v1/<device>/<camera>/image       the picture that `snapshot` asked for
    <root>/v1/<device>/<camera>/image/annotated       the key frame with the boxes of the last spatial answer
    <root>/v1/<device>/cmd/<verb>           commands to the service
    <root>/v1/<device>/reply[/<name>]       its replies, where a command names no response topic
    <root>/v1/<device>/dropped              the same, of messages that belong to no camera
    <root>/v1/<device>/health               state of the device (retained)
    <root>/v1/<device>/availability         "online" or "offline" (retained; the will of the connection)

Home Assistant is told of them under ``<prefix>/device/<root>/<device>/config`` (retained).

Every part comes from the configuration and is checked again here, so no text of a model or a camera can ever reach a
topic, a wildcard or another device's branch.
"""

from __future__ import annotations

import re
import unicodedata

from edge.errors import DeliveryError
from edge.messages import REPLY_TO_PATTERN, RESERVED_PROMPTS, Verb

RESPONSE_TOPIC_BYTES = 256

_NO_TOPIC = {"Cc", "Cs", "Cn"}  # control characters, surrogates, non-characters: MQTT 5, 1.5.4
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_REPLY_TO = re.compile(REPLY_TO_PATTERN)
_ROOT = re.compile(r"[a-z0-9_-]+(/[a-z0-9_-]+)*")


class Topics:
    """The topics of one device.

    Args:
        root: First levels, lower case, without a leading slash.
        device: Name of the device.

    Raises:
        DeliveryError: A name is not a slug (from the methods too).
    """

    def __init__(self, root: str, device: str) -> None:
        if not _ROOT.fullmatch(root):
            raise _bad("root", root)
        self.device = _name("device", device)
        self._root = root
        self._family = f"{root}/v1/"
        self._base = f"{self._family}{self.device}"

    @property
    def base(self) -> str:
        """What all topics of the device begin with; on one broker no other device has the same."""
        return self._base

    def answer(self, camera: str, prompt: str) -> str:
        """Return the topic of a camera's answers to one prompt."""
        if prompt in RESERVED_PROMPTS:
            raise DeliveryError(
                f'a prompt cannot be called "{prompt}"',
                evidence=["that topic is the service's own"],
                next_step="Rename the prompt in the configuration.",
            )
        return f"{self._base}/{_name('camera', camera)}/{_name('prompt', prompt)}"

    def skipped(self, camera: str) -> str:
        """Return the topic that announces a camera's skipped clips."""
        return f"{self._base}/{_name('camera', camera)}/skipped"

    def dropped(self, camera: str) -> str:
        """Return the topic that announces what was dropped of a camera's messages, or, for "", of the device's own."""
        return f"{self._base}/{_name('camera', camera)}/dropped" if camera else f"{self._base}/dropped"

    def state(self, camera: str) -> str:
        """Return the topic of a camera's last headline."""
        return f"{self._base}/{_name('camera', camera)}/state"

    def alert(self, camera: str, rule: str) -> str:
        """Return the topic of a watch's alerts; the rule's name is the operator's."""
        return f"{self._base}/{_name('camera', camera)}/alert/{_name('watch', rule)}"

    def alert_state(self, camera: str, rule: str) -> str:
        """Return the topic of how a watch stands."""
        return f"{self.alert(camera, rule)}/state"

    def image(self, camera: str) -> str:
        """Return the topic of a camera's snapshots."""
        return f"{self._base}/{_name('camera', camera)}/image"

    def annotated(self, camera: str) -> str:
        """Return the topic of a camera's key frames with boxes drawn on them."""
        return f"{self.image(camera)}/annotated"

    def commands(self) -> str:
        """Return the filter that catches every command, well addressed or not."""
        return f"{self._base}/cmd/#"

    def command(self, verb: Verb) -> str:
        """Return the topic on which a command is given."""
        return f"{self._base}/cmd/{verb}"

    def verb(self, topic: str) -> str:
        """Return what a command's topic names as its verb; unchecked."""
        return topic.removeprefix(f"{self._base}/cmd/")

    def reply(self, name: str = "") -> str:
        """Return the topic of replies, or of those to callers who go by a name."""
        if not name:
            return f"{self._base}/reply"
        if not _REPLY_TO.fullmatch(name):
            raise _bad("name of a caller", name)
        return f"{self._base}/reply/{name}"

    def may_reply_on(self, topic: str) -> bool:
        """Say whether a caller may have its reply on a topic.

        Any topic that could be a caller's own: a plain one, not ``$...``, and not in the branch of this or another
        device, but for what lies under ``reply``. Who may use which topic beyond that is for the broker's ACL to say.
        """
        if not 0 < len(topic.encode(errors="replace")) <= RESPONSE_TOPIC_BYTES or topic.startswith("$"):
            return False
        if any(char in "+#" or unicodedata.category(char) in _NO_TOPIC for char in topic):
            return False
        return not topic.startswith(self._family) or f"{topic}/".startswith(f"{self._base}/reply/")

    def health(self) -> str:
        """Return the topic of the device's health message."""
        return f"{self._base}/health"

    def availability(self) -> str:
        """Return the topic of ``online`` and ``offline``."""
        return f"{self._base}/availability"

    def discovery(self, prefix: str) -> str:
        """Return the topic of Home Assistant's discovery message; ``prefix`` is where it looks for these.

        The root is one level here, so that an ACL can allow each device its own message and no other.
        """
        return f"{prefix}/device/{self._root.replace('/', '-')}/{self.device}/config"


def _name(what: str, value: str) -> str:
    if not _NAME.fullmatch(value):
        raise _bad(what, value)
    return value


def _bad(what: str, value: str) -> DeliveryError:
    return DeliveryError(
        f"the {what} {value[:64]!r} cannot be part of a topic",
        evidence=["allowed: a-z 0-9 _ -, at most 32 characters"],
        next_step="Rename it in the configuration.",
    )
