"""Stage 5: samples to scores: coherence, Frechet distances, and the plugins' own metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mld.config.sections import EvaluateSpec
from mld.data.loading import Data
from mld.data.types import SubsetSamples
from mld.evaluation.evaluator import build_evaluator
from mld.evaluation.metrics import EvaluationTable
from mld.runtime.context import RunContext
from mld_core import Autoencoder, Modality

STAGE = "evaluate"


def evaluate(
    spec: EvaluateSpec,
    modalities: Mapping[str, Modality],
    autoencoders: Mapping[str, Autoencoder],
    decoders: Mapping[str, Autoencoder],
    data: Data,
    samples: Sequence[SubsetSamples],
    context: RunContext,
) -> dict[str, Any]:
    """All scores, as written to metrics.json; `decoders` are of the samples."""
    run_dir = context.run_dir
    fingerprint = context.fingerprint(STAGE, spec)
    if run_dir.read_back(STAGE, fingerprint):
        return run_dir.read_json(run_dir.metrics)
    with run_dir.stage(STAGE) as seconds:
        witnesses = {
            name: build_evaluator(name, modality, autoencoders[name], spec, data, context)
            for name, modality in modalities.items()
        }
        scores = EvaluationTable(
            witnesses, decoders, modalities, data, samples, context.seed
        ).table()
        for message in scores["warnings"]:
            run_dir.log("warning", stage=STAGE, message=message)
        run_dir.write_json(run_dir.metrics, scores)
        trained = [run_dir.classifier(name) for name in modalities if data.classes]
        parameters = {
            name: sum(p.numel() for p in witness.classifier.parameters())
            for name, witness in witnesses.items()
            if witness.classifier is not None
        }
        facts = {"parameters": parameters}
        run_dir.finish(STAGE, fingerprint, [run_dir.metrics, *trained], seconds(), facts)
        for name in modalities:
            run_dir.checkpoint(f"classify/{name}").unlink(missing_ok=True)
    return scores
