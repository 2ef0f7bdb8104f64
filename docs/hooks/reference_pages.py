"""The reference pages, as Markdown, from the code that they describe."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer
from typer.cli import get_docs_for_click

from mld.app import app
from mld.commands.describe import MEASURED_OF, better_values
from mld.config.plugin_description import Setting, describe_plugin, settings_of
from mld.config.spec import Spec
from mld_core import Registry

ROOT = Path(__file__).parent.parent.parent
DISTRIBUTION = "mld-toolkit"
FIRST = (
    *("run", "load", "TrainedRun", "Samples", "sample_table", "score", "impute", "information"),
    *("Modality", "ModalityConfig", "Autoencoder", "Classifier", "Metric", "Summary"),
    *("Dataset", "DatasetConfig", "Split", "Method", "MethodConfig", "JointModel", "hookimpl"),
)
"""The public names with which the pages of the Python API begin; the others follow as listed."""
PACKAGES = {"mld": ROOT / "cli/mld", "mld_core": ROOT / "mld_core"}


def commands() -> str:
    """Every command with its arguments and options, as `--help` has them."""
    command = typer.main.get_command(app)
    with command.context_class(command) as context:
        page = get_docs_for_click(obj=command, ctx=context, name="mld", title="Commands")
    page = re.sub(r"(?m)^\* `--help`: .*\n", "", page)
    page = re.sub(r"(?ms)^\*\*Commands\*\*:.*?(?=^#)", "", page)
    page = re.sub(r"(?ms)```console\n\$ (.*?)```", r"```text\n\1```", page)
    page = re.sub(r"\*\*(Usage|Arguments|Options)\*\*:", r"\1:", page)
    return page.replace(" range>`", ">`").replace("`<str>`", "`<text>`")


def spec() -> str:
    """Every setting of a spec but those of plugins."""
    schema = Spec.model_json_schema()
    sections = {
        name: {**schema["$defs"][field["$ref"].rpartition("/")[2]], "$defs": schema["$defs"]}
        for name, field in schema["properties"].items()
        if field.get("default") is not None and "$ref" in field
    }
    of_plugins = ("data", "modalities", "track")
    top = {
        name: {"type": "string"} if name in of_plugins else field
        for name, field in schema["properties"].items()
        if name not in sections
    }
    settings = [
        replace(
            setting, type="mapping", description=schema["properties"][setting.name]["description"]
        )
        if setting.name in of_plugins
        else setting
        for setting in settings_of({**schema, "properties": top})
    ]
    lines = [
        "# The spec",
        "",
        "A spec is a YAML file. `mld spec init` writes one with every setting explained,"
        " `mld spec validate` prints all its errors, or the spec with all defaults, and"
        " `mld spec schema` a JSON Schema, by which editors check and complete it."
        " Settings of datasets, modalities, methods and trackers are those of their"
        " [kinds](kinds.md).",
        "",
        *_table(settings),
        *("", "Each section has settings with defaults:", ""),
        *(
            f"- [`{name}`](#{name}): {schema['properties'][name]['description']}"
            for name in sections
        ),
    ]
    for name, section in sections.items():
        lines += ["", f"## `{name}`", "", f"{section['description']}", ""]
        lines += _table(settings_of(section))
        for field, models in _choices(section, schema["$defs"]).items():
            for model in models:
                kind = model["properties"].get("kind", {}).get("const")
                heading = f"{name}.{field}" + (f": {{kind: {kind}}}" if kind else "")
                rest = {k: v for k, v in model["properties"].items() if k != "kind"}
                lines += ["", f"### `{heading}`", "", model["description"], ""]
                lines += _table(settings_of({"properties": rest, "$defs": schema["$defs"]}))
    return "\n".join(lines) + "\n"


def _choices(section: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, list[Any]]:
    """By field, the models of which its value may be one, if there are several or none must be."""
    choices = {}
    for name, field in section["properties"].items():
        branches = field.get("oneOf", []) or [field.get("additionalProperties") or {}]
        references = [branch["$ref"].rpartition("/")[2] for branch in branches if "$ref" in branch]
        if references:
            choices[name] = [definitions[reference] for reference in references]
    return choices


def kinds() -> str:
    """Every included modality, dataset, method and tracker, with its settings and metrics."""
    registry = Registry(allowed=[DISTRIBUTION])
    entries = registry.entries()
    unusable = [entry.kind for entry in entries if entry.plugin_class is None]
    if unusable:
        raise RuntimeError(f"kinds that cannot be used here, for lack of an extra: {unusable}")
    lines = [
        "# Included kinds",
        "",
        "What is included in mld, as `mld describe KIND` prints it; other packages add kinds.",
    ]
    titles = {"modality": "Modalities", "dataset": "Datasets", "method": "Methods"}
    for role, title in {**titles, "tracker": "Trackers"}.items():
        lines += ["", f"## {title}"]
        for entry in entries:
            if entry.role == role:
                lines += ["", f"### `{entry.kind}`", "", *_kind_lines(entry.kind, registry)]
    return "\n".join(lines) + "\n"


def _kind_lines(kind: str, registry: Registry) -> Iterator[str]:
    plugin = describe_plugin(kind, registry)
    yield from (plugin.description, "")
    if plugin.inline is not None:
        cell = "the value itself" if plugin.inline else "the path of a file"
        yield from (f"A cell of a manifest holds {cell}.", "")
    if plugin.needs_complete:
        yield from ("Rows with a missing cell are left out of its training.", "")
    yield from _table(plugin.settings)
    if plugin.metrics:
        yield from ("", "| metric | better | unit | of |", "|---|---|---|---|")
        for name, metric in plugin.metrics.items():
            measured = MEASURED_OF[metric.against].removeprefix("of ")
            yield _row(f"`{name}`", better_values(metric), metric.unit or "", measured)


def _table(settings: Iterable[Setting]) -> Iterator[str]:
    yield from ("| setting | value | default | meaning |", "|---|---|---|---|")
    for each in settings:
        value = ", ".join(filter(None, [each.type, each.range]))
        default = f"`{json.dumps(each.default, ensure_ascii=False)}`"
        if each.required:
            default = "required"
        elif each.default is None:
            default = ""
        elif isinstance(each.default, dict) and each.default:
            default = "see below"
        yield _row(f"`{each.name}`", value, default, each.description)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def api(package: str) -> str:
    """The public names of a package, which its stub lists, for mkdocstrings."""
    title = {"mld": "Python API", "mld_core": "Python API of plugins"}[package]
    stub = ast.parse((PACKAGES[package] / "__init__.pyi").read_text("utf-8"))
    lines = [f"# {title}", "", f"All names are imported from `{package}`.", ""]
    modules = {
        name.name: statement.module
        for statement in stub.body
        if isinstance(statement, ast.ImportFrom)
        for name in statement.names
    }
    for name in sorted(
        modules, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST)
    ):
        lines += [f"::: {package}.{modules[name]}.{name}"]
        lines += [f"    options: {{heading: {package}.{name}}}", ""]
    return "\n".join(lines)
