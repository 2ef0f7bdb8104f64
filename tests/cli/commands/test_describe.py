"""`mld describe`: a plugin's settings, data and metrics, from its class."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from typer.testing import Result

from mld_core import Registry

THIRD_PARTY = '''
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from mld_core import Dataset, DatasetConfig, SpecPath, hookimpl


class Window(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    seconds: float = Field(1, gt=0, le=10, description="length of a window")
    hop: float = Field(description="distance of windows")


class ReadingsConfig(DatasetConfig):
    folder: SpecPath = Field(description="where the readings are")
    mode: Literal["raw", "clean"] = Field("raw", description="which readings")
    sizes: list[int] = Field([], max_length=3, description="sizes of sensors")
    weights: dict[str, float] = Field({}, description="by sensor")
    limit: int | Literal["auto"] = Field("auto", description="rows at most")
    span: Window = Field(description="how long")
    window: Window = Field(Window(seconds=2, hop=1), description="how to cut")
    trim: Window | None = Field(None, description="how to trim")


class Readings(Dataset):
    """Readings of sensors.

    One row for each hour.
    """

    kind = "readings"
    Config = ReadingsConfig
    columns = {}
    classes = ()

    def split(self, name):
        raise OSError


@hookimpl
def register_datasets():
    return [Readings]
'''


def test_modality(mld: Callable[..., Result]) -> None:
    result = mld("describe", "number")
    assert result.exit_code == 0, result.output
    first, _, summary, *_ = result.stdout.splitlines()
    assert first.startswith("number: a modality of mld-toolkit ")
    assert summary == "One real number, or a fixed few in one cell."
    assert "`raw` is a float" in result.stdout
    assert "A cell of a manifest holds the value itself." in result.stdout
    words = " ".join(result.stdout.split())
    assert "size whole number, 1 to 64; default 1 how many numbers a cell holds" in words
    assert 'scale standard or quantile; default "standard"' in words
    assert "minimum number; default null" in words
    assert "rmse lower is better of reconstructions, and of samples given other" in words
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_json_of_a_modality_with_a_required_width(mld_small: Callable[..., Result]) -> None:
    record = json.loads(mld_small("describe", "points", "--json").stdout)
    assert record["role"] == "modality"
    assert record["inline"] is False
    setting, column = record["settings"]
    assert setting["required"]
    assert (column["name"], column["type"], column["default"]) == ("column", "text", None)
    assert (setting["name"], setting["range"], setting["default"]) == (
        "latent_dim",
        "above 0",
        None,
    )
    assert record["metrics"] == {
        "rms": {
            "against": "truth",
            "better": "lower",
            "best": 0.0,
            "unit": "",
            "bounds": [None, None],
        }
    }


def test_dataset_of_a_third_party(
    mld: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mld_readings.py").write_text(THIRD_PARTY)
    monkeypatch.syspath_prepend(str(tmp_path))
    points = [EntryPoint("readings", "mld_readings", "mld")]
    monkeypatch.setattr("mld_core.plugins.registry.Registry", partial(Registry, points))
    record = json.loads(mld("describe", "readings", "--json").stdout)
    settings = {each["name"]: each for each in record["settings"]}
    assert {name: (each["type"], each["range"]) for name, each in settings.items()} == {
        "folder": ("path", ""),
        "mode": ("raw or clean", ""),
        "sizes": ("list of whole number", "at most 3 values"),
        "weights": ("mapping of names to number", ""),
        "limit": ("whole number or auto", ""),
        "span.seconds": ("number", "at most 10, above 0"),
        "span.hop": ("number", ""),
        "window.seconds": ("number", "at most 10, above 0"),
        "window.hop": ("number", ""),
        "trim.seconds": ("number", "at most 10, above 0"),
        "trim.hop": ("number", ""),
        "on_invalid": ("error or empty or drop", ""),
        "missing.rate": ("number or mapping of names to number", "at least 0, below 1"),
        "missing.mechanism": ("mcar or by-label", ""),
    }
    assert settings["window.seconds"]["default"] == 2
    assert [name for name, each in settings.items() if each["required"]] == ["folder", "span.hop"]
    assert "One row for each hour." in mld("describe", "readings").stdout


def test_method_with_the_settings_of_every_method(mld_small: Callable[..., Result]) -> None:
    text = mld_small("describe", "relay").stdout
    assert text.startswith("relay: a method of ")
    assert "steps" in text
    assert "whole number, above 0; default 2000" in text
    assert "metrics" not in text


def test_unknown_kind_names_the_nearest(mld_small: Callable[..., Result]) -> None:
    result = mld_small("describe", "pionts")
    assert result.exit_code == 3
    assert "did you mean 'points'?" in result.stderr


def test_metrics_that_depend_on_required_settings(
    mld_small: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mld_points
    from pydantic import create_model

    config = create_model("Config", __base__=mld_points.ModalityConfig, width=(int, ...))
    monkeypatch.setattr(mld_points.Points, "Config", config)
    assert "not listed, since they depend on the required settings" in (
        mld_small("describe", "points").stdout
    )
