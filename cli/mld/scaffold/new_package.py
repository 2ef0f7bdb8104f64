"""Writes the distribution of a new plugin, which works before it is edited.

The files in `template/` describe a plugin `newkind`, and its names are replaced: the kind
`newkind`, the class `NewKind`, the distribution `mld-newkind`, and in the files of `common/`, which
every distribution has, its role `newrole`.
"""

from __future__ import annotations

import keyword
import re
import symtable
from collections.abc import Mapping
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from mld.storage.outputs import create_folder
from mld_core import Registry

TEMPLATES = Path(__file__).parent / "template"
Template = Literal["modality", "inline", "dataset", "method"]
"""A folder of templates; "inline" is a modality whose data are cells of a manifest."""

ROLES: Mapping[Template, str] = {
    "modality": "modality",
    "inline": "modality",
    "dataset": "dataset",
    "method": "method",
}


def write_distribution(kind: str, template: Template, into: Path, registry: Registry) -> Path:
    """Write the distribution of a new kind to a new folder in `into`, and return its path.

    ValueError if the name of the kind is invalid or taken, OutputError if the folder exists or
    cannot be written.
    """
    if error := _name_error(kind, template, registry):
        raise ValueError(error)
    names = {**_names(kind), "newrole": ROLES[template]}
    folder = into / names["mld-newkind"]
    with create_folder(folder) as partial:
        for source in (TEMPLATES / "common", TEMPLATES / template):
            _write_template(source, partial, names)
    return folder


def _write_template(template: Path, folder: Path, names: Mapping[str, str]) -> None:
    for source in sorted(template.rglob("*")):
        if source.is_dir() or "__pycache__" in source.parts:
            continue
        template_path = source.relative_to(template).as_posix().replace("dot_", ".")
        path = folder / _replace(template_path, names)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_replace(source.read_text(encoding="utf-8"), names), encoding="utf-8")


def _names(kind: str) -> dict[str, str]:
    """The names in the template, and what replaces each."""
    class_name = "".join(part.capitalize() for part in kind.split("_"))
    return {"mld-newkind": f"mld-{kind.replace('_', '-')}", "NewKind": class_name, "newkind": kind}


def _replace(text: str, names: Mapping[str, str]) -> str:
    return re.sub("|".join(names), lambda match: names[match[0]], text)


def _name_error(kind: str, template: Template, registry: Registry) -> str:
    """Why this name of a kind is invalid or taken; "" if it can be used."""
    distribution, class_name, _ = _names(kind).values()
    if not re.fullmatch(r"[a-z]+(_?[a-z0-9]+)*", kind):
        valid = re.sub(r"[^a-z0-9]+", "_", kind.lower()).strip("_0123456789")
        is_valid = valid and not _name_error(valid, template, registry)
        hint = f", such as {valid!r}" if is_valid else ""
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
    source = (TEMPLATES / template / "mld_newkind.py").read_text(encoding="utf-8")
    taken_names = symtable.symtable(source, "mld_newkind.py", "exec").get_identifiers()
    if class_name in taken_names and not class_name.startswith("NewKind"):
        return f"the class {class_name} would shadow a name in its module: choose another"
    return ""
