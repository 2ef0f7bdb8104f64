"""A modality "dots", a dataset "table", a plugin that cannot be imported, and specs over them."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from pydantic import Field, PositiveInt, field_validator

from mld.config.spec import Spec, load_spec
from mld_core import (
    Dataset,
    DatasetConfig,
    Method,
    MethodConfig,
    Modality,
    ModalityConfig,
    Registry,
    SpecError,
    SpecPath,
    hookimpl,
)


class DotsConfig(ModalityConfig):
    latent_dim: PositiveInt = Field(description="width of the latent of one item")
    size: int = Field(4, ge=1, le=64, description="dots on a side")
    shape: str = "round"

    @field_validator("shape")
    @classmethod
    def _known(cls, shape: str) -> str:
        if shape == "crash":
            raise TypeError("no such shape")
        if shape != "round":
            raise ValueError("must be round")
        return shape


class Dots(Modality):
    """Dots on a grid."""

    kind = "dots"
    Config = DotsConfig
    read = preprocess = autoencoder = classifier = write = examples = None


class TableConfig(DatasetConfig):
    path: SpecPath | None = None


class Table(Dataset):
    """A table."""

    kind = "table"
    Config = TableConfig
    columns = classes = split = None


class GuessConfig(MethodConfig):
    luck: float = 0.5


class Guess(Method):
    """Random numbers."""

    kind = "guess"
    Config = GuessConfig
    model = None


def plugin(kind: str, **hooks: type) -> ModuleType:
    module = ModuleType(kind)
    for name, plugin_class in hooks.items():
        setattr(module, name, hookimpl(lambda plugin_class=plugin_class: [plugin_class]))
    return module


PLUGINS = SimpleNamespace(
    dots=plugin("dots", register_modalities=Dots),
    guess=plugin("guess", register_methods=Guess),
    table=plugin("table", register_datasets=Table),
)

VALID = """\
name: digits
data: {kind: table}
modalities:
  left: {kind: dots, latent_dim: 8}
  right: {kind: dots, latent_dim: 4, size: 9}
"""
"""The five lines that precede the rest of a spec in most tests."""


@pytest.fixture
def registry() -> Registry:
    points = [EntryPoint(kind, f"{__name__}:PLUGINS.{kind}", "mld") for kind in vars(PLUGINS)]
    return Registry([*points, EntryPoint("broken", "a_module_that_is_not_there", "mld")])


@pytest.fixture
def load_text(tmp_path, monkeypatch, registry) -> Callable[..., Spec]:
    """Load a text, after overrides, as the file digits.yaml."""
    monkeypatch.chdir(tmp_path)

    def load_text(text: str, *overrides: str) -> Spec:
        source = Path("digits.yaml")
        source.write_text(text, encoding="utf-8")
        return load_spec(source, registry, overrides)

    return load_text


@pytest.fixture
def load(load_text) -> Callable[..., Spec]:
    """Load a valid spec with more lines, after overrides."""
    return lambda rest="", *overrides: load_text(VALID + rest, *overrides)


@pytest.fixture
def text_errors(load_text) -> Callable[..., list[str]]:
    """The lines of the SpecError that a text raises."""

    def text_errors(text: str, *overrides: str) -> list[str]:
        with pytest.raises(SpecError) as caught:
            load_text(text, *overrides)
        return str(caught.value).splitlines()

    return text_errors


@pytest.fixture
def errors(text_errors) -> Callable[..., list[str]]:
    """The lines of the SpecError that a valid spec with more lines, from line 6 on, raises."""
    return lambda rest="", *overrides: text_errors(VALID + rest, *overrides)
