"""Stage `evaluate`: samples to coherence, Frechet distances and the plugins' own metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from mld.config.sections import EvaluateSpec
from mld.data.loading import Data
from mld.data.types import SubsetSamples
from mld.evaluation.evaluator import build_evaluator, train_classifiers
from mld.evaluation.metrics import EvaluationTable
from mld.pipeline.stage import StageOutput, run_stage
from mld.runtime.context import RunContext
from mld.storage.stages import EVALUATE
from mld.training.job import count_parameters
from mld.training.parallel import TrainingPool
from mld_core import Autoencoder, Modality, SplitName


def evaluate(
    spec: EvaluateSpec,
    modalities: Mapping[str, Modality],
    autoencoders: Mapping[str, Autoencoder],
    decoders: Mapping[str, Autoencoder],
    data: Data,
    split: SplitName,
    samples: Sequence[SubsetSamples],
    context: RunContext,
    pool: TrainingPool | None,
) -> dict[str, Any]:
    """All scores, as written to metrics.json.

    Args:
        decoders: of the samples.
        split: whose rows the samples were given and are evaluated against.
    """
    run_dir = context.run_dir

    def compute() -> StageOutput:
        classifiers = train_classifiers(modalities, spec, data, context, pool)
        evaluators = {
            name: build_evaluator(
                name, modality, autoencoders[name], classifiers.get(name), data, split
            )
            for name, modality in modalities.items()
        }
        table = EvaluationTable(
            evaluators, decoders, modalities, data, split, samples, context.seed
        )
        scores = table.as_json()
        for message in scores["warnings"]:
            run_dir.log("warning", stage=EVALUATE.name, message=message)
        files = [run_dir.metrics]
        run_dir.write_json(run_dir.metrics, scores)
        for name, plot in table.plots.items():
            run_dir.write_text(run_dir.plot(name), plot.svg)
            files.append(run_dir.plot(name))
        parameters: dict[str, JsonValue] = {}
        for name, classifier in classifiers.items():
            run_dir.write_tensors(run_dir.classifier(name), classifier.state_dict())
            files.append(run_dir.classifier(name))
            parameters[f"{EVALUATE.job}/{name}"] = count_parameters(classifier)
        return StageOutput(files, {"parameters": parameters})

    return run_stage(
        run_dir,
        EVALUATE,
        context.fingerprint(EVALUATE),
        compute,
        lambda: dict(run_dir.read_json(run_dir.metrics)),
    )
