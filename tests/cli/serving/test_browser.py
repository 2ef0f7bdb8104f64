"""The page of a small run of pictures, sounds and words, driven in Chromium."""

from __future__ import annotations

import io
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from zipfile import ZipFile

import pytest
import yaml
from chromium import chromium_path
from PIL import Image

from mld.config.spec import load_spec
from mld.pipeline.run import run
from mld.serving.session import Settings
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld_core import Registry

pytestmark = pytest.mark.browser

SPEC = {
    "name": "small-digits",
    "data": {"kind": "examples", "train": 300, "validation": 30, "test": 30},
    "modalities": {
        "digit": {"kind": "image", "latent_dim": 8, "size": 16, "channels": 1},
        "tone": {"kind": "audio", "latent_dim": 8, "seconds": 0.5, "too_long": "truncate"},
        "word": {"kind": "text", "latent_dim": 8},
    },
    "autoencode": {"steps": 60},
    "diffuse": {
        "steps": 60,
        "batch_size": 64,
        "network": {"kind": "residual-mlp", "width": 64, "depth": 1},
    },
    "generate": {"num_samples": 8, "num_previews": 2, "steps": 5, "subsets": [[]]},
    "evaluate": {"steps": 10},
    "compute": {"threads": 1},
}
PHONE = {"width": 390, "height": 844}
MICROPHONE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="module")
def chromium() -> str:
    """The path of Chromium: CHROMIUM, or one on the search path."""
    pytest.importorskip("gradio", reason="needs the extra serve")
    pytest.importorskip("playwright", reason="needs playwright")
    return chromium_path()


@pytest.fixture(scope="module")
def run_folder(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    (folder / "small.yaml").write_text(yaml.safe_dump(SPEC))
    spec = load_spec(folder / "small.yaml", Registry())
    run(spec, RunDir(folder / "run"), Registry(), store=WeightStore(folder / "store"))
    return folder / "run"


def serve(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mld", "serve", str(folder), *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture(scope="module")
def address(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page's address; at the end, the server is interrupted, and must leave nothing."""
    temporary = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        process = serve(run_folder)
    yield process.stdout.readline().strip().rstrip("/")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert [*temporary.glob("mld-serve-*")] == []


OpenPage = Callable[..., Any]


@pytest.fixture
def open_page(chromium: str, address: str) -> Iterator[OpenPage]:
    """Opens the page in a new window of a size; nothing may be loaded from elsewhere, or fail."""
    problems: list[str] = []

    def note(request: Any) -> None:
        if not request.url.startswith((address, f"blob:{address}", "data:")):
            problems.append(request.url)

    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", *MICROPHONE]
        )

        def open_(**size: int) -> Any:
            context = browser.new_context(
                viewport=size or {"width": 1200, "height": 900},
                permissions=["microphone"],
                accept_downloads=True,
            )
            page = context.new_page()
            page.set_default_timeout(60_000)
            page.on("request", note)
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.goto(address)
            page.get_by_text("generated together").wait_for()
            return page

        yield open_
        browser.close()
    assert problems == []


def card(page: Any, name: str) -> Any:
    return page.locator(".mld-card").filter(has=page.get_by_label(name, exact=True))


def give_word(page: Any, word: str) -> None:
    page.get_by_label("word", exact=True).check()
    page.get_by_placeholder("word").fill(word)


def generate(page: Any, summary: str) -> None:
    page.get_by_role("button", name="Generate").click()
    page.get_by_text(summary).wait_for()


def test_given_a_word_a_digit_appears_and_a_tone_plays(open_page: OpenPage) -> None:
    page = open_page()
    give_word(page, "seven")
    generate(page, "given word")
    digits, tones = card(page, "digit").locator("img"), card(page, "tone").locator("audio")
    assert digits.count() == tones.count() == Settings.n
    assert digits.first.evaluate("image => image.naturalWidth") == 16
    duration = tones.first.evaluate(
        """async (audio) => {
            const end = new Promise((resolve) => audio.addEventListener('ended', resolve));
            await audio.play();
            await end;
            return audio.duration;
        }"""
    )
    assert duration == pytest.approx(0.5, abs=0.1)
    assert card(page, "word").locator("button[data-sample]").count() == 0


def test_samples_can_be_downloaded(open_page: OpenPage) -> None:
    page = open_page()
    give_word(page, "seven")
    generate(page, "given word")
    with page.expect_download() as download:
        page.get_by_text("Download", exact=True).click()
    assert download.value.suggested_filename == "small-digits-samples.zip"
    with ZipFile(download.value.path()) as archive:
        names = archive.namelist()
        with Image.open(io.BytesIO(archive.read("digit/0003.png"))) as picture:
            assert picture.size == (16, 16)
    assert {"given.json", "tone/0000.wav"} <= set(names)
    assert not any(name.startswith("word/") for name in names)


def test_a_pinned_sample_is_given_next(open_page: OpenPage) -> None:
    page = open_page()
    digit = card(page, "digit")
    chosen = digit.locator("img").nth(1).get_attribute("src")
    digit.get_by_role("button", name="Pin 2").click()
    digit.get_by_text("as the model reads it").wait_for()
    assert page.get_by_label("digit", exact=True).is_checked()
    generate(page, "given digit")
    assert digit.locator("img").first.get_attribute("src") == chosen


def test_digits_are_drawn(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_label("digit", exact=True).check()
    digit = card(page, "digit")
    digit.get_by_text("Draw", exact=True).click()
    canvas = digit.locator("canvas").first
    canvas.wait_for()
    page.wait_for_timeout(2000)  # the editor shows its canvas before it is ready
    generate(page, "nothing is given")
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y - 60)
    page.mouse.down()
    page.mouse.move(x, y + 60, steps=8)
    page.mouse.up()
    digit.get_by_text("as the model reads it").wait_for()
    generate(page, "given digit")
    # White on black, as the digits of the run are.
    column = digit.locator(".mld-given img").evaluate(
        """(image) => {
            const canvas = document.createElement('canvas');
            canvas.width = canvas.height = 16;
            const context = canvas.getContext('2d');
            context.drawImage(image, 0, 0, 16, 16);
            return [0, 7].map((x) => context.getImageData(x, 8, 1, 1).data[0]);
        }"""
    )
    assert column[0] < 30
    assert column[1] > 200


def test_tones_are_recorded(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_label("tone", exact=True).check()
    tone = card(page, "tone")
    tone.get_by_text("Record", exact=True).first.click()
    tone.locator("button.record").click()
    page.wait_for_timeout(1000)
    tone.get_by_text("Stop").first.click()
    tone.get_by_text("as the model reads it").wait_for()
    generate(page, "given tone")


def test_invalid_files_are_messages(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_label("digit", exact=True).check()
    digit = card(page, "digit")
    file = {"name": "mine.png", "mimeType": "image/png", "buffer": b"no picture"}
    digit.locator("input[type=file]").first.set_input_files(file)
    digit.get_by_role("alert").wait_for()
    page.get_by_role("button", name="Generate").click()
    message = page.locator(".mld-message").get_by_role("alert")
    message.wait_for()
    assert "'mine.png'" in message.inner_text()
    assert "Traceback" not in page.content()


def test_large_files_are_refused(address: str) -> None:
    boundary = "x"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    body = head.encode() + bytes(33 * 2**20) + f"\r\n--{boundary}--\r\n".encode()
    request = urllib.request.Request(
        f"{address}/gradio_api/upload",
        body,
        {"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    with pytest.raises(HTTPError) as error:
        urllib.request.urlopen(request, timeout=60)
    assert error.value.code == 413
    error.value.close()


def test_page_fits_a_phone(open_page: OpenPage) -> None:
    page = open_page(**PHONE)
    give_word(page, "seven")
    page.get_by_text("Settings").click()
    generate(page, "given word")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_timeout(500)
    button = page.get_by_role("button", name="Generate").bounding_box()
    assert button["y"] + button["height"] <= PHONE["height"]


def test_other_machines_do_not_reach_it(address: str) -> None:
    port = int(address.rpartition(":")[2])
    assert address == f"http://127.0.0.1:{port}"
    with socket.socket() as other:
        other.bind(("127.0.0.2", port))  # free: the server listens on one address alone


def test_a_port_in_use_is_an_error(address: str, run_folder: Path) -> None:
    process = serve(run_folder, "--port", address.rpartition(":")[2])
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    assert "cannot listen on 127.0.0.1" in errors
    assert "Traceback" not in errors
