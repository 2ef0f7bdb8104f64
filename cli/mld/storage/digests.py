"""Digests of values, files, tensors and code, and the differences between two values."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from pydantic import JsonValue
    from torch import Tensor


def digest(value: JsonValue | Mapping[str, JsonValue]) -> str:
    """The sha256 of a value's canonical JSON: the order of keys does not matter."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """The sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensor_digest(*tensors: Tensor) -> str:
    """The sha256 of tensors' shapes, dtypes and bytes."""
    hasher = hashlib.sha256()
    for tensor in tensors:
        hasher.update(_header(tensor.dtype, tensor.shape))
        hasher.update(tensor_bytes(tensor))
    return hasher.hexdigest()


def digest_of_parts(dtype: torch.dtype, shape: Sequence[int], parts: Iterable[Tensor]) -> str:
    """The `tensor_digest` of a tensor of which only some rows at a time are in memory."""
    hasher = hashlib.sha256(_header(dtype, shape))
    for part in parts:
        hasher.update(tensor_bytes(part))
    return hasher.hexdigest()


def _header(dtype: torch.dtype, shape: Sequence[int]) -> bytes:
    return json.dumps([str(dtype), list(shape)]).encode()


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor's values in row-major order."""
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


@cache
def source_digest(source: str) -> str:
    """The sha256 of Python code without its comments, docstrings and formatting.

    It is the same in every version of Python, unlike what `ast.unparse` and `ast.dump` write.
    """
    return hashlib.sha256(_structure(ast.parse(source)).encode()).hexdigest()


def _structure(node: object) -> str:
    """The syntax tree of code as a text."""
    if isinstance(node, ast.JoinedStr):
        node = ast.JoinedStr([*_merged_texts(node.values)])
    if isinstance(node, ast.AST):
        # Later versions have more fields, which are empty in code that the earlier ones know.
        fields = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, [])]
        content = ",".join(f"{name}={_structure(value)}" for name, value in fields)
        return f"{type(node).__name__}({content})"
    if isinstance(node, list):
        items = [each for each in node if not _is_docstring(each)] or [ast.Pass()]
        return f"[{','.join(map(_structure, items))}]"
    return repr(node)


def _merged_texts(values: Iterable[ast.expr]) -> Iterator[ast.expr]:
    """The parts of an f-string, with its texts as long as possible; versions divide them unlike."""
    for is_text, parts in groupby(values, lambda part: isinstance(part, ast.Constant)):
        if is_text:
            text = "".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
            if text:
                yield ast.Constant(text)
        else:
            yield from parts


def _is_docstring(node: object) -> bool:
    """Whether a statement is a string alone, which has no effect."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


@cache
def code_digest(module: str) -> str:
    """The digest of the Python code of a module's top-level package; see `source_digest`."""
    origin = Path(inspect.getfile(import_module(module.partition(".")[0])))
    folder = origin.parent
    files = sorted(folder.rglob("*.py")) if origin.name == "__init__.py" else [origin]
    return digest(
        {
            file.relative_to(folder).as_posix(): source_digest(file.read_text(encoding="utf-8"))
            for file in files
        }
    )


def differences(
    old: Mapping[str, JsonValue],
    new: Mapping[str, JsonValue],
    advice: Mapping[str, str] | None = None,
    meanings: Mapping[str, str] | None = None,
) -> list[str]:
    """One line for each dotted key whose value differs: "  key: old -> new".

    Args:
        advice: by key, what is added to its line, with "{}" for the old value.
        meanings: by key, what its line says in the place of the values.
    """
    before, after = _flatten(json.loads(json.dumps(old))), _flatten(json.loads(json.dumps(new)))
    lines = []
    for key in sorted({*before, *after}):
        was, now = before.get(key, "nothing"), after.get(key, "nothing")
        added = f": {advice[key].format(json.loads(was))}" if advice and key in advice else ""
        if was != now:
            values = (meanings or {}).get(key, f"{was} -> {now}")
            lines.append(f"  {key}: {values}{added}")
    return lines


def _flatten(value: JsonValue, prefix: str = "") -> dict[str, str]:
    if isinstance(value, dict) and value:
        return {
            key: leaf
            for name, inner in value.items()
            for key, leaf in _flatten(inner, f"{prefix}.{name}" if prefix else name).items()
        }
    return {prefix: json.dumps(value, ensure_ascii=False)}
