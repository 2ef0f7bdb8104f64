from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mld_core import Registry
from mld_table.number import Number, NumberConfig
from mld_table.number_cell import format_numbers, parse_numbers

RNG = np.random.default_rng(0)
SKEWED = [*RNG.lognormal(0, 2, 300), *[7.0] * 100]


def fitted(raw: list[object], **config: object) -> Number:
    settings = NumberConfig.model_validate(config)
    return Number(settings, Number.fit(settings, raw))


def round_trip(modality: Number, values: list[float]) -> list[float]:
    x = torch.stack([modality.preprocess(value) for value in values])
    autoencoder = modality.autoencoder()
    return autoencoder.decode(autoencoder.encode(x)).squeeze(1).tolist()


def test_registry_finds_number():
    assert Registry().modality("number") is Number


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.5", [1.5]), (" 2 ", [2]), ("1e-3", [0.001]), ("+.5E2", [50]), ("-0", [0]), ("3.", [3]),
        ("1 2\t-3", [1, 2, -3]), ("1; 2 ;3", [1, 2, 3]), ("9" * 40, [1e40]),
    ],
)  # fmt: skip
def test_notation_of_numbers(text: str, expected: list[float]):
    assert parse_numbers(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "blank: leave the cell empty"),
        ("1,5", "1,5 has a comma: write a decimal point, as in 1.5"),
        ("1,234.5", "1,234.5 is not a number"),
        ("nan", "nan is not a finite number"),
        ("-Infinity", "-Infinity is not a finite number"),
        ("NA", "NA is not a number: leave the cell empty"),
        ("true", "true is not a number"),
        ("0x10", "0x10 is not a number"),
        ("1_000", "1_000 is not a number"),
        ("٣", "٣ is not a number"),
        ("−5", "−5 begins with a dash"),
        ("5%", "5% is not a number"),
        ("1;;2", "a number between two semicolons is missing"),
    ],
)
def test_text_that_is_no_number(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        parse_numbers(text)


@pytest.mark.parametrize(
    ("text", "config", "message"),
    [
        ("1 000", {}, "has 2 numbers, but size is 1"),
        ("1", {"size": 2}, "has 1 number, but size is 2"),
        ("0", {"log": True}, "0 is not positive, as log: true requires"),
        ("1e-60", {"log": True}, "1e-60 is too close to 0 for float32"),
        ("-1", {"minimum": 0}, "-1 is below the minimum 0"),
        ("101", {"maximum": 100}, "101 is above the maximum 100"),
        ("1e39", {}, r"1e\+39 is not a number of at most 1e\+37"),
        ("1e999", {}, "inf is not a number of at most"),
    ],
)
def test_numbers_that_settings_refuse(text: str, config: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        Number(NumberConfig.model_validate(config)).read(text)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"latent_dim": 2}, "latent_dim must be 1, the size, not 2"),
        ({"size": 3, "latent_dim": 1}, "latent_dim must be 3"),
        ({"minimum": 1, "maximum": 1}, "minimum 1 must be below maximum 1"),
        ({"log": True, "maximum": 0}, "log: true needs a positive maximum"),
        ({"size": 65}, "size"),
        ({"minimum": float("nan")}, "minimum"),
    ],
)
def test_invalid_config(config: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        NumberConfig.model_validate(config)


def test_latent_dim_follows_size():
    config = NumberConfig(size=3)
    assert config.latent_dim == 3
    assert NumberConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("scale", ["standard", "quantile"])
def test_the_code_is_exact_also_outside_the_training_range(scale: str, log: bool):
    modality = fitted(SKEWED, scale=scale, log=log)
    values = [*SKEWED, 1e-3, 1e4]
    tolerance = 1e-6 if log else 1e-6 * np.std(SKEWED)
    assert round_trip(modality, values) == pytest.approx(values, rel=2e-5, abs=tolerance)
    assert not list(modality.autoencoder().parameters())


def test_scales_make_coordinates_standard():
    x = torch.tensor(SKEWED[:300])[:, None]
    logs = fitted(SKEWED[:300], log=True).autoencoder().encode(x)
    assert logs.mean() == pytest.approx(0, abs=1e-3)
    assert logs.std(correction=0) == pytest.approx(1, abs=1e-3)
    ranks = fitted(SKEWED[:300], scale="quantile").autoencoder().encode(x)
    expected = torch.special.ndtri((torch.arange(300) + 0.5) / 300)
    torch.testing.assert_close(ranks.squeeze(1).sort().values, expected, atol=0.2, rtol=0)


def test_a_shared_number_has_the_middle_of_a_range_of_coordinates():
    values = [0.0] * 50 + [1.0] * 25 + [2.0] * 25
    autoencoder = fitted(values, scale="quantile").autoencoder()
    z = autoencoder.encode(torch.tensor([[0.0], [1.0], [2.0]])).squeeze(1)
    assert z[0] < z[1] < z[2]
    ends = torch.special.ndtri(torch.tensor([0.005, 0.495]))
    assert z[0].item() == pytest.approx(ends.mean().item(), abs=1e-3)
    within = torch.special.ndtri(torch.tensor([[0.1], [0.3], [0.6], [0.7], [0.9]]))
    assert autoencoder.decode(within).squeeze(1).tolist() == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("scale", ["standard", "quantile"])
@pytest.mark.parametrize("values", [[5.0] * 10, [5.0], [1e9] * 3, [1e37, -1e37], [1e-30, 2e-30]])
def test_extreme_columns_give_finite_latents_and_numbers(scale: str, values: list[float]):
    modality = fitted(values, scale=scale)
    autoencoder = modality.autoencoder()
    x = torch.stack([modality.preprocess(value) for value in values])
    z = autoencoder.encode(x)
    assert z.isfinite().all()
    for latents in (z, torch.full_like(z, 1e6), torch.full_like(z, -1e6)):
        decoded = autoencoder.decode(latents)
        assert decoded.isfinite().all()
        for row in decoded:
            modality.preprocess(modality.read(modality.cell(row)))
    assert round_trip(modality, values) == pytest.approx(values, rel=1e-6)


@pytest.mark.parametrize("log", [False, True])
def test_decoded_numbers_keep_the_bounds_also_as_text(log: bool):
    bounds = {"minimum": 0.12345678, "maximum": 9.87654321}
    modality = fitted([0.2, 5.0, 9.0], log=log, **bounds)
    for row in modality.autoencoder().decode(torch.linspace(-1e4, 1e4, 101)[:, None]):
        (value,) = modality.read(modality.cell(row))
        assert 0.12345678 <= value <= 9.87654321


@pytest.mark.parametrize(
    ("value", "text"),
    [(3.0000002, "3"), (1.5, "1.5"), (1234567, "1234567"), (0.1, "0.1"), (-2.5e-8, "-2.5e-08")],
)
def test_written_numbers_have_seven_digits(value: float, text: str):
    assert format_numbers([value], None, None) == text


def test_several_numbers_in_a_cell(tmp_path: Path):
    modality = fitted([[1, 10], [2, 20], [3, 40]], size=2)
    x = modality.preprocess(modality.read("2.5; -7"))
    assert x.dtype == torch.float32
    assert modality.cell(x) == "2.5 -7"
    assert modality.read(modality.write(x, tmp_path / "v1.5")) == [2.5, -7]


def test_facts_are_bounded():
    facts = Number.fit(NumberConfig(scale="quantile"), RNG.normal(size=5000))
    assert len(facts["quantiles"][0]) == 256


def test_a_column_that_float32_rounds_is_warned_of():
    with pytest.warns(UserWarning, match="subtract a constant"):
        fitted([1.7e9, 1.7e9 + 100, 1.7e9 + 200])


def test_units_are_those_of_metrics():
    metrics = fitted([1.0, 2.0], unit="kg/m³").metrics()
    assert (metrics["mae"].unit, metrics["r2"].unit) == ("kg/m³", "")


@pytest.mark.parametrize("log", [False, True])
def test_numbers_are_generated_whole_where_those_of_the_data_are(log: bool):
    modality = fitted([[1, 10.5], [2, 20], [7, 30]], size=2, log=log, maximum=30.5)
    z = torch.linspace(-2, 3, 101)[:, None].expand(-1, 2)
    integers, others = modality.autoencoder().decode(z).T
    assert (integers == integers.round()).all()
    assert len(integers.unique()) > 5
    assert not (others == others.round()).any()
    # A value that was read is kept as it is.
    assert modality.cell(modality.preprocess([2.5, 3.25])) == "2.5 3.25"
