"""The checks as pytest tests, one for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from mld.conformance.check import Role
from mld.conformance.checks import CHECKS
from mld.conformance.fixtures import PluginUnderTest
from mld.conformance.runner import (
    CheckRunner,
    dataset_under_test,
    method_under_test,
    modality_under_test,
)
from mld_core import Dataset, Method, Modality


def conformance(
    plugin: str | type[Modality],
    *,
    with_: str | type[Modality] | None = None,
    xfail: Mapping[str, str] | None = None,
    **config: Any,
) -> Callable[..., None]:
    """A test that runs every check of a modality; slow checks carry the mark `slow`.

        test_conformance = conformance("spectrum", latent_dim=8)

    Args:
        plugin: the modality's class or kind.
        with_: the modality that the joint model pairs it with; by default itself.
        xfail: check to reason, for checks that are expected to fail; an unexpected pass fails.
        config: fields of its Config.
    """
    return _make_test("modality", lambda: modality_under_test(plugin, config, with_), xfail)


def dataset_conformance(
    plugin: str | type[Dataset],
    *,
    modalities: Mapping[str, str | type[Modality] | Modality] | None = None,
    xfail: Mapping[str, str] | None = None,
    **config: Any,
) -> Callable[..., None]:
    """A test that runs every check of a dataset; `modalities` is as in `check_dataset`."""
    return _make_test("dataset", lambda: dataset_under_test(plugin, config, modalities), xfail)


def method_conformance(
    plugin: str | type[Method], *, xfail: Mapping[str, str] | None = None, **config: Any
) -> Callable[..., None]:
    """A test that runs every check of a method; the arguments are as in `check_method`."""
    return _make_test("method", lambda: method_under_test(plugin, config), xfail)


def _make_test(
    role: Role, make_plugin: Callable[[], PluginUnderTest], xfail: Mapping[str, str] | None
) -> Callable[..., None]:
    import pytest

    @cache
    def runner() -> CheckRunner:
        return CheckRunner(make_plugin(), xfail)

    params = [
        pytest.param(name, id=name, marks=[pytest.mark.slow] if check.slow else [])
        for name, check in CHECKS[role].items()
    ]

    @pytest.mark.parametrize("check", params)
    def test(check: str) -> None:
        result = runner().run(check)
        if result.failed:
            pytest.fail(result.reason, pytrace=False)
        if result.status == "skipped":
            pytest.skip(result.reason)
        if result.status == "expected failure":
            pytest.xfail(result.reason)

    return test
