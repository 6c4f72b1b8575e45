"""A drawn world whose truth is known exactly: scenes by seed, their pictures, what happens in them, right answers.

It is what the demo model is trained and examined on. Everything in it is a pictogram on a texture, so what a model
makes of it says nothing of real footage.
"""

from edge.demo.world.draw import draw_scene
from edge.demo.world.event import Event, EventKind
from edge.demo.world.film import encode
from edge.demo.world.picture import frames, render
from edge.demo.world.question import Question, asked, comings, questions
from edge.demo.world.scene import Scene, Sprite
from edge.demo.world.sight import Sight, Standing
from edge.demo.world.truth import Truth, answer, truth
from edge.demo.world.vocabulary import Split, Stage

__all__ = [
    "Event",
    "EventKind",
    "Question",
    "Scene",
    "Sight",
    "Split",
    "Sprite",
    "Stage",
    "Standing",
    "Truth",
    "answer",
    "asked",
    "comings",
    "draw_scene",
    "encode",
    "frames",
    "questions",
    "render",
    "truth",
]
