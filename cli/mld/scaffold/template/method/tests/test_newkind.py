"""The conformance kit, one test per check, and tests of this method alone."""

from __future__ import annotations

import torch
from mld_newkind import NewKindConfig, NewKindModel

from mld.conformance import method_conformance

test_conformance = method_conformance("newkind")


def test_one_modality_given_all_others() -> None:
    model = NewKindModel({"a": 2, "b": 3}, NewKindConfig(width=8))
    samples = model.sample({"b": torch.zeros(4, 3)}, ["a"], 4)
    assert samples["a"].shape == (4, 2)
