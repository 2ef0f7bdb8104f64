"""Pages of findings: tables, heat maps, convergence plots and rows to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from markupsafe import Markup
from torch import Tensor

from mld.artefact import written
from mld.charts import line_chart
from mld.generate import write_item
from mld.pages import Exhibit, environment, exhibit_of
from mld_core import Modality


@dataclass(frozen=True)
class Shown:
    """One cell of a gallery: what is shown, and a few words about it; marked where generated."""

    exhibits: Sequence[Exhibit]
    tag: str = ""
    marked: bool = False


@dataclass(frozen=True)
class Row:
    """One row of a gallery."""

    name: str
    notes: Sequence[str]
    cells: Mapping[str, Shown]


@dataclass(frozen=True)
class Figure:
    """A convergence plot."""

    name: str
    caption: str
    chart: Markup


@dataclass(frozen=True)
class Findings:
    """What a page shows; parts that are empty are left out.

    Args:
        title: of the page.
        lede: what it is about, in a few sentences.
        head, table: a plain table; the first column names its row.
        heat: pairs of names to (value, what a reader should know of it).
        names: the rows and columns of the heat map, and the columns of the gallery.
        figures: convergence plots.
        gallery: rows to look at, and `about` what they are.
    """

    title: str
    lede: str
    names: Sequence[str]
    head: Sequence[str] = ()
    table: Sequence[Sequence[str]] = ()
    heat: Mapping[tuple[str, str], tuple[float, str]] = field(default_factory=dict)
    figures: Sequence[Figure] = ()
    about: str = ""
    gallery: Sequence[Row] = ()


def write_findings(path: Path, findings: Findings) -> None:
    """Write one self-contained HTML page."""
    limit = max((value for value, _ in findings.heat.values()), default=1.0) or 1.0
    template = environment().get_template("findings.html.j2")
    with written(path) as partial:
        partial.write_text(template.render(page=findings, limit=limit), encoding="utf-8")


def exhibits(modality: Modality, x: Tensor) -> list[Exhibit]:
    """What an item is shown as: its text where inline, and pictures and sounds."""
    with TemporaryDirectory() as folder:
        cell, files = write_item(modality, x, Path(folder) / "item")
        shown = [exhibit_of(file) for file in files]
    if cell is not None:
        shown = [own for own in shown if own.form in ("picture", "sound")]
        shown.append(Exhibit("text", cell, ""))
    order = ("picture", "sound", "text", "file")
    return sorted(shown, key=lambda own: order.index(own.form))


def convergence(name: str, curve: Sequence[tuple[int, float, float]]) -> Figure:
    """How an estimate settles as its integral is taken over more noise levels."""
    points = [(float(nodes), value) for nodes, value, _ in curve]
    nodes, value, error = curve[-1]
    caption = f"{value:.3f} ± {error:.3f} nats with {nodes} noise levels"
    return Figure(name, caption, line_chart([], points, nodes, f"{name}: {caption}"))


__all__ = ["Findings", "Row", "Shown", "convergence", "exhibits", "write_findings"]
