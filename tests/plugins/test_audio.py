from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from mld_audio import Audio, AudioConfig
from mld_audio.example_tones import SAMPLE_RATE, frequencies, press_key
from mld_core import Registry

CONFIGS = {
    "default": AudioConfig(latent_dim=16),
    "wideband": AudioConfig(latent_dim=8, sample_rate=16_000, n_fft=1024, hop=256, seconds=0.7),
    "odd": AudioConfig(latent_dim=3, seconds=0.333, mels=31, n_fft=300, hop=77, width=16),
}


@pytest.fixture
def audio() -> Audio:
    return Audio(CONFIGS["default"])


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS.keys())
def any_audio(request: pytest.FixtureRequest) -> Audio:
    return Audio(request.param)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def sine(hertz: float, seconds: float, sample_rate: int = 8000, level: float = 1.0) -> np.ndarray:
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return (level * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def tones(audio: Audio, labels: list[int], seed: int = 0) -> Tensor:
    return torch.stack([audio.preprocess(raw) for raw in audio.examples(labels, "test", rng(seed))])


def dialled(waveform: np.ndarray, sample_rate: int) -> tuple[float, float]:
    """The loudest frequency of each of the keypad's two groups."""
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), 32_768))
    hertz = np.fft.rfftfreq(32_768, 1 / sample_rate)
    groups = [(hertz > low) & (hertz < high) for low, high in ((600, 1050), (1100, 1650))]
    return tuple(hertz[group][spectrum[group].argmax()] for group in groups)


def off_key(waveform: np.ndarray, sample_rate: int, digit: int) -> float:
    """How far the two loudest frequencies are from the digit's, as a share of them."""
    pairs = zip(dialled(waveform, sample_rate), frequencies(digit), strict=True)
    return max(abs(heard / meant - 1) for heard, meant in pairs)


def test_the_registry_finds_the_plugin():
    assert Registry().modality("audio") is Audio


# config


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"hop": 300}, "hop may be 256 at most"),
        ({"seconds": 0.05}, "400 samples, less than n_fft = 512"),
        ({"mels": 180}, "mels = 180 is more than n_fft = 512 resolves.*raise n_fft to 1024"),
        ({"sample_rate": 500}, "greater than or equal to 4000"),
        ({"width": 20}, "multiple of 8"),
        ({"too_long": "trim"}, "'error' or 'cut'"),
    ],
)
def test_a_config_that_cannot_work_is_refused(settings: dict, complaint: str):
    with pytest.raises(ValidationError, match=complaint):
        AudioConfig(latent_dim=16, **settings)


@pytest.mark.parametrize("sample_rate", [4000, 8000, 22_050, 192_000])
def test_every_band_hears_something_at_the_n_fft_that_is_demanded(sample_rate: int):
    refused = 0
    for mels in (16, 31, 64, 100, 128, 200, 256):
        settings = {"latent_dim": 16, "mels": mels, "sample_rate": sample_rate, "seconds": 3}
        try:
            config = AudioConfig(**settings)
        except ValidationError as complaint:
            refused += 1
            config = AudioConfig(
                **settings, n_fft=int(str(complaint).split("n_fft to ")[1].split()[0])
            )
        # torchaudio warns of an empty band, and a warning is an error here.
        Audio(config)
    assert 0 < refused < 7


# read


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_read_gives_mono_and_the_rate(audio: Audio, tmp_path: Path, suffix: str):
    left, right = sine(440, 0.3, 22_050, 0.8), sine(440, 0.3, 22_050, 0.2)
    path = tmp_path / f"stereo.{suffix}"
    soundfile.write(path, np.stack([left, right], axis=1), 22_050)
    waveform, sample_rate = audio.read(path)
    assert waveform.dtype == np.float32
    assert sample_rate == 22_050
    assert waveform.shape == left.shape
    assert np.abs(waveform - (left + right) / 2).max() < 0.05


def test_read_says_what_is_wrong_with_a_file(audio: Audio, tmp_path: Path):
    (tmp_path / "noise.wav").write_bytes(b"no sound at all" * 40)
    with pytest.raises(ValueError, match="not a readable sound file: Format not recognised"):
        audio.read(tmp_path / "noise.wav")
    soundfile.write(tmp_path / "whole.wav", sine(440, 0.4), 8000)
    whole = (tmp_path / "whole.wav").read_bytes()
    (tmp_path / "half.wav").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f"cut short: {len(whole) // 2} bytes of {len(whole)}"):
        audio.read(tmp_path / "half.wav")
    with pytest.raises(FileNotFoundError):
        audio.read(tmp_path / "none.wav")


# preprocess


def test_an_item_has_the_shape_that_the_config_says(any_audio: Audio):
    config = any_audio.config
    x = any_audio.preprocess((sine(440, 0.2, 11_025), 11_025))
    assert x.dtype == torch.float32
    assert x.shape == (config.mels, config.frames)
    assert -1 == x.min() < x.max() < 1


def test_zero_decibels_is_a_full_scale_sine(audio: Audio):
    middle = audio.preprocess((sine(1000, 0.5), 8000))[:, 16]
    decibels = (middle.max().item() + 1) * 40 - 74
    assert decibels == pytest.approx(0, abs=2)
    quieter = audio.preprocess((sine(1000, 0.5, level=0.1), 8000))[:, 16]
    assert (middle.max() - quieter.max()).item() == pytest.approx(20 / 40, abs=1e-3)


@pytest.mark.parametrize("hertz", [5, 60, 500, 3000])
def test_no_sound_within_full_scale_reaches_the_top(audio: Audio, hertz: float):
    assert audio.preprocess((np.sign(sine(hertz, 0.5)), 8000)).max() < 1


def test_a_short_sound_ends_in_silence(audio: Audio):
    x = audio.preprocess((sine(1000, 0.25), 8000))
    assert (x[:, :14].amax(0) > 0.8).all()
    assert (x[:, 19:] == -1).all()


def test_another_rate_is_the_same_sound(audio: Audio):
    here, there = (audio.preprocess((sine(1000, 0.5, r, 0.5), r)) for r in (8000, 44_100))
    loud = here > 0
    assert loud[:, 2:-2].any(0).all()
    assert (here - there)[:, 2:-2][loud[:, 2:-2]].abs().max() < 0.02


def test_a_sound_too_long_is_an_error_or_cut(audio: Audio):
    long = sine(1000, 0.8)
    with pytest.raises(ValueError, match=r"lasts 0\.800 s, longer than seconds = 0\.5: raise sec"):
        audio.preprocess((long, 8000))
    cutting = Audio(AudioConfig(latent_dim=16, too_long="cut"))
    assert torch.equal(cutting.preprocess((long, 8000)), audio.preprocess((long[:4000], 8000)))
    just_fits = audio.preprocess((sine(1000, 0.5, 44_100), 44_100))
    assert just_fits.shape == (64, 32)


@pytest.mark.parametrize(
    ("waveform", "complaint"),
    [
        (np.zeros(0, np.float32), "no samples"),
        (np.zeros((2, 100), np.float32), r"one row of floats, not float32 of shape \(2, 100\)"),
        (np.zeros(100, np.int16), "one row of floats, not int16"),
        (np.full(100, 3000.0), "reach 3000, and full scale is 1"),
        (np.full(100, np.nan), "reach nan"),
    ],
)
def test_what_is_no_waveform_is_refused(audio: Audio, waveform: np.ndarray, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        audio.preprocess((waveform, 8000))


# examples


def test_the_keypad_is_that_of_the_recommendation():
    assert [frequencies(digit) for digit in range(10)] == [
        (941, 1336),
        *[(row, column) for row in (697, 770, 852) for column in (1209, 1336, 1477)],
    ]
    with pytest.raises(ValueError, match="not 10"):
        frequencies(10)


def test_examples_sound_their_digit(any_audio: Audio):
    digits = list(range(10)) * 3
    for digit, (waveform, rate) in zip(
        digits, any_audio.examples(digits, "train", rng()), strict=True
    ):
        assert rate == SAMPLE_RATE
        assert waveform.dtype == np.float32
        assert np.abs(waveform).max() <= 1
        assert off_key(waveform, rate, digit) < 0.005


def test_examples_repeat_with_the_rng_but_not_across_splits(audio: Audio):
    def served(split: str) -> set[bytes]:
        return {waveform.tobytes() for waveform, _ in audio.examples([7] * 20, split, rng(3))}

    assert len(served("train")) == 20
    assert served("train") == served("train")
    assert not served("train") & (served("validation") | served("test"))
    assert not served("validation") & served("test")


def test_examples_vary_in_every_way_that_is_promised():
    generator = rng()
    presses = [press_key(5, 0.5, generator) for _ in range(60)]
    x = torch.stack([Audio(CONFIGS["default"]).preprocess((press, 8000)) for press in presses])
    sounding = x.amax(1) > x.amax((1, 2))[:, None] - 0.2
    onset, length = sounding.float().argmax(1), sounding.sum(1)
    level = x.amax((1, 2)) * 40
    assert onset.max() - onset.min() >= 6
    assert length.max() - length.min() >= 6
    assert level.max() - level.min() > 12
    time = np.arange(4000) / 8000
    row, column = (
        np.abs(np.stack(presses) @ np.exp(-2j * np.pi * hertz * time)) for hertz in frequencies(5)
    )
    twist = 20 * np.log10(row / column)
    assert twist.min() < -2.5 < 2.5 < twist.max() < 5
    behind = torch.tensor([item[:, ~loud].mean() for item, loud in zip(x, sounding, strict=True)])
    assert behind.std() * 40 > 4


# augment


def test_augment_varies_but_stays_in_range(any_audio: Audio):
    x = tones(any_audio, list(range(10)))
    varied, again, other = (
        any_audio.augment(x, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(varied, again)
    assert not torch.equal(varied, other)
    assert varied.shape == x.shape
    assert varied.dtype == x.dtype
    assert -1 <= varied.min() <= varied.max() <= 1
    assert ((varied - x).abs().amax((1, 2)) > 0.05).all()


def test_augment_keeps_the_pitch(audio: Audio):
    x = tones(audio, list(range(10)) * 20)
    varied = audio.augment(x, torch.Generator().manual_seed(0))
    assert (_two_loudest(varied) - _two_loudest(x)).abs().max() <= 1


def test_augment_adds_no_sound_to_silence(audio: Audio):
    x = tones(audio, list(range(10)))
    x[:, :, 24:] = -1
    varied = audio.augment(x, torch.Generator().manual_seed(0))
    assert (varied[:, :, 26:] == -1).all()
    assert (varied[:, :, :24] > -1).any(1).float().mean() > 0.8


def _two_loudest(x: Tensor) -> Tensor:
    """The loudest band of each group of tones; 1075 Hz lies at band 31 of 64."""
    loudness = x.mean(2)
    return torch.stack([loudness[:, :31].argmax(1), loudness[:, 31:].argmax(1)])


# write and preview


def test_a_written_example_sounds_its_digit(any_audio: Audio, tmp_path: Path):
    for digit, x in enumerate(tones(any_audio, list(range(10)))):
        waveform, rate = any_audio.read(any_audio.write(x, tmp_path / f"tone.{digit}"))
        assert rate == any_audio.config.sample_rate
        assert len(waveform) == any_audio.config.samples
        assert off_key(waveform, rate, digit) < 0.03


def test_a_written_item_reads_back_as_about_itself(audio: Audio, tmp_path: Path):
    x = tones(audio, list(range(10)))
    back = torch.stack([audio.preprocess(audio.read(audio.write(i, tmp_path / "i"))) for i in x])
    distance = audio.metrics()["log_spectral_distance"]
    assert distance.measure(back, x) < 2.5
    assert distance.measure(back, x.roll(1, 0)) > 10


def test_files_are_wav_of_16_bits(audio: Audio, tmp_path: Path):
    path = audio.write(tones(audio, [4])[0], tmp_path / "tone")
    assert path.suffix == ".wav"
    assert soundfile.info(path).subtype == "PCM_16"


@pytest.mark.parametrize("level", [-1.0, -0.999, 0.0, 1.0, 3.0])
def test_any_item_can_be_written(audio: Audio, tmp_path: Path, level: float):
    path = audio.write(torch.full((64, 32), level), tmp_path / "flat")
    waveform, _ = audio.read(path)
    assert (np.abs(waveform).max() == 0) == (level == -1)


def test_the_picture_has_low_tones_below_and_time_to_the_right(audio: Audio, tmp_path: Path):
    from PIL import Image

    x = audio.preprocess((sine(300, 0.2), 8000))
    with Image.open(audio.preview(x, tmp_path / "low")[0]) as picture:
        bright = np.asarray(picture.convert("L"), dtype=float)
    height, width = bright.shape
    row, column = np.unravel_index(bright.argmax(), bright.shape)
    assert row > 0.8 * height
    assert column < 0.5 * width


# metrics


def test_the_log_spectral_distance_is_in_decibels(audio: Audio):
    measure = audio.metrics()["log_spectral_distance"].measure
    x = tones(audio, [1, 2]).clamp(-0.5, 0.5)
    assert measure(x, x) == 0
    assert measure(x + 0.1, x) == pytest.approx(4.0, rel=1e-4)
    half = x.clone()
    half[0, ::2] += 0.1
    assert measure(half, x) == pytest.approx((4.0 * 0.5**0.5 + 0) / 2, rel=1e-4)
    with pytest.raises(ValueError, match="got 0 and 0"):
        measure(x[:0], x[:0])
    with pytest.raises(ValueError, match="got 2 and 1"):
        measure(x, x[:1])


# networks


def test_networks_keep_their_shapes_in_float32(any_audio: Audio):
    x = tones(any_audio, [1, 2, 3])
    autoencoder, classifier = any_audio.autoencoder(), any_audio.classifier(7)
    for low_precision in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=low_precision):
            z = autoencoder.encode(x)
            decoded, loss = autoencoder.decode(z), autoencoder.loss(z, x)
            features, logits = classifier.features(x), classifier(x)
        shapes = [(3, any_audio.config.latent_dim), tuple(x.shape), (3,), (3, 64), (3, 7)]
        for tensor, shape in zip((z, decoded, loss, features, logits), shapes, strict=True):
            assert tensor.shape == shape
            assert tensor.dtype == torch.float32


def test_every_parameter_learns(any_audio: Audio):
    x = tones(any_audio, [1, 2])
    autoencoder, classifier = any_audio.autoencoder(), any_audio.classifier(10)
    autoencoder.loss(autoencoder.encode(x), x).mean().backward()
    nn.functional.cross_entropy(classifier(x), torch.tensor([1, 2])).backward()
    for network in (autoencoder, classifier):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_latents_are_moderate_and_blurred_in_training(audio: Audio):
    x = tones(audio, list(range(10)))
    autoencoder = audio.autoencoder().eval()
    with torch.no_grad():
        z = autoencoder.encode(x)
        assert (z.square().mean(1) < 1).all()
        assert not torch.equal(autoencoder.train().encode(x), autoencoder.encode(x))


def test_the_loss_is_a_likelihood_in_nats(audio: Audio):
    autoencoder = audio.autoencoder().eval()
    with torch.no_grad():
        z = autoencoder.encode(tones(audio, [1, 2]))
        rendered = autoencoder.decode(z)
        assert (rendered.abs() < 1).all()
        shifted = rendered + 5.57 / 40
        expected = torch.distributions.Normal(0, 5.57 / 40)
        nats = expected.log_prob(torch.tensor(0.0)) - expected.log_prob(torch.tensor(5.57 / 40))
        difference = autoencoder.loss(z, shifted) - autoencoder.loss(z, rendered)
    torch.testing.assert_close(difference, nats.expand(2) * 64 * 32)


def train(network: nn.Module, loss, x: Tensor, y: Tensor, steps: int) -> nn.Module:
    """Adam at 1e-3 with cosine decay, batches of 128; eval mode afterwards."""
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(len(x), (128,), generator=generator)
        optimiser.zero_grad()
        loss(network, x[rows], y[rows], generator).mean().backward()
        optimiser.step()
        decay.step()
    return network.eval()


@pytest.mark.slow
def test_trained_latents_keep_the_digit_through_noise_and_wav(audio: Audio, tmp_path: Path):
    torch.manual_seed(0)
    digits = list(range(10)) * 200
    x, held_out = tones(audio, digits), tones(audio, digits[:300], seed=1)
    y = torch.tensor(digits)

    def recognise(network: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        return nn.functional.cross_entropy(network(audio.augment(x, generator)), y)

    def reconstruct(network: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        return network.loss(network.encode(x), x)

    classifier = train(audio.classifier(10), recognise, x, y, 300)
    autoencoder = train(audio.autoencoder(), reconstruct, x, y, 1500)
    with torch.no_grad():
        z = autoencoder.encode(held_out)
        decoded = autoencoder.decode(z)
        noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
        perturbed = autoencoder.decode(z + 0.2 * z.std(0) * noise)
        for items in (held_out, decoded, perturbed):
            assert (classifier(items).argmax(1) == y[:300]).float().mean() >= 0.98
    assert audio.metrics()["log_spectral_distance"].measure(decoded, held_out) < 4.5
    for digit, item in enumerate(decoded[:10]):
        waveform, rate = audio.read(audio.write(item, tmp_path / str(digit)))
        assert off_key(waveform, rate, digit) < 0.04


@pytest.mark.slow
def test_spoken_digits_are_recognised(real_data: Path):
    torch.manual_seed(0)
    audio = Audio(AudioConfig(latent_dim=32, seconds=0.75, n_fft=256, mels=40, too_long="cut"))
    spoken = np.load(real_data / "fsdd" / "fsdd.npz")
    recordings = np.split(spoken["audio"].astype(np.float32), spoken["offsets"][1:-1])
    x = torch.stack([audio.preprocess((sound / np.abs(sound).max(), 8000)) for sound in recordings])
    y, test = torch.from_numpy(spoken["label"]).long(), torch.from_numpy(spoken["index"] < 5)

    def recognise(network: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        return nn.functional.cross_entropy(network(audio.augment(x, generator)), y)

    classifier = train(audio.classifier(10), recognise, x[~test], y[~test], 1000)
    with torch.no_grad():
        assert (classifier(x[test]).argmax(1) == y[test]).float().mean() > 0.9
