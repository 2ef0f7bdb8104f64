"""The conformance kit, one test per check, and tests of this modality alone."""

from __future__ import annotations

import pytest
from mld_newkind import NewKind, NewKindConfig

from mld.conformance import conformance

test_conformance = conformance("newkind")


def test_error_names_the_setting() -> None:
    with pytest.raises(ValueError, match="length: 5"):
        NewKind(NewKindConfig()).preprocess("ACGTA")
