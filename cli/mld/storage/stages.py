"""The pipeline as data: its stages in order, what decides each one's result, and its files."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """A step of `mld run`.

    Args:
        name: on the command line, in messages and in the run directory.
        sections: keys of the spec that decide the stage's result.
        inputs: names of the stages whose digests enter its fingerprint; through them it depends
            on every earlier stage.
        files: names at the top of the run directory that it writes.
        job: first part of the names of its training jobs, as in "classify/digit"; "" if none.
    """

    name: str
    sections: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    job: str = ""


DATA = Stage("data", sections=("data", "modalities"), files=("modalities", "invalid.csv"))
AUTOENCODE = Stage(
    "autoencode",
    sections=("autoencode",),
    inputs=("data",),
    files=("autoencoders",),
    job="autoencode",
)
ENCODE = Stage("encode", inputs=("autoencode",), files=("latents",))
DIFFUSE = Stage(
    "diffuse", sections=("diffuse",), inputs=("encode",), files=("diffusion",), job="diffuse"
)
GENERATE = Stage("generate", sections=("generate",), inputs=("diffuse",), files=("samples",))
EVALUATE = Stage(
    "evaluate",
    sections=("evaluate",),
    inputs=("generate",),
    files=("classifiers", "plots", "metrics.json"),
    job="classify",
)
REPORT = Stage("report", inputs=("evaluate",), files=("provenance.json", "report.html"))

PIPELINE = (DATA, AUTOENCODE, ENCODE, DIFFUSE, GENERATE, EVALUATE, REPORT)
STAGE_NAMES = tuple(stage.name for stage in PIPELINE)


def stage_of_job(job: str) -> str:
    """Name of the stage that runs a training job such as "classify/digit"; "" if none does."""
    return next((stage.name for stage in PIPELINE if stage.job == job.partition("/")[0]), "")
