"""The pipeline as data: its stages in order, what decides each one's result, and its files."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """A step of `mld run`.

    Args:
        name: on the command line, in messages and in the run directory.
        sections: keys of the spec that decide the stage's result, where it has them.
        inputs: names of the stages whose digests enter its fingerprint; through them it depends
            on every earlier stage.
        files: names at the top of the run directory that it writes.
        jobs: first parts of the names of its training jobs, as in "classify/digit".
        trains_on: the stage of whose result its trainings draw rows; "" without trainings.
    """

    name: str
    sections: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    trains_on: str = ""

    @property
    def job(self) -> str:
        """The first of `jobs`."""
        return self.jobs[0]


MATCH_JOB = "match"
"""The training of the judge of pairs."""

DATA = Stage(
    "data", sections=("data", "modalities", "start_from"), files=("modalities", "invalid.csv")
)
AUTOENCODE = Stage(
    "autoencode",
    sections=("autoencode",),
    inputs=("data",),
    files=("autoencoders",),
    jobs=("autoencode",),
    trains_on="data",
)
ENCODE = Stage("encode", inputs=("autoencode",), files=("latents",))
DIFFUSE = Stage(
    "diffuse",
    sections=("diffuse",),
    inputs=("encode",),
    files=("diffusion",),
    jobs=("diffuse",),
    trains_on="encode",
)
GENERATE = Stage("generate", sections=("generate",), inputs=("diffuse",), files=("samples",))
EVALUATE = Stage(
    "evaluate",
    sections=("evaluate",),
    inputs=("generate",),
    files=("classifiers", "judge.safetensors", "plots", "metrics.json"),
    jobs=("classify", MATCH_JOB),
    trains_on="data",
)
REPORT = Stage("report", inputs=("evaluate",), files=("provenance.json", "report.html"))

PIPELINE = (DATA, AUTOENCODE, ENCODE, DIFFUSE, GENERATE, EVALUATE, REPORT)
STAGE_NAMES = tuple(stage.name for stage in PIPELINE)


def stage_of_job(job: str) -> str:
    """Name of the stage that runs a training job such as "classify/digit"; "" if none does."""
    return next((stage.name for stage in PIPELINE if job.partition("/")[0] in stage.jobs), "")
