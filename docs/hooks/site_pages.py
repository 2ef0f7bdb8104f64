"""Pages of the site that are no files of `docs/`, and links between files of the repository.

MkDocs calls the functions `on_...`. Texts that stand elsewhere in the repository, such as the
README, are included and not copied; references are generated from what they describe.
"""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from markdown.extensions.toc import slugify
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from notebooks import FOLDER as NOTEBOOKS
from notebooks import as_page
from reference_pages import api, commands, kinds, spec

ROOT = Path(__file__).parent.parent.parent
log = logging.getLogger("mkdocs.hooks.site_pages")

INCLUDED: dict[str, tuple[str, str | None]] = {
    "index.md": ("README.md", None),
    "results.md": ("benchmarks/README.md", None),
    "changelog.md": ("CHANGELOG.md", None),
    "modality.md": ("CONTRIBUTING.md", "A modality in an afternoon"),
    "method.md": ("CONTRIBUTING.md", "A method of your own"),
    "conformance.md": ("CONTRIBUTING.md", "Conformance kit"),
    "contributing.md": ("CONTRIBUTING.md", None),
}
"""By page, the file that it shows, and the section, or None: all that is no page of its own."""

GENERATED: dict[str, Callable[[], str]] = {
    "commands.md": commands,
    "spec.md": spec,
    "kinds.md": kinds,
    "api.md": lambda: api("mld"),
    "plugin-api.md": lambda: api("mld_core"),
}

ALONE = ("index.md", "results.md")
"""Pages that are tabs of their own, beside which a list of pages would have one entry."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are included or generated."""
    contents = {page: _included(*source) for page, source in INCLUDED.items()}
    contents |= {page: escape_tags(generate()) for page, generate in GENERATED.items()}
    for page, content in contents.items():
        files.append(File.generated(config, page, content=content))
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        content, pictures = as_page(path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=content))
        for name, picture in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=picture))
    return files


def escape_tags(markdown: str) -> str:
    """Markdown in which `<name>` is shown as it is, and is no element of HTML, outside code too."""
    code = r"(?ms)(^```.*?^```$|`[^`\n]+`)"
    parts = re.split(code, markdown)
    parts[::2] = [re.sub(r"<(?=[A-Za-z/])", "&lt;", part) for part in parts[::2]]
    return "".join(parts)


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links of the repository's files become links of the site."""
    uri = page.file.src_uri
    if uri in ALONE:
        page.meta["hide"] = ["navigation"]
    if uri in GENERATED:
        return markdown
    return relink(markdown, INCLUDED[uri][0] if uri in INCLUDED else f"docs/{uri}")


def relink(markdown: str, source: str) -> str:
    """Markdown whose links lead to pages; a link to what the site does not have becomes its text.

    Args:
        source: the file that the text is from, relative to the repository's root.
    """

    def replaced(match: re.Match[str]) -> str:
        mark, text, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        path, _, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if not (ROOT / path).exists():
            log.warning("%s has a link to %s, which does not exist", source, target)
        place = _place(path, anchor)
        return text if place is None else f"{mark}[{text}]({place})"

    link = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s]+)\)")
    parts = _split_at_fences(markdown)
    return "".join(link.sub(replaced, part) if prose else part for part, prose in parts)


def _place(path: str, anchor: str) -> str | None:
    """Where the site shows a file of the repository, and the anchor there; None: nowhere."""
    if path.startswith("docs/"):
        place = path.removeprefix("docs/").replace(".ipynb", ".md")
        return f"{place}#{anchor}" if anchor else place
    pages = [page for page, (source, _) in INCLUDED.items() if source == path]
    for page in pages:
        title, *anchors = _anchors(_included(*INCLUDED[page]))
        if anchor == title:
            return page
        if anchor in anchors:
            return f"{page}#{anchor}"
    if pages and anchor:
        log.warning("%s has no section #%s", path, anchor)
    return pages[-1] if pages else None


def _anchors(markdown: str) -> list[str]:
    """The anchors of all headings, in order."""
    prose = "".join(part for part, is_prose in _split_at_fences(markdown) if is_prose)
    return [slugify(title, "-") for title in re.findall(r"^#+ (.+)$", prose, re.MULTILINE)]


def _included(source: str, section: str | None) -> str:
    """The text of a file, or of one of its sections with a heading of the first level."""
    sections = _sections((ROOT / source).read_text("utf-8"))
    apart = {each for file, each in INCLUDED.values() if file == source and each}
    if section is None:
        return "".join(text for title, text in sections.items() if title not in apart)
    parts = _split_at_fences(sections[section])
    return "".join(re.sub("(?m)^#(?=#)", "", part) if prose else part for part, prose in parts)


def _sections(markdown: str) -> dict[str, str]:
    """Text by the heading of the second level that it begins with; "": what stands before."""
    sections, title = {"": ""}, ""
    for part, prose in _split_at_fences(markdown):
        for line in part.splitlines(keepends=True):
            if prose and line.startswith("## "):
                title = line[3:].strip()
                sections[title] = ""
            sections[title] += line
    return sections


def _split_at_fences(markdown: str) -> Iterator[tuple[str, bool]]:
    """The parts of a text, and whether each is prose and no fenced block of code."""
    for index, part in enumerate(re.split(r"(?ms)^( *```.*?^ *```$)", markdown)):
        yield part, index % 2 == 0
