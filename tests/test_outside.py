"""From outside: the wheel in a fresh environment, and a modality that is generated there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PIP = ["--disable-pip-version-check", "--no-deps", "--quiet"]


class Outside:
    """A folder and a virtual environment that has this one's libraries, but not this checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder / "venv", with_pip=False, symlinks=True)
        self.python = folder / "venv" / "bin" / "python"
        site = Path(self.run(self.python, "-c", "import site; print(site.getsitepackages()[0])"))
        # A folder in a .pth file is put on the path, and its own .pth files are not read: so
        # libraries are found, and editable installs are not.
        (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(self, *words: object, code: int = 0) -> str:
        """What a command prints, run in the folder; it must end with the code."""
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        done = subprocess.run(
            [str(word) for word in words],
            cwd=self.folder,
            env={**environment, "MLD_STORE": str(self.folder / "store")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def mld(self, *words: str, code: int = 0) -> str:
        """What `mld` prints."""
        return self.run(self.folder / "venv" / "bin" / "mld", *words, code=code)

    def pip(self, *words: object) -> None:
        """Work on the environment with the pip of this one."""
        self.run(sys.executable, "-m", "pip", "--python", self.python, *words)

    def install(self, *words: object) -> None:
        """Install without libraries and without an index."""
        self.pip("install", *PIP, "--no-build-isolation", "--ignore-installed", *words)

    def kinds(self) -> dict[str, str]:
        """The usable modalities and datasets, each with its distribution and version."""
        told = [
            entry
            for manifest_rows in ("modalities", "datasets")
            for entry in json.loads(self.mld(manifest_rows, "--strict", "--json"))
        ]
        return {entry["kind"]: f"{entry['distribution']} {entry['version']}" for entry in told}


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Outside:
    """The project's wheel, installed."""
    folder = tmp_path_factory.mktemp("outside")
    made = Outside(folder)
    wheel = [sys.executable, "-m", "pip", "wheel", *PIP, "--no-build-isolation"]
    made.run(*wheel, "--wheel-dir", folder / "wheels", ROOT)
    (file,) = (folder / "wheels").glob("mld_toolkit-*.whl")
    made.install(file)
    return made


@pytest.mark.slow
def test_the_wheel_alone_is_whole(outside: Outside) -> None:
    where = "import mld, mld_core, mld_text; print(mld.__file__, mld_core.__file__)"
    for file in outside.run(outside.python, "-c", where).split():
        assert Path(file).is_relative_to(outside.folder)
    assert {"image", "audio", "text", "molecule", "examples", "manifest"} <= set(outside.kinds())


@pytest.mark.slow
@pytest.mark.parametrize("editable", [False, True], ids=["wheel", "editable"])
def test_a_generated_modality_is_installed_used_and_uninstalled(
    outside: Outside, editable: bool
) -> None:
    before = outside.kinds()
    folder = outside.folder / ("editable" if editable else "wheel")
    generated = outside.mld("new-modality", "spectrum", "--into", str(folder))
    outside.install(*(["--editable"] if editable else []), generated)
    try:
        assert outside.kinds() == before | {"spectrum": "mld-spectrum 0.1.0"}
        assert "taken" in _refusal(outside, folder)
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
            made = outside.mld("sample", run, "--given", "word=seven", "--want", "signal")
            assert Path(outside.folder, made).is_file()
    finally:
        outside.pip("uninstall", "--yes", "--quiet", "mld-spectrum")
    assert outside.kinds() == before
    outside.mld("spec", "validate", spec, code=3)


@pytest.mark.slow
def test_the_example_distribution_passes_its_own_tests(outside: Outside) -> None:
    outside.install(ROOT / "examples" / "mld-trajectory")
    try:
        kinds = {"trajectory": "mld-trajectory 0.1.0", "mnist_strokes": "mld-trajectory 0.1.0"}
        assert kinds.items() <= outside.kinds().items()
        tests = ROOT / "examples" / "mld-trajectory" / "tests"
        outside.run(outside.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests)
    finally:
        outside.pip("uninstall", "--yes", "--quiet", "mld-trajectory")


def _refusal(outside: Outside, folder: Path) -> str:
    """What is said of a kind that is installed already."""
    words = [outside.folder / "venv" / "bin" / "mld", "new-modality", "spectrum"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 2
    return done.stderr
