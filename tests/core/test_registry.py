"""A plugin that cannot be used is recorded with its reason, and hurts nobody else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, PathDistribution
from pathlib import Path

import pytest

from mld_core import Registry, SpecError

GOOD = """
from mld_core import Dataset, DatasetConfig, hookimpl


class Rows(Dataset):
    \"\"\"Rows of nothing.

    More about them.
    \"\"\"

    kind = "rows"
    Config = DatasetConfig
    columns = {}
    classes = ()

    def split(self, name):
        return None


@hookimpl
def register_datasets():
    return [Rows]
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Registry]:
    """Make distributions with one module each, and a Registry that knows them."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def install(*plugins: tuple[str, str, str], extras: str = "") -> Registry:
        points = []
        for kind, module, code in plugins:
            (tmp_path / f"{module}.py").write_text(code)
            info = tmp_path / f"{module}-1.2.dist-info"
            info.mkdir()
            metadata = f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.2\n{extras}"
            (info / "METADATA").write_text(metadata)
            point = EntryPoint(kind, module, "mld")
            vars(point)["dist"] = PathDistribution(info)
            points.append(point)
        return Registry(points)

    yield install
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_good_plugin_is_found_and_used(install: Callable[..., Registry]) -> None:
    registry = install(("rows", "good_rows", GOOD))
    assert registry.kinds == ["rows"]
    assert registry.installed() == {"rows": "good_rows 1.2"}
    entry = registry.entry("rows")
    assert (entry.role, entry.distribution, entry.version) == ("dataset", "good_rows", "1.2")
    assert entry.summary == "Rows of nothing."
    assert registry.dataset("rows").kind == "rows"


def test_nothing_is_imported_before_its_kind_is_named(install: Callable[..., Registry]) -> None:
    registry = install(("rows", "good_rows", GOOD), ("other", "never_rows", "raise SystemExit"))
    registry.dataset("rows")
    assert "never_rows" not in sys.modules


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise RuntimeError('no luck')", "importing failed: RuntimeError: no luck"),
        ("import sys; sys.exit(3)", "importing failed: SystemExit: 3"),
        ("import absent_library.inner", "needs absent_library: pip install absent_library"),
        ("x = 1", "registers 0 classes; one entry point stands for one kind"),
        (GOOD.replace("return [Rows]", "return [Rows, Rows]"), "registers 2 classes"),
        (GOOD.replace("return [Rows]", "return [7]"), "registers 7, which is neither a Modality"),
        (GOOD.replace("return [Rows]", "raise KeyError('x')"), "its hooks failed: KeyError: 'x'"),
        (GOOD.replace("register_datasets", "register_dataset"), "unknown hook 'register_dataset'"),
        (
            GOOD.replace("register_datasets():", "register_datasets(a):"),
            "registering failed: Plugin",
        ),
        (GOOD.replace('kind = "rows"', 'kind = "lines"'), "Rows is of kind 'lines', not 'rows'"),
        (GOOD.replace('kind = "rows"', ""), "Rows has no class attribute 'kind'"),
        (GOOD.replace("def split", "def divide"), "Rows leaves abstract: split"),
    ],
)
def test_a_bad_plugin_is_recorded_with_its_reason(
    install: Callable[..., Registry], code: str, reason: str
) -> None:
    registry = install(
        ("rows", "bad_rows", code), ("fine", "fine_rows", GOOD.replace('"rows"', '"fine"'))
    )
    broken, fine = sorted(registry.entries(), key=lambda entry: entry.kind == "fine")
    assert broken.role == "broken"
    assert reason in broken.problem
    assert (broken.distribution, broken.version) == ("bad_rows", "1.2")
    assert fine.role == "dataset"
    with pytest.raises(SpecError, match=r"kind 'rows' \(bad_rows 1\.2\) cannot be used: "):
        registry.dataset("rows")


def test_an_extra_of_the_kinds_name_is_the_pip_line(install: Callable[..., Registry]) -> None:
    registry = install(
        ("rows", "bad_rows", "import absent_library"), extras="Provides-Extra: rows\n"
    )
    assert registry.entry("rows").problem == "needs absent_library: pip install 'bad_rows[rows]'"


def test_two_plugins_of_one_kind_clash(install: Callable[..., Registry]) -> None:
    registry = install(("rows", "a_rows", GOOD), ("rows", "b_rows", GOOD))
    assert "claimed twice, by a_rows a_rows and b_rows b_rows" in registry.entry("rows").problem


def test_what_a_plugin_prints_does_not_spoil_stdout(
    install: Callable[..., Registry], capsys: pytest.CaptureFixture[str]
) -> None:
    registry = install(("rows", "loud_rows", GOOD + "\nprint('hello from a plugin')\n"))
    assert registry.entry("rows").role == "dataset"
    out, err = capsys.readouterr()
    assert out == ""
    assert "hello from a plugin" in err


def test_an_unknown_kind_gets_the_nearest_right_word(install: Callable[..., Registry]) -> None:
    registry = install(("rows", "good_rows", GOOD))
    with pytest.raises(
        SpecError, match=r"'row' is installed \(installed: rows\); did you mean 'rows'"
    ):
        registry.dataset("row")
    with pytest.raises(SpecError, match="'rows' is a dataset, and a modality is wanted here"):
        registry.modality("rows")


def test_the_built_in_plugins_are_found_like_a_strangers() -> None:
    entries = {entry.kind: entry for entry in Registry().entries()}
    assert {"image", "audio", "text", "molecule", "examples", "manifest"} <= set(entries)
    assert all(entry.distribution == "mld-toolkit" for entry in entries.values())
