"""Stage `evaluate`: samples to coherence, retrieval, Frechet distances and plugins' metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from mld.config.sections import EvaluateSpec
from mld.data.loading import Data
from mld.data.types import LatentCache, SubsetSamples
from mld.evaluation.evaluator import build_evaluator, train_classifiers
from mld.evaluation.judges import Judges
from mld.evaluation.matching import train_judge
from mld.evaluation.memorisation import memorisation, memorisation_warnings
from mld.evaluation.metrics import EvaluationTable
from mld.evaluation.retrieval import RetrievalTable
from mld.pipeline.stage import StageOutput, run_stage
from mld.runtime.context import RunContext
from mld.storage.stages import EVALUATE, MATCH_JOB
from mld.training.job import count_parameters
from mld.training.parallel import Trainers
from mld_core import Autoencoder, Modality, SplitName


def evaluate(
    spec: EvaluateSpec,
    judges: Judges,
    modalities: Mapping[str, Modality],
    autoencoders: Mapping[str, Autoencoder],
    decoders: Mapping[str, Autoencoder],
    data: Data,
    latents: LatentCache,
    split: SplitName,
    samples: Sequence[SubsetSamples],
    context: RunContext,
    pool: Trainers | None,
) -> dict[str, Any]:
    """All scores, as written to metrics.json.

    Args:
        judges: which to train.
        decoders: of the samples.
        latents: of all splits, which samples are compared with.
        split: whose rows the samples were given and are evaluated against.
    """
    run_dir = context.run_dir

    def compute() -> StageOutput:
        classified = {name: modalities[name] for name in judges.classified}
        classifiers, trainings = train_classifiers(classified, spec, data, context, pool)
        judge = None
        if judges.pairs:
            judge, end = train_judge(modalities, judges, spec, data, context)
            trainings |= end
        towers = {name: judge.tower(name) for name in judge.names} if judge else {}
        evaluators = {
            name: build_evaluator(
                name,
                modality,
                autoencoders[name],
                classifiers.get(name),
                towers.get(name),
                data,
                split,
            )
            for name, modality in modalities.items()
        }
        table = EvaluationTable(
            evaluators, decoders, modalities, data, split, samples, context.seed
        )
        scores = table.as_json()
        if judge is not None:
            rows = data.split(split)
            retrieval = RetrievalTable(judge, evaluators, rows, samples, table.items, context.seed)
            scores["retrieval"] = retrieval.as_json()
            scores["warnings"] += retrieval.warnings()
        copied = memorisation(evaluators, table.items.get((), {}), latents, split)
        scores["memorisation"] = copied
        scores["warnings"] += memorisation_warnings(copied)
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
        if judge is not None:
            run_dir.write_tensors(run_dir.judge, judge.cpu().state_dict())
            files.append(run_dir.judge)
            parameters[MATCH_JOB] = count_parameters(judge)
        return StageOutput(files, {"parameters": parameters, "trainings": trainings})

    return run_stage(
        run_dir,
        EVALUATE,
        context.fingerprint(EVALUATE),
        compute,
        lambda: dict(run_dir.read_json(run_dir.metrics)),
    )
