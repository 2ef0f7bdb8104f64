"""Plugins are found beside distributions whose metadata are damaged."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from mld_core import Registry, SpecError
from mld_core.plugins.discovery import (
    damaged_distributions,
    installed_points,
    installed_version,
)

TOOLKIT = "Name: mld-toolkit\nVersion: 0.0.9\n"


@pytest.fixture
def write_dist_info(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes the metadata of a distribution into a folder that comes first on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, metadata: str | None = None, points: bytes | None = None) -> Path:
        folder = tmp_path / f"{name}.dist-info"
        folder.mkdir()
        if metadata is not None:
            (folder / "METADATA").write_text(metadata)
        if points is not None:
            (folder / "entry_points.txt").write_bytes(points)
        return folder

    return write


def test_this_environment() -> None:
    assert {"text", "manifest"} <= {point.name for point in installed_points()}
    assert installed_version("mld-toolkit") == installed_version("mld_toolkit")
    with pytest.raises(PackageNotFoundError):
        installed_version("mld-of-nobody")


@pytest.mark.parametrize(
    ("name", "metadata", "points", "message"),
    [
        ("mld_toolkit-0.0.9", None, None, "METADATA"),
        ("mld_toolkit-0.0.9", "", b"", "METADATA"),
        ("mld_toolkit-0.0.9", TOOLKIT, b"[mld]\n\xff = x\n", "UnicodeDecodeError"),
        ("other-1.0", "Name: other\nVersion: 1.0\n", b"[mld]\n\xff = x\n", "UnicodeDecodeError"),
        ("other-1.0", "Name: other\n", None, "METADATA"),
    ],
)
def test_damaged_metadata(
    write_dist_info: Callable[..., Path],
    name: str,
    metadata: str | None,
    points: bytes | None,
    message: str,
) -> None:
    version, before = installed_version("mld-toolkit"), Registry().installed()
    folder = write_dist_info(name, metadata, points)
    assert Registry().installed() == before
    assert installed_version("mld-toolkit") == version
    (sentence,) = [line for line in damaged_distributions() if str(folder) in line]
    assert "is damaged" in sentence
    assert message in sentence
    with pytest.raises(SpecError, match=r"no plugin of kind 'txt'.*\n.*is damaged"):
        Registry().modality("txt")


def test_metadata_of_two_versions_in_one_folder(write_dist_info: Callable[..., Path]) -> None:
    points = b"[mld]\nwaves = mld_waves\n"
    for version in ("1.0", "2.0"):
        metadata = f"Name: mld-waves\nVersion: {version}\n"
        write_dist_info(f"mld_waves-{version}", metadata, points if version == "2.0" else None)
    assert "waves" in Registry().kinds
    (sentence,) = damaged_distributions()
    assert "mld-waves is installed twice" in sentence
    assert "1.0 and 2.0" in sentence


def test_the_first_of_two_namesakes_is_used(
    write_dist_info: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = tmp_path / "later"
    monkeypatch.syspath_prepend(str(later))
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("mld_waves-2.0", "later/mld_waves-1.0"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        version = name[-3:]
        module = f"mld_waves_{version[0]}"
        write_dist_info(
            name, f"Name: mld-waves\nVersion: {version}\n", f"[mld]\nwaves = {module}\n".encode()
        )
    assert Registry().installed()["waves"] == "mld-waves 2.0"
    assert damaged_distributions() == []
