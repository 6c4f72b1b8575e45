"""The questions that somebody wants watched, each with its answer."""

from __future__ import annotations

from edge.answer.page.markup import Html, tag
from edge.messages import Answer, Watched

_SIGNS = {"yes": "\N{BLACK CIRCLE}", "no": "\N{WHITE CIRCLE}", "unsure": "?"}


def watches(answer: Answer, lang: str | None) -> Html:
    """Return the section of one watch."""
    heading = f"watch-{answer.prompt}"
    return tag(
        "section",
        tag("h2", "What was watched for", id=heading),
        tag("ul", *(_item(watched, lang) for watched in answer.watches), class_="watches"),
        aria_labelledby=heading,
    )


def _item(watched: Watched, lang: str | None) -> Html:
    said = f"{watched.rule}, confidence {watched.confidence:.2f}, not calibrated"
    if watched.check is not None:
        said += f"; {watched.first} at first, {watched.check} at a second look"
    return tag(
        "li",
        tag("span", _SIGNS[watched.answer], class_=f"sign {watched.answer}", aria_hidden="true"),
        tag("b", watched.answer, class_="verdict"),
        tag("span", watched.question, class_="what", dir="auto"),
        *([tag("span", watched.seen, class_="seen", dir="auto", lang=lang)] if watched.seen else []),
        tag("span", said, class_="basis"),
    )
