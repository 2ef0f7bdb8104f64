"""Stage 5: samples to scores: coherence, Frechet distances, and the plugins' own metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mld.data import Data
from mld.results import SubsetSamples
from mld.scores import Scores
from mld.sections import JudgeSpec
from mld.witness import call_witness
from mld.workplace import Workplace
from mld_core import Autoencoder, Modality

STAGE = "judge"


def judge(
    spec: JudgeSpec,
    modalities: Mapping[str, Modality],
    autoencoders: Mapping[str, Autoencoder],
    decoders: Mapping[str, Autoencoder],
    data: Data,
    samples: Sequence[SubsetSamples],
    workplace: Workplace,
) -> dict[str, Any]:
    """All scores, as written to metrics.json; `decoders` are of the samples."""
    run_dir = workplace.run_dir
    made_from = workplace.made_from(STAGE, spec)
    if run_dir.read_back(STAGE, made_from):
        return run_dir.read_json(run_dir.metrics)
    with run_dir.stage(STAGE) as seconds:
        witnesses = {
            name: call_witness(name, modality, autoencoders[name], spec, data, workplace)
            for name, modality in modalities.items()
        }
        scores = Scores(witnesses, decoders, modalities, data, samples, workplace.seed).table()
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
        run_dir.finish(STAGE, made_from, [run_dir.metrics, *trained], seconds(), facts)
        for name in modalities:
            run_dir.checkpoint(f"classify/{name}").unlink(missing_ok=True)
    return scores


__all__ = ["STAGE", "judge"]
