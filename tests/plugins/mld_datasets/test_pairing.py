from __future__ import annotations

import numpy as np

from mld_datasets.pairing import draw_distinct, pair_by_label, pair_with_resampling


def test_pair_by_label():
    labels = np.array([0, 1, 0, 1, 0, 1, 2]), np.array([1, 0, 0, 1])
    pairs = pair_by_label(labels, 3, np.random.default_rng(0))
    assert pairs.shape == (12, 2)
    assert (labels[0][pairs[:, 0]] == labels[1][pairs[:, 1]]).all()
    assert np.bincount(pairs[:, 0]).tolist() == [3, 3, 3, 3]
    assert np.bincount(pairs[:, 1]).tolist() == [3, 3, 3, 3]
    assert pair_by_label([np.array([1]), np.array([2])], 3, np.random.default_rng(0)).size == 0


def test_pair_with_resampling():
    labels, partner_labels = np.array([0, 1, 0, 2]), np.array([0, 1, 1, 0, 0, 0, 3])
    pairs = pair_with_resampling(labels, partner_labels, 2, np.random.default_rng(0))
    assert (labels[pairs[:, 0]] == partner_labels[pairs[:, 1]]).all()
    assert np.bincount(pairs[:, 0]).tolist() == [2, 2, 2]
    assert sorted(pairs[:, 1].tolist()) == [0, 1, 2, 3, 4, 5]


def test_draw_distinct():
    labels = np.array([0, 1, 0, 1, 0, 2, 1, 2])
    rows = draw_distinct(labels, 3, np.random.default_rng(0))
    assert rows.shape == (6, 3)
    assert all(len(set(row)) == 3 for row in rows.tolist())
    assert (labels[rows] == labels[rows[:, :1]]).all()
    assert all(sorted(column) == [0, 1, 2, 3, 4, 6] for column in rows.T.tolist())
