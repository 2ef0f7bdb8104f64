from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from mld.reporting.html import exhibits_of
from mld.reporting.run_report import write_report
from mld.storage.digests import file_digest
from mld.storage.run_dir import RunDir
from mld_core.errors import RunDirError

WriteRun = Callable[..., RunDir]
NASTY = "<script>alert('x')</script> & \"seven\" {{ 7 }}"


class Page(HTMLParser):
    """A page's links, sources and headings; a tag closed out of turn is an error."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, write_run: WriteRun) -> RunDir:
    """A finished run, to be read only."""
    run = write_run(tmp_path_factory.mktemp("labelled") / "digits")
    write_report(run)
    return run


@pytest.fixture
def copy(run: RunDir, tmp_path: Path) -> RunDir:
    """The same run, to be changed."""
    return RunDir(shutil.copytree(run.path, tmp_path / "digits"))


def text_of(run: RunDir) -> str:
    return write_report(run).read_text(encoding="utf-8")


def test_nothing_is_fetched(run: RunDir) -> None:
    text = run.report.read_text(encoding="utf-8")
    page = Page(text)
    sources = [attrs[name] for _, attrs in page.tags for name in ("src", "href") if name in attrs]
    assert len(sources) > 100
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert not page.of("link")
    assert not re.search(r"url\(|@import|srcset", text)
    policy = next(meta for meta in page.of("meta") if "http-equiv" in meta)
    assert policy["content"].startswith("default-src 'none'")


def test_every_anchor_has_its_target(run: RunDir) -> None:
    page = Page(run.report.read_text(encoding="utf-8"))
    targets = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(set(targets)) == len(targets)
    assert {link["href"].removeprefix("#") for link in page.of("a")} <= set(targets)


def test_every_sample_is_on_the_page(run: RunDir) -> None:
    text = run.report.read_text(encoding="utf-8")
    files = [path for path in run.path.glob("samples/*/*/*") if path.suffix not in (".txt", ".smi")]
    assert len(files) == 15 * 2 * 4
    for path in files:
        assert base64.b64encode(path.read_bytes()).decode() in text
    page = Page(text)
    assert len(page.of("img")) == 15 * 2 * 3
    assert len(page.of("audio")) == 15 * 2
    assert text.count('<p class="text">') == 15 * 2 * 2
    assert all(attrs["alt"] for attrs in page.of("img"))


def test_small_pictures_show_their_pixels(run: RunDir) -> None:
    pictures = Page(run.report.read_text(encoding="utf-8")).of("img")
    assert {image["width"] for image in pictures if " digit " in f" {image['alt']} "} == {"112"}
    assert not any("width" in image for image in pictures if "spectrogram" in image["alt"])


def test_a_file_of_unknown_suffix_can_be_taken_away(copy: RunDir) -> None:
    folder = copy.samples("joint")
    (folder / "digit/0000.mid").write_bytes(b"notes")
    change_cell(copy, "joint", "digit", file="digit/0000.mid")
    link = next(link for link in Page(text_of(copy)).of("a") if "download" in link)
    assert link["download"] == "0000.mid"
    assert base64.b64decode(link["href"].partition(",")[2]) == b"notes"


def test_a_text_file_is_shown_where_there_is_nothing_to_see_or_hear(tmp_path: Path) -> None:
    text, drawing = tmp_path / "x.txt", tmp_path / "x.svg"
    text.write_text("1 2 3")
    drawing.write_text("<svg/>")
    shown = [exhibits_of([text], None), exhibits_of([text, drawing], None)]
    shown.append(exhibits_of([text, drawing], "1, 2, 3"))
    assert [[own.form for own in told] for told in shown] == [
        ["text"],
        ["picture"],
        ["picture", "text"],
    ]
    assert shown[2][1].source == "1, 2, 3"


def test_given_cells_are_marked(run: RunDir) -> None:
    text = run.report.read_text(encoding="utf-8")
    galleries = text.split('<table class="gallery">')[1:]
    subsets = [given for size in range(4) for given in combinations(range(4), size)]
    for given, gallery in zip(subsets, galleries, strict=True):
        assert gallery.count('<td class="given">') == 2 * len(given)
        assert gallery.count('<span class="tag">given</span>') == len(given)


def test_the_matrix_tells_value_interval_and_ceiling(run: RunDir) -> None:
    text = run.report.read_text(encoding="utf-8")
    matrix = text[text.index('<table class="matrix">') :].partition("</table>")[0]
    assert matrix.count('<td class="blank">given</td>') == 4 * 1 + 6 * 2 + 4 * 3
    assert matrix.count('class="value') == 1 + 28 + 4
    assert 'title="tone given digit: 0.785, 95 % interval 0.749 to 0.821, n = 500"' in matrix
    assert "<b>0.871</b><span>0.84–0.90, ceiling 0.914</span>" in matrix
    rows = re.findall(r'<th scope="row">(?:<a[^>]*>)?([^<]+)', matrix)
    assert [rows[0], rows[1], rows[5], rows[-1]] == [
        "nothing (joint)",
        "digit",
        "digit + tone",
        "ceiling",
    ]


def test_headlines(run: RunDir) -> None:
    text = run.report.read_text(encoding="utf-8")
    figures = re.findall(r"<dt>([^<]+)</dt><dd class=\"figure\">([^<]+)</dd>", text)
    assert figures == [
        ("Joint coherence", "0.871"),
        ("One-to-one coherence", "0.785"),
        ("NFE per joint sample", "100"),
        ("Time of the whole run", "5 min 1 s"),
    ]


def change_row(run: RunDir, key: str, **fields: Any) -> None:
    index = run.samples(key) / "index.json"
    told = run.read_json(index)
    told["rows"][0].update(fields)
    run.write_json(index, told)


def change_cell(run: RunDir, key: str, name: str, **fields: Any) -> None:
    cells = run.read_json(run.samples(key) / "index.json")["rows"][0]["cells"]
    change_row(run, key, cells={**cells, name: {**cells[name], **fields}})


def test_text_is_shown_and_never_run(copy: RunDir) -> None:
    metrics = copy.read_json(copy.metrics)
    copy.write_json(copy.metrics, {**metrics, "warnings": [NASTY]})
    change_cell(copy, "joint", "word", cell=NASTY)
    (copy.samples("joint") / "tone/0000.txt").write_text(NASTY)
    change_cell(copy, "joint", "tone", file="tone/0000.txt", previews=[])
    copy.write_text(copy.spec, copy.spec.read_text() + yaml.safe_dump({"note": NASTY}, width=1000))
    text = text_of(copy)
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert(") == 4
    assert text.count("&amp; &#34;seven&#34; {{ 7 }}") == 4
    assert len(Page(text).of("script")) == 1


def test_an_empty_text_is_called_so(copy: RunDir) -> None:
    change_cell(copy, "joint", "word", cell="")
    assert text_of(copy).count("(empty)") == 1


def test_without_labels_coherence_is_left_out(tmp_path: Path, write_run: WriteRun) -> None:
    text = text_of(write_run(tmp_path / "digits", labelled=False))
    assert "The data have no labels" in text
    assert "re-encoded latents" in text
    for absent in ('<table class="matrix">', "Joint coherence", "Pairwise", "label 3", "Hollow"):
        assert absent not in text
    assert text.count('<table class="tracks">') == 4
    assert len(Page(text).of("audio")) == 15 * 2


def test_a_subset_without_samples_says_so(copy: RunDir) -> None:
    shutil.rmtree(copy.samples("digit+tone"))
    text = text_of(copy)
    assert text.count("No sample of this subset") == 1
    assert text.count('<table class="gallery">') == 14


def test_a_subset_not_asked_for_is_not_there(copy: RunDir) -> None:
    metrics = copy.read_json(copy.metrics)
    metrics["nfe"] = {"digit": 80}
    metrics["joint_coherence"] = metrics["joint_ceiling"] = None
    copy.write_json(copy.metrics, metrics)
    text = text_of(copy)
    assert text.count("<details id=") == 1
    assert "1 conditioning subset with " in text
    assert "nothing (joint)" not in text


def test_provenance_and_events_may_be_missing(copy: RunDir) -> None:
    copy.provenance.unlink()
    copy.events.unlink()
    text = text_of(copy)
    assert "The event log holds no training." in text
    assert "Time of the whole run" not in text


def test_what_could_not_be_measured_is_a_dash(copy: RunDir) -> None:
    metrics = copy.read_json(copy.metrics)
    for told in metrics["frechet"]:
        told["value"] = None if told["target"] == "digit" else told["value"]
    metrics["modalities"]["digit"]["reconstruction_frechet"] = None
    copy.write_json(copy.metrics, metrics)
    change_row(copy, "digit", label=-1)
    text = text_of(copy)
    panel = text[text.index("<caption>digit") :].partition("</table>")[0]
    assert panel.count("<td>–</td>") == 8
    assert "circle" not in panel
    assert "label -1" not in text


def test_what_the_store_gave_is_named(copy: RunDir) -> None:
    copy.log("store", job="autoencode/digit", state="read back")
    assert "read back from the store: autoencode/digit." in text_of(copy)


def test_a_missing_sample_names_the_stage_that_makes_it(copy: RunDir) -> None:
    (copy.samples("joint") / "digit/0001.png").unlink()
    with pytest.raises(RunDirError, match=r"0001\.png is missing.*--from-stage generate"):
        write_report(copy)


def test_the_same_folder_gives_the_same_bytes(run: RunDir, copy: RunDir) -> None:
    assert write_report(copy).read_bytes() == run.report.read_bytes()


def test_a_redone_stage_takes_its_warnings_back_and_a_resumed_one_does_not(copy: RunDir) -> None:
    for stage, end in (("latents", "finished"), ("diffuse", "interrupted")):
        copy.log("stage", stage=stage, state="started", seconds=None)
        copy.log("warning", stage=stage, message=f"{stage} grumbled")
        copy.log("stage", stage=stage, state=end, seconds=1.0)
        copy.log("stage", stage=stage, state="started", seconds=None)
    text = text_of(copy)
    assert "latents grumbled" not in text
    assert "diffuse grumbled" in text


def test_a_resumed_training_is_one_curve(copy: RunDir) -> None:
    copy.events.unlink()
    fields = {"job": "diffuse", "steps": 100, "parts": {}, "validation": None}
    for update, loss in ((20, 3.0), (40, 2.0), (60, 9.0), (40, 2.0), (60, 1.5)):
        copy.log("train", step=update, loss=loss, **fields)
    text = text_of(copy)
    (line,) = re.findall(r'<polyline class="train" points="([^"]*)"', text)
    assert len(line.split()) == 3
    assert "training 1.5" in text


def test_information_is_shown_only_of_the_network_that_it_was_measured_with(copy: RunDir) -> None:
    assert "Mutual information" not in text_of(copy)
    copy.write_text(copy.ema, "weights")
    point = {
        "value": 1.5,
        "standard_error": 0.02,
        "convergence": [[64, 1.4, 0.1], [128, 1.5, 0.02]],
    }
    (a, b, *_) = yaml.safe_load(copy.spec.read_text())["modalities"]
    told = {
        "network": file_digest(copy.ema),
        "estimates": {f"I({a}; {b})": point, f"h({a})": {**point, "value": -2.0, "raw": 3.25}},
    }
    copy.write_json(copy.information, told)
    page = text_of(copy)
    Page(page)
    assert 'aria-label="Mutual information between pairs"' in page
    assert page.count("<b>1.50</b><span>± 0.02</span>") == 2  # either way round
    assert "<b>−2.00</b>" in page
    assert ">3.25<" in page
    assert page.count(" noise levels</figcaption>") == 2
    copy.write_text(copy.ema, "other weights")
    assert "Mutual information" not in text_of(copy)
