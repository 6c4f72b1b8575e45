"""What must be known beside the words of an answer."""

from __future__ import annotations

from edge.answer.page.markup import Html, tag
from edge.messages import Answer


def standing(answer: Answer) -> Html:
    """Return what must be known beside an answer, each in words."""
    made = answer.provenance
    said = [("confidence", f"confidence {answer.confidence.value:.2f}, not calibrated")]
    if answer.status == "partial":
        said.append(("flag", "part of the clip was not seen"))
    if made.rung:
        said.append(("flag", f"less was done: {made.rung_name} ({', '.join(made.rung_causes)})"))
    if made.truncated:
        said.append(("flag", "cut short"))
    if made.repaired:
        said.append(("flag", "cleaned"))
    return tag("ul", *(tag("li", words, class_=kind) for kind, words in said), class_="marks")
