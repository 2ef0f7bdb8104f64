"""The parts of the page that are written here: its head, what cards show, and messages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mld.inference.trained_run import TrainedRun
from mld.reporting.html import Media, environment
from mld.serving.session import Session

TEMPLATES = Path(__file__).parent / "templates"
CSS = (TEMPLATES / "page.css").read_text(encoding="utf-8")
PIN_SCRIPT = (TEMPLATES / "pin.js").read_text(encoding="utf-8")
"""Of a card: a click on the button of a sample selects it."""


def head(run: TrainedRun) -> str:
    """Title, and what to do."""
    return _render("head", run=run)


def generated(name: str, session: Session) -> str:
    """The samples of a modality, each with a button that pins it; "" if it was given."""
    if session.samples is None or name not in session.samples.generated:
        return ""
    return _render("samples", name=name, samples=session.media[name])


def as_read(name: str, media: Sequence[Media]) -> str:
    """What the run is given, as it reads it, with pictures and sounds; "" for words alone."""
    if all(each.type == "text" for each in media):
        return ""
    return _render("given", name=name, media=media)


def summary(session: Session) -> str:
    """How many samples of what there are, given what, and how long they took."""
    return _render("summary", samples=session.samples)


def message(text: str, notes: Sequence[str] = ()) -> str:
    """An error, or with `notes` alone what to beware of."""
    return _render("message", text=text, notes=notes)


def _render(template: str, **values: object) -> str:
    return environment("mld.serving").get_template(f"{template}.html.j2").render(**values)
