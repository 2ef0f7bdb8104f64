"""The conformance kit, one test per check, and tests of this modality alone."""

from __future__ import annotations

import numpy as np
import pytest
from mld_newkind import NewKind, NewKindConfig

from mld.conformance import conformance

test_conformance = conformance("newkind", latent_dim=8)


def test_error_names_the_setting() -> None:
    modality = NewKind(NewKindConfig(length=32), {"mean": 0.0, "scale": 1.0})
    with pytest.raises(ValueError, match="length: 40"):
        modality.preprocess(np.zeros(40))
