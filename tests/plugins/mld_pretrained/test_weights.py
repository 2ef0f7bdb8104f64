"""Where pretrained weights are looked for, and what is said if they are missing."""

from __future__ import annotations

import hashlib
import sys
from importlib import util
from pathlib import Path

import pytest
from pydantic import ValidationError

from mld_core import DataError, Registry, SpecError
from mld_pretrained.config import PretrainedConfig
from mld_pretrained.weights import DIFFUSERS_FILES, find_files

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = "diffusion_pytorch_model.safetensors"


def write_model(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("config.json", WEIGHTS, "diffusion_pytorch_model.bin", "notes.txt"):
        (folder / name).write_text(name)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub, without a network."""
    reason = "needs the extra pretrained"
    constants = pytest.importorskip("huggingface_hub.constants", reason=reason)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": "vae"}, "'vae' is no name on the Hugging Face Hub"),
        (
            {"weights": "owner/name"},
            r"a commit of owner/name.* write \./owner/name",
        ),
        ({"weights": "owner/name", "revision": "main"}, "should match pattern"),
        ({"weights": "./vae", "revision": COMMIT}, "remove it beside a folder"),
        ({"weights": "./vae", "subfolder": "../other"}, "should match pattern"),
        ({"weights": "./vae", "latent_dim": 4}, "remove latent_dim"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PretrainedConfig.model_validate(settings)


def test_a_folder_is_relative_to_the_spec(tmp_path: Path) -> None:
    context = {"folder": tmp_path}
    config = PretrainedConfig.model_validate({"weights": "./vae"}, context=context)
    assert config.weights == str(tmp_path / "vae")
    assert PretrainedConfig.model_validate_json(config.model_dump_json()) == config


def test_a_reference_digests_what_is_loaded_alone(tmp_path: Path) -> None:
    write_model(tmp_path / "model" / "vae")
    config = PretrainedConfig(weights=str(tmp_path / "model"), subfolder="vae")
    assert find_files(config, DIFFUSERS_FILES).reference() == {
        "weights": str(tmp_path / "model"),
        "revision": None,
        "files": {"config.json": sha256("config.json"), WEIGHTS: sha256(WEIGHTS)},
    }
    (tmp_path / "model" / "vae" / WEIGHTS).unlink()
    with pytest.raises(DataError, match=rf"vae: needs config.json and {WEIGHTS}"):
        find_files(config, DIFFUSERS_FILES)


def test_cached_weights_need_no_network(hub_cache: Path) -> None:
    snapshot = hub_cache / "models--owner--name" / "snapshots" / COMMIT
    write_model(snapshot / "vae")
    config = PretrainedConfig(weights="owner/name", revision=COMMIT, subfolder="vae")
    files = find_files(config, DIFFUSERS_FILES)
    assert [path.name for path in files.paths] == ["config.json", WEIGHTS]
    assert files.reference()["revision"] == COMMIT


@pytest.mark.parametrize("cached", [False, True])
def test_missing_weights_name_the_command_that_downloads_them(
    hub_cache: Path, cached: bool
) -> None:
    if cached:  # only the configuration
        write_model(hub_cache / "models--owner--name" / "snapshots" / COMMIT)
        (hub_cache / "models--owner--name" / "snapshots" / COMMIT / WEIGHTS).unlink()
    config = PretrainedConfig(weights="owner/name", revision=COMMIT)
    with pytest.raises(DataError) as error:
        find_files(config, DIFFUSERS_FILES)
    command = f"`hf download owner/name --revision {COMMIT} --include 'config.json' '{WEIGHTS}'"
    assert command in str(error.value)


@pytest.mark.parametrize("kind", ["pretrained-image", "pretrained-audio", "pretrained-text"])
def test_a_missing_library_names_the_extra(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    monkeypatch.delitem(
        sys.modules, f"mld_pretrained.{kind.removeprefix('pretrained-')}", raising=False
    )
    with pytest.raises(SpecError, match=r"pip install 'mld-toolkit\[pretrained\]'"):
        Registry(allowed=[kind]).modality(kind)
