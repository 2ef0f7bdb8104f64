"""A rehearsal of a run: every stage on a few rows, with a few steps of each training.

It trains, samples and evaluates as the run will, in a temporary folder, and so tells the speed of
this machine and the sizes of files for just this spec. The stages run on two numbers of rows, from
which those of the run are extrapolated; its networks are trained once.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from mld.config.spec import Spec
from mld.data.coverage import Coverage
from mld.pipeline.autoencode import load_autoencoders
from mld.pipeline.diffuse import select_method
from mld.pipeline.generate import GENERATE_BATCH_SIZE, draws_per_row
from mld.pipeline.joint_method import Conditioning
from mld.pipeline.measures import MeasuredRunDir, MeasuredSampling, MeasuredStage
from mld.pipeline.peek import Peek
from mld.pipeline.prepare import PreparedData
from mld.pipeline.run import run_stages
from mld.pipeline.starting_run import StartingRun
from mld.pipeline.timed_training import MeasuredTraining, TimedTrainings
from mld.runtime.compute import Compute, torch_threads
from mld.runtime.context import RunContext
from mld.runtime.progress import Clock
from mld.runtime.progress_relay import hidden_progress
from mld.storage.stages import AUTOENCODE, DATA, DIFFUSE, EVALUATE, GENERATE, MATCH_JOB
from mld.storage.weight_store import WeightStore
from mld.training.parallel import parallel_trainings, shared_compute
from mld_core import Registry

FEW_ROWS, MORE_ROWS = 6, 64
"""Rows of every split in the first part, which also loads libraries, and at most in the second."""
MIN_MORE_ROWS = 16
EVALUATION_SECONDS = 2.0
"""The second part has as many rows as are evaluated in less than this."""
FEW_PREVIEWS, MORE_PREVIEWS = 1, 2
"""Samples of each subset that they write as files."""
FEW_SOLVER_STEPS, MORE_SOLVER_STEPS = 1, 3
"""Of samples that are timed, from which the time of more steps is extrapolated."""
SAMPLING_SECONDS = 0.4
"""As many samples at once are timed, up to a batch, as take the processor about so long."""
MAX_DRAWS = 2


@dataclass(frozen=True)
class RehearsedStages:
    """What the stages took on one number of rows.

    Args:
        rows: of every split, and samples of each subset.
        previews: of each subset.
        stages: by name.
    """

    rows: int
    previews: int
    stages: Mapping[str, MeasuredStage]


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal has measured.

    Args:
        few, more: the stages on a few rows and on more of them.
        subsets: of modalities that samples were given.
        trainings: by name.
        sampling: of a joint sample.
    """

    few: RehearsedStages
    more: RehearsedStages
    subsets: Sequence[tuple[str, ...]]
    trainings: Mapping[str, MeasuredTraining]
    sampling: MeasuredSampling


def rehearse(
    spec: Spec,
    registry: Registry,
    coverage: Coverage,
    peek: Peek,
    compute: Compute,
    subsets: Sequence[tuple[str, ...]],
    start: StartingRun | None = None,
    memory: int | None = None,
    clock: Clock = time.perf_counter,
) -> Rehearsal:
    """Measure the stages of a run. MLDError as of the run.

    Nothing is left on disk, and nothing is shown.

    Args:
        coverage: what all rows have, which decides what is trained.
        subsets: that samples are given; of those, the empty one and another one are rehearsed.
        start: the run from which this one starts.
        memory: free bytes where networks are trained; None if unknown.
    """
    workers, _ = parallel_trainings(len(spec.modalities), compute)
    batch_sizes = {
        name: max(1, size // compute.devices) for name, size in _batch_sizes(spec).items()
    }
    processes = shared_compute(spec.diffuse.batch_size, compute, workers).processes
    trainings = TimedTrainings(batch_sizes, processes, memory, clock)
    few_subsets = [given for given in subsets if not given] + [*filter(None, subsets)][:1]
    rehearsed = _Rehearsed(
        spec, registry, coverage, peek, compute, few_subsets, start, trainings, clock
    )
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(hidden_progress())
        stack.enter_context(torch_threads(compute))
        few, _ = rehearsed.run(FEW_ROWS, FEW_PREVIEWS)
        seconds = few.stages[EVALUATE.name].seconds
        rows = int(FEW_ROWS * EVALUATION_SECONDS / max(seconds, 1e-9))
        more, sampling = rehearsed.run(min(MORE_ROWS, max(MIN_MORE_ROWS, rows)), MORE_PREVIEWS)
    assert sampling is not None
    return Rehearsal(few, more, few_subsets, trainings.measured, sampling)


def _batch_sizes(spec: Spec) -> dict[str, int]:
    """Rows of a step of each training that a run may have, by name."""
    sizes = {DIFFUSE.job: spec.diffuse.batch_size, MATCH_JOB: spec.evaluate.batch_size}
    for name in spec.modalities:
        sizes[f"{AUTOENCODE.job}/{name}"] = spec.autoencode.of(name).batch_size
        sizes[f"{EVALUATE.job}/{name}"] = spec.evaluate.batch_size
    return sizes


@dataclass(frozen=True)
class _Rehearsed:
    """The run that is rehearsed."""

    spec: Spec
    registry: Registry
    coverage: Coverage
    peek: Peek
    compute: Compute
    subsets: Sequence[tuple[str, ...]]
    start: StartingRun | None
    trainings: TimedTrainings
    clock: Clock

    def run(self, rows: int, previews: int) -> tuple[RehearsedStages, MeasuredSampling | None]:
        """The stages on so many rows of every split, with so many previews of each subset.

        Sampling is measured with more rows alone.
        """
        spec, peek = self._small_spec(rows, previews), self.peek
        # Windows deletes no file that is mapped.
        with TemporaryDirectory(prefix="mld-", ignore_cleanup_errors=True) as folder:
            run_dir = MeasuredRunDir(Path(folder) / "run", self.trainings, self.clock)
            context = RunContext(
                run_dir,
                WeightStore(Path(folder) / "store"),
                self.compute.on_one_device(),
                spec.seed,
                spec.model_dump(mode="json"),
                rehearse=self.trainings,
            )
            data = peek.data(rows)
            # What the run does because of what its rows have is done here, whatever the few have.
            prepared = PreparedData(
                dict(peek.modalities), data, context.fingerprint(DATA), self.coverage, []
            )
            method = select_method(spec, self.registry, peek.modalities)
            is_first = rows == FEW_ROWS
            # What is used for the first time is slow.
            for _ in range(2 if is_first else 1):
                run_dir.invalidate_from(EVALUATE.name)
                run_stages(spec, self.registry, method, prepared, context, None, self.start)
            stages = {
                name: replace(stage, file_bytes=run_dir.stage_bytes(name))
                for name, stage in run_dir.stages.items()
            }
            sampling = None if is_first else self._sampling(spec, context)
            return RehearsedStages(rows, previews, stages), sampling

    def _small_spec(self, rows: int, previews: int) -> Spec:
        """The spec with few rows and samples."""
        generate = self.spec.generate
        sampling = {
            "subsets": [[*given] for given in self.subsets],
            "num_samples": min(rows, generate.num_samples),
            "num_previews": min(previews, generate.num_previews),
            "steps": min(FEW_SOLVER_STEPS, generate.steps),
            "draws": min(MAX_DRAWS, draws_per_row(generate, self.peek.modalities)),
        }
        return self.spec.model_copy(update={"generate": generate.model_copy(update=sampling)})

    def _sampling(self, small: Spec, context: RunContext) -> MeasuredSampling:
        """The time of joint samples by the trained model, without that of writing them."""
        costs = context.run_dir.stage_metadata(GENERATE.name)["costs"].values()
        # The seconds are those of one draw.
        rehearsed = sum(small.generate.num_samples * cost["seconds"] for cost in costs)
        autoencoders = load_autoencoders(self.peek.modalities, context)
        wanted = [*self.peek.modalities]
        models = []
        for steps in (FEW_SOLVER_STEPS, MORE_SOLVER_STEPS):
            update = {"generate": small.generate.model_copy(update={"steps": steps})}
            spec = small.model_copy(update=update)
            method = select_method(spec, self.registry, self.peek.modalities)
            models.append(method.load(autoencoders, context))
        start = time.process_time()
        models[0].sample(Conditioning({}, {}), wanted, [*range(FEW_ROWS)])
        of_a_step = max(1e-9, time.process_time() - start) / FEW_ROWS / FEW_SOLVER_STEPS
        most = min(self.spec.generate.num_samples, GENERATE_BATCH_SIZE)
        all_steps = FEW_SOLVER_STEPS + MORE_SOLVER_STEPS
        count = min(most, max(FEW_ROWS, int(SAMPLING_SECONDS / all_steps / of_a_step)))
        points = []
        for model in models:
            start = self.clock()
            samples = model.sample(Conditioning({}, {}), wanted, [*range(count)])
            points.append((samples.nfe, (self.clock() - start) / count))
        (few, seconds), (more, more_seconds) = points
        if more <= few:
            return MeasuredSampling(0.0, more_seconds / more, rehearsed)
        evaluation = max(0.0, more_seconds - seconds) / (more - few)
        return MeasuredSampling(max(0.0, more_seconds - more * evaluation), evaluation, rehearsed)
