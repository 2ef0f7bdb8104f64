from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Generator

from mld_image import ImageConfig, ImageModality


def metrics():
    return ImageModality(ImageConfig(size=16, channels=1)).metrics()


def test_psnr_and_ssim_agree_with_scikit_image():
    skimage = pytest.importorskip("skimage.metrics")
    generator = Generator().manual_seed(0)
    for side, channels in [(11, 1), (16, 1), (33, 3)]:
        originals = F.interpolate(torch.rand(70, channels, 6, 6, generator=generator), side)
        noise = torch.randn(originals.shape, generator=generator)
        items = (originals + 0.1 * noise).clamp(0, 1)
        expected = {"psnr": [], "ssim": []}
        for item, original in zip(items.double().numpy(), originals.double().numpy(), strict=True):
            expected["psnr"].append(skimage.peak_signal_noise_ratio(original, item, data_range=1))
            similarity = skimage.structural_similarity(
                original, item, channel_axis=0, data_range=1, gaussian_weights=True, sigma=1.5,
                use_sample_covariance=False,
            )  # fmt: skip
            expected["ssim"].append(similarity)
        for name, metric in metrics().items():
            assert metric.measure(items, originals) == pytest.approx(np.mean(expected[name]))


@pytest.mark.parametrize("name", ["psnr", "ssim"])
def test_metric_is_best_for_a_copy_and_falls_with_noise(name: str):
    metric = metrics()[name]
    generator = Generator().manual_seed(0)
    x = torch.rand(20, 1, 8, 8, generator=generator)
    noise = torch.randn(x.shape, generator=generator)
    values = [metric.measure((x + level * noise).clamp(0, 1), x) for level in (0, 0.05, 0.2)]
    assert metric.better == "higher"
    assert values[0] == pytest.approx(metric.best)
    assert values[0] > values[1] > values[2]


def test_ssim_window_of_small_images_is_symmetric():
    x, y = torch.rand(2, 3, 1, 8, 8, generator=Generator().manual_seed(0))
    measure = metrics()["ssim"].measure
    assert measure(x.flip(-1), y.flip(-1)) == pytest.approx(measure(x, y))


@pytest.mark.parametrize("name", ["psnr", "ssim"])
def test_metric_without_rows_or_originals(name: str):
    empty = torch.empty(0, 1, 16, 16)
    measure = metrics()[name].measure
    with pytest.raises(ValueError, match="no images"):
        measure(empty, empty)
    for reference in (empty, torch.rand(1, 1, 16, 16)):
        with pytest.raises(ValueError, match="row by row"):
            measure(torch.rand(2, 1, 16, 16), reference)
