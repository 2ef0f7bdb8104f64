"""The checks as tests: one for each, for pytest to collect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from mld.conformance.check import Role
from mld.conformance.fixtures import Subject
from mld.conformance.runner import CHECKS, Kit, dataset_subject, modality_subject
from mld_core import Dataset, Modality


def conformance(
    plugin: str | type[Modality],
    *,
    with_: str | type[Modality] | None = None,
    known_failures: Mapping[str, str] | None = None,
    **config: Any,
) -> Callable[..., None]:
    """A test of every check of a modality; the slow ones bear the mark `slow`.

        test_conformance = conformance("spectrum", latent_dim=8)

    Args:
        plugin: its class, or its kind.
        with_: what the joint model pairs it with; itself if not given.
        known_failures: check to reason; expected to fail, and a pass is a failure.
        config: fields of its Config.
    """
    return _test("modality", lambda: modality_subject(plugin, config, with_), known_failures)


def dataset_conformance(
    plugin: str | type[Dataset],
    *,
    modalities: Mapping[str, str | type[Modality] | Modality] | None = None,
    known_failures: Mapping[str, str] | None = None,
    **config: Any,
) -> Callable[..., None]:
    """The same of a dataset; `modalities` as for `check_dataset`."""
    return _test("dataset", lambda: dataset_subject(plugin, config, modalities), known_failures)


def _test(
    role: Role, subject: Callable[[], Subject], known_failures: Mapping[str, str] | None
) -> Callable[..., None]:
    import pytest

    @cache
    def kit() -> Kit:
        return Kit(subject(), known_failures)

    names = [
        pytest.param(name, id=name, marks=[pytest.mark.slow] if check.slow else [])
        for name, check in CHECKS[role].items()
    ]

    @pytest.mark.parametrize("check", names)
    def test(check: str) -> None:
        record = kit().run(check)
        if record.failed:
            pytest.fail(record.reason, pytrace=False)
        if record.status == "skipped":
            pytest.skip(record.reason)
        if record.status == "known failure":
            pytest.xfail(record.reason)

    return test
