"""The notebooks of the docs run, and the site shows them as pages."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebooks import FOLDER, as_page, execute

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path) -> None:
    ran, stored = execute(path, tmp_path), nbformat.read(path, as_version=4)
    for cell, old in zip(ran.cells, stored.cells, strict=True):
        shown = [each.output_type for each in cell.get("outputs", [])]
        assert shown == [each.output_type for each in old.get("outputs", [])], cell.source


@pytest.mark.notebook
def test_error_of_a_cell_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "wrong.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), path)
    with pytest.raises(Exception, match="ZeroDivisionError"):
        execute(path, tmp_path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stored_with_what_it_shows(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    shown = [output for cell in cells for output in cell.outputs]
    assert any("text/html" in output.get("data", {}) for output in shown)
    assert not [output for output in shown if output.output_type == "error"]
    assert path.stat().st_size < 500_000


def test_page_shows_text_tables_and_pictures(tmp_path: Path) -> None:
    outputs = [
        new_output("stream", name="stdout", text="\x1b[1mten\x1b[0m\n"),
        new_output(
            "display_data", {"text/html": "<table>\n\n <tr></tr></table>", "text/plain": "-"}
        ),
        new_output("display_data", {"image/png": "aGVsbG8="}),
    ]
    cells = [new_markdown_cell("# Title"), new_code_cell("5 + 5", outputs=outputs)]
    nbformat.write(new_notebook(cells=cells), tmp_path / "sum.ipynb")
    page, pictures = as_page(tmp_path / "sum.ipynb")
    assert page.startswith("# Title\n\nThis page is a notebook, `docs/notebooks/sum.ipynb`,")
    assert "```python\n5 + 5\n```\n\n```text\nten\n```\n" in page
    assert '<div class="output">\n<table>\n<tr></tr></table>\n</div>' in page
    assert "![What the cell shows](sum-0.png)" in page
    assert pictures == {"sum-0.png": b"hello"}
