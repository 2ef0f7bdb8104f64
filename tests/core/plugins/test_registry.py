"""A plugin that cannot be used is recorded with its reason, and hurts nobody else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, PathDistribution
from pathlib import Path

import pytest

from mld_core import MLD_API, PluginError, Registry, SpecError

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

    def install(
        *plugins: tuple[str, str, str], extras: str = "", **selection: list[str]
    ) -> Registry:
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
        return Registry(points, **selection)

    yield install
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_valid_plugin(install: Callable[..., Registry]) -> None:
    registry = install(("rows", "good_rows", GOOD))
    assert registry.kinds == ["rows"]
    assert registry.installed() == {"rows": "good_rows 1.2"}
    entry = registry.entry("rows")
    assert (entry.role, entry.distribution, entry.version) == ("dataset", "good_rows", "1.2")
    assert entry.summary == "Rows of nothing."
    assert registry.dataset("rows").kind == "rows"


def test_entry_point_without_metadata(install: Callable[..., Registry], tmp_path: Path) -> None:
    install(("rows", "good_rows", GOOD))
    (tmp_path / "good_rows-1.2.dist-info" / "METADATA").unlink()
    point = EntryPoint("rows", "good_rows", "mld")
    vars(point)["dist"] = PathDistribution(tmp_path / "good_rows-1.2.dist-info")
    registry = Registry([point])
    assert registry.installed() == {"rows": "? ?"}
    assert registry.dataset("rows").kind == "rows"


def test_plugins_are_imported_on_first_use(install: Callable[..., Registry]) -> None:
    registry = install(("rows", "good_rows", GOOD), ("other", "never_rows", "raise SystemExit"))
    registry.dataset("rows")
    assert "never_rows" not in sys.modules


@pytest.mark.parametrize(
    ("code", "stage", "reason"),
    [
        ("raise RuntimeError('no luck')", "import", "import failed: RuntimeError: no luck"),
        ("import sys; sys.exit(3)", "import", "import failed: SystemExit: 3"),
        ("raise GeneratorExit", "import", "import failed: GeneratorExit: "),
        ("def", "import", "import failed: SyntaxError: "),
        (
            "import absent_library.inner",
            "import",
            "needs absent_library: pip install absent_library",
        ),
        ("import bad_rows.inner", "import", "needs the module bad_rows.inner, which is missing"),
        ("from mld_core import Rune", "import", "import failed: ImportError: cannot import"),
        (GOOD + "MLD_API = 2", "contract", "was written for version 2 of the plugin contract"),
        ("x = 1", "contract", "registers 0 classes instead of one per entry point (are its"),
        (
            GOOD.replace("return [Rows]", "return [Rows, Rows]"),
            "contract",
            "registers 2 classes instead of one per entry point",
        ),
        (GOOD.replace("return [Rows]", "return [7]"), "contract", "registers 7, which is not a"),
        (
            GOOD.replace("return [Rows]", "raise KeyError('x')"),
            "hooks",
            "hook call failed: KeyError: 'x'",
        ),
        (GOOD.replace("return [Rows]", "return Rows"), "hooks", "hook call failed: TypeError: "),
        (GOOD.replace("return [Rows]", "return (1 / 0 for _ in 'x')"), "hooks", "ZeroDivision"),
        (
            GOOD.replace("register_datasets", "register_dataset"),
            "hooks",
            "unknown hook 'register_dataset'",
        ),
        (
            GOOD.replace("register_datasets():", "register_datasets(a):"),
            "hooks",
            "hook registration failed: Plugin",
        ),
        (
            GOOD.replace('kind = "rows"', 'kind = "lines"'),
            "contract",
            "Rows.kind is 'lines', but its entry point is named 'rows'",
        ),
        (GOOD.replace('kind = "rows"', ""), "contract", "Rows has no class attribute 'kind'"),
        (
            GOOD.replace("Config = DatasetConfig", "Config = dict"),
            "contract",
            "Rows.Config must be a subclass of DatasetConfig",
        ),
        (GOOD.replace("def split", "def divide"), "contract", "Rows does not implement split"),
    ],
)
def test_invalid_plugin_is_recorded_with_its_reason(
    install: Callable[..., Registry], code: str, stage: str, reason: str
) -> None:
    registry = install(
        ("rows", "bad_rows", code), ("fine", "fine_rows", GOOD.replace('"rows"', '"fine"'))
    )
    broken, fine = sorted(registry.entries(), key=lambda entry: entry.kind == "fine")
    assert broken.role == "broken"
    assert broken.stage == stage
    assert reason in broken.problem
    assert (broken.distribution, broken.version) == ("bad_rows", "1.2")
    assert (fine.role, fine.stage) == ("dataset", "")
    with pytest.raises(SpecError, match=r"kind 'rows' \(bad_rows 1\.2\) cannot be used: "):
        registry.dataset("rows")


def test_plugin_with_the_current_contract_version(
    install: Callable[..., Registry],
) -> None:
    registry = install(("rows", "good_rows", GOOD + f"MLD_API = {MLD_API}"))
    assert registry.entry("rows").role == "dataset"


def test_keyboard_interrupt_during_import_propagates(install: Callable[..., Registry]) -> None:
    with pytest.raises(KeyboardInterrupt):
        install(("rows", "bad_rows", "raise KeyboardInterrupt")).entry("rows")


def test_missing_library_names_the_extra_of_the_kind(install: Callable[..., Registry]) -> None:
    registry = install(
        ("rows", "bad_rows", "import absent_library"), extras="Provides-Extra: rows\n"
    )
    assert registry.entry("rows").problem == "needs absent_library: pip install 'bad_rows[rows]'"


def test_two_plugins_of_one_kind(
    install: Callable[..., Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = install(("rows", "a_rows", GOOD), ("rows", "b_rows", GOOD))
    entries = registry.entries()
    assert [(entry.distribution, entry.stage) for entry in entries] == [
        ("a_rows", "claim"),
        ("b_rows", "claim"),
    ]
    assert all("claimed twice, by a_rows a_rows and b_rows b_rows" in e.problem for e in entries)
    with pytest.raises(SpecError, match="claimed twice"):
        registry.dataset("rows")
    points = [point for known in registry._points.values() for point in known]
    chosen = Registry(points, blocked=["b-rows"])
    assert chosen.entry("rows").distribution == "a_rows"
    assert "b_rows" not in sys.modules


@pytest.mark.parametrize(
    ("selection", "source", "left"),
    [
        ({"blocked": ["rows"]}, "MLD_NO_PLUGINS, --no-plugin or", ["lines"]),
        ({"blocked": ["A_Rows"]}, "MLD_NO_PLUGINS, --no-plugin or", ["lines"]),
        ({"blocked": ["a-rows", "lines"]}, "MLD_NO_PLUGINS, --no-plugin or", []),
        ({"blocked": ["1"]}, "MLD_NO_PLUGINS, --no-plugin or", []),
        ({"blocked": []}, "", ["lines", "rows"]),
        ({"allowed": ["rows"]}, "MLD_PLUGINS or", ["rows"]),
        ({"allowed": ["A_Rows", "b_rows"]}, "", ["lines", "rows"]),
        ({"allowed": []}, "", ["lines", "rows"]),
    ],
)
def test_plugins_are_selected_by_kind_or_distribution(
    install: Callable[..., Registry], selection: dict[str, list[str]], source: str, left: list[str]
) -> None:
    registry = install(
        ("rows", "A_Rows", GOOD),
        ("lines", "b_rows", GOOD.replace('"rows"', '"lines"')),
        **selection,
    )
    assert registry.kinds == left
    assert set(registry.installed()) == set(left)
    entries = {entry.kind: entry for entry in registry.entries()}
    assert {kind for kind, entry in entries.items() if entry.role == "dataset"} == set(left)
    for kind in {"rows", "lines"} - set(left):
        assert entries[kind].role == entries[kind].stage == "blocked"
        assert {"rows": "A_Rows", "lines": "b_rows"}[kind] not in sys.modules
        with pytest.raises(SpecError, match=f"cannot be used: blocked by {source}"):
            registry.dataset(kind)


@pytest.mark.parametrize(
    ("argument", "variable"), [("allowed", "MLD_PLUGINS"), ("blocked", "MLD_NO_PLUGINS")]
)
def test_selecting_an_uninstalled_plugin_is_an_error(
    install: Callable[..., Registry], argument: str, variable: str
) -> None:
    with pytest.raises(PluginError, match=rf"{variable}.* names 'row'.*; did you mean 'rows'"):
        install(("rows", "good_rows", GOOD), **{argument: ["row"]})


def test_output_of_a_plugin_goes_to_stderr(
    install: Callable[..., Registry], capsys: pytest.CaptureFixture[str]
) -> None:
    registry = install(("rows", "loud_rows", GOOD + "\nprint('hello from a plugin')\n"))
    assert registry.entry("rows").role == "dataset"
    out, err = capsys.readouterr()
    assert out == ""
    assert "hello from a plugin" in err


def test_unknown_kind_suggests_the_nearest_one(install: Callable[..., Registry]) -> None:
    registry = install(("rows", "good_rows", GOOD))
    with pytest.raises(
        SpecError, match=r"'row' is installed \(installed: rows\); did you mean 'rows'"
    ):
        registry.dataset("row")
    with pytest.raises(SpecError, match="'rows' is a dataset, but a modality is required here"):
        registry.modality("rows")


def test_built_in_plugins_are_discovered() -> None:
    entries = {entry.kind: entry for entry in Registry().entries()}
    assert {"image", "audio", "text", "molecule", "examples", "manifest"} <= set(entries)
    assert all(entry.distribution == "mld-toolkit" for entry in entries.values())


def test_missing_library_names_the_extra_that_requires_it(install: Callable[..., Registry]) -> None:
    # Installers list extras that include others with all that they bring.
    extras = "".join(
        f"Requires-Dist: {library}; extra == '{extra}'\n"
        for extra, library in (
            ("all", "absent_library>=2"),
            ("all", "another"),
            ("tables", "absent_library>=2"),
            ("other", "absent_library_2"),
        )
    )
    registry = install(("rows", "bad_rows", "import absent_library.inner"), extras=extras)
    entry = registry.entry("rows")
    assert entry.problem == "needs absent_library: pip install 'bad_rows[tables]'"
    assert (entry.role, entry.stage) == ("not installed", "extra")


INLINE = """
from mld_core import Modality, ModalityConfig, hookimpl


class Cells(Modality):
    kind = "cells"
    Config = ModalityConfig
    inline = True
    read = preprocess = autoencoder = classifier = write = examples = None


@hookimpl
def register_modalities():
    return [Cells]
"""


def test_inline_modality_without_cell(install: Callable[..., Registry]) -> None:
    registry = install(("cells", "bad_cells", INLINE))
    message = "Cells does not implement cell, which an inline modality needs"
    assert registry.entry("cells").problem == message


METHOD = """
from mld_core import JointModel, Method, MethodConfig, hookimpl


class Guess(Method):
    \"\"\"Guesses.\"\"\"

    kind = "guess"
    Config = MethodConfig

    def model(self, autoencoders):
        raise NotImplementedError


@hookimpl
def register_methods():
    return [Guess]
"""


def test_valid_method(install: Callable[..., Registry]) -> None:
    registry = install(("guess", "good_guess", METHOD))
    assert registry.entry("guess").role == "method"
    assert registry.method("guess").kind == "guess"
    with pytest.raises(SpecError, match="'guess' is a method, but a dataset is required here"):
        registry.dataset("guess")
