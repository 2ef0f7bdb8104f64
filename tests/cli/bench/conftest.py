from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from mld.bench.aggregate import VariantResult, variant_results
from mld.bench.executors import Executor, Job
from mld.bench.grid import grid
from mld.bench.runner import run_trials
from mld.bench.suite import Coordinates, SuiteSpec, load_suite
from mld.bench.suite_dir import CONTENT, SuiteDir
from mld.bench.tables import Group, group_results
from mld.bench.trials import Trial, make_trials
from mld.config.spec import load_spec
from mld.storage.outputs import mark
from mld.storage.run_dir import RunDir
from mld.storage.stages import STAGE_NAMES
from mld_core import Registry

BASE = """
name: base
data: {kind: examples, train: 60, validation: 20, test: 20}
modalities:
  a: {kind: text, latent_dim: 4, max_bytes: 32}
  b: {kind: text, latent_dim: 4, max_bytes: 32}
  c: {kind: text, latent_dim: 4, max_bytes: 32}
autoencode: {steps: 5, overrides: {b: {steps: 6}, c: {steps: 7}}}
diffuse: {steps: 5, batch_size: 16, network: {kind: residual-mlp, width: 16, depth: 1}}
generate: {steps: 3, num_samples: 20, num_previews: 0, subsets: [[], [a], [b, c]]}
evaluate: {steps: 5}
"""
SUITE = """
name: small
spec: base.yaml
modalities: [[a, b]]
methods:
  mld: {}
  paper: {diffuse.roles: paper, generate.guidance: 0}
seeds: [0, 1]
"""
COHERENCE = {("mld", 0): 0.8, ("mld", 1): 0.9, ("paper", 0): 0.5, ("paper", 1): 0.7}


def changed(text: str, changes: tuple[tuple[str, str], ...]) -> str:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture
def write_suite(tmp_path: Path) -> Callable[..., Path]:
    """Writes SUITE and BASE with changes.

    (*changes, base=(), more="", methods=None) -> Path: changes are pairs (old text, new text);
    `methods` replaces the methods and all that follows them; `more` is put at the end.
    """

    def write(
        *changes: tuple[str, str],
        base: tuple[tuple[str, str], ...] = (),
        more: str = "",
        methods: str | None = None,
    ) -> Path:
        (tmp_path / "base.yaml").write_text(changed(BASE, base))
        text = changed(SUITE, changes)
        if methods is not None:
            text = f"{text.partition('methods:')[0]}methods:{methods}\n"
        path = tmp_path / "suite.yaml"
        path.write_text(f"{text}{more}\n")
        return path

    return write


@pytest.fixture
def base_text() -> str:
    return BASE


@pytest.fixture
def coherence_of() -> Callable[[Trial], float]:
    """The joint coherence of the trials of SUITE in these tests."""
    return lambda trial: COHERENCE[trial.coordinates.method, trial.coordinates.seed]


@pytest.fixture
def trials(write_suite: Callable[..., Path]) -> list[Trial]:
    """The trials of SUITE."""
    return make_trials(load_suite(write_suite()), Registry())


@pytest.fixture
def suite_dir(tmp_path: Path, trials: list[Trial]) -> SuiteDir:
    """A folder with the frozen trials of SUITE, none of which has run."""
    folder = SuiteDir(tmp_path / "out")
    folder.freeze(trials)
    return folder


@pytest.fixture
def finish(write_run: Callable[..., RunDir]) -> Callable[[SuiteDir, str, float], None]:
    """Writes the finished run of a trial: (suite_dir, key, joint coherence)."""

    def finish(suite_dir: SuiteDir, key: str, coherence: float) -> None:
        mark(suite_dir.path, CONTENT)
        trial = Trial(None, "", key)  # type: ignore[arg-type]
        run_dir = write_run(suite_dir.run_dir(trial).path, True, 0)
        scores = run_dir.read_json(run_dir.metrics)
        scores["joint_coherence"]["value"] = coherence
        run_dir.write_json(run_dir.metrics, scores)
        run_dir.mark_complete("diffuse", {}, [], 12.5, {"parameters": {"diffuse": 1000}})
        for stage in (name for name in STAGE_NAMES if name != "diffuse"):
            run_dir.mark_complete(stage, {}, [], 1.0)

    return finish


class ExitedJob(Job):
    """A run that has exited."""

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code

    def poll(self) -> int | None:
        return self.exit_code

    def stop(self) -> None:
        raise AssertionError("nothing runs")

    def wait(self) -> None:
        raise AssertionError("nothing runs")


class InstantExecutor(Executor):
    """Runs that exit at once; those of the `failing` methods with an error."""

    slots = 2

    def __init__(
        self, finish: Callable[..., None], suite_dir: SuiteDir, failing: tuple[str, ...] = ()
    ) -> None:
        self.finish, self.suite_dir, self.failing = finish, suite_dir, failing
        self.started: list[str] = []

    def start(self, spec: Path, out: Path, log: Path) -> Job:
        self.started.append(out.name)
        experiment = load_spec(spec, Registry())
        method = "paper" if experiment.diffuse.roles == "paper" else "mld"
        if method in self.failing:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text("loading\nerror: no luck\nmore words\n")
            return ExitedJob(5)
        self.finish(self.suite_dir, out.name, COHERENCE[method, experiment.seed])
        return ExitedJob(0)


@pytest.fixture
def instant_executor(finish: Callable[..., None]) -> Callable[..., InstantExecutor]:
    """Makes an executor whose runs exit at once: (suite_dir, failing=()) -> Executor."""
    return lambda suite_dir, failing=(): InstantExecutor(finish, suite_dir, failing)


@pytest.fixture
def exited_job() -> type[Job]:
    return ExitedJob


@pytest.fixture
def finished(
    suite_dir: SuiteDir, trials: list[Trial], instant_executor: Callable[..., InstantExecutor]
) -> SuiteDir:
    """The folder of SUITE with all of its trials done."""
    run_trials(suite_dir, trials, instant_executor(suite_dir))
    return suite_dir


# Suites with known metrics: (joint coherence, Frechet distance, NFE) by method and seed.

PLAIN_BASE = """
name: base
data: {kind: examples}
modalities:
  a: {kind: text, latent_dim: 4}
  b: {kind: text, latent_dim: 4}
  c: {kind: text, latent_dim: 4}
"""
AXES = "modalities: [[a, b]]\nmethods: {one: {}, two: {}}\nseeds: [0, 1, 2]\n"
METRICS = {
    ("one", 0): (0.80, 20.0, 60.0),
    ("one", 1): (0.82, 22.0, 60.0),
    ("one", 2): (0.84, 24.0, 60.0),
    ("two", 0): (0.50, 40.0, 1.0),
    ("two", 1): (0.53, 44.0, 1.0),
    ("two", 2): (0.53, 42.0, 1.0),
}


def proportion(value: float, half_width: float = 0.04) -> dict[str, Any]:
    return {"value": value, "low": value - half_width, "high": value + half_width, "n": 500}


def make_scores(
    names: tuple[str, ...],
    coherence: float,
    frechet: float,
    nfe: float,
    half_width: float = 0.04,
    samples: int = 500,
) -> dict[str, Any]:
    pairs = [(given, target) for given in names for target in names if given != target]
    return {
        "split": "test",
        "joint_coherence": proportion(coherence, half_width),
        "joint_ceiling": proportion(0.95),
        "conditional_coherence": [
            {"given": [given], "target": target, **proportion(coherence + 0.01 * index)}
            for index, (given, target) in enumerate(pairs)
        ],
        "conditional_metrics": [
            {
                "given": [given],
                "target": target,
                "metric": "edit_distance",
                **proportion(1 - coherence + 0.01 * index, half_width),
                "better": "lower",
                "best": 0.0,
                "unit": "bytes",
            }
            for index, (given, target) in enumerate(pairs)
        ],
        "modalities": {
            name: {
                "metrics": {"edit_distance": {"value": 0.02}},
                "classifier_accuracy": proportion(0.99),
                "reconstruction_accuracy": proportion(0.97),
                "reconstruction_frechet": 5.0,
            }
            for name in names
        },
        "frechet": [
            *({"given": [], "target": name, "value": frechet, "n": samples} for name in names),
            *(
                {"given": [given], "target": target, "value": 0.9 * frechet, "n": samples}
                for given, target in pairs
            ),
        ],
        "nfe": {"joint": nfe},
        "seconds_per_sample": {"joint": 0.01},
    }


@dataclass(frozen=True)
class FinishedSuite:
    """A suite whose trials are done or have failed."""

    suite_dir: SuiteDir
    spec: SuiteSpec
    trials: list[Trial]

    @cached_property
    def results(self) -> list[VariantResult]:
        return variant_results(self.suite_dir, self.trials)

    @cached_property
    def groups(self) -> list[Group]:
        return group_results(self.spec, self.results)

    @property
    def group(self) -> Group:
        (group,) = self.groups
        return group

    def write_scores(self, trial: Trial, *scores: float, **options: Any) -> None:
        """Replace the scores of a trial; see `make_scores`."""
        run_dir = self.suite_dir.run_dir(trial)
        names = trial.coordinates.modalities
        run_dir.write_json(run_dir.metrics, make_scores(names, *scores, **options))


def method_and_seed(coordinates: Coordinates) -> tuple[str, int]:
    return coordinates.method, coordinates.seed


@pytest.fixture
def finish_suite(tmp_path: Path) -> Callable[..., FinishedSuite]:
    """Writes a suite with known metrics: (axes=AXES, changed={}, key=...) -> FinishedSuite.

    `changed` is added to METRICS; a trial whose `key` of its coordinates has no metrics, or None,
    has failed. `metrics` replaces METRICS.
    """

    def finish(
        axes: str = AXES,
        changed: Mapping[Any, tuple[float, float, float] | None] = {},
        key: Callable[[Coordinates], Any] = method_and_seed,
        metrics: Mapping[Any, tuple[float, float, float]] = METRICS,
    ) -> FinishedSuite:
        (tmp_path / "base.yaml").write_text(PLAIN_BASE)
        (tmp_path / "suite.yaml").write_text(f"name: small\nspec: base.yaml\n{axes}")
        loaded = load_suite(tmp_path / "suite.yaml")
        suite = FinishedSuite(SuiteDir(tmp_path / "out"), loaded.spec, [])
        for index, (coordinates, _) in enumerate(grid(loaded)):
            scores = {**metrics, **changed}.get(key(coordinates))
            error = "" if scores else "base.yaml:3: <b>no</b> luck"
            trial = Trial(coordinates, "", f"{index:016}", error)
            suite.trials.append(trial)
            if scores:
                suite.write_scores(trial, *scores)
                run_dir = suite.suite_dir.run_dir(trial)
                run_dir.write_json(run_dir.provenance, {"mld": "0.1.0", "device": "cpu"})
                for stage in STAGE_NAMES:
                    run_dir.mark_complete(stage, {}, [], 1.0, {"parameters": {"diffuse": 100}})
        suite.suite_dir.freeze(suite.trials)
        return suite

    return finish
