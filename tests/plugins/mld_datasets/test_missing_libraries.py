"""Datasets whose library is not installed."""

from __future__ import annotations

import sys
from importlib import util

import pytest

from mld_core import Registry, SpecError


@pytest.mark.parametrize("kind", ["parquet", "hugging-face", "webdataset"])
def test_a_missing_library_names_its_extra(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, f"mld_datasets.{kind.replace('-', '_')}", raising=False)
    registry = Registry(allowed=[kind])
    (entry,) = (entry for entry in registry.entries() if entry.kind == kind)
    assert (entry.role, entry.stage) == ("not installed", "extra")
    with pytest.raises(SpecError, match=rf"pip install 'mld-toolkit\[{kind}\]'"):
        registry.dataset(kind)
