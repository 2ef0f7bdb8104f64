"""The command line in an empty folder, with all plugins or with the small test modalities alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mld.app import app

PLUGINS = Path(__file__).parent.parent / "plugins"


@pytest.fixture
def mld(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(app, list(args), env={"COLUMNS": "200"})


@pytest.fixture
def mld_small(mld: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The same, where only the small modalities are installed; small.yaml is their spec."""
    monkeypatch.syspath_prepend(str(PLUGINS))
    import small_run

    monkeypatch.setattr("mld_core.plugins.registry.Registry", small_run.registry)
    Path("small.yaml").write_text(small_run.SPEC)
    return mld


@pytest.fixture
def quick() -> list[str]:
    """Overrides of small.yaml that shorten the training."""
    sections = ("autoencode", "diffuse", "evaluate")
    return [word for section in sections for word in ("--set", f"{section}.steps=20")]


@pytest.fixture
def offline_spec() -> str:
    """A valid spec over plugins that are included."""
    return """\
name: bad
data: {kind: examples, train: 40, validation: 10, test: 10}
modalities:
  word: {kind: text, latent_dim: 4}
  digit: {kind: image, latent_dim: 4, size: 8, channels: 1}
generate: {steps: 5}
"""
