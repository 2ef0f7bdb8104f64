"""Digests of values, files and code, and the differences between two values."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import JsonValue
    from torch import Tensor


def digest(value: JsonValue | Mapping[str, JsonValue]) -> str:
    """The sha256 of a value's canonical JSON: the order of keys does not matter."""
    told = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(told.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """The sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differences(old: Mapping[str, JsonValue], new: Mapping[str, JsonValue]) -> list[str]:
    """One line for each dotted key whose value differs: "  key: old -> new"."""
    before, after = _flat(json.loads(json.dumps(old))), _flat(json.loads(json.dumps(new)))
    keys = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
    return [f"  {key}: {before.get(key, 'nothing')} -> {after.get(key, 'nothing')}" for key in keys]


def _flat(value: JsonValue, prefix: str = "") -> dict[str, str]:
    if isinstance(value, dict) and value:
        return {
            key: leaf
            for name, inner in value.items()
            for key, leaf in _flat(inner, f"{prefix}.{name}" if prefix else name).items()
        }
    return {prefix: json.dumps(value, ensure_ascii=False)}


@cache
def code_digest(module: str) -> str:
    """The sha256 of the Python files of a module's package: a plugin's code."""
    home = inspect.getfile(__import__(module.partition(".")[0]))
    package = Path(home).parent
    files = sorted(package.rglob("*.py")) if Path(home).name == "__init__.py" else [Path(home)]
    told = hashlib.sha256()
    for file in files:
        told.update(f"{file.relative_to(package).as_posix()}\n".encode())
        told.update(file.read_bytes())
    return told.hexdigest()


def tensor_digest(*tensors: Tensor) -> str:
    """The sha256 of tensors' shapes, types and bytes."""
    import torch

    told = hashlib.sha256()
    for tensor in tensors:
        told.update(json.dumps([str(tensor.dtype), list(tensor.shape)]).encode())
        told.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return told.hexdigest()
