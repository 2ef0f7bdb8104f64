"""Check a built site: its links hold, it loads nothing from elsewhere, and its search finds words.

python docs/hooks/check_site.py build/site
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

WORDS = {
    "guidance": "guidance.html",
    "missing": "missing-cells.html",
    "irises": "notebooks/own-table.html",
    "slurm": "nodes.html",
    "{mld-x:": "spec.html",
    "latent_dim": "kinds.html",
    "mld impute": "commands.html",
    "log_density": "api.html",
}
"""Words that the search must find on a page."""


ELEMENTS = {
    *(
        "a",
        "article",
        "aside",
        "audio",
        "b",
        "blockquote",
        "body",
        "br",
        "button",
        "caption",
        "code",
    ),
    *(
        "dd",
        "del",
        "details",
        "div",
        "dl",
        "dt",
        "em",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
    ),
    *("h4", "h5", "h6", "head", "header", "hr", "html", "i", "img", "input", "kbd", "label", "li"),
    *("link", "main", "meta", "nav", "noscript", "ol", "option", "p", "path", "pre", "script"),
    *("section", "select", "small", "source", "span", "strong", "style", "sub", "summary", "sup"),
    *("svg", "table", "tbody", "td", "th", "thead", "title", "tr", "u", "ul", "video"),
}
"""Those of a page; anything else was text, such as <name>, that a browser does not show."""


class Document(HTMLParser):
    """A page's anchors, links, and the addresses of what a browser loads with it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Record one element."""
        self.tags.add(tag)
        values = {name: value for name, value in attributes if value}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" and "canonical" not in values.get("rel", "") and "href" in values:
            self.loaded.append(values["href"])
        if "src" in values:
            self.loaded.append(values["src"])


def errors(site: Path) -> Iterator[str]:
    """What is wrong with a built site, one sentence each."""
    pages = {path: Document(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(site)
        for address in page.loaded:
            if urlsplit(address).netloc:
                yield f"{name} loads {address} from elsewhere"
        for tag in sorted(page.tags - ELEMENTS):
            yield f"{name} has <{tag}>, which is no element of HTML: write it as code"
        for address in [*page.links, *page.loaded]:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or name.name == "404.html":  # whose links are absolute
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                yield f"{name} has a link to {address}, which does not exist"
            elif parts.fragment and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{name} has a link to {address}, where there is no such anchor"
    for style in site.rglob("*.css"):
        if "@import" in (text := style.read_text("utf-8")) or "url(http" in text:
            yield f"{style.relative_to(site)} loads a style or font from elsewhere"
    index = json.loads((site / "search" / "search_index.json").read_text("utf-8"))
    for word, expected in WORDS.items():
        if expected not in found(word, index["docs"]):
            yield f"the search does not find {word!r} on {expected}"


def found(word: str, documents: list[dict[str, str]]) -> set[str]:
    """The pages of a search index whose sections have a word in their title or text."""
    return {
        document["location"].partition("#")[0]
        for document in documents
        if word.lower() in f"{document['title']} {document['text']}".lower()
    }


if __name__ == "__main__":
    found_errors = list(errors(Path(sys.argv[1]).resolve()))
    print("\n".join(found_errors), file=sys.stderr, end="\n" if found_errors else "")
    sys.exit(bool(found_errors))
