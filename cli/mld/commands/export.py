"""`mld export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mld.commands.common import RunFolder, command, open_run
from mld_core.errors import SpecError

LIBRARIES = ("onnx", "onnxruntime", "onnxscript")
"""What an export needs."""


@command
def export(
    context: typer.Context,
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="The folder for the files.")],
    to: Annotated[Literal["onnx"], typer.Option(help="The format.")] = "onnx",
    opset: Annotated[int, typer.Option(min=18, help="The version of ONNX's operators.")] = 18,
) -> None:
    """Export a run's decoders and score network, each compared with torch before it is kept."""
    from mld_core import require_library

    try:
        for library in LIBRARIES:
            require_library(library)
    except ModuleNotFoundError as error:
        raise SpecError(
            f"mld export --to {to} needs {error.name}: pip install 'mld-toolkit[export]'"
        ) from error
    from mld.exporting.onnx_files import export_onnx

    trained_run = open_run(run, context.obj.registry())
    for path in export_onnx(trained_run, out, opset):
        typer.echo(path)
