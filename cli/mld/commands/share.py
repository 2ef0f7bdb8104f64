"""`mld push` and `mld load`: finished runs on the Hugging Face Hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mld.commands.common import AsJson, RunFolder, Texts, command, open_run, repeatable


@command
def push(
    context: typer.Context,
    run: RunFolder,
    repository: Annotated[str, typer.Argument(help="owner/name on the Hugging Face Hub")],
    private: Annotated[
        bool, typer.Option("--private", help="Create a private repository, if there is none.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option(help="The branch, created if there is none (default: main).")
    ] = None,
    license_: Annotated[
        str | None,
        typer.Option("--license", help="Licence of the model, as the hub names it: apache-2.0."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="What it was trained on, with its licence, for the card.")
    ] = None,
    dataset: Annotated[Texts, repeatable("ID", "A data set on the hub, for the card")] = None,
    with_latents: Annotated[
        bool,
        typer.Option(
            "--with-latents",
            help="Also share the latents of validation and test rows, which score, impute and"
            " information need; rows can be guessed from them.",
        ),
    ] = False,
    into: Annotated[
        Path | None,
        typer.Option(help="Write the repository's files into this new folder, and send nothing."),
    ] = None,
) -> None:
    """Share a finished run on the Hugging Face Hub, with a model card: weights, and no data.

    The card says what the run generates, its scores and samples. What only you know, the licence
    and the data, it says where you state it here.
    """
    from mld.sharing.model_card import CardFacts
    from mld.sharing.push import push as push_run
    from mld.sharing.push import write_repository
    from mld.storage.hub import HubAddress

    registry, datasets = context.obj.registry(), dataset or []
    for name, value in (("--license", license_), ("--data", data)):
        if value is None:
            typer.echo(f"warning: without {name}, the card says that it is not stated", err=True)
    if into:
        address, facts = HubAddress(repository, revision), CardFacts(license_, data, datasets)
        write_repository(run, into, address, registry, facts, with_latents)
        typer.echo(into)
        return
    pushed = push_run(
        run,
        repository,
        registry,
        private=private,
        revision=revision,
        license=license_,
        data=data,
        datasets=datasets,
        with_latents=with_latents,
    )
    typer.echo(pushed)


@command
def load(context: typer.Context, run: RunFolder, as_json: AsJson = False) -> None:
    """Load a run, from the Hugging Face Hub too, and print where it lies and what it generates."""
    trained_run = open_run(run, context.obj.registry())
    kinds = {name: modality.kind for name, modality in trained_run.modalities.items()}
    folder = trained_run.run_dir.path
    if as_json:
        typer.echo(json.dumps({"folder": str(folder), "modalities": kinds}))
        return
    typer.echo(folder)
    typer.echo(", ".join(f"{name} ({kind})" for name, kind in kinds.items()), err=True)
