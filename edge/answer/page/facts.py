"""What an answer rests on: the work and where its time went, the origin, and how far to trust it."""

from __future__ import annotations

from edge.answer.page.markup import Html, percent, tag
from edge.answer.page.view import View
from edge.answer.page.words import DASH, clock, plural, size
from edge.answer.report import ClipReport, Counts
from edge.messages import Answer, Provenance

_STAGES = (
    ("load", "Loading the model"),
    ("video", "Decoding the video"),
    ("vision", "Looking at the pictures (vision)"),
    ("prefill", "Taking them in (prefill)"),
    ("text", "Writing the answers"),
)


def work(report: ClipReport) -> Html:
    """Return the section on where the time went."""
    seconds = report.seconds
    spent = [(name, float(getattr(seconds, key))) for key, name in _STAGES]
    spent.append(("Everything else", max(0.0, seconds.total - sum(took for _, took in spent))))
    longest = max(took for _, took in spent) or 1.0
    rows = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            tag(
                "td",
                tag(
                    "svg",
                    tag("rect", x=0, y=0, width=percent(took / longest), height=14, rx=3),
                    width="100%",
                    height=14,
                    aria_hidden="true",
                ),
                class_="share",
            ),
            tag("td", f"{took:.1f} s", class_="figure"),
        )
        for name, took in spent
    ]
    length = report.video.end - report.video.start
    return tag(
        "section",
        tag("h2", "Where the time went", id="work"),
        tag(
            "p",
            f"{seconds.total:.1f} s for {length:.1f} s of video: {seconds.total / length:.2g} s per second. "
            f"At most {report.memory.peak_mib:,.0f} MiB of memory.",
        ),
        tag("table", *rows, class_="work"),
        aria_labelledby="work",
    )


def origin(view: View) -> Html:
    """Return the section on what was looked at, by which model, and what was asked."""
    report, video, counts = view.report, view.report.video, view.report.counts
    made, last = report.answers[0].provenance, report.answers[-1].provenance
    answer = report.answers[0]
    frames = f"{counts.frames:,} at {report.fps:g} a second"
    extra = [f"{count:,} {what}" for count, what in (
        (counts.frames_repeated, "repeat the one before"), (counts.frames_empty, "missing"),
    ) if count]  # fmt: skip
    length = "" if video.seconds is None else f" of {clock(video.seconds, exact=True)}"
    shown = size(report.frame_width, report.frame_height)
    rows = [
        ("Video", file_name(video.path)),
        ("Part", f"{clock(video.start, exact=True)} {DASH} {clock(video.end, exact=True)}{length}"),
        ("Pictures", f"{size(video.width, video.height)} pixels, shown to the model at {shown}"),
        ("Frames", ", ".join([frames, *extra])),
        ("Damaged", f"{plural(counts.packets_damaged, 'packet')} that could not be decoded" if counts.packets_damaged else ""),
        ("Gate", "" if report.gate is None else f"threshold {report.gate:g}, {plural(counts.pairs_gated, 'pair')} dropped"),
        ("Tokens", _tokens(counts)),
        ("Model", report.model),
        ("Recipe", report.recipe),
        ("Bundle", report.bundle),
        ("Software", made.software),
        ("Temperature", _heat(made)),
        ("Energy", "" if last.energy_j is None else f"{last.energy_j:,.0f} J of the whole machine, {last.energy_source}"),
        ("Looked at", f"{answer.t_start:%Y-%m-%d %H:%M} UTC" + ("" if answer.clock_synced else ", by a clock that nobody set")),
        ("Clip", answer.clip_id),
        *((f"Confidence ({each.prompt})", _fields(each)) for each in report.answers),
        *((f"Asked ({asked.prompt})", asked.words) for asked in view.asked),
    ]  # fmt: skip
    pairs = [tag("div", tag("dt", name), tag("dd", value, dir="auto")) for name, value in rows if value]
    return tag(
        "section",
        tag("h2", "What this rests on", id="origin"),
        tag("dl", *pairs),
        aria_labelledby="origin",
    )


def _tokens(counts: Counts) -> str:
    said = f"{counts.tokens_video:,} of video, {counts.tokens_in:,} with a question at most, {counts.tokens_out:,} written"
    return f"{said}; the gate saved some {counts.tokens_saved:,}" if counts.tokens_saved else said


def _heat(made: Provenance) -> str:
    said = [] if made.temperature_c is None else [f"{made.temperature_c:.0f} °C"]
    if made.throttled:
        said.append("the processor was slowed")
    return ", ".join(said)


def _fields(answer: Answer) -> str:
    """Return the confidence of single fields."""
    return ", ".join(f"{name} {value:.2f}" for name, value in answer.confidence.fields.items())


def trust(report: ClipReport) -> Html:
    """Return the section on how far to trust what the page says."""
    said = [f"About this model: {report.note}."] if report.note else []
    said.append(
        "The words come from a small model. It can miss things, mistake them and make them up; look at the pictures."
    )
    said.append(
        "Confidence is how sure the model was of its own words, between 0 and 1. It is not calibrated: 0.9 does not "
        "mean right nine times in ten."
    )
    sharper = [answer.key_frame for answer in report.answers if answer.key_frame is not None]
    but = f", one of them at {size(sharper[0].width, sharper[0].height)}" if sharper else ""
    said.append(
        f"The model saw the pictures at {size(report.frame_width, report.frame_height)} pixels{but}; what is smaller "
        "than a few of these it cannot know."
    )
    if any(answer.provenance.truncated for answer in report.answers):
        said.append("An answer marked as cut short met its limit of length before the model had finished.")
    if any(answer.provenance.repaired for answer in report.answers):
        said.append("An answer marked as cleaned held characters that have no business in a line of text.")
    events = [event.valid for answer in report.answers for event in answer.events]
    objects = [item.valid for answer in report.answers for item in answer.objects]
    if not all(events + objects):
        said.append("What is marked as impossible is shown as the model wrote it, and is not drawn.")
    return tag(
        "section",
        tag("h2", "How far to trust it", id="trust"),
        tag("ul", *(tag("li", line) for line in said), class_="trust"),
        aria_labelledby="trust",
    )


def file_name(path: str) -> str:
    """Return a file's name alone: a page is passed on, and directories are nobody's business."""
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]
