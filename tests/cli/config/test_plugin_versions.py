from __future__ import annotations

from importlib.metadata import version

import pytest

from mld_core import SpecError


def test_required_versions(load, errors):
    required = load("requires: {pluggy: '>=1', Packaging: ''}\n").requires
    assert required == {"pluggy": ">=1", "Packaging": ""}
    installed = version("pluggy")
    assert sorted(errors("requires: {mld-absent: '>=0.1', pluggy: '<1', numpy: newer}\n")) == [
        "digits.yaml:6: requires.mld-absent: is not installed: pip install 'mld-absent>=0.1'",
        "digits.yaml:6: requires.numpy: must be versions such as '>=0.1,<0.3', not 'newer'",
        f"digits.yaml:6: requires.pluggy: must be <1, and {installed} is installed: "
        "pip install 'pluggy<1'",
    ]
    with pytest.raises(SpecError, match=r"requires\.torch: must be text, not 2\.8"):
        load("requires: {torch: 2.8}\n")
