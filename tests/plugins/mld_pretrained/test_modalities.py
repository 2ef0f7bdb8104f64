"""Pretrained autoencoders of pictures, sounds and texts, on small models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mld.config.spec import load_spec
from mld.conformance import check_modality
from mld.inference.trained_run import load
from mld.pipeline.run import run
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld_core import DataError, LimitError, Registry, RunDirError, SpecError

pytestmark = pytest.mark.slow  # to import diffusers and transformers takes ten seconds

SPEC = """
name: pretrained
data: {kind: examples, train: 40, validation: 20, test: 20}
modalities:
  digit: {kind: pretrained-image, weights: ./vae, size: 16, channels: 1}
  word: {kind: text}
autoencode: {steps: 2, batch_size: 8}
diffuse:
  network: {kind: transformer, width: 32, depth: 1, patch: 2}
  steps: 2
  batch_size: 8
generate: {num_samples: 4, num_previews: 1, steps: 2}
evaluate: {steps: 2, batch_size: 8}
compute: {threads: 1}
"""


def modality_of(kind: str, **settings: Any) -> Any:
    """A fitted modality."""
    modality_class = Registry().modality(kind)
    config = modality_class.Config(**settings)
    return modality_class(config, modality_class.fit(config, iter([])))


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "channels"), [("AutoencoderKL", 4), ("AutoencoderDC", 8), ("AutoencoderTiny", 4)]
)
def test_images_become_grids(
    save_image_model: Callable[..., Path], name: str, channels: int
) -> None:
    import diffusers

    folder = save_image_model(name)
    modality = modality_of("pretrained-image", weights=str(folder), size=16)
    assert modality.latent_shape == (channels, 8, 8)
    autoencoder = modality.autoencoder().train()
    assert not any(module.training for module in autoencoder.modules())
    assert not any(parameter.requires_grad for parameter in autoencoder.parameters())
    assert set(autoencoder.reference["files"]) == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }
    x = torch.rand(2, 3, 16, 16)
    decoded = autoencoder.decode(autoencoder.encode(x))
    model = getattr(diffusers, name).from_pretrained(folder).eval()
    with torch.no_grad():
        (z,) = model.encode(2 * x - 1, return_dict=False)
        z = z.mode() if name == "AutoencoderKL" else z
        expected = model.decode(z).sample / 2 + 0.5
    torch.testing.assert_close(decoded, expected.clamp(0, 1))


@pytest.mark.long
@pytest.mark.parametrize(("name", "channels"), [("encodec", 8), ("dac", 16)])
def test_sounds_become_sequences(
    save_audio_model: Callable[..., Path], tmp_path: Path, name: str, channels: int
) -> None:
    modality = modality_of("pretrained-audio", weights=str(save_audio_model(name)), seconds=0.25)
    assert modality.facts == {"sample_rate": 8000, "latent_shape": [32, channels]}
    sound = 0.5 * np.sin(np.arange(2 * 1000, dtype=np.float32)), 16000
    x = modality.preprocess(sound)
    assert x.shape == (2000,)
    assert not x[1000:].any()
    autoencoder = modality.autoencoder()
    z = autoencoder.encode(x[None])
    assert z.shape == (1, 32 * channels)
    assert autoencoder.decode(z).shape == (1, 2000)
    # Positions are in order: a later sound changes none that ends well before it.
    later = x.clone()
    later[1500:] = 0.5
    first, second = (autoencoder.encode(each[None]).view(32, channels) for each in (x, later))
    assert not torch.equal(first[28:], second[28:])
    if name == "dac":
        torch.testing.assert_close(first[:15], second[:15])
    read = modality.preprocess(modality.read(modality.write(x, tmp_path / "x")))
    torch.testing.assert_close(read, x, atol=1e-4, rtol=0)


@pytest.mark.long
def test_the_decoder_of_a_text_sees_what_the_encoder_gave(text_model: Path) -> None:
    """As if the model were given the text itself."""
    import transformers

    modality = modality_of("pretrained-text", weights=str(text_model), max_tokens=40)
    assert modality.latent_shape == (40, 17)
    texts = ["the number two", "it says!", ""]
    x = torch.stack([modality.preprocess(text) for text in texts])
    autoencoder = modality.autoencoder()
    z = autoencoder.encode(x)
    tokenizer = transformers.AutoTokenizer.from_pretrained(text_model)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(text_model).eval()
    decoded, losses = autoencoder.decode(z), autoencoder.loss(z, x)
    written = [modality.cell(row) for row in decoded]
    assert len(set(written)) > 1
    for text, again, loss in zip(texts, written, losses, strict=True):
        tokens = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            generated = model.generate(**tokens, num_beams=1, do_sample=False, max_new_tokens=40)
            nats = model(**tokens, labels=tokens.input_ids).loss * tokens.input_ids.shape[1]
        expected = tokenizer.decode(generated[0], skip_special_tokens=True)
        assert again == modality.cell(modality._decoded().preprocess(expected))
        torch.testing.assert_close(loss, nats, rtol=1e-4, atol=1e-4)


@pytest.mark.long
def test_a_text_with_too_many_tokens(text_model: Path) -> None:
    settings = {"weights": str(text_model), "max_tokens": 6}
    with pytest.raises(LimitError, match="has 10 tokens, more than max_tokens = 6") as error:
        modality_of("pretrained-text", **settings).preprocess("qwertyui")
    assert (error.value.setting, error.value.needed) == ("max_tokens", 10)
    modality = modality_of("pretrained-text", **settings, too_long="truncate")
    assert modality.cell(modality.preprocess("qwertyui")) == "qwer"


@pytest.mark.long
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 15}, "size: the pretrained model needs a multiple of 2, not 15"),
        ({"channels": 1}, "channels: the pretrained model has 3, not 1"),
    ],
)
def test_a_model_that_does_not_fit_the_images(
    save_image_model: Callable[..., Path], settings: dict[str, int], message: str
) -> None:
    folder = save_image_model("AutoencoderTiny")
    with pytest.raises(SpecError, match=message):
        modality_of("pretrained-image", weights=str(folder), **{"size": 16, **settings})


@pytest.mark.long
def test_models_that_are_not_supported(
    save_image_model: Callable[..., Path], save_audio_model: Callable[..., Path], text_model: Path
) -> None:
    stereo = save_audio_model("encodec", audio_channels=2)
    with pytest.raises(SpecError, match="choose one for mono"):
        modality_of("pretrained-audio", weights=str(stereo))
    with pytest.raises(SpecError, match="the model is bart, but must be encodec or dac"):
        modality_of("pretrained-audio", weights=str(text_model))
    with pytest.raises(DataError, match="cannot be loaded as a model"):
        modality_of("pretrained-text", weights=str(save_audio_model("dac")))
    with pytest.raises(SpecError, match="max_tokens: the pretrained model takes 64 at most"):
        modality_of("pretrained-text", weights=str(text_model), max_tokens=65)
    folder = save_image_model("AutoencoderTiny")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "_class_name": "VQModel"}))
    with pytest.raises(DataError, match="the model is VQModel, but must be one of AutoencoderKL"):
        modality_of("pretrained-image", weights=str(folder), size=16)


def test_a_run_with_pretrained_pictures(
    save_image_model: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "vae"
    shutil.copytree(save_image_model("AutoencoderKL", channels=1), folder)
    (tmp_path / "spec.yaml").write_text(SPEC)
    registry = Registry()
    spec, run_dir = load_spec(tmp_path / "spec.yaml", registry), RunDir(tmp_path / "run")
    run(spec, run_dir, registry, store=WeightStore(tmp_path / "store"))
    assert [path.stem for path in (run_dir.path / "autoencoders").iterdir()] == ["word"]
    reference = json.loads(run_dir.provenance.read_text())["references"]["digit"]
    assert reference["weights"] == str(folder)
    samples = load(run_dir.path, registry).sample({"word": "one"}, n=2)
    assert samples.items["digit"].shape == (2, 1, 16, 16)

    weights = folder / "diffusion_pytorch_model.safetensors"
    save_file({name: x + 1 for name, x in load_file(weights).items()}, weights)
    with pytest.raises(RunDirError, match=r"digit\.files\.diffusion_pytorch_model\.safetensors"):
        load(run_dir.path, registry)


RANDOM = {"latent-identifies-item": "the model has random weights"}


@pytest.mark.parametrize(
    ("kind", "xfail"),
    [("pretrained-image", RANDOM), ("pretrained-audio", {}), ("pretrained-text", RANDOM)],
)
@pytest.mark.long
@pytest.mark.usefixtures("warm_checks")
def test_conformance(
    save_image_model: Callable[..., Path],
    save_audio_model: Callable[..., Path],
    text_model: Path,
    kind: str,
    xfail: dict[str, str],
) -> None:
    settings: dict[str, dict[str, Any]] = {
        "pretrained-image": {"weights": str(save_image_model("AutoencoderTiny")), "size": 16},
        "pretrained-audio": {"weights": str(save_audio_model("dac")), "seconds": 0.25},
        "pretrained-text": {"weights": str(text_model), "max_tokens": 40},
    }
    records = check_modality(kind, settings[kind], xfail=xfail)
    assert {record.check: record.reason for record in records if record.failed} == {}
    skipped = {record.check for record in records if record.status == "skipped"}
    assert "reference-decides-weights" not in skipped
