"""The import of Lightning Fabric."""

from __future__ import annotations

import sys


def import_fabric() -> None:
    """Import Lightning Fabric, and not torchmetrics.

    Where torchmetrics is installed, Fabric imports it to compare its version, which takes seconds
    in every process that trains. mld uses nothing of Fabric that needs it.
    """
    if "torchmetrics" in sys.modules:
        return
    sys.modules["torchmetrics"] = None  # type: ignore[assignment]
    try:
        import lightning_fabric  # noqa: F401
    finally:
        del sys.modules["torchmetrics"]
