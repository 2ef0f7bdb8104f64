"""The evaluation of a run's samples: the contents of metrics.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from mld.data.encoding import decode, mean_nll
from mld.data.loading import Data
from mld.data.types import SubsetSamples, subset_key
from mld.evaluation.evaluator import ModalityEvaluator
from mld.evaluation.plugin_metric import measure
from mld.evaluation.truth import TruthComparison, TruthPlot
from mld.runtime.progress import with_progress
from mld.runtime.seeds import derive
from mld_core import Autoencoder, Metric, Modality, SplitName
from mld_core.evaluation.frechet import frechet_distance

SCHEMA_VERSION = 1
BOOTSTRAP_SAMPLES = 1000
MAX_ACCURACY_DROP = 0.05
"""A larger loss of classifier accuracy through an autoencoder is warned about."""


class EvaluationTable:
    """Coherence, Frechet distances and plugin metrics of a run's samples.

    Args:
        evaluators: by modality.
        decoders: by modality, of the samples.
        split: whose rows the samples were given and are evaluated against.
        samples: by conditioning subset, none of them empty.
        seed: of the bootstrap intervals, and of pairs of unrelated rows.
    """

    def __init__(
        self,
        evaluators: Mapping[str, ModalityEvaluator],
        decoders: Mapping[str, Autoencoder],
        modalities: Mapping[str, Modality],
        data: Data,
        split: SplitName,
        samples: Sequence[SubsetSamples],
        seed: int,
    ) -> None:
        self.evaluators = evaluators
        self.modalities = modalities
        self.data = data
        self.split = split
        self.rows = data.split(split)
        self.samples = samples
        self.classified = [name for name, each in evaluators.items() if each.classifier is not None]
        self.seed = seed
        self.rng = np.random.default_rng(derive(seed, "evaluate", "bootstrap"))
        self.items = {
            subset.given: {
                name: decode(decoders[name], z, name) for name, z in subset.latents.items()
            }
            for subset in with_progress("decode", self.samples, "subsets")
        }
        self.truth = TruthComparison(evaluators, decoders, modalities, self.rows, samples, seed)
        self.predictions = {
            given: {
                name: evaluators[name].predict(x)
                for name, x in items.items()
                if name in self.classified
            }
            for given, items in with_progress("classify", list(self.items.items()), "subsets")
        }

    def as_json(self) -> dict[str, Any]:
        """All scores, in the shape of metrics.json."""
        names = with_progress("metrics", list(self.evaluators), "modalities")
        modalities = {name: self._modality_metrics(name) for name in names}
        return {
            "schema_version": SCHEMA_VERSION,
            "split": self.split,
            "draws": self.truth.draws,
            "modalities": modalities,
            "joint_coherence": self._joint_coherence(),
            "joint_ceiling": self._joint_ceiling(),
            "pairwise_agreement": self._pairwise_agreement(),
            "conditional_coherence": self._conditional_coherence(),
            "conditional_metrics": self._conditional_metrics(),
            "frechet": self._frechet(),
            "nfe": {subset_key(subset.given): subset.nfe for subset in self.samples},
            "seconds_per_sample": {
                subset_key(subset.given): subset.seconds for subset in self.samples
            },
            "plots": {name: list(plot.given) for name, plot in self.plots.items()},
            "warnings": self._warnings(modalities),
        }

    @cached_property
    def plots(self) -> dict[str, TruthPlot]:
        """By modality, its picture of samples beside the truth; not of those that draw none."""
        plots = {}
        for name in self.modalities:
            samples = {given: items[name] for given, items in self.items.items() if name in items}
            if plot := self.truth.plot(name, samples):
                plots[name] = plot
        return plots

    def _modality_metrics(self, name: str) -> dict[str, Any]:
        """Scores of one modality alone."""
        evaluator, modality = self.evaluators[name], self.modalities[name]
        accuracy = reconstructed = None
        labelled = evaluator.labels >= 0
        if name in self.classified and bool(labelled.any()):
            labels = evaluator.labels[labelled]
            predicted = evaluator.predict(evaluator.originals[labelled])
            accuracy = self._proportion_with_ci(predicted == labels)
            predicted = evaluator.predict(evaluator.reconstructions[labelled])
            reconstructed = self._proportion_with_ci(predicted == labels)
        return {
            "kind": modality.kind,
            "classifier_accuracy": accuracy,
            "reconstruction_accuracy": reconstructed,
            "reconstruction_error": {
                "value": mean_nll(evaluator.autoencoder, evaluator.originals),
                "n": len(evaluator.originals),
            },
            "reconstruction_frechet": self._frechet_distance(name, evaluator.reconstructions),
            "metrics": {
                title: self._plugin_metric(name, title, metric)
                for title, metric in modality.metrics().items()
            },
        }

    def _plugin_metric(self, name: str, title: str, metric: Metric) -> dict[str, Any]:
        """A plugin's metric: of reconstructions where it compares items row by row, else of joint
        samples, with its value for real items. Metrics of draws are of conditional samples alone.
        """
        modality, evaluator = self.modalities[name], self.evaluators[name]
        real, device = evaluator.originals, evaluator.device
        of, value, reference_value = "draws", None, None
        if metric.is_paired:
            of, reconstructions = "reconstructions", evaluator.reconstructions
            value = measure(name, modality, title, metric, reconstructions, real, device)
        elif metric.against != "draws":
            of, samples = "joint samples", self.items.get((), {}).get(name)
            reference = self._metric_reference(name, metric)
            value = measure(name, modality, title, metric, samples, reference, device)
            reference_value = measure(name, modality, title, metric, real, reference, device)
        return {
            "value": value,
            "reference": reference_value,
            "unrelated": self.truth.of_unrelated_rows(name, title, metric),
            "of": of,
            "better": metric.better,
            "best": metric.best,
            "unit": metric.unit,
        }

    def _metric_reference(self, name: str, metric: Metric) -> Tensor:
        """The items that a metric compares with."""
        if metric.against == "test":
            return self.evaluators[name].originals
        items = self.data.train.items[name].recorded
        return items[:] if metric.against == "train" else items[:0]

    def _joint_coherence(self) -> dict[str, Any] | None:
        """Proportion of joint samples whose classified modalities all show the same class."""
        predictions = list(self.predictions.get((), {}).values())
        if len(predictions) < 2:
            return None
        return self._proportion_with_ci((torch.stack(predictions) == predictions[0]).all(0))

    def _joint_ceiling(self) -> dict[str, Any] | None:
        """Proportion of the rows that have all classified modalities whose reconstructions are all
        classified correctly."""
        labels, evaluators = self.rows.labels, [self.evaluators[name] for name in self.classified]
        if not evaluators or labels is None:
            return None
        usable = labels >= 0
        for evaluator in evaluators:
            usable &= torch.zeros_like(usable).index_fill(0, evaluator.rows, True)
        if not bool(usable.any()):
            return None
        correct = torch.ones(int(usable.sum())).bool()
        for evaluator in evaluators:
            reconstructions = evaluator.reconstructions[usable[evaluator.rows]]
            correct &= evaluator.predict(reconstructions) == labels[usable]
        return self._proportion_with_ci(correct)

    def _pairwise_agreement(self) -> list[dict[str, Any]]:
        """Proportion of joint samples in which two modalities show the same class."""
        predictions = self.predictions.get((), {})
        return [
            {"modalities": [a, b], **self._proportion_with_ci(predictions[a] == predictions[b])}
            for a, b in combinations(predictions, 2)
        ]

    def _conditional_coherence(self) -> list[dict[str, Any]]:
        """Proportion of samples that show the label of the row they were given."""
        rows: list[dict[str, Any]] = []
        labels = self.rows.labels
        if labels is None:
            return rows
        for subset in self.samples:
            labelled = labels[subset.rows] >= 0 if subset.given else torch.zeros(0).bool()
            if not bool(labelled.any()):
                continue
            truth = labels[subset.rows][labelled]
            for target, predicted in self.predictions[subset.given].items():
                proportion = self._proportion_with_ci(predicted[labelled] == truth)
                rows.append({"given": list(subset.given), "target": target, **proportion})
        return rows

    def _conditional_metrics(self) -> list[dict[str, Any]]:
        """Plugins' metrics of samples against the items of the rows that they were given."""
        return [
            score
            for subset in with_progress("compare with the truth", self.samples, "subsets")
            for target, x in self.items[subset.given].items()
            for score in self.truth.metrics(subset, target, x)
        ]

    def _frechet(self) -> list[dict[str, Any]]:
        return [
            {
                "given": list(subset.given),
                "target": target,
                "value": self._frechet_distance(target, x),
                "n": len(x),
                "extractor": self.evaluators[target].extractor,
            }
            for subset in with_progress("Frechet distances", self.samples, "subsets")
            for target, x in self.items[subset.given].items()
        ]

    def _frechet_distance(self, name: str, x: Tensor) -> float | None:
        """Between items and the real ones; None with fewer than two of either."""
        evaluator = self.evaluators[name]
        if min(len(x), len(evaluator.originals)) < 2:
            return None
        return frechet_distance(evaluator.features(x), evaluator.original_features)

    def _proportion_with_ci(self, correct: Bool[Tensor, " row"]) -> dict[str, Any]:
        """A proportion with its 95 % bootstrap interval; a resampled mean is binomial."""
        n, value = len(correct), float(correct.double().mean())
        resampled = self.rng.binomial(n, value, BOOTSTRAP_SAMPLES) / n
        low, high = np.quantile(resampled, [0.025, 0.975])
        return {"value": value, "low": float(low), "high": float(high), "n": n}

    def _warnings(self, modalities: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """What a reader must know to interpret the scores."""
        warnings = []
        if not self.data.classes:
            warnings.append("The data have no labels: there is no coherence.")
        on_latents = [
            name for name, each in self.evaluators.items() if each.feature_network is None
        ]
        if on_latents:
            warnings.append(
                f"Frechet distances of {', '.join(on_latents)} are of the latents of decoded "
                "samples: those of runs with other autoencoders cannot be compared with them."
            )
        for name, scores in modalities.items():
            original, back = scores["classifier_accuracy"], scores["reconstruction_accuracy"]
            if original and back and back["value"] < original["value"] - MAX_ACCURACY_DROP:
                warnings.append(
                    f"The autoencoder of {name} is the bottleneck: its reconstructions are "
                    f"classified correctly {back['value']:.3f} of the time, originals "
                    f"{original['value']:.3f}. Give it more latent dimensions or more steps."
                )
        return warnings
