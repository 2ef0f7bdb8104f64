"""`mld describe`."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mld.commands.common import AsJson, command
from mld.commands.completion import complete_kind

if TYPE_CHECKING:
    from mld.config.plugin_description import PluginDescription, Setting
    from mld_core import Metric

WIDTH = 88
"""Columns of the printed text."""
MEASURED_OF = {
    "originals": "of reconstructions",
    "truth": "of reconstructions, and of samples given other modalities of their row",
    "draws": "of several samples of each row, given other modalities of it",
    "test": "of joint samples, compared with real items",
    "train": "of joint samples, compared with training items",
    "none": "of joint samples",
}
"""What a metric measures, by its reference."""


@command
def describe(
    context: typer.Context,
    kind: Annotated[
        str,
        typer.Argument(
            help="an installed modality, dataset or method", autocompletion=complete_kind
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Print what a plugin is: its data, its settings with ranges and defaults, its metrics."""
    from mld.config.plugin_description import describe_plugin

    plugin = describe_plugin(kind, context.obj.registry())
    typer.echo(json.dumps(_as_dict(plugin), indent=1) if as_json else "\n".join(_lines(plugin)))


def _as_dict(plugin: PluginDescription) -> dict[str, Any]:
    record = asdict(plugin)
    for metric in (record["metrics"] or {}).values():
        del metric["measure"]
    return record


def _lines(plugin: PluginDescription) -> Iterator[str]:
    yield f"{plugin.kind}: a {plugin.role} of {plugin.distribution} {plugin.version}"
    yield from ("", plugin.description, "")
    if plugin.inline is not None:
        cell = "the value itself" if plugin.inline else "the path of a file"
        yield from (f"A cell of a manifest holds {cell}.", "")
    if plugin.needs_complete:
        yield from ("Rows with a missing cell are left out of its training.", "")
    yield "settings:" if plugin.settings else "settings: none"
    yield from _definitions({each.name: _setting(each) for each in plugin.settings})
    if plugin.metrics is None:
        yield from ("", "metrics: not listed, since they depend on the required settings")
    elif plugin.metrics:
        yield from ("", "metrics:")
        yield from _definitions(
            {
                name: f"{better_values(each)} is better{each.unit and f', in {each.unit}'}\n"
                f"{MEASURED_OF[each.against]}"
                for name, each in plugin.metrics.items()
            }
        )


def better_values(metric: Metric) -> str:
    """Which values of a metric are better."""
    return f"nearer to {metric.best:g}" if metric.better == "nearer" else metric.better


def _setting(setting: Setting) -> str:
    """The type, the range, the default and the meaning of a setting."""
    value = json.dumps(setting.default, ensure_ascii=False)
    default = "required" if setting.required else f"default {value}"
    value_type = ", ".join(filter(None, [setting.type, setting.range]))
    return f"{value_type}; {default}\n{setting.description}"


def _definitions(texts: dict[str, str]) -> Iterator[str]:
    """Names in a column, and beside each its text."""
    width = max(map(len, texts), default=0)
    indent = " " * (width + 4)
    for name, text in texts.items():
        lines = [
            line for part in text.splitlines() for line in textwrap.wrap(part, WIDTH - width - 4)
        ]
        yield f"  {name:{width}}  " + f"\n{indent}".join(lines)
