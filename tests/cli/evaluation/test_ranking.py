"""Candidates and the ranking among them, from items that are known."""

from __future__ import annotations

import math

import pytest
import torch

from mld.evaluation.ranking import NUM_CANDIDATES, Retrievals, codes_of, draw_candidates


def test_equal_digests_have_equal_codes() -> None:
    assert codes_of([b"x", b"", b"y", b"x"]).tolist() == [0, -1, 1, 0]


def test_candidates_are_different_items_and_the_first_is_the_true_one() -> None:
    # 81 texts of 1,000 pictures, the last of which have none.
    texts = torch.cat([torch.arange(900) % 81, torch.full((100,), -1)])
    rows = torch.arange(0, 900, 7)
    candidates = draw_candidates(torch.arange(1000), texts, rows, seed=1)
    for row, others, is_drawn in zip(
        rows.tolist(), candidates.rows, candidates.is_drawn, strict=True
    ):
        drawn = texts[others[is_drawn]].tolist()
        assert drawn[0] == texts[row]
        assert sorted(drawn) == [*range(81)]


def test_true_partners_are_no_other_candidates() -> None:
    """A picture of any product of the text is right, so that only others are candidates."""
    pictures, texts = torch.arange(600), torch.arange(600) % 4
    rows = torch.arange(600)
    candidates = draw_candidates(texts, pictures, rows, seed=1)
    assert candidates.is_drawn.sum(1).tolist() == [NUM_CANDIDATES] * 600
    assert candidates.rows[:, 0].tolist() == rows.tolist()
    others = texts[candidates.rows[:, 1:]][candidates.is_drawn[:, 1:]].reshape(600, -1)
    assert not (others == texts[:, None]).any()
    # Without a recorded query, as of a sample, any other item is one.
    unknown = draw_candidates(torch.full((600,), -1), pictures, rows, seed=1)
    assert unknown.is_drawn.sum(1).tolist() == [NUM_CANDIDATES] * 600


def test_candidates_depend_on_the_seed_alone_and_each_is_as_likely() -> None:
    codes, row = torch.arange(300), torch.tensor([5])
    seeds = [draw_candidates(codes, codes, row, seed) for seed in range(400)]
    again = draw_candidates(codes, codes, torch.tensor([9, 5]), 0)
    assert torch.equal(again.rows[1], seeds[0].rows[0])
    others = torch.cat([each.rows[0, 1:][each.is_drawn[0, 1:]] for each in seeds])
    counts = others.bincount(minlength=300)
    assert counts[5] == 0
    # Each with probability 99 / 299 in 400 draws: 132 on average, with a deviation of 9.
    assert 95 < counts[torch.arange(300) != 5].min() < counts.max() < 170


def rank(queries: torch.Tensor, partners: torch.Tensor) -> Retrievals:
    rows = torch.arange(len(queries))
    return draw_candidates(rows, torch.arange(len(partners)), rows, seed=0).rank(queries, partners)


def test_retrieval_of_equal_reversed_and_tied_embeddings() -> None:
    angles = torch.linspace(0, math.pi, 200)
    vectors = torch.stack([angles.cos(), angles.sin()], 1)
    assert rank(vectors, vectors).successes.eq(1).all()
    assert rank(-vectors, vectors).successes.eq(0).all()
    tied = rank(torch.ones_like(vectors), torch.ones_like(vectors))
    assert torch.equal(tied.successes, tied.chance)
    assert tied.mean_chance() == pytest.approx({"at_1": 0.01, "at_10": 0.1})
    invalid = rank(vectors * torch.nan, vectors)
    assert invalid.successes.eq(0).all()


def test_chance_is_that_of_fewer_candidates() -> None:
    few = rank(torch.ones(4, 2), torch.ones(4, 2))
    assert few.candidates == 4
    assert few.mean_chance() == {"at_1": 0.25, "at_10": 1.0}


def test_means_of_proportions_have_intervals_only_of_enough_queries() -> None:
    half = Retrievals(torch.arange(400)[None].expand(2, -1) % 2 / 1.0, torch.ones(2, 400), 7)
    ones = Retrievals(torch.ones(2, 400), torch.ones(2, 400), 100)
    mean = Retrievals.mean([half, ones])
    assert mean.candidates == 7
    assert mean.proportions()["at_1"]["value"] == 0.75
    assert ones.proportions()["at_10"] == {"value": 1.0, "low": None, "high": None, "n": 400}
    noisy = torch.rand(2, 400).round()
    at_1 = Retrievals(noisy, noisy, 9).proportions()["at_1"]
    assert 0.40 < at_1["low"] < at_1["value"] < at_1["high"] < 0.60
