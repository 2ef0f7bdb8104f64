from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from mld.reporting import run_report
from mld.reporting.html import media_of
from mld.reporting.run_report import render_report
from mld.storage.digests import file_digest
from mld.storage.run_dir import RunDir
from mld_core.errors import RunDirError

WriteRun = Callable[..., RunDir]
VOID = ("meta", "img", "br", "link")
NASTY = "<script>alert('x')</script> & \"seven\" {{ 7 }}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, write_run: WriteRun) -> RunDir:
    """A finished run with its report; not to be changed."""
    run = write_run(tmp_path_factory.mktemp("labelled") / "digits")
    run.write_text(run.report, render_report(run))
    return run


@pytest.fixture
def run_copy(run: RunDir, tmp_path: Path) -> RunDir:
    """A copy of the run that may be changed."""
    return RunDir(shutil.copytree(run.path, tmp_path / "digits"))


def test_report_loads_nothing_external(run: RunDir, parse_page: Callable[..., Any]) -> None:
    text = run.report.read_text(encoding="utf-8")
    page = parse_page(text, VOID)
    sources = [attrs[name] for _, attrs in page.tags for name in ("src", "href") if name in attrs]
    assert len(sources) > 100
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert not page.of("link")
    assert not re.search(r"url\(|@import|srcset", text)
    policy = next(meta for meta in page.of("meta") if "http-equiv" in meta)
    assert policy["content"].startswith("default-src 'none'")


def test_anchors_have_targets(run: RunDir, parse_page: Callable[..., Any]) -> None:
    page = parse_page(run.report.read_text(encoding="utf-8"), VOID)
    targets = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(set(targets)) == len(targets)
    assert {link["href"].removeprefix("#") for link in page.of("a")} <= set(targets)


def test_report_shows_every_sample(run: RunDir, parse_page: Callable[..., Any]) -> None:
    text = run.report.read_text(encoding="utf-8")
    files = [path for path in run.path.glob("samples/*/*/*") if path.suffix not in (".txt", ".smi")]
    assert len(files) == 15 * 2 * 4
    for path in files:
        assert base64.b64encode(path.read_bytes()).decode() in text
    page = parse_page(text, VOID)
    assert len(page.of("img")) == 15 * 2 * 3
    assert len(page.of("audio")) == 15 * 2
    assert text.count('<p class="text">') == 15 * 2 * 2
    assert all(attrs["alt"] for attrs in page.of("img"))


def test_a_page_holds_as_many_samples_as_fit(
    run: RunDir, parse_page: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [path.stat().st_size for path in run.path.glob("samples/*/*/*")]
    monkeypatch.setattr(run_report, "MAX_SAMPLE_BYTES", sum(files) - 1)
    text = render_report(run)
    assert len(parse_page(text, VOID).of("audio")) == 15
    assert text.count("The first 1 of 2, so that the page stays small") == 15
    assert "<code>samples/digit+tone</code> has all" in text
    monkeypatch.setattr(run_report, "MAX_SAMPLE_BYTES", 1)
    assert len(parse_page(render_report(run), VOID).of("audio")) == 15
    assert "so that the page stays small" not in run.report.read_text(encoding="utf-8")


def test_small_pictures_are_enlarged(run: RunDir, parse_page: Callable[..., Any]) -> None:
    pictures = parse_page(run.report.read_text(encoding="utf-8"), VOID).of("img")
    assert {image["width"] for image in pictures if " digit " in f" {image['alt']} "} == {"112"}
    assert not any("width" in image for image in pictures if "spectrogram" in image["alt"])


def test_files_of_unknown_suffix_are_links(
    run_copy: RunDir, parse_page: Callable[..., Any]
) -> None:
    folder = run_copy.samples("joint")
    (folder / "digit/0000.mid").write_bytes(b"notes")
    change_cell(run_copy, "joint", "digit", file="digit/0000.mid")
    link = next(
        link for link in parse_page(render_report(run_copy), VOID).of("a") if "download" in link
    )
    assert link["download"] == "0000.mid"
    assert base64.b64decode(link["href"].partition(",")[2]) == b"notes"


def test_text_is_shown_unless_there_is_a_picture_or_sound(tmp_path: Path) -> None:
    text, drawing = tmp_path / "x.txt", tmp_path / "x.svg"
    text.write_text("1 2 3")
    drawing.write_text("<svg/>")
    text_only, with_picture = media_of([text], None), media_of([text, drawing], None)
    inline = media_of([text, drawing], "1, 2, 3")
    assert [[item.type for item in media] for media in (text_only, with_picture, inline)] == [
        ["text"],
        ["picture"],
        ["picture", "text"],
    ]
    assert inline[1].source == "1, 2, 3"


def test_given_cells_are_tinted(run: RunDir) -> None:
    text = run.report.read_text(encoding="utf-8")
    galleries = text.split('<table class="gallery">')[1:]
    subsets = [given for size in range(4) for given in combinations(range(4), size)]
    for given, gallery in zip(subsets, galleries, strict=True):
        assert gallery.count('<td class="given">') == 2 * len(given)
        assert gallery.count('<span class="tag">given</span>') == len(given)


def test_matrix_shows_value_interval_and_ceiling(run: RunDir) -> None:
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


def test_samples_are_compared_with_the_truth_given_one_modality_and_in_all_subsets(
    run: RunDir,
) -> None:
    text = run.report.read_text(encoding="utf-8")
    section = text[text.index('<h2 id="truth">') :].partition("</section>")[0]
    one_to_one, all_subsets = (
        part.partition("</table>")[0] for part in section.split("<table")[1:]
    )
    rows = re.findall(r'<th scope="row">([^<]+)</th><td>([^<]+)</td><td[^>]*>([^<]+)', one_to_one)
    assert rows == [
        ("digit", "psnr, dB ↑", "one sample"),
        ("tone", "log-spectral distance, dB ↓", "one sample"),
        ("word", "exact match ↑", "one sample"),
    ]
    assert one_to_one.count("<b>") == 3 * 3
    assert one_to_one.count('<td class="n">–</td>') == 3  # what is given is not compared
    word = "word given digit: 0.395, 95 % interval 0.352 to 0.438, n = 500"
    assert f'title="{word}"><b>0.395</b><br><small>0.352–0.438</small>' in one_to_one
    # Of other rows and of reconstructions.
    assert '<td class="n">0.112</td><td class="n">0.991</td></tr>' in one_to_one
    assert all_subsets.count('<th scope="row">') == 14
    assert all_subsets.count("<b>") == 3 * 7


def test_metrics_of_draws_say_what_they_are_of(run_copy: RunDir) -> None:
    metrics = run_copy.read_json(run_copy.metrics)
    scores = metrics["conditional_metrics"]
    for score in scores:
        score["of"] = "best estimate of 19 draws"
    coverage = {"metric": "coverage_80", "against": "draws", "of": "19 draws", "unit": ""}
    coverage |= {"better": "nearer", "best": 0.8}
    scores += [{**score, **coverage} for score in scores if score["target"] == "tone"]
    of_tone = metrics["modalities"]["tone"]["metrics"]
    of_tone["coverage_80"] = {**coverage, "value": None, "reference": None, "unrelated": 0.79}
    of_tone["coverage_80"]["of"] = "draws"
    run_copy.write_json(run_copy.metrics, metrics | {"draws": 19})
    text = render_report(run_copy)
    section = text[text.index('<h2 id="truth">') :].partition("</section>")[0]
    assert "19 draws of each row" in section
    assert "guidance: 0" in section  # the samples were guided
    assert section.count(">best estimate of 19 draws</td>") == 3
    row = section[section.index("<td>coverage 80 → 0.800</td>") :]
    assert ">19 draws</td>" in row.partition("</tr>")[0]
    assert '<td class="n">0.790</td><td class="n">–</td>' in row.partition("</tr>")[0]
    # It is no metric of one modality alone.
    assert "<td>coverage 80</td>" not in text


def test_runs_that_were_evaluated_without_truth_have_no_such_section(run_copy: RunDir) -> None:
    metrics = run_copy.read_json(run_copy.metrics)
    del metrics["conditional_metrics"]
    run_copy.write_json(run_copy.metrics, metrics)
    assert "truth" not in render_report(run_copy)


def test_runs_that_were_evaluated_without_memorisation_have_no_such_section(
    run_copy: RunDir,
) -> None:
    metrics = run_copy.read_json(run_copy.metrics)
    del metrics["memorisation"]
    run_copy.write_json(run_copy.metrics, metrics)
    assert 'id="memorisation"' not in render_report(run_copy)


def test_classes_are_named(run_copy: RunDir) -> None:
    change_row(run_copy, "digit", **{"label": 7, "class": "seven & more"})
    assert "<br>class seven &amp; more</th>" in render_report(run_copy)
    index = run_copy.samples("digit") / "index.json"
    content = run_copy.read_json(index)
    del content["rows"][0]["class"]  # a run of an earlier version
    run_copy.write_json(index, content)
    assert "<br>label 7</th>" in render_report(run_copy)


def test_headlines(run: RunDir) -> None:
    text = run.report.read_text(encoding="utf-8")
    figures = re.findall(r"<dt>([^<]+)</dt><dd class=\"figure\">([^<]+)</dd>", text)
    assert figures == [
        ("Joint coherence", "0.871"),
        ("One-to-one coherence", "0.785"),
        ("NFE per joint sample", "100"),
        ("Total run time", "5 min 1 s"),
    ]


def change_row(run: RunDir, key: str, **fields: Any) -> None:
    index = run.samples(key) / "index.json"
    content = run.read_json(index)
    content["rows"][0].update(fields)
    run.write_json(index, content)


def change_cell(run: RunDir, key: str, name: str, **fields: Any) -> None:
    cells = run.read_json(run.samples(key) / "index.json")["rows"][0]["cells"]
    change_row(run, key, cells={**cells, name: {**cells[name], **fields}})


def test_html_in_texts_is_escaped(run_copy: RunDir, parse_page: Callable[..., Any]) -> None:
    metrics = run_copy.read_json(run_copy.metrics)
    run_copy.write_json(run_copy.metrics, {**metrics, "warnings": [NASTY]})
    change_cell(run_copy, "joint", "word", cell=NASTY)
    (run_copy.samples("joint") / "tone/0000.txt").write_text(NASTY)
    change_cell(run_copy, "joint", "tone", file="tone/0000.txt", previews=[])
    run_copy.write_spec(run_copy.read_spec() + yaml.safe_dump({"note": NASTY}, width=1000))
    text = render_report(run_copy)
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert(") == 4
    assert text.count("&amp; &#34;seven&#34; {{ 7 }}") == 4
    assert len(parse_page(text, VOID).of("script")) == 1


def test_empty_texts_are_marked(run_copy: RunDir) -> None:
    change_cell(run_copy, "joint", "word", cell="")
    assert render_report(run_copy).count("(empty)") == 1


def test_report_without_labels_has_no_coherence(
    tmp_path: Path, write_run: WriteRun, parse_page: Callable[..., Any]
) -> None:
    text = render_report(write_run(tmp_path / "digits", labelled=False))
    assert "There is no classifier, for lack of labels" in text
    assert "re-encoded latents" in text
    figures = re.findall(r"<dt>([^<]+)</dt><dd class=\"figure\">([^<]+)</dd>", text)
    assert figures[:2] == [
        ("digit: psnr, dB ↑", "0.355"),
        ("tone: log-spectral distance, dB ↓", "0.265"),
    ]
    for absent in (
        '<table class="matrix">',
        "Joint coherence",
        "Pairwise",
        "class three",
        "hollow dots",
    ):
        assert absent not in text
    assert text.count('<table class="tracks">') == 4
    assert len(parse_page(text, VOID).of("audio")) == 15 * 2


def test_retrieval_is_beside_its_ceiling_and_chance(
    tmp_path: Path, write_run: WriteRun, add_retrieval: Callable[..., None]
) -> None:
    run = write_run(tmp_path / "digits", labelled=False, num_previews=0)
    assert 'id="retrieval"' not in render_report(run)
    add_retrieval(run, 0.7)
    metrics = run.read_json(run.metrics)
    # Of few rows there is no interval, and of no real pair no ceiling.
    metrics["retrieval"]["joint"]["at_1"] |= {"low": None, "high": None}
    metrics["retrieval"]["conditional"][0] |= {"real": None, "reconstructions": None}
    run.write_json(run.metrics, metrics)
    text = render_report(run)
    figures = re.findall(r"<dt>([^<]+)</dt><dd class=\"figure\">([^<]+)</dd>", text)
    assert figures[:2] == [
        ("Joint retrieval at 1", "0.700"),
        ("One-to-one retrieval at 1", "0.350"),
    ]
    assert 'told by <a href="#retrieval">retrieval</a>' in text
    matrix = text[text.index('<table class="matrix">') :].partition("</table>")[0]
    assert matrix.count('class="value') == 1 + 28
    assert "<b>0.700</b><span></span><span>at 10: 0.850</span><span>ceiling 0.900</span>" in matrix
    assert matrix.count("<span>ceiling –</span>") == 1
    assert "<b>0.350</b><span>0.31–0.39</span>" in matrix
    assert "tone given digit + word: 0.350 at 1, 0.675 at 10; reconstructions 0.800" in matrix
    assert "chance 0.010 and 0.100; n = 500" in matrix
    table = text[text.index('aria-label="Retrieval, all figures"') :].partition("</table>")[0]
    assert table.count("<tr>") == 1 + 6 + 28
    assert "joint: digit and tone" in table


def test_subsets_without_samples(run_copy: RunDir) -> None:
    shutil.rmtree(run_copy.samples("digit+tone"))
    text = render_report(run_copy)
    assert text.count("No samples of this subset") == 1
    assert text.count('<table class="gallery">') == 14


def test_only_subsets_of_the_run_are_listed(run_copy: RunDir) -> None:
    metrics = run_copy.read_json(run_copy.metrics)
    metrics["nfe"] = {"digit": 80}
    metrics["joint_coherence"] = metrics["joint_ceiling"] = None
    run_copy.write_json(run_copy.metrics, metrics)
    text = render_report(run_copy)
    assert text.count("<details id=") == 1
    assert "1 conditioning subset with " in text
    assert "nothing (joint)" not in text


def test_provenance_and_events_are_optional(run_copy: RunDir) -> None:
    run_copy.provenance.unlink()
    run_copy.events.unlink()
    text = render_report(run_copy)
    assert "The event log has no training losses." in text
    assert "Total run time" not in text


def test_missing_metrics_are_dashes(run_copy: RunDir) -> None:
    metrics = run_copy.read_json(run_copy.metrics)
    for entry in metrics["frechet"]:
        entry["value"] = None if entry["target"] == "digit" else entry["value"]
    metrics["modalities"]["digit"]["reconstruction_frechet"] = None
    run_copy.write_json(run_copy.metrics, metrics)
    metrics["conditional_metrics"][0] |= {"value": None, "low": None, "high": None}
    run_copy.write_json(run_copy.metrics, metrics)
    change_row(run_copy, "digit", label=-1)
    text = render_report(run_copy)
    assert 'title="tone given digit: –' in text
    panel = text[text.index("<caption>digit") :].partition("</table>")[0]
    assert panel.count("<td>–</td>") == 8
    assert "circle" not in panel
    assert "label -1" not in text


def test_jobs_loaded_from_the_store_are_listed(run_copy: RunDir) -> None:
    run_copy.log("store", job="autoencode/digit", state="read back")
    assert (
        "Loaded from the weight store, trained by an earlier run: autoencode/digit."
        in render_report(run_copy)
    )


def test_missing_sample_file_names_the_stage(run_copy: RunDir) -> None:
    (run_copy.samples("joint") / "digit/0001.png").unlink()
    with pytest.raises(RunDirError, match=r"0001\.png is missing.*--from-stage generate"):
        render_report(run_copy)


def test_report_is_deterministic(run: RunDir, run_copy: RunDir) -> None:
    assert render_report(run_copy) == run.report.read_text(encoding="utf-8")


def test_warnings_of_recomputed_and_resumed_stages(run_copy: RunDir) -> None:
    for stage, end in (("latents", "finished"), ("diffuse", "interrupted")):
        run_copy.log("stage", stage=stage, state="started", seconds=None)
        run_copy.log("warning", stage=stage, message=f"{stage} warned")
        run_copy.log("stage", stage=stage, state=end, seconds=1.0)
        run_copy.log("stage", stage=stage, state="started", seconds=None)
    text = render_report(run_copy)
    assert "latents warned" not in text
    assert "diffuse warned" in text


def test_resumed_training_is_one_curve(run_copy: RunDir) -> None:
    run_copy.events.unlink()
    fields = {"job": "diffuse", "steps": 100, "parts": {}, "validation": None}
    for step, loss in ((20, 3.0), (40, 2.0), (60, 9.0), (40, 2.0), (60, 1.5)):
        run_copy.log("train", step=step, loss=loss, **fields)
    text = render_report(run_copy)
    (line,) = re.findall(r'<polyline class="train" points="([^"]*)"', text)
    assert len(line.split()) == 3
    assert "training 1.5" in text


def test_information_of_another_network_is_not_shown(
    run_copy: RunDir, parse_page: Callable[..., Any]
) -> None:
    assert "Mutual information" not in render_report(run_copy)
    run_copy.write_text(run_copy.ema, "weights")
    point = {
        "value": 1.5,
        "standard_error": 0.02,
        "network_error": 0.05,
        "half_width": 0.11,
        "recalibration": -0.25,
        "convergence": [[64, 1.4, 0.1], [128, 1.5, 0.02]],
    }
    (a, b, *_) = yaml.safe_load(run_copy.spec.read_text())["modalities"]
    record = {
        "network": file_digest(run_copy.ema),
        "estimates": {f"I({a}; {b})": point, f"h({a})": {**point, "value": -2.0, "raw": 3.25}},
    }
    run_copy.write_json(run_copy.information, record)
    page = render_report(run_copy)
    parse_page(page, VOID)
    assert 'aria-label="Mutual information between pairs"' in page
    assert page.count("<b>1.50</b><span>± 0.11</span>") == 2  # either way round
    assert "<b>−2.00</b>" in page
    assert ">3.25<" in page
    assert page.count(">−0.25<") == 2
    assert page.count(" noise levels</figcaption>") == 2
    run_copy.write_text(run_copy.ema, "other weights")
    assert "Mutual information" not in render_report(run_copy)
