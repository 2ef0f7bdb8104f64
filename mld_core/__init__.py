"""The mathematics of Multi-modal Latent Diffusion, and the contracts of its plugins.

Names are imported on first use, so that importing this package does not load torch. The imports
below are for type checkers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mld_core.contracts.dataset import Dataset as Dataset
    from mld_core.contracts.dataset import DatasetConfig as DatasetConfig
    from mld_core.contracts.dataset import SpecPath as SpecPath
    from mld_core.contracts.dataset import Split as Split
    from mld_core.contracts.method import JointModel as JointModel
    from mld_core.contracts.method import Method as Method
    from mld_core.contracts.method import MethodConfig as MethodConfig
    from mld_core.contracts.modality import SPLITS as SPLITS
    from mld_core.contracts.modality import Autoencoder as Autoencoder
    from mld_core.contracts.modality import Classifier as Classifier
    from mld_core.contracts.modality import Metric as Metric
    from mld_core.contracts.modality import Modality as Modality
    from mld_core.contracts.modality import ModalityConfig as ModalityConfig
    from mld_core.contracts.modality import SplitName as SplitName
    from mld_core.data.table_file import RESERVED_COLUMNS as RESERVED_COLUMNS
    from mld_core.data.table_file import TABLE_SUFFIXES as TABLE_SUFFIXES
    from mld_core.data.table_file import LineError as LineError
    from mld_core.data.table_file import Table as Table
    from mld_core.data.table_file import TableRow as TableRow
    from mld_core.data.table_file import raise_line_errors as raise_line_errors
    from mld_core.data.table_file import read_table as read_table
    from mld_core.errors import DataError as DataError
    from mld_core.errors import ExitCode as ExitCode
    from mld_core.errors import MLDError as MLDError
    from mld_core.errors import NumericalError as NumericalError
    from mld_core.errors import PluginError as PluginError
    from mld_core.errors import RunDirError as RunDirError
    from mld_core.errors import SpecError as SpecError
    from mld_core.errors import describe_exception as describe_exception
    from mld_core.errors import did_you_mean as did_you_mean
    from mld_core.errors import plugin_call as plugin_call
    from mld_core.plugins.hookspecs import MLD_API as MLD_API
    from mld_core.plugins.hookspecs import hookimpl as hookimpl
    from mld_core.plugins.registry import Entry as Entry
    from mld_core.plugins.registry import Registry as Registry

_NAMES_IN = {
    "contracts.dataset": ["Dataset", "DatasetConfig", "SpecPath", "Split"],
    "contracts.method": ["JointModel", "Method", "MethodConfig"],
    "contracts.modality": [
        "Autoencoder",
        "Classifier",
        "Metric",
        "Modality",
        "ModalityConfig",
        "SPLITS",
        "SplitName",
    ],
    "data.table_file": [
        "RESERVED_COLUMNS",
        "TABLE_SUFFIXES",
        "LineError",
        "Table",
        "TableRow",
        "raise_line_errors",
        "read_table",
    ],
    "errors": [
        "RunDirError",
        "DataError",
        "ExitCode",
        "MLDError",
        "NumericalError",
        "PluginError",
        "SpecError",
        "describe_exception",
        "did_you_mean",
        "plugin_call",
    ],
    "plugins.hookspecs": ["MLD_API", "hookimpl"],
    "plugins.registry": ["Entry", "Registry"],
}
_MODULE_OF = {name: module for module, names in _NAMES_IN.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'mld_core' has no attribute {name!r}")
    return getattr(import_module(f"mld_core.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
