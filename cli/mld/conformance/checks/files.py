"""Checks of what is read and written."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import torch
from torch import Tensor

from mld.conformance.check import Broken, check, demand, skip
from mld.conformance.fixtures import CLASSES, ModalitySubject, form

NEAR = 0.5
"""An item read back is nearer than this share of the distance to items of other labels."""

PNG = b"\x89PNG\r\n\x1a\n"


@check("modality")
def writes_one_file(subject: ModalitySubject) -> None:
    """Write makes one file, named by the stem and a suffix, and returns its path."""
    path = subject.modality.write(subject.few[0], subject.folder / "row.0001")
    _demand_named(path, subject.folder / "row.0001", "write")
    made = sorted(found.name for found in subject.folder.iterdir())
    demand(made == [path.name], f"write made {made}: it may make one file, and return its path")
    demand(path.stat().st_size > 0, f"write made {path.name} with nothing in it")


@check("modality")
def writes_same_bytes(subject: ModalitySubject) -> None:
    """The same item is written as the same bytes."""
    for x in subject.few[:CLASSES]:
        first, second = (
            subject.modality.write(x, subject.folder / name).read_bytes() for name in ("a", "b")
        )
        demand(
            first == second,
            "the same item was written as different bytes: leave times, names and randomness out",
        )


@check("modality")
def reads_back(subject: ModalitySubject) -> None:
    """What is written, or stands in a cell where inline, reads back as about the same item."""
    x = subject.few[:CLASSES]
    back = torch.stack([_back(subject, item, row) for row, item in enumerate(x)])
    demand(form(back) == form(x), f"items {form(x)} came back as {form(back)}")
    own = _distance(x, back)
    others = sum(_distance(x, x.roll(turn, 0)) for turn in range(1, CLASSES)) / (CLASSES - 1)
    by = "cell" if subject.plugin_class.inline else "write"
    demand(
        own <= NEAR * others,
        f"items come back from {by} and read {own:.3g} away (root mean square, or the share of "
        f"symbols), and items of other labels are {others:.3g} apart: {by} must invert preprocess",
    )


@check("modality")
def refuses_missing_file(subject: ModalitySubject) -> None:
    """Reading a file that is not there is an OSError or a ValueError."""
    if subject.plugin_class.inline:
        skip("the modality is inline: a cell is the datum itself")
    try:
        subject.plugin_class(subject.config).read(subject.folder / "no such file")
    except (OSError, ValueError):
        return
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise Broken(f"read of a missing file ended in {said}: raise OSError") from error
    raise Broken("read gave a datum for a file that is not there: raise OSError")


@check("modality")
def writes_whatever_decodes(subject: ModalitySubject) -> None:
    """Whatever decode gives for a random latent can be written and shown, and put in a cell."""
    for row, x in enumerate(subject.generated[:5]):
        stem = subject.folder / f"{row}"
        path = subject.modality.write(x, stem)
        demand(path.is_file(), f"write returned {path}, which is not there")
        subject.modality.preview(x, stem)
        if subject.plugin_class.inline:
            cell = subject.modality.cell(x)
            demand(isinstance(cell, str), f"cell gave a {type(cell).__name__}: return a str")


@check("modality")
def previews_open(subject: ModalitySubject) -> None:
    """Previews are named by the stem, are sound SVG or PNG, and the same bytes twice."""
    stem = subject.folder / "row.0001"
    paths = subject.modality.preview(subject.few[0], stem)
    if not paths:
        skip("preview makes no files")
    for path in paths:
        _demand_named(path, stem, "preview")
        content = path.read_bytes()
        opens = {".png": _is_png, ".svg": _is_svg}.get(path.suffix)
        demand(
            opens is not None and opens(content),
            f"preview made {path.name}, which is no sound SVG or PNG",
        )
    again = subject.modality.preview(subject.few[0], subject.folder / "again")
    demand(
        [path.read_bytes() for path in paths] == [path.read_bytes() for path in again],
        "the same item was shown as different bytes: leave times and randomness out",
    )


def _demand_named(path: Path, stem: Path, method: str) -> None:
    demand(isinstance(path, Path), f"{method} returned a {type(path).__name__}, not a Path")
    named = path.parent == stem.parent and path.name.startswith(stem.name) and bool(path.suffix)
    demand(
        named and path.name != stem.name,
        f"{method} made {path.name} for the stem {stem.name}: add a suffix to the whole stem, "
        "as in stem.with_name(stem.name + '.ext')",
    )
    demand(path.is_file(), f"{method} returned {path.name}, and there is no such file")


def _back(subject: ModalitySubject, x: Tensor, row: int) -> Tensor:
    modality = subject.modality
    if modality.inline:
        cell = modality.cell(x)
        demand(isinstance(cell, str), f"cell gave a {type(cell).__name__}: return a str")
        return modality.preprocess(modality.read(cell))
    return modality.preprocess(modality.read(modality.write(x, subject.folder / f"{row}")))


def _distance(x: Tensor, y: Tensor) -> float:
    """The root mean square of the difference; of symbols the share that differ."""
    if not x.is_floating_point():
        return float((x != y).double().mean())
    return float((x - y).double().square().mean().sqrt())


def _is_png(content: bytes) -> bool:
    return content.startswith(PNG) and content.rstrip().endswith(b"IEND\xaeB`\x82")


def _is_svg(content: bytes) -> bool:
    try:
        return ElementTree.fromstring(content).tag.rpartition("}")[2] == "svg"
    except ElementTree.ParseError:
        return False
