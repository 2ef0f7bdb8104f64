"""Outside the checkout: the wheel in a new environment, and a modality generated there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent
PLUGINS = sorted((ROOT / "plugins").glob("mld_*"))
PIP = ["--disable-pip-version-check", "--no-deps", "--quiet"]


class Outside:
    """A folder with a virtual environment that has the libraries of this one, but not mld."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder / "venv", with_pip=False, symlinks=True)
        self.python = folder / "venv" / "bin" / "python"
        site = Path(self.run(self.python, "-c", "import site; print(site.getsitepackages()[0])"))
        # A folder that a .pth file adds to the path is not searched for further .pth files: the
        # libraries can be imported, but editable installs cannot.
        (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(self, *words: object, code: int = 0) -> str:
        """Output of a command in the folder. It must end with the exit code `code`."""
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        process = subprocess.run(
            [str(word) for word in words],
            cwd=self.folder,
            env={**environment, "MLD_STORE": str(self.folder / "store")},
            capture_output=True,
            text=True,
        )
        assert process.returncode == code, f"{process.stdout}\n{process.stderr}"
        return process.stdout.strip()

    def mld(self, *words: str, code: int = 0) -> str:
        """Output of `mld`."""
        return self.run(self.folder / "venv" / "bin" / "mld", *words, code=code)

    def pip(self, *words: object) -> None:
        """Run the pip of this environment on the other."""
        self.run(sys.executable, "-m", "pip", "--python", self.python, *words)

    def install(self, *words: object) -> None:
        """Install without libraries and without an index."""
        self.pip("install", *PIP, "--no-build-isolation", "--ignore-installed", *words)

    def kinds(self) -> dict[str, str]:
        """Distribution and version of each usable modality and dataset."""
        entries = [
            entry
            for command in ("modalities", "datasets")
            for entry in json.loads(self.mld(command, "--strict", "--json"))
        ]
        return {entry["kind"]: f"{entry['distribution']} {entry['version']}" for entry in entries}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("built")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    return folder


def wheel_of(built: Path) -> Path:
    (wheel,) = built.glob("mld_toolkit-*.whl")
    return wheel


@pytest.fixture(scope="module")
def outside(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Outside:
    """An environment with the project's wheel."""
    environment = Outside(tmp_path_factory.mktemp("outside"))
    environment.install(wheel_of(built))
    return environment


@pytest.mark.slow
def test_wheel_of_the_source_distribution_has_every_file(built: Path) -> None:
    """Also templates, styles, scripts and the types; each as it is in the checkout."""
    packages = ["mld_core", "cli/mld", *(f"plugins/{each.name}" for each in PLUGINS)]
    expected = {
        path.relative_to((ROOT / package).parent).as_posix(): path.read_bytes()
        for package in packages
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with ZipFile(wheel_of(built)) as wheel:
        packed = {name: wheel.read(name) for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == expected
    assert {Path(name).suffix for name in packed} >= {".py", ".pyi", ".typed", ".j2", ".js", ".css"}
    # As on the page of a package index.
    command = [sys.executable, "-m", "twine", "check", "--strict", *built.iterdir()]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.slow
def test_wheel_works_as_users_try_it(outside: Outside) -> None:
    output = outside.run(outside.python, ROOT / ".ci" / "try_package.py")
    assert output.endswith("everything works")


@pytest.mark.slow
def test_wheel_is_installed_in_the_place_of_the_checkout(outside: Outside) -> None:
    where = "import mld, mld_core, mld_text; print(mld.__file__, mld_core.__file__)"
    for file in outside.run(outside.python, "-c", where).split():
        assert Path(file).is_relative_to(outside.folder)
    assert {"image", "audio", "text", "molecule", "examples", "manifest"} <= set(outside.kinds())


@pytest.mark.slow
@pytest.mark.parametrize(
    "editable",
    [pytest.param(False, id="wheel", marks=pytest.mark.long), pytest.param(True, id="editable")],
)
def test_generated_modality_is_installed_and_used(outside: Outside, editable: bool) -> None:
    before = outside.kinds()
    folder = outside.folder / ("editable" if editable else "wheel")
    generated = outside.mld("new-modality", "spectrum", "--into", str(folder))
    outside.install(*(["--editable"] if editable else []), generated)
    try:
        assert outside.kinds() == before | {"spectrum": "mld-spectrum 0.1.0"}
        assert "taken" in _duplicate_error(outside, folder)
        spec = f"{generated}/spectrum.yaml"
        if editable:
            outside.mld("spec", "validate", spec)
        else:
            run = str(folder / "run")
            outside.mld("run", spec, "--out", run, "--set", "compute.threads=1")
            scores = json.loads(Path(run, "metrics.json").read_text())
            assert scores["joint_coherence"]["low"] > 0.8
            checked = json.loads(outside.mld("check", "spectrum", "--slow", "--json"))
            assert checked["passed"] == checked["run"] >= 25
            sample = outside.mld("sample", run, "--given", "word=seven", "--want", "signal")
            assert Path(outside.folder, sample).is_file()
    finally:
        outside.pip("uninstall", "--yes", "--quiet", "mld-spectrum")
    assert outside.kinds() == before
    outside.mld("spec", "validate", spec, code=3)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    "command", [["new-modality", "--inline"], ["new-dataset"], ["new-method"]], ids=" ".join
)
def test_other_generated_plugins_are_installed_and_pass_their_tests(
    outside: Outside, command: list[str]
) -> None:
    folder = outside.folder / command[-1].strip("-")
    generated = Path(outside.mld(*command, "probe", "--into", str(folder)))
    outside.install(generated)
    try:
        outside.mld("describe", "probe")
        outside.mld("spec", "validate", str(generated / "probe.yaml"))
        tests = generated / "tests"
        outside.run(outside.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests)
    finally:
        outside.pip("uninstall", "--yes", "--quiet", "mld-probe")


@pytest.mark.slow
def test_example_distribution_passes_its_tests(outside: Outside) -> None:
    outside.install(ROOT / "examples" / "mld-trajectory")
    try:
        kinds = {"trajectory": "mld-trajectory 0.1.0", "mnist_strokes": "mld-trajectory 0.1.0"}
        assert kinds.items() <= outside.kinds().items()
        tests = ROOT / "examples" / "mld-trajectory" / "tests"
        outside.run(outside.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests)
    finally:
        outside.pip("uninstall", "--yes", "--quiet", "mld-trajectory")


def _duplicate_error(outside: Outside, folder: Path) -> str:
    """Error of `mld new-modality` for a kind that is installed."""
    words = [outside.folder / "venv" / "bin" / "mld", "new-modality", "spectrum"]
    process = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert process.returncode == 2
    return process.stderr
