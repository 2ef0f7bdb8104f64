from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROGRAM = """
import sys
from mld.runtime.fabric import import_fabric
import_fabric()
print("lightning_fabric" in sys.modules, "torchmetrics" in sys.modules)
import torchmetrics
import_fabric()
print(torchmetrics is sys.modules["torchmetrics"])
"""


def test_fabric_is_imported_without_torchmetrics(
    warm_python: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "torchmetrics.py").write_text("print('imported')")
    done = warm_python(PROGRAM, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.stdout.splitlines() == ["True False", "imported", "True"], done.stderr
