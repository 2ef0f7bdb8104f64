"""Any sample rate costs about the same."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import soundfile
import torch
from torchaudio.functional import resample as exact_resample

from mld_audio import Audio, AudioConfig
from mld_audio.resampling import MAX_RATIO_PRODUCT, _resampler, nearest_ratio, resample

USUAL = (4000, 8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 192_000)


@pytest.mark.parametrize("target", USUAL)
def test_usual_rates_are_exact(target: int) -> None:
    assert [nearest_ratio(rate, target) for rate in USUAL] == [
        Fraction(rate, target) for rate in USUAL
    ]


def test_other_rates_are_within_a_hundredth_of_a_semitone() -> None:
    rng = np.random.default_rng(0)
    sources = [1, 7, 44_099, 191_999, 655_350, 2**31 - 1, *rng.integers(1000, 10**6, 500).tolist()]
    targets = [4000, 7999, 8001, 44_101, 192_000]
    for source in sources:
        for target in targets:
            ratio = nearest_ratio(source, target)
            assert ratio.numerator * ratio.denominator <= 1.01 * max(MAX_RATIO_PRODUCT, source)
            assert abs(ratio * target / source - 1) < 0.0005


@pytest.mark.parametrize(("source", "target"), [(44_100, 8000), (8000, 22_050)])
def test_a_filter_is_made_once(source: int, target: int) -> None:
    waveform = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    resampled = resample(waveform, source, target)
    assert torch.equal(resampled, exact_resample(waveform, source, target))
    assert _resampler(source, target) is _resampler(source, target)


@pytest.mark.parametrize("rate", [44_099, 191_999])
def test_a_sound_of_an_odd_rate_becomes_the_same_item(rate: int) -> None:
    audio = Audio(AudioConfig(latent_dim=4))
    items = []
    for each in (rate, rate + 1):
        time = np.arange(round(0.3 * each)) / each
        items.append(audio.preprocess((np.sin(2 * np.pi * 1000 * time).astype(np.float32), each)))
    assert (items[0] - items[1]).abs().mean() < 0.01
    assert items[0].amax(1).argmax() == items[1].amax(1).argmax()


@pytest.mark.parametrize("rate", [1, 2, 655_350, 2**31 - 1])
def test_the_lowest_and_highest_rates_of_a_file(tmp_path, rate: int) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(100, np.float32), rate)
    audio = Audio(AudioConfig(latent_dim=4, too_long="truncate"))
    assert audio.preprocess(audio.read(tmp_path / "x.wav")).shape == (64, 32)


def test_of_a_long_file_only_the_beginning_is_read(tmp_path) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, np.zeros(80_000, np.float32), 8000)
    waveform, _ = Audio(AudioConfig(latent_dim=4, too_long="truncate")).read(path)
    assert len(waveform) == 4000
    with pytest.raises(ValueError, match=r"lasts 10\.000 s, longer than seconds = 0\.5"):
        Audio(AudioConfig(latent_dim=4)).read(path)
