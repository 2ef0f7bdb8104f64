"""The conformance kit: is a plugin right? One source, three doors.

The command `mld check KIND`; the functions `check_modality` and `check_dataset`, which return a
record of each check; and for pytest `conformance` and `dataset_conformance`, which return a test.
"""

from __future__ import annotations

from mld.conformance.check import Check, Record
from mld.conformance.pytest_tests import conformance, dataset_conformance
from mld.conformance.runner import CHECKS, check_dataset, check_modality, counted

__all__ = [
    "CHECKS",
    "Check",
    "Record",
    "check_dataset",
    "check_modality",
    "conformance",
    "counted",
    "dataset_conformance",
]
