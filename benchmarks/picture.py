"""Draw the picture of the README from the previews of a finished run of the demo.

    python benchmarks/picture.py runs/digits docs/samples.png

The i-th row of the picture is the i-th preview of its subset, whatever it shows. It needs Chromium,
which the environment variable CHROMIUM may name, and the library playwright.
"""

from __future__ import annotations

import html
import json
import os
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

SUBSETS = {
    "joint": "nothing",
    "word": "its name",
    "digit": "a picture",
    "tone": "a sound",
    "molecule": "a molecule",
    "tone+word": "two of them",
}
"""By folder of samples, what was given, in words."""

STYLE = """
body {margin: 0; background: #fff; color: #1a2230; font: 15px/1.35 system-ui, sans-serif}
table {border-collapse: separate; border-spacing: 6px; padding: 10px}
th {font-weight: 600; text-align: left; color: #566}
tbody th {width: 92px; color: #1a2230}
td {width: 140px; height: 84px; text-align: center; border: 1px solid #dfe5ea; border-radius: 8px}
td.given {background: #ffefc9; border-color: #e5bd62}
img {display: block; mix-blend-mode: multiply; margin: auto; max-width: 124px; max-height: 74px}
img.digit, img.tone {mix-blend-mode: normal}
img.digit {height: 68px; image-rendering: pixelated; border-radius: 4px}
small {display: block; max-width: 132px; overflow: hidden; text-overflow: ellipsis}
"""


def page(run: Path) -> str:
    """The picture as HTML, whose images are files of the run."""
    rows: list[str] = []
    names: list[str] = []
    for row, (subset, given) in enumerate(SUBSETS.items()):
        folder = run / "samples" / subset
        cells = json.loads((folder / "index.json").read_text("utf-8"))["rows"][row]["cells"]
        names = list(cells)
        drawn = "".join(_cell(folder, name, cell) for name, cell in cells.items())
        rows.append(f"<tr><th>{given}</th>{drawn}</tr>")
    head = "".join(f"<th>{name}</th>" for name in names)
    body = f"<table><thead><tr><th>given</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f"<!doctype html><meta charset=utf-8><style>{STYLE}</style>{body}</table>"


def _cell(folder: Path, name: str, cell: dict[str, Any]) -> str:
    files = cell["previews"] or ([] if cell["cell"] else [cell["file"]])
    content = "".join(f'<img class="{name}" src="{(folder / file).as_uri()}">' for file in files)
    if cell["cell"]:
        tag = "small" if files else "span"
        content += f"<{tag}>{html.escape(cell['cell'])}</{tag}>"
    return f'<td class="{cell["role"]}">{content}</td>'


def main() -> None:
    """Write the picture."""
    run, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    source = out.with_suffix(".html").resolve()
    source.write_text(page(run), "utf-8")
    with sync_playwright() as playwright:
        chromium = os.environ.get("CHROMIUM")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(device_scale_factor=2)
        tab.goto(source.as_uri())
        picture = tab.locator("table").screenshot()
        browser.close()
    source.unlink()
    Image.open(BytesIO(picture)).quantize(128).save(out, optimize=True)


if __name__ == "__main__":
    main()
