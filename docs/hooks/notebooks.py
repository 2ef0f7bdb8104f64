"""Run the notebooks of the docs, and show them as pages.

    python docs/hooks/notebooks.py

runs them, in about a minute each, and stores what they printed and drew in their files.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat

FOLDER = Path(__file__).parent.parent / "notebooks"
TIME_LIMIT = 1800
"""Seconds that a cell may take, beside much other work."""

Notebook = Any


def execute(path: Path, folder: Path) -> Notebook:
    """A notebook that has been run in a folder; an error of a cell is raised.

    What cells print to stderr, such as progress, is left out. On Linux nothing is taken from the
    user's weight store, nor put there.
    """
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder.resolve() / "cache")}
    NotebookClient(notebook, timeout=TIME_LIMIT, resources=resources).execute(env=environment)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times, which differ from run to run
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
    return notebook


def as_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook with its stored outputs as Markdown, and the pictures in it by file name."""
    notebook = nbformat.read(path, as_version=4)
    pictures: dict[str, bytes] = {}
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            parts += _shown(output, path.stem, pictures)
    first, *rest = parts
    note = (
        "This page is a notebook, `docs/notebooks/{}`, with what it printed when it was run last."
    )
    return "\n\n".join([first, note.format(path.name), *rest]) + "\n", pictures


def _shown(output: Mapping[str, Any], stem: str, pictures: dict[str, bytes]) -> Iterator[str]:
    data = output.get("data", {})
    if "image/png" in data:
        name = f"{stem}-{len(pictures)}.png"
        pictures[name] = base64.b64decode(data["image/png"])
        yield f"![What the cell shows]({name})"
    elif "text/html" in data:
        # A blank line would end the block of HTML within the Markdown.
        lines = [line.strip() for line in "".join(data["text/html"]).splitlines()]
        yield f'<div class="output">\n{chr(10).join(filter(None, lines))}\n</div>'
    elif text := "".join(data.get("text/plain", output.get("text", ""))):
        text = re.sub("\x1b\\[[0-9;]*m", "", text)
        yield f"```text\n{text.rstrip()}\n```"


def main() -> None:
    """Run all notebooks and store their outputs."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        with TemporaryDirectory() as folder:
            nbformat.write(execute(path, Path(folder)), path)


if __name__ == "__main__":
    main()
