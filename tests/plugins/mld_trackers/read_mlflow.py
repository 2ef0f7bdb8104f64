"""Prints the status of the only run in MLflow's files, then each metric as [name, step, value]."""

from __future__ import annotations

import json
import sys

from mlflow import MlflowClient

client = MlflowClient(tracking_uri=sys.argv[1])
experiment = client.get_experiment_by_name("mld")
(run,) = client.search_runs([experiment.experiment_id])
print(json.dumps(run.info.status))
for name in run.data.metrics:
    for metric in client.get_metric_history(run.info.run_id, name):
        print(json.dumps([name, metric.step, metric.value]))
