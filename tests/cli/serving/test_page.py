"""What happens on the page when something is pressed; its functions, without a browser."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mld.inference.trained_run import TrainedRun
from mld.serving.session import Session, Settings
from mld_core import Modality

if TYPE_CHECKING:
    from mld.serving.page import Card, Page

RIGHT = "4 0 4 0 5 0"


@pytest.fixture(scope="module")
def page(trained_run: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Page:
    pytest.importorskip("gradio", reason="needs the extra serve")
    from mld.serving.page import Page

    async def build() -> Page:
        return Page(trained_run, tmp_path_factory.mktemp("archives"))

    # Without an event loop Gradio makes several, and leaves them open.
    return asyncio.run(build())


@pytest.fixture(scope="module")
def cards(page: Page) -> dict[str, Card]:
    return {card.name: card for card in page.cards}


Values = Callable[..., dict[Any, Any]]


@pytest.fixture
def values(page: Page) -> Values:
    """What the components hold at first, with the given changes."""

    def hold(session: Session | None = None, **changes: dict[Any, Any]) -> dict[Any, Any]:
        held = {component: component.value for component in page.settings.values()}
        for card in page.cards:
            held |= {card.tick: False, card.source: card.source.value}
            held |= dict.fromkeys(card.inputs.values())
        held |= {page.session: session or Session(), page.settings["steps"]: 2}
        for change in changes.values():
            held |= change
        return held

    return hold


def test_cards_have_the_inputs_of_their_media_types(cards: dict[str, Card]) -> None:
    inputs = {name: [*card.inputs] for name, card in cards.items()}
    assert inputs == {"left": ["upload"], "right": ["type"], "third": ["upload"]}


def test_everything_is_generated_if_nothing_is_ticked(
    page: Page, cards: dict[str, Card], values: Values
) -> None:
    updates = page.generate(values())
    assert all(updates[card.output].count("data-sample") == Settings.n for card in page.cards)
    assert "generated together" in updates[page.summary]
    assert "alert" not in updates[page.message]
    assert Path(updates[page.download]["value"]).is_file()


def test_ticked_cards_are_given(page: Page, cards: dict[str, Card], values: Values) -> None:
    right = cards["right"]
    updates = page.generate(values(given={right.tick: True, right.inputs["type"]: RIGHT}))
    session = updates[page.session]
    assert session.samples.given == ("right",)
    assert updates[right.output] == ""
    assert "given right" in updates[page.summary]


def test_settings_change_the_samples(page: Page, values: Values) -> None:
    settings = page.settings
    changed = {
        settings["n"]: 2,
        settings["seed"]: None,
        settings["guidance"]: 0,
        settings["steps"]: 3,
    }
    session = page.generate(values(settings=changed))[page.session]
    assert session.samples.count == 2
    sampling = session.samples.request["sampling"]
    assert (sampling["guidance"], sampling["steps"]) == (0, 3)
    assert session.samples.request["seed"] == 0


def test_a_ticked_card_without_a_datum_is_a_message(
    page: Page, cards: dict[str, Card], values: Values
) -> None:
    updates = page.generate(values(given={cards["right"].tick: True}))
    assert 'role="alert"' in updates[page.message]
    assert "right is ticked, but nothing is given" in updates[page.message]
    assert updates.keys() == {page.message}


def test_invalid_data_are_messages_without_folders(
    page: Page, cards: dict[str, Card], values: Values, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("<b>one</b>")
    left = cards["left"]
    given = {left.tick: True, left.inputs["upload"]: str(tmp_path / "mine.txt")}
    for message in (
        page.generate(values(given=given))[page.message],
        page.read(left, values(given=given))[left.reading],
    ):
        assert "mine.txt" in message
        assert str(tmp_path) not in message
        assert "<b>" not in message
        assert "&lt;b&gt;one" in message


def test_uploaded_files_are_shown_as_they_are_read(
    page: Page, cards: dict[str, Card], values: Values, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text(RIGHT)
    left = cards["left"]
    updates = page.read(left, values(given={left.inputs["upload"]: str(tmp_path / "mine.txt")}))
    assert updates[left.reading] == ""  # words alone repeat the input
    assert page.read(left, values())[left.reading] == ""


def test_errors_of_plugins_are_messages(
    page: Page, values: Values, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("of the plugin")

    monkeypatch.setattr("mld.serving.session._check", fail)
    message = page.generate(values())[page.message]
    assert "internal error" in message
    assert "ZeroDivisionError" not in message
    assert "ZeroDivisionError: of the plugin" in capsys.readouterr().err


def test_warnings_are_notes(
    page: Page, cards: dict[str, Card], values: Values, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = cards["right"]
    plugin: type[Modality] = type(page.run.modalities["right"])
    read = plugin.read

    def suspect(self: Modality, source: Path | str) -> Any:
        warnings.warn("are these numbers?", stacklevel=2)
        return read(self, source)

    monkeypatch.setattr(plugin, "read", suspect)
    updates = page.generate(values(given={right.tick: True, right.inputs["type"]: RIGHT}))
    assert "are these numbers?" in updates[page.message]
    assert "alert" not in updates[page.message]
    assert updates[page.session].samples.given == ("right",)


def test_pinned_samples_are_given_next(page: Page, cards: dict[str, Card], values: Values) -> None:
    session = page.generate(values())[page.session]
    left = cards["left"]
    updates = page.pin(left, session, 2)
    pinned = updates[page.session]
    assert updates[left.tick] is True
    assert updates[left.source]["value"] == "sample"
    assert ("Pinned", "sample") in updates[left.source]["choices"]
    given = {left.tick: True, left.source: "sample"}
    samples = page.generate(values(pinned, given=given))[page.session].samples
    assert samples.given == ("left",)
    assert (samples.items["left"][0] == session.samples.items["left"][2]).all()
    failed = page.pin(left, session, 99)
    assert failed.keys() == {page.message}
    assert "there is no sample" in failed[page.message]


def test_ticks_and_sources_show_their_inputs(page: Page, cards: dict[str, Card]) -> None:
    left = cards["left"]
    panel, output = page.tick(left, True)
    assert (panel["visible"], output["visible"]) == (True, False)
    assert page.choose(left, "sample")[left.inputs["upload"]]["visible"] is False


def test_nothing_is_sent_to_gradio(page: Page) -> None:
    assert page.blocks.analytics_enabled is False
