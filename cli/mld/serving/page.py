"""The page: a card for each modality, and what happens when something is pressed."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from PIL import Image

from mld.inference.trained_run import Datum, TrainedRun
from mld.pipeline.diffusion_method import DiffusionGenerator
from mld.reporting.gallery import item_media
from mld.serving import html
from mld.serving.given import Paper, Source, datum_of, paper_like, sources_of
from mld.serving.session import MAX_SAMPLES, MAX_STEPS, Session, Settings
from mld_core import DataError, MLDError, Modality
from mld_core.errors import is_out_of_memory

CANVAS_SIDE = 280
"""Side of what is drawn on, in pixels."""
MAX_TEXT_LENGTH = 10_000
"""Characters that may be typed."""
SESSION_SECONDS = 3600
"""How long what a browser has before it is remembered."""
GUIDANCE_RANGE = (-1.0, 5.0)
WORDS: Mapping[Source, str] = {
    "upload": "Upload",
    "draw": "Draw",
    "record": "Record",
    "type": "Type",
    "choose": "Choose",
    "sample": "Pinned",
}
"""The name of each input on the page."""
MAX_PICTURES_SEEN = 20
"""Pictures of a run from which the colour of the paper is taken."""

_ONE_AT_A_TIME = {"concurrency_id": "run", "concurrency_limit": 1}
"""Of events that use the run's networks."""
Updates = dict[Component, Any]
"""New values or properties of components."""


@dataclass(frozen=True, eq=False)
class Card:
    """The components of one modality.

    Args:
        tick: whether it is given.
        panel: what is shown if so: the choice of a source, its input, and what the run reads.
        output: the samples, shown if it is not given.
    """

    name: str
    tick: gr.Checkbox
    panel: gr.Column
    source: gr.Radio
    inputs: Mapping[Source, Component]
    reading: gr.HTML
    output: gr.HTML

    def choices(self, session: Session) -> list[tuple[str, Source]]:
        """The sources that there are, as named on the page."""
        pinned: list[Source] = ["sample"] if self.name in session.pinned else []
        return [(WORDS[source], source) for source in [*self.inputs, *pinned]]

    def value(self, values: Mapping[Component, Any], session: Session) -> Any:
        """What the chosen source has."""
        source = values[self.source]
        if source == "sample":
            return session.pinned.get(self.name)
        return values[self.inputs[source]]


class Page:
    """The page of a run; `blocks` is what Gradio serves.

    Args:
        folder: of the archives of samples.
    """

    def __init__(self, run: TrainedRun, folder: Path) -> None:
        self.run = run
        self.folder = folder
        # Nothing is sent anywhere.
        self.blocks = gr.Blocks(
            title=f"{run.spec.name} · mld",
            analytics_enabled=False,
            delete_cache=(600, SESSION_SECONDS),
            fill_width=True,
        )
        with self.blocks:
            self._build()

    def _build(self) -> None:
        self.session = gr.State(
            Session(), time_to_live=SESSION_SECONDS, delete_callback=Session.close
        )
        gr.HTML(html.head(self.run))
        with gr.Row(elem_classes="mld-cards"):
            self.cards = [self._card(name, each) for name, each in self.run.modalities.items()]
        self.settings = self._settings()
        with gr.Column(elem_classes="mld-bar"):
            self.message = gr.HTML(elem_classes="mld-message")
            with gr.Row(elem_classes="mld-actions"):
                self.button = gr.Button("Generate", variant="primary")
                self.download = gr.DownloadButton("Download", interactive=False)
            self.summary = gr.HTML(html.summary(Session()), elem_classes="mld-summary-place")
        self._connect()

    def _card(self, name: str, modality: Modality) -> Card:
        sources = sources_of(modality)
        with gr.Column(elem_classes="mld-card", min_width=240):
            tick = gr.Checkbox(label=name, container=False, elem_classes="mld-tick")
            with gr.Column(visible=False, elem_classes="mld-panel") as panel:
                source = gr.Radio(
                    [(WORDS[each], each) for each in sources],
                    value=sources[0],
                    visible=len(sources) > 1,
                    label=f"How {name} is given",
                    show_label=False,
                    container=False,
                    elem_classes="mld-source",
                )
                inputs = {
                    each: self._input(name, modality, each, visible=each == sources[0])
                    for each in sources
                }
                reading = gr.HTML()
            output = gr.HTML(js_on_load=html.PIN_SCRIPT)
        return Card(name, tick, panel, source, inputs, reading, output)

    def _input(self, name: str, modality: Modality, source: Source, visible: bool) -> Component:
        shared = {"show_label": False, "label": name, "visible": visible}
        match source:
            case "upload":
                return gr.File(height=130, **shared)
            case "draw":
                return _drawing_pad(self._paper(name), **shared)
            case "record":
                return gr.Audio(sources=["microphone"], type="filepath", format=None, **shared)
            case "choose":
                return gr.Dropdown([*modality.choices], value=None, container=False, **shared)
            case "type" if modality.media_type == "number":
                return gr.Number(value=None, placeholder=name, container=False, **shared)
            case _:
                return gr.Textbox(
                    placeholder=name, max_length=MAX_TEXT_LENGTH, container=False, **shared
                )

    def _paper(self, name: str) -> Paper:
        pictures = sorted(self.run.run_dir.path.glob(f"samples/*/{name}/*.png"))
        return paper_like(pictures[:MAX_PICTURES_SEEN])

    def _settings(self) -> dict[str, Component]:
        with gr.Accordion("Settings", open=False), gr.Row(elem_classes="mld-settings"):
            settings: dict[str, Component] = {
                "n": gr.Slider(1, MAX_SAMPLES, value=Settings.n, step=1, label="Samples"),
                "seed": gr.Number(Settings.seed, minimum=0, precision=0, label="Seed"),
            }
            generator = self.run.generator
            if isinstance(generator, DiffusionGenerator):
                sampling = generator.sampling
                guidance, steps = sampling.guidance, min(sampling.steps, MAX_STEPS)
                weight = guidance if isinstance(guidance, float | int) else guidance.conditional
                low, high = GUIDANCE_RANGE
                settings["guidance"] = gr.Slider(
                    low, max(high, weight), value=weight, step=0.1, label="Guidance"
                )
                settings["steps"] = gr.Slider(1, MAX_STEPS, value=steps, step=1, label="Steps")
        self.defaults = {name: component.value for name, component in settings.items()}
        return settings

    def _connect(self) -> None:
        everything = {self.session, *self.settings.values()}
        outputs: set[Component] = {self.session, self.message, self.summary, self.download}
        for card in self.cards:
            everything |= {card.tick, card.source, *card.inputs.values()}
            outputs |= {card.reading, card.output}
        generate: dict[str, Any] = {
            "fn": self.generate,
            "inputs": everything,
            "outputs": outputs,
            "show_progress_on": self.summary,
            **_ONE_AT_A_TIME,
        }
        self.blocks.load(**generate)
        self.button.click(**generate)
        for card in self.cards:
            self._connect_card(card, generate)

    def _connect_card(self, card: Card, generate: Mapping[str, Any]) -> None:
        card.tick.change(
            partial(self.tick, card), card.tick, [card.panel, card.output], show_progress="hidden"
        )
        shown: set[Component] = {card.source, *card.inputs.values(), self.session}
        read: dict[str, Any] = {
            "fn": partial(self.read, card),
            "inputs": shown,
            "outputs": {card.reading},
            "show_progress": "hidden",
            "trigger_mode": "always_last",
            **_ONE_AT_A_TIME,
        }
        card.source.change(
            partial(self.choose, card), card.source, {*card.inputs.values()}, show_progress="hidden"
        )
        card.source.change(**read)
        for component in card.inputs.values():
            if isinstance(component, gr.Textbox | gr.Number):
                component.submit(**generate)
            else:
                component.change(**read)
                if isinstance(component, gr.ImageEditor):
                    component.input(**read)

        def pin(session: Session, event: gr.EventData) -> Updates:
            return self.pin(card, session, int(event._data["index"]))

        card.output.select(
            pin,
            self.session,
            {self.session, card.tick, card.source, card.reading, self.message},
            show_progress="hidden",
            **_ONE_AT_A_TIME,
        )

    def tick(self, card: Card, is_given: bool) -> tuple[Any, Any]:
        """Show the inputs of a card that is ticked, and the samples of one that is not."""
        return gr.update(visible=is_given), gr.update(visible=not is_given)

    def choose(self, card: Card, source: Source) -> Updates:
        """Show the input of the chosen source alone."""
        return {
            component: gr.update(visible=each == source) for each, component in card.inputs.items()
        }

    def generate(self, values: Mapping[Component, Any]) -> Updates:
        """Draw samples of all modalities that are not ticked, given what the others' inputs have.

        Errors and warnings become messages.
        """
        session: Session = values[self.session]
        updates: Updates = {}
        given: dict[str, Datum] = {}
        with self._messages(updates, self.message, given):
            for card in self.cards:
                if values[card.tick]:
                    given[card.name] = self._datum(card, values, session)
            chosen = {name: values[component] for name, component in self.settings.items()}
            # What is as in the spec is left to it, which may say more than one weight.
            changed = {
                name: value
                for name, value in chosen.items()
                if value != self.defaults[name] or name in ("n", "seed")
            }
            if "seed" in changed:
                changed["seed"] = changed["seed"] or 0
            session = session.generate(self.run, given, Settings(**changed), self.folder)
            updates |= {
                self.session: session,
                self.summary: html.summary(session),
                self.download: gr.update(value=str(session.archive), interactive=True),
            }
            for card in self.cards:
                updates[card.output] = html.generated(card.name, session)
                if card.name in given:
                    updates[card.reading] = html.as_read(card.name, session.media[card.name][0])
        return updates

    def read(self, card: Card, values: Mapping[Component, Any]) -> Updates:
        """Show what the run reads from the chosen input of a card."""
        source, session = values[card.source], values[self.session]
        updates: Updates = {card.reading: ""}
        given: dict[str, Datum] = {}
        with self._messages(updates, card.reading, given):
            datum = datum_of(source, card.value(values, session))
            if datum is not None:
                given[card.name] = datum
                updates[card.reading] = self._as_read(card, datum)
        return updates

    def pin(self, card: Card, session: Session, sample: int) -> Updates:
        """Give a sample of a card in the next request."""
        updates: Updates = {}
        with self._messages(updates, self.message, {}):
            session = session.pin(card.name, sample)
            updates |= {
                self.session: session,
                card.tick: True,
                card.source: gr.update(choices=card.choices(session), value="sample", visible=True),
                card.reading: self._as_read(card, session.pinned[card.name]),
            }
        return updates

    def _datum(self, card: Card, values: Mapping[Component, Any], session: Session) -> Datum:
        datum = datum_of(values[card.source], card.value(values, session))
        if datum is None:
            raise DataError(f"{card.name} is ticked, but nothing is given: give it, or untick it")
        return datum

    def _as_read(self, card: Card, datum: Datum) -> str:
        item = self.run.item(card.name, datum)
        return html.as_read(card.name, item_media(self.run.modalities[card.name], item))

    @contextmanager
    def _messages(
        self, updates: Updates, place: Component, given: Mapping[str, Datum]
    ) -> Iterator[None]:
        """Show the error or the warnings of a block in a component; others stay as they are.

        Given files are named without their folders, of which a user knows nothing.
        """
        text = ""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            try:
                yield
            except MLDError as error:
                text = str(error)
            except Exception as error:
                traceback.print_exc(file=sys.stderr)
                text = "internal error in mld or a plugin: the terminal says more"
                if is_out_of_memory(error):
                    text = "not enough memory: ask for fewer samples"
        notes = [str(each.message) for each in caught if each.category is UserWarning]
        for path in given.values():
            if isinstance(path, Path):
                text, *notes = (each.replace(f"{path.parent}/", "") for each in (text, *notes))
        if text or notes or place is self.message:
            updates[place] = html.message(text, notes)


def _drawing_pad(paper: Paper, **shared: Any) -> Component:
    background = Image.new("RGB", (CANVAS_SIDE, CANVAS_SIDE), paper.colour)
    return gr.Sketchpad(
        value={"background": background, "layers": [], "composite": None},
        type="filepath",
        image_mode="RGBA",
        format="png",
        brush=gr.Brush(default_size=CANVAS_SIDE // 10, colors=[*paper.inks], color_mode="fixed"),
        canvas_size=(CANVAS_SIDE, CANVAS_SIDE),
        fixed_canvas=True,
        layers=False,
        transforms=(),
        buttons=[],
        **shared,
    )
