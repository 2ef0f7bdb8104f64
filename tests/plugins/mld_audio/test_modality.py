from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from pydantic import ValidationError
from torch import Tensor

from mld_audio import Audio, AudioConfig
from mld_audio.example_tones import SAMPLE_RATE, dtmf_frequencies, dtmf_tone
from mld_core import Registry


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def sine(hertz: float, seconds: float, sample_rate: int = 8000, level: float = 1.0) -> np.ndarray:
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return (level * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def tones(audio: Audio, labels: list[int], seed: int = 0) -> Tensor:
    return torch.stack([audio.preprocess(raw) for raw in audio.examples(labels, "test", rng(seed))])


def loudest_frequencies(waveform: np.ndarray, sample_rate: int) -> tuple[float, float]:
    """The loudest frequency among the keypad's rows, and among its columns."""
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), 32_768))
    hertz = np.fft.rfftfreq(32_768, 1 / sample_rate)
    groups = [(hertz > low) & (hertz < high) for low, high in ((600, 1050), (1100, 1650))]
    return tuple(hertz[group][spectrum[group].argmax()] for group in groups)


def frequency_error(waveform: np.ndarray, sample_rate: int, digit: int) -> float:
    """Larger relative error of the two loudest frequencies with respect to the digit's."""
    pairs = zip(loudest_frequencies(waveform, sample_rate), dtmf_frequencies(digit), strict=True)
    return max(abs(actual / expected - 1) for actual, expected in pairs)


def test_registry_finds_audio():
    assert Registry().modality("audio") is Audio


# config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hop": 300}, "hop may be at most 256"),
        ({"seconds": 0.05}, "400 samples, less than n_fft = 512"),
        ({"mels": 180}, "mels = 180 is more than n_fft = 512 resolves.*raise n_fft to 1024"),
        ({"sample_rate": 500}, "greater than or equal to 4000"),
        ({"width": 20}, "multiple of 8"),
        ({"too_long": "cut"}, "'error' or 'truncate'"),
    ],
)
def test_invalid_config(settings: dict, message: str):
    with pytest.raises(ValidationError, match=message):
        AudioConfig(latent_dim=16, **settings)


@pytest.mark.parametrize("sample_rate", [4000, 8000, 22_050, 192_000])
def test_no_band_is_empty_at_the_suggested_n_fft(sample_rate: int):
    rejected = 0
    for mels in (16, 31, 64, 100, 128, 200, 256):
        settings = {"latent_dim": 16, "mels": mels, "sample_rate": sample_rate, "seconds": 3}
        try:
            config = AudioConfig(**settings)
        except ValidationError as error:
            rejected += 1
            n_fft = int(str(error).split("n_fft to ")[1].split()[0])
            config = AudioConfig(**settings, n_fft=n_fft)
        # torchaudio warns of an empty band, and a warning is an error here.
        Audio(config)
    assert 0 < rejected < 7


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


def test_read_of_unreadable_files(audio: Audio, tmp_path: Path):
    (tmp_path / "text.wav").write_bytes(b"not a sound" * 40)
    with pytest.raises(ValueError, match="not a readable sound file: Format not recognised"):
        audio.read(tmp_path / "text.wav")
    soundfile.write(tmp_path / "full.wav", sine(440, 0.4), 8000)
    content = (tmp_path / "full.wav").read_bytes()
    half, full = len(content) // 2, len(content)
    (tmp_path / "half.wav").write_bytes(content[:half])
    with pytest.raises(ValueError, match=f"truncated: it has {half} of {full} bytes"):
        audio.read(tmp_path / "half.wav")
    with pytest.raises(FileNotFoundError):
        audio.read(tmp_path / "none.wav")


# preprocess


def test_item_shape_follows_the_config(any_audio: Audio):
    config = any_audio.config
    x = any_audio.preprocess((sine(440, 0.2, 11_025), 11_025))
    assert x.dtype == torch.float32
    assert x.shape == (config.mels, config.frames)
    assert -1 == x.min() < x.max() < 1


def test_full_scale_sine_is_zero_decibels(audio: Audio):
    middle = audio.preprocess((sine(1000, 0.5), 8000))[:, 16]
    decibels = (middle.max().item() + 1) * 40 - 74
    assert decibels == pytest.approx(0, abs=2)
    quieter = audio.preprocess((sine(1000, 0.5, level=0.1), 8000))[:, 16]
    assert (middle.max() - quieter.max()).item() == pytest.approx(20 / 40, abs=1e-3)


@pytest.mark.parametrize("hertz", [5, 60, 500, 3000])
def test_no_sound_reaches_the_maximum(audio: Audio, hertz: float):
    assert audio.preprocess((np.sign(sine(hertz, 0.5)), 8000)).max() < 1


def test_short_sound_is_padded_with_silence(audio: Audio):
    x = audio.preprocess((sine(1000, 0.25), 8000))
    assert (x[:, :14].amax(0) > 0.8).all()
    assert (x[:, 19:] == -1).all()


def test_resampling_keeps_the_spectrogram(audio: Audio):
    x, resampled = (audio.preprocess((sine(1000, 0.5, r, 0.5), r)) for r in (8000, 44_100))
    loud = x > 0
    assert loud[:, 2:-2].any(0).all()
    assert (x - resampled)[:, 2:-2][loud[:, 2:-2]].abs().max() < 0.02


def test_too_long_sound_is_an_error_or_truncated(audio: Audio):
    long = sine(1000, 0.8)
    with pytest.raises(ValueError, match=r"lasts 0\.800 s, longer than seconds = 0\.5: raise sec"):
        audio.preprocess((long, 8000))
    truncating = Audio(AudioConfig(latent_dim=16, too_long="truncate"))
    assert torch.equal(truncating.preprocess((long, 8000)), audio.preprocess((long[:4000], 8000)))
    just_fits = audio.preprocess((sine(1000, 0.5, 44_100), 44_100))
    assert just_fits.shape == (64, 32)


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros(0, np.float32), "no samples"),
        (
            np.zeros((2, 100), np.float32),
            r"one-dimensional array of floats, got float32 of shape \(2, 100\)",
        ),
        (np.zeros(100, np.int16), "one-dimensional array of floats, got int16"),
        (np.full(100, 3000.0), "reach 3000, but full scale is 1"),
        (np.full(100, np.nan), "reach nan"),
    ],
)
def test_invalid_waveform(audio: Audio, waveform: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        audio.preprocess((waveform, 8000))


# examples


def test_keypad_frequencies():
    assert [dtmf_frequencies(digit) for digit in range(10)] == [
        (941, 1336),
        *[(row, column) for row in (697, 770, 852) for column in (1209, 1336, 1477)],
    ]
    with pytest.raises(ValueError, match="not 10"):
        dtmf_frequencies(10)


def test_examples_have_the_frequencies_of_their_label(any_audio: Audio):
    digits = list(range(10)) * 3
    for digit, (waveform, rate) in zip(
        digits, any_audio.examples(digits, "train", rng()), strict=True
    ):
        assert rate == SAMPLE_RATE
        assert waveform.dtype == np.float32
        assert np.abs(waveform).max() <= 1
        assert frequency_error(waveform, rate, digit) < 0.005


def test_examples_follow_rng_and_split(audio: Audio):
    def sounds(split: str) -> set[bytes]:
        return {waveform.tobytes() for waveform, _ in audio.examples([7] * 20, split, rng(3))}

    assert len(sounds("train")) == 20
    assert sounds("train") == sounds("train")
    assert not sounds("train") & (sounds("validation") | sounds("test"))
    assert not sounds("validation") & sounds("test")


def test_examples_vary_in_time_level_and_noise(audio: Audio):
    generator = rng()
    waveforms = [dtmf_tone(5, 0.5, generator) for _ in range(60)]
    x = torch.stack([audio.preprocess((waveform, 8000)) for waveform in waveforms])
    sounding = x.amax(1) > x.amax((1, 2))[:, None] - 0.2
    onset, length = sounding.float().argmax(1), sounding.sum(1)
    level = x.amax((1, 2)) * 40
    assert onset.max() - onset.min() >= 6
    assert length.max() - length.min() >= 6
    assert level.max() - level.min() > 12
    time = np.arange(4000) / 8000
    row, column = (
        np.abs(np.stack(waveforms) @ np.exp(-2j * np.pi * hertz * time))
        for hertz in dtmf_frequencies(5)
    )
    twist = 20 * np.log10(row / column)
    assert twist.min() < -2.5 < 2.5 < twist.max() < 5
    background = torch.tensor(
        [item[:, ~loud].mean() for item, loud in zip(x, sounding, strict=True)]
    )
    assert background.std() * 40 > 4


# augment


def test_augment_stays_in_range(any_audio: Audio):
    x = tones(any_audio, list(range(10)))
    augmented, repeated, other = (
        any_audio.augment(x, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(augmented, repeated)
    assert not torch.equal(augmented, other)
    assert augmented.shape == x.shape
    assert augmented.dtype == x.dtype
    assert -1 <= augmented.min() <= augmented.max() <= 1
    assert ((augmented - x).abs().amax((1, 2)) > 0.05).all()


def test_augment_keeps_the_pitch(audio: Audio):
    x = tones(audio, list(range(10)) * 20)
    augmented = audio.augment(x, torch.Generator().manual_seed(0))
    assert (_loudest_bands(augmented) - _loudest_bands(x)).abs().max() <= 1


def test_augment_keeps_silence_silent(audio: Audio):
    x = tones(audio, list(range(10)))
    x[:, :, 24:] = -1
    augmented = audio.augment(x, torch.Generator().manual_seed(0))
    assert (augmented[:, :, 26:] == -1).all()
    assert (augmented[:, :, :24] > -1).any(1).float().mean() > 0.8


def _loudest_bands(x: Tensor) -> Tensor:
    """The loudest band of each group of tones; 1075 Hz lies at band 31 of 64."""
    loudness = x.mean(2)
    return torch.stack([loudness[:, :31].argmax(1), loudness[:, 31:].argmax(1)])


# write and preview


def test_written_example_keeps_its_frequencies(any_audio: Audio, tmp_path: Path):
    for digit, x in enumerate(tones(any_audio, list(range(10)))):
        waveform, rate = any_audio.read(any_audio.write(x, tmp_path / f"tone.{digit}"))
        assert rate == any_audio.config.sample_rate
        assert len(waveform) == any_audio.config.samples
        assert frequency_error(waveform, rate, digit) < 0.03


def test_written_item_reads_back_approximately(audio: Audio, tmp_path: Path):
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


def test_preview_axes(audio: Audio, tmp_path: Path):
    from PIL import Image

    x = audio.preprocess((sine(300, 0.2), 8000))
    with Image.open(audio.preview(x, tmp_path / "low")[0]) as image:
        brightness = np.asarray(image.convert("L"), dtype=float)
    height, width = brightness.shape
    row, column = np.unravel_index(brightness.argmax(), brightness.shape)
    assert row > 0.8 * height
    assert column < 0.5 * width


# metrics


def test_log_spectral_distance_is_in_decibels(audio: Audio):
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


# training


@pytest.mark.slow
@pytest.mark.long
def test_reconstructions_keep_the_digit(
    audio: Audio, tmp_path: Path, train_autoencoder, train_classifier
):
    torch.manual_seed(0)
    digits = list(range(10)) * 200
    x, held_out = tones(audio, digits), tones(audio, digits[:300], seed=1)
    y = torch.tensor(digits)

    classifier = audio.classifier(10)
    train_classifier(classifier, x, y, 300, audio.augment)
    autoencoder = audio.autoencoder()
    train_autoencoder(autoencoder, x, 1500)
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
        assert frequency_error(waveform, rate, digit) < 0.04


@pytest.mark.slow
@pytest.mark.long
def test_spoken_digits_are_recognised(real_data: Path, train_classifier):
    torch.manual_seed(0)
    audio = Audio(AudioConfig(latent_dim=32, seconds=0.75, n_fft=256, mels=40, too_long="truncate"))
    spoken = np.load(real_data / "fsdd" / "fsdd.npz")
    recordings = np.split(spoken["audio"].astype(np.float32), spoken["offsets"][1:-1])
    x = torch.stack([audio.preprocess((sound / np.abs(sound).max(), 8000)) for sound in recordings])
    y, test = torch.from_numpy(spoken["label"]).long(), torch.from_numpy(spoken["index"] < 5)

    classifier = audio.classifier(10)
    train_classifier(classifier, x[~test], y[~test], 1000, audio.augment)
    with torch.no_grad():
        assert (classifier(x[test]).argmax(1) == y[test]).float().mean() > 0.9
