from __future__ import annotations

import pytest

from mld_audio import Audio, AudioConfig

CONFIGS = {
    "default": AudioConfig(latent_dim=16),
    "wideband": AudioConfig(latent_dim=8, sample_rate=16_000, n_fft=1024, hop=256, seconds=0.7),
    "sequence": AudioConfig(
        sample_rate=16_000, n_fft=1024, hop=256, seconds=0.7, width=16, latent={"channels": 5}
    ),
    "odd": AudioConfig(latent_dim=3, seconds=0.333, mels=31, n_fft=300, hop=77, width=16),
}


@pytest.fixture
def audio() -> Audio:
    return Audio(CONFIGS["default"])


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS.keys())
def any_audio(request: pytest.FixtureRequest) -> Audio:
    return Audio(request.param)
