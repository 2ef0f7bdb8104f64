"""The conformance kit: tests whether a plugin fulfils its contract.

The same checks run in three ways: from the command line with `mld check KIND`; from Python with
`check_modality`, `check_dataset` and `check_method`, which return a result per check; and under
pytest with `conformance`, `dataset_conformance` and `method_conformance`, which return a
parametrised test.
"""

from __future__ import annotations

from mld.conformance.check import Check, CheckResult
from mld.conformance.checks import CHECKS, all_checks, checks_as_markdown
from mld.conformance.pytest_tests import (
    conformance,
    dataset_conformance,
    method_conformance,
)
from mld.conformance.runner import (
    check_dataset,
    check_method,
    check_modality,
    count_statuses,
)

__all__ = [
    "CHECKS",
    "Check",
    "CheckResult",
    "all_checks",
    "check_dataset",
    "check_method",
    "check_modality",
    "checks_as_markdown",
    "conformance",
    "count_statuses",
    "dataset_conformance",
    "method_conformance",
]
