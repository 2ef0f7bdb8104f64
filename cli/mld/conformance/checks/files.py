"""Checks of reading, writing and previewing files."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mld.conformance.check import CheckFailed, CheckSkipped, check, describe, is_svg, require
from mld.conformance.fixtures import NUM_CLASSES, ModalityUnderTest
from mld.reporting.html import media_type_of
from mld_core import describe_exception

MAX_ROUND_TRIP_ERROR = 0.5
"""Largest error of an item read back, relative to the distance between items of other labels."""

INLINE_MEDIA_TYPES = ("text", "number")
FILE_MEDIA_TYPES = ("picture", "sound", "file")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND\xaeB`\x82"


@check("modality")
def writes_one_file(plugin: ModalityUnderTest) -> None:
    """`write` creates one file, named by the stem plus a suffix, and returns its path."""
    stem = plugin.folder / "row.0001"
    path = plugin.modality.write(plugin.sample_items[0], stem)
    _check_path(path, stem, "write")
    names = sorted(file.name for file in plugin.folder.iterdir())
    require(names == [path.name], f"write created {names}: create one file, and return its path")
    require(path.stat().st_size > 0, f"write created an empty file {path.name}")


@check("modality")
def writes_same_bytes(plugin: ModalityUnderTest) -> None:
    """`write` is deterministic: the same item gives the same bytes."""
    for x in plugin.sample_items[:NUM_CLASSES]:
        first, second = (plugin.modality.write(x, plugin.folder / name) for name in ("a", "b"))
        require(
            first.read_bytes() == second.read_bytes(),
            "write gave different bytes for the same item: leave out times, names and randomness",
        )


@check("modality")
def reads_back(plugin: ModalityUnderTest) -> None:
    """What `write` writes, or `cell` returns if inline, reads back as about the same item."""
    x = plugin.sample_items[:NUM_CLASSES]
    x_read = torch.stack([_write_and_read(plugin, item, row) for row, item in enumerate(x)])
    require(describe(x_read) == describe(x), f"items {describe(x)} came back as {describe(x_read)}")
    error = _distance(x, x_read)
    shifts = range(1, NUM_CLASSES)
    between_labels = sum(_distance(x, x.roll(shift, 0)) for shift in shifts) / len(shifts)
    method = "cell" if plugin.plugin_class.inline else "write"
    require(
        error <= MAX_ROUND_TRIP_ERROR * between_labels,
        f"items come back from {method} and read {error:.3g} away (root mean square, or the share "
        f"of symbols), and items of other labels are {between_labels:.3g} apart: {method} must "
        "invert preprocess",
    )


@check("modality")
def missing_file_raises(plugin: ModalityUnderTest) -> None:
    """`read` raises OSError or ValueError for a file that does not exist."""
    if plugin.plugin_class.inline:
        raise CheckSkipped("the modality is inline: a cell holds the datum itself")
    try:
        plugin.plugin_class(plugin.config).read(plugin.folder / "no such file")
    except (OSError, ValueError):
        return
    except Exception as error:
        seen = describe_exception(error)
        raise CheckFailed(f"read of a missing file raised {seen}: raise OSError") from error
    raise CheckFailed("read returned a datum for a file that does not exist: raise OSError")


@check("modality")
def reads_file_once(plugin: ModalityUnderTest) -> None:
    """What `read` returns is complete: the file, which may be temporary, is not read later."""
    if plugin.plugin_class.inline:
        raise CheckSkipped("the modality is inline: a cell holds the datum itself")
    path = plugin.modality.write(plugin.sample_items[0], plugin.folder / "temporary")
    raw = plugin.modality.read(path)
    path.unlink()
    try:
        plugin.modality.preprocess(raw)
    except (OSError, ValueError) as error:
        raise CheckFailed(
            f"a datum cannot be used after its file was deleted: {error}; let read read all of it"
        ) from error


@check("modality")
def writes_any_decoded_item(plugin: ModalityUnderTest) -> None:
    """Any item decoded from a random latent can be written, previewed and put in a cell."""
    for row, x in enumerate(plugin.generated[:5]):
        stem = plugin.folder / f"{row}"
        path = plugin.modality.write(x, stem)
        require(path.is_file(), f"write returned {path}, which does not exist")
        plugin.modality.preview(x, stem)
        if plugin.plugin_class.inline:
            _cell(plugin, x)


@check("modality")
def previews_are_valid(plugin: ModalityUnderTest) -> None:
    """Previews are valid SVG or PNG files named by the stem, and deterministic."""
    stem = plugin.folder / "row.0001"
    paths = plugin.modality.preview(plugin.sample_items[0], stem)
    if not paths:
        raise CheckSkipped("preview creates no files")
    for path in paths:
        _check_path(path, stem, "preview")
        is_valid = {".png": _is_png, ".svg": is_svg}.get(path.suffix)
        valid = is_valid is not None and is_valid(path.read_bytes())
        require(valid, f"preview created {path.name}, which is not a valid SVG or PNG")
    others = plugin.modality.preview(plugin.sample_items[0], plugin.folder / "again")
    require(
        [path.read_bytes() for path in paths] == [path.read_bytes() for path in others],
        "preview gave different bytes for the same item: leave out times and randomness",
    )


@check("modality")
def media_type_fits_files(plugin: ModalityUnderTest) -> None:
    """`media_type` is one that the modality can have, and fits the file that `write` creates."""
    inline, media_type = plugin.plugin_class.inline, plugin.modality.media_type
    allowed = INLINE_MEDIA_TYPES if inline else FILE_MEDIA_TYPES
    kind = "an inline modality" if inline else "a modality of files"
    require(
        media_type in allowed, f"media_type is {media_type!r}; of {kind} it is one of {allowed}"
    )
    if not inline and media_type != "file":
        path = plugin.modality.write(plugin.sample_items[0], plugin.folder / "item")
        require(
            media_type_of(path) == media_type,
            f"media_type is {media_type!r}, but no page shows {path.name} as one: write another "
            "format, or leave media_type out",
        )


@check("modality")
def choices_are_cells(plugin: ModalityUnderTest) -> None:
    """Each of `choices` reads as an item, of which `cell` is the same choice."""
    choices = plugin.modality.choices
    if not choices:
        raise CheckSkipped("the modality has no choices")
    require(plugin.plugin_class.inline, "only inline modalities have choices: a cell is one")
    for choice in choices:
        try:
            x = plugin.modality.preprocess(plugin.modality.read(choice))
        except (OSError, ValueError) as error:
            raise CheckFailed(f"choice {choice!r} cannot be read: {error}") from error
        cell = _cell(plugin, x)
        require(cell == choice, f"choice {choice!r} reads as {cell!r}")


def _check_path(path: object, stem: Path, method: str) -> None:
    if not isinstance(path, Path):
        raise CheckFailed(f"{method} returned a {type(path).__name__}, not a Path")
    starts_with_stem = path.parent == stem.parent and path.name.startswith(stem.name)
    require(
        starts_with_stem and bool(path.suffix) and path.name != stem.name,
        f"{method} created {path.name} for the stem {stem.name}: add a suffix to the whole stem, "
        "as in stem.with_name(stem.name + '.ext')",
    )
    require(path.is_file(), f"{method} returned {path.name}, which does not exist")


def _write_and_read(plugin: ModalityUnderTest, x: Tensor, row: int) -> Tensor:
    modality = plugin.modality
    source = _cell(plugin, x) if modality.inline else modality.write(x, plugin.folder / f"{row}")
    return modality.preprocess(modality.read(source))


def _cell(plugin: ModalityUnderTest, x: Tensor) -> str:
    cell = plugin.modality.cell(x)
    require(isinstance(cell, str), f"cell gave a {type(cell).__name__}: return a str")
    return cell


def _distance(x: Tensor, y: Tensor) -> float:
    """Root mean square of the difference; for symbols the share that differ."""
    if x.is_floating_point():
        return float((x - y).double().square().mean().sqrt())
    return float((x != y).double().mean())


def _is_png(content: bytes) -> bool:
    return content.startswith(PNG_SIGNATURE) and content.rstrip().endswith(PNG_END)
