"""The blocks of code in the docs, and what is to be done with each.

A comment directly before a block says why the tests of the blocks do not run it:

    <!-- not run: needs Slurm -->
    <!-- run by tests/test_docs.py -->
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent.parent
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")),
]
LANGUAGES = ("bash", "csv", "python", "toml", "yaml")
"""Those that the tests run or read; `text` is no code."""


@dataclass(frozen=True)
class Block:
    """A block of code.

    Args:
        page: its file, relative to the repository's root.
        line: where it begins there, from 1.
        language: as written behind the fence; an indented block is `bash`.
        text: its content.
        not_run: why it cannot be run here; "" otherwise.
        run_by: the file of the tests that run it; "" where those of the blocks do.
    """

    page: str
    line: int
    language: str
    text: str
    not_run: str = ""
    run_by: str = ""

    @property
    def tagged(self) -> bool:
        """Whether the tests of the blocks leave it alone."""
        return bool(self.not_run or self.run_by)

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a `bash` block, from `mld` or another name on."""
        if self.language != "bash":
            return []
        lines = self.text.replace("\\\n", " ").splitlines()
        commands = [shlex.split(line, comments=True) for line in lines]
        return [words for words in commands if words]


def blocks_of(page: str) -> list[Block]:
    """The blocks of code of a page, in order."""
    return parse_blocks((ROOT / page).read_text("utf-8"), page)


def parse_blocks(text: str, page: str) -> list[Block]:
    """The blocks of code of a text, in order."""
    blocks, tag = [], ""
    for token in MarkdownIt().parse(text):
        if token.type in ("fence", "code_block"):
            language = token.info if token.type == "fence" else "bash"
            reasons = {
                "not_run": re.search(r"<!-- not run: (.+?) -->", tag),
                "run_by": re.search(r"<!-- run by (\S+) -->", tag),
            }
            given = {name: match[1] for name, match in reasons.items() if match}
            line = token.map[0] + 1 if token.map else 0
            blocks.append(Block(page, line, language, token.content, **given))
        tag = token.content if token.type == "html_block" else ""
    return blocks


def mld_arguments(words: list[str]) -> list[str] | None:
    """What a command gives to `mld`, also when another program starts it; None: it is not mld's."""
    for index, word in enumerate(words):
        if word == "mld" or word.endswith("/mld"):
            return words[index + 1 :]
    return None
