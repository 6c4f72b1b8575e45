"""The announcement of what a full outbox had to drop."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from edge.deliver.commands import REPLIES
from edge.deliver.outbox import Loss, Outgoing
from edge.deliver.topics import Topics
from edge.messages import NAMESPACE, Dropped, DroppedSpan


def announcement(topics: Topics, epoch: str, camera: str, losses: Sequence[Loss]) -> Outgoing:
    """Say what was dropped of one camera's messages; the same losses make the same message.

    Args:
        topics: Of the device.
        epoch: State epoch of the outbox.
        camera: Whose losses; `REPLIES`, or "" for messages that belong to no camera.
        losses: At least one.
    """
    camera = "" if camera == REPLIES else camera
    topic = topics.dropped(camera)
    key = "/".join((epoch, topic, *(f"{loss.grown}:{loss.topic}" for loss in losses)))
    message = Dropped(
        id=str(uuid.uuid5(NAMESPACE, key)),
        device=topics.device,
        camera=camera,
        count=sum(loss.count for loss in losses),
        spans=tuple(
            DroppedSpan(topic=loss.topic, count=loss.count, first_seq=loss.first_seq, last_seq=loss.last_seq)
            for loss in losses
        ),
    )
    return Outgoing(id=message.id, topic=topic, payload=message.payload(), camera=camera)
