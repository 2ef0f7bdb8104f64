"""Writes the distribution of a new modality, which works before it is edited.

The files in `template/` describe a modality `newkind`, and its name is replaced: the kind
`newkind`, the class `NewKind`, the distribution `mld-newkind`.
"""

from __future__ import annotations

import keyword
import re
import symtable
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

from mld.storage.outputs import create_folder
from mld_core import Registry

TEMPLATE = Path(__file__).parent / "template"


def write_distribution(kind: str, into: Path, registry: Registry) -> Path:
    """Write the distribution of a new kind to a new folder in `into`, and return its path.

    ValueError if the name of the kind is invalid or taken, OutputError if the folder exists or
    cannot be written.
    """
    if error := _name_error(kind, registry):
        raise ValueError(error)
    names = _names(kind)
    folder = into / names["mld-newkind"]
    with create_folder(folder) as partial:
        _write_template(partial, names)
    return folder


def _write_template(folder: Path, names: dict[str, str]) -> None:
    for source in sorted(TEMPLATE.rglob("*")):
        if source.is_dir() or "__pycache__" in source.parts:
            continue
        template_path = source.relative_to(TEMPLATE).as_posix().replace("dot_", ".")
        path = folder / _replace(template_path, names)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_replace(source.read_text(encoding="utf-8"), names), encoding="utf-8")


def _names(kind: str) -> dict[str, str]:
    """The names in the template, and what replaces each."""
    class_name = "".join(part.capitalize() for part in kind.split("_"))
    return {"mld-newkind": f"mld-{kind.replace('_', '-')}", "NewKind": class_name, "newkind": kind}


def _replace(text: str, names: dict[str, str]) -> str:
    return re.sub("|".join(names), lambda match: names[match[0]], text)


def _name_error(kind: str, registry: Registry) -> str:
    """Why this name of a kind is invalid or taken; "" if it can be used."""
    distribution, class_name, _ = _names(kind).values()
    if not re.fullmatch(r"[a-z]+(_?[a-z0-9]+)*", kind):
        valid = re.sub(r"[^a-z0-9]+", "_", kind.lower()).strip("_0123456789")
        hint = f", such as {valid!r}" if valid and not _name_error(valid, registry) else ""
        return (
            f"{kind!r} is not a valid kind: begin with a lower-case letter, then use lower-case "
            f"letters, digits and single underscores{hint}"
        )
    if keyword.iskeyword(kind) or keyword.iskeyword(class_name):
        return f"{kind!r} is a Python keyword: choose another name"
    if kind in registry.installed():
        return f"the kind {kind!r} is taken by {registry.installed()[kind]}: choose another name"
    if find_spec(f"mld_{kind}") or any(distributions(name=distribution)):
        taken = f"the module mld_{kind} or the distribution {distribution} is installed"
        return f"{kind!r} is taken: {taken}: choose another name"
    source = (TEMPLATE / "mld_newkind.py").read_text(encoding="utf-8")
    taken_names = symtable.symtable(source, "mld_newkind.py", "exec").get_identifiers()
    if class_name in taken_names and not class_name.startswith("NewKind"):
        return f"the class {class_name} would shadow a name in its module: choose another"
    return ""
