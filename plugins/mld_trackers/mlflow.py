"""The tracker `mlflow`: a tracking server, or a local database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from mld_core import (
    SampleFile,
    Scalars,
    TrackedRun,
    Tracker,
    TrackerConfig,
    hookimpl,
    require_library,
)

require_library("mlflow")

KEY = "mld.key"
"""The tag by which a run is found again."""
MAX_METRICS = 1000
"""Metrics that MLflow takes at once."""


class MLflowConfig(TrackerConfig):
    """Settings of the tracker `mlflow`."""

    uri: str | None = Field(
        None,
        description="the tracking server or database, such as sqlite:///mlflow.db; by default "
        "MLflow's own, which MLFLOW_TRACKING_URI sets",
    )
    experiment: str = Field("mld", min_length=1, description="the experiment that gets the run")


class MLflow(Tracker):
    """MLflow: metrics with their steps, the spec and files of samples as artefacts."""

    kind = "mlflow"
    Config = MLflowConfig
    config: MLflowConfig

    def __init__(self, config: MLflowConfig, run: TrackedRun) -> None:
        super().__init__(config, run)
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=config.uri)
        experiment = self._client.get_experiment_by_name(config.experiment)
        experiment_id = (
            experiment.experiment_id
            if experiment
            else self._client.create_experiment(config.experiment)
        )
        runs = self._client.search_runs([experiment_id], f"tags.`{KEY}` = '{run.key}'")
        if runs:
            self._run_id = runs[0].info.run_id
            self._client.update_run(self._run_id, status="RUNNING")
            self._metrics = runs[0].data.metrics
            return
        created = self._client.create_run(experiment_id, run_name=run.name, tags={KEY: run.key})
        self._run_id, self._metrics = created.info.run_id, {}
        self._client.log_dict(self._run_id, dict(run.spec), "spec.json")

    def last_steps(self) -> Mapping[str, int]:
        """Read from the store."""
        return {
            name: max(each.step for each in self._client.get_metric_history(self._run_id, name))
            for name in self._metrics
        }

    def log(self, scalars: Sequence[Scalars]) -> None:
        """Add each number as a metric with its step and time."""
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, round(1000 * each.time), each.step)
            for each in scalars
            for name, value in each.values.items()
        ]
        for start in range(0, len(metrics), MAX_METRICS):
            self._client.log_batch(self._run_id, metrics[start : start + MAX_METRICS])

    def log_samples(self, samples: Sequence[SampleFile]) -> None:
        """Add all files as artefacts."""
        for sample in samples:
            self._client.log_artifact(self._run_id, str(sample.path), sample.name)

    def flush(self) -> None:
        """Nothing: a call of MLflow ends when its store has the data."""

    def close(self) -> None:
        """Mark the run as finished, until it is opened again."""
        self._client.set_terminated(self._run_id)


@hookimpl
def register_trackers() -> list[type[Tracker]]:
    """MLflow."""
    return [MLflow]
