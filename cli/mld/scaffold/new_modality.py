"""A new modality's distribution, which works before anyone has edited it.

The files in `template/` are those of the modality `newkind`, and its name is put in: the kind
`newkind`, the class `NewKind`, the distribution `mld-newkind`.
"""

from __future__ import annotations

import ast
import keyword
import re
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from mld_core import Registry

TEMPLATE = Path(__file__).parent / "template"


def write_distribution(kind: str, into: Path, registry: Registry) -> Path:
    """Write the distribution of a new kind as a new folder in `into`, and give its path.

    ValueError if the kind cannot bear that name, FileExistsError if the folder is there already.
    """
    if fault := _fault(kind, registry):
        raise ValueError(fault)
    folder = into / _distribution(kind)
    folder.mkdir(parents=True, exist_ok=False)
    for source in sorted(TEMPLATE.rglob("*")):
        if source.is_dir() or "__pycache__" in source.parts:
            continue
        own = source.relative_to(TEMPLATE).as_posix().replace("dot_", ".")
        path = folder / _named(own, kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(_named(source.read_text(encoding="utf-8"), kind))
    return folder


def _named(text: str, kind: str) -> str:
    names = {"mld-newkind": _distribution(kind), "NewKind": _class(kind), "newkind": kind}
    return re.sub("|".join(names), lambda found: names[found[0]], text)


def _distribution(kind: str) -> str:
    return f"mld-{kind.replace('_', '-')}"


def _class(kind: str) -> str:
    return "".join(part.capitalize() for part in kind.split("_"))


def _fault(kind: str, registry: Registry) -> str:
    """Why a kind cannot bear this name; "" if it can."""
    if not re.fullmatch(r"[a-z]+(_?[a-z0-9]+)*", kind):
        simple = re.sub(r"[^a-z0-9]+", "_", kind.lower()).strip("_0123456789")
        hint = f", such as {simple!r}" if simple and not _fault(simple, registry) else ""
        return (
            f"{kind!r} is no name for a kind: it begins with a lower-case letter and goes on with "
            f"lower-case letters, digits and single underscores{hint}"
        )
    if keyword.iskeyword(kind) or keyword.iskeyword(_class(kind)):
        return f"{kind!r} is a word of Python: choose another name"
    if kind in registry.installed():
        return f"the kind {kind!r} is taken by {registry.installed()[kind]}: choose another name"
    if find_spec(f"mld_{kind}") or _is_installed(_distribution(kind)):
        told = f"the module mld_{kind} or the distribution {_distribution(kind)}"
        return f"{kind!r} is taken: {told} is installed: choose another name"
    if _class(kind) in _imported():
        return f"the class {_class(kind)} would hide what its module imports: choose another name"
    return ""


def _is_installed(distribution: str) -> bool:
    try:
        return bool(version(distribution))
    except PackageNotFoundError:
        return False


def _imported() -> set[str]:
    """The names that the template's module imports."""
    tree = ast.parse((TEMPLATE / "mld_newkind.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return {name.asname or name.name for node in imports for name in node.names}
