"""Tests of the documentation site's own pages, and of the check of a built site."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from check_site import WORDS, errors
from markdown.extensions.toc import slugify
from reference_pages import api, commands, kinds, spec
from site_pages import INCLUDED, _included, escape_tags, relink

from mld.app import app
from mld.config.sections import TransformerSpec
from mld.config.spec import Spec
from mld_core import Registry

ROOT = Path(__file__).parent.parent


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A small site without an error."""
    pages = {*WORDS.values(), "index.html"}
    for page in pages:
        home = "../" * page.count("/") + "index.html"
        (tmp_path / page).parent.mkdir(exist_ok=True)
        (tmp_path / page).write_text(f'<h1 id="top"></h1><a href="{home}#top">{page}</a>')
    (tmp_path / "style.css").write_text("h1 {color: red}")
    (tmp_path / "search").mkdir()
    documents = [{"location": f"{page}#a", "title": "", "text": w} for w, page in WORDS.items()]
    index = json.dumps({"docs": documents})
    (tmp_path / "search" / "search_index.json").write_text(index)
    assert list(errors(tmp_path)) == []
    return tmp_path


@pytest.mark.parametrize(
    ("html", "message"),
    [
        ('<a href="gone.html">', "gone.html, which does not exist"),
        ('<a href="index.html#gone">', "index.html#gone, where there is no such anchor"),
        ('<a href="#gone">', "#gone, where there is no such anchor"),
        ("runs/<name>", "<name>, which is no element of HTML"),
        ('<img src="gone.png">', "gone.png, which does not exist"),
        ('<script src="https://cdn.example/x.js"></script>', "loads https://cdn.example/x.js"),
        ('<link href="//fonts.example/x" rel="stylesheet">', "loads //fonts.example/x"),
    ],
)
def test_check_finds_what_is_wrong_with_a_page(site: Path, html: str, message: str) -> None:
    (site / "index.html").write_text(f'<h1 id="top"></h1>{html}')
    (error,) = errors(site)
    assert message in error


def test_check_finds_a_font_from_elsewhere_and_a_page_that_is_not_found(site: Path) -> None:
    (site / "style.css").write_text("@font-face {src: url(https://fonts.example/x.woff)}")
    (site / "search" / "search_index.json").write_text('{"docs": []}')
    style, *missing = errors(site)
    assert style == "style.css loads a style or font from elsewhere"
    assert "the search does not find 'guidance'" in missing[0]
    assert len(missing) == len(WORDS)


def test_links_lead_to_pages() -> None:
    text = "[a](docs/data.md#splits) [`b`](cli/mld/app.py) ![c](docs/report.png) [d](https://e.f)"
    expected = "[a](data.md#splits) `b` ![c](report.png) [d](https://e.f)"
    assert relink(text, "README.md") == expected
    text = "[a](../CONTRIBUTING.md#a-method-of-your-own) [b](../CONTRIBUTING.md#style) [c](data.md)"
    assert relink(text, "docs/x.md") == "[a](method.md) [b](contributing.md#style) [c](data.md)"
    link = "[a](docs/notebooks/first-steps.ipynb)"
    assert relink(link, "README.md") == "[a](notebooks/first-steps.md)"
    assert relink("```\n[a](gone.md)\n```\n", "README.md") == "```\n[a](gone.md)\n```\n"


def test_what_looks_like_an_element_is_text() -> None:
    text = "runs/<name>, `<name>` and a < b\n\n```text\n<name>\n```\n"
    assert escape_tags(text) == text.replace("runs/<", "runs/&lt;")


def test_link_to_a_missing_file_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    relink("[a](gone.md)", "README.md")
    relink("[a](CONTRIBUTING.md#gone)", "README.md")
    assert [record.message for record in caplog.records] == [
        "README.md has a link to gone.md, which does not exist",
        "CONTRIBUTING.md has no section #gone",
    ]


def test_files_are_included_whole() -> None:
    pages = {}
    for page, (source, _) in INCLUDED.items():
        pages.setdefault(source, []).append(_included(*INCLUDED[page]))
    for source, texts in pages.items():
        lines = {line.lstrip("#") for text in texts for line in text.splitlines()}
        assert {line.lstrip("#") for line in (ROOT / source).read_text().splitlines()} == lines
        assert all(text.startswith("# ") for text in texts)


def test_page_of_commands_has_every_command_and_option() -> None:
    page = commands()
    groups = [("mld", typer.main.get_command(app))]
    while groups:
        name, group = groups.pop()
        for command in group.commands.values():
            path = f"{name} {command.name}"
            assert f"# `{path}`\n" in page
            if hasattr(command, "commands"):
                groups.append((path, command))
            section = page.partition(f"# `{path}`\n")[2].partition("\n#")[0]
            for parameter in command.params:
                if parameter.name != "help":
                    assert parameter.opts[0].split("/")[0] in section


def test_page_of_the_spec_has_every_setting() -> None:
    page = spec()
    for name, field in Spec.model_fields.items():
        assert f"| `{name}` |" in page or f"## `{name}`\n" in page
        if isinstance(field.default, Spec.__base__):
            section = page.partition(f"## `{name}`\n")[2].partition("\n## ")[0]
            assert all(
                f"| `{setting}` |" in section for setting in type(field.default).model_fields
            )
    section = page.partition("### `diffuse.network: {kind: transformer}`")[2].partition("###")[0]
    for setting, field in TransformerSpec.model_fields.items():
        assert setting == "kind" or f"| `{setting}` | whole number, above 0 |" in section
        assert setting == "kind" or field.description in section


@pytest.mark.slow
def test_page_of_kinds_has_every_kind_and_setting() -> None:
    page = kinds()
    for entry in Registry(allowed=["mld-toolkit"]).entries():
        section = page.partition(f"### `{entry.kind}`\n")[2].partition("\n### ")[0]
        assert all(f"| `{name}" in section for name in entry.plugin_class.Config.model_fields)


@pytest.mark.parametrize("package", ["mld", "mld_core"])
def test_page_of_the_api_has_every_public_name(package: str) -> None:
    page = api(package)
    module = __import__(package)
    assert all(f"{{heading: {package}.{name}}}" in page for name in module.__all__)
    assert module.__all__


def test_anchors_are_those_of_github() -> None:
    assert slugify("Score, impute and estimate information", "-") in (
        "score-impute-and-estimate-information"
    )
