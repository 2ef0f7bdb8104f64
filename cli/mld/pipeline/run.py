"""Run an experiment: a spec through all stages to its report."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path

from pydantic import JsonValue

from mld.config.spec import Spec, dump_spec, load_spec
from mld.data.kept_items import kept_items
from mld.data.loading import Data, layout_of
from mld.evaluation.judges import judges_of
from mld.pipeline.autoencode import train_autoencoders
from mld.pipeline.diffuse import select_method, train_joint_model
from mld.pipeline.encode import cache_latents
from mld.pipeline.evaluate import evaluate
from mld.pipeline.generate import generate
from mld.pipeline.joint_method import JointMethod
from mld.pipeline.prepare import PreparedData, prepare, record_data_stage
from mld.pipeline.provenance import provenance
from mld.pipeline.stage import StageOutput, run_stage
from mld.pipeline.starting_run import StartingRun, open_starting_run, sections_of
from mld.reporting.run_report import render_report
from mld.runtime.compute import resolve, torch_threads
from mld.runtime.context import RunContext
from mld.runtime.nodes import Followers, check_processes, run_on_all
from mld.storage.run_dir import RunDir
from mld.storage.stages import AUTOENCODE, DATA, ENCODE, PIPELINE, REPORT
from mld.storage.weight_store import WeightStore
from mld.tracking.follower import tracked
from mld.tracking.scalars import INVALIDATED
from mld.training.parallel import Trainers, training_pool
from mld_core import MLDError, OutputError, Registry, RunDirError, SpecError


def run(
    spec: Spec | Path | str,
    out: RunDir | Path | str | None = None,
    registry: Registry | None = None,
    *,
    overrides: Sequence[str] = (),
    from_stage: str | None = None,
    store: WeightStore | None = None,
    command: Sequence[str] = (),
) -> Path:
    """Run the pipeline and write the report; completed stages are loaded from disk.

    The same call resumes an interrupted run. Returns the report's path; `mld.load` of its folder
    gives the trained run. SpecError if the spec is invalid, OutputError if its file would be
    overwritten.

    Args:
        spec: or the path of its YAML file.
        out: the run directory; by default `runs/<name>`.
        registry: by default all installed plugins.
        overrides: settings `a.b=c`, only with a path.
        from_stage: first recompute this stage and those after it.
        store: where trained weights are shared; by default, in the user's cache folder.
        command: recorded in the run's provenance.
    """
    registry = registry or Registry()
    source = None if isinstance(spec, Spec) else Path(spec)
    spec = spec if isinstance(spec, Spec) else load_spec(Path(spec), registry, overrides)
    run_dir = out if isinstance(out, RunDir) else RunDir(Path(out or Path("runs") / spec.name))
    store = store or WeightStore.in_user_cache()
    run_spec(spec, source, run_dir, registry, from_stage, store, command)
    return run_dir.report


def run_spec(
    spec: Spec,
    source: Path | None,
    run_dir: RunDir,
    registry: Registry,
    from_stage: str | None,
    store: WeightStore,
    command: Sequence[str],
) -> None:
    """As `run`, of a spec that has been read from `source`.

    If a launcher has started several processes, the first one does this; the others take part in
    its trainings, and end as it does.
    """

    def lead(followers: Followers | None) -> None:
        if source:
            check_own_spec(source, run_dir, spec)
        compute = resolve(spec.compute)
        check_processes(compute, followers)
        start = open_starting_run(spec, registry)
        if start is not None and start.run_dir.path.resolve() == run_dir.path.resolve():
            raise SpecError(f"start_from: {run_dir.path} is this run's own folder: choose another")
        sections = sections_of(spec, start)
        context = RunContext(run_dir, store, compute, spec.seed, sections, followers)
        _run(spec, registry, context, start, from_stage, command)

    run_on_all(lead)


def _run(
    spec: Spec,
    registry: Registry,
    context: RunContext,
    start: StartingRun | None,
    from_stage: str | None,
    command: Sequence[str],
) -> None:
    """Run the pipeline in this process."""
    run_dir = context.run_dir
    run_dir.check()
    with (
        training_pool(len(spec.modalities), context.compute) as pool,
        torch_threads(context.compute),
    ):
        # The rows are read ahead for the first training, and later stages may need none.
        will_train = not run_dir.is_complete(AUTOENCODE.name)
        will_train |= from_stage in (DATA.name, AUTOENCODE.name)
        if pool and will_train:
            pool.start()
        prepared = prepare(
            spec,
            registry,
            context,
            from_stage == DATA.name,
            pool if will_train else None,
            start.fits if start else {},
        )
        earlier = start.score_model(context) if start else None
        method = select_method(spec, registry, prepared.modalities, earlier)
        with run_dir.claim(), _record_crash(run_dir):
            if from_stage:
                run_dir.log("stage", stage=from_stage, state=INVALIDATED, seconds=None)
                run_dir.invalidate_from(from_stage)
            _check_fingerprints(context)
            for stage, message in prepared.shortfalls:
                if not run_dir.is_complete(stage.name):
                    run_dir.warn(stage.name, message)
            with _followed(spec, registry, run_dir), _logged_use(run_dir, prepared.data):
                run_stages(spec, registry, method, prepared, context, pool, start, command)


def _followed(spec: Spec, registry: Registry, run_dir: RunDir) -> AbstractContextManager[None]:
    """The spec's tracker follows the run in this block, if it names one."""
    if spec.track is None:
        return nullcontext()
    tracker_class = registry.tracker(spec.track.kind)
    settings = spec.model_dump(mode="json")
    return tracked(spec.track, tracker_class, run_dir, spec.name, settings)


def run_stages(
    spec: Spec,
    registry: Registry,
    method: JointMethod,
    prepared: PreparedData,
    context: RunContext,
    pool: Trainers | None,
    start: StartingRun | None = None,
    command: Sequence[str] = (),
) -> None:
    """Every stage in order, on data that have been prepared."""
    run_dir, modalities, data = context.run_dir, prepared.modalities, prepared.data
    run_dir.write_spec(dump_spec(spec))
    record_data_stage(prepared, context)
    autoencoders = train_autoencoders(spec.autoencode, modalities, data, context, pool, start)
    latents = cache_latents(autoencoders, layout_of(modalities), data, context)
    joint_model = train_joint_model(method, autoencoders, data, latents, context, pool)
    samples = generate(spec.generate, joint_model, latents, modalities, data, context)
    evaluate(
        spec.evaluate,
        judges_of(spec.evaluate, prepared.coverage.splits["train"]),
        modalities,
        autoencoders,
        joint_model.decoders,
        data,
        latents,
        spec.generate.split,
        samples,
        context,
        pool,
    )
    # A finished run keeps the provenance of the command that finished it.
    if not run_dir.is_complete(REPORT.name):
        record = provenance(spec, registry, context, command)
        run_dir.write_json(run_dir.provenance, record)
    _report(run_dir, lambda: render_report(run_dir))


def check_own_spec(source: Path, run_dir: RunDir, spec: Spec) -> None:
    """OutputError if a run would overwrite the file from which its spec is read by another text."""
    is_same_file = run_dir.spec.exists() and source.samefile(run_dir.spec)
    if is_same_file and source.read_text(encoding="utf-8") != dump_spec(spec):
        raise OutputError(
            f"{source} belongs to the run and would be overwritten: copy it and run the copy, or "
            "choose another folder with --out"
        )


def report(run_dir: RunDir) -> Path:
    """Write the report of an evaluated run again, from the files in its directory."""
    run_dir.check_readable()
    # It shows files of all of them.
    for stage in PIPELINE[:-1]:
        run_dir.verify_stage(stage.name)
    with run_dir.lock(), run_dir.content_of(run_dir.path):
        html = render_report(run_dir)  # an error leaves the report as it was
        run_dir.invalidate_from(REPORT.name)
        return _report(run_dir, lambda: html)


def _report(run_dir: RunDir, html: Callable[[], str]) -> Path:
    """Stage `report`."""

    def compute() -> StageOutput:
        run_dir.write_text(run_dir.report, html())
        return StageOutput([run_dir.provenance, run_dir.report])

    inputs: dict[str, JsonValue] = {name: run_dir.stage_digest(name) for name in REPORT.inputs}
    return run_stage(run_dir, REPORT, {"inputs": inputs}, compute, lambda: run_dir.report)


def _check_fingerprints(context: RunContext) -> None:
    """RunDirError if a complete stage is out of date, before anything is written."""
    # `prepare` has checked the first stage, and the last one is checked when it runs.
    for stage in PIPELINE[1:-1]:
        if not context.run_dir.is_complete(stage.name):
            return
        context.run_dir.check_fingerprint(stage.name, context.fingerprint(stage))


@contextmanager
def _logged_use(run_dir: RunDir, data: Data) -> Iterator[None]:
    """At the end of the block, however it ends, log what of the data and the weights was kept.

    The event "use" has the items of each modality that were read, the bytes of the latents, and the
    trainings whose weights the store had.
    """
    try:
        yield
    finally:
        with suppress(OutputError, RunDirError):  # what has failed is told by its own error
            items, events = kept_items(data.loaded), run_dir.read_events()
            ended = [index for index, event in enumerate(events) if event["event"] == "use"]
            done = run_dir.is_complete(ENCODE.name)
            run_dir.log(
                "use",
                items={name: asdict(record) for name, record in items.items()},
                latents=sum(run_dir.stage_bytes(ENCODE.name).values()) if done else 0,
                trainings=[
                    event["job"]
                    for event in events[ended[-1] if ended else 0 :]
                    if event["event"] == "store"
                ],
            )


@contextmanager
def _record_crash(run_dir: RunDir) -> Iterator[None]:
    """Write the traceback of a crash to error.txt, and delete it after a run that succeeds."""
    try:
        yield
    except MLDError:
        raise
    except Exception:
        with suppress(OutputError):  # the disk may be what has failed
            run_dir.write_text(run_dir.error, traceback.format_exc())
        raise
    run_dir.error.unlink(missing_ok=True)
