"""The table of scores: what metrics.json holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from mld.runtime.seeds import derive
from mld_core import Autoencoder, Metric, Modality, PluginError
from mld_core.evaluation.frechet import frechet_distance

SCHEMA_VERSION = 1
RESAMPLES = 1000
MAX_ACCURACY_DROP = 0.05
"""An autoencoder that loses more than this share of its classifier's accuracy is warned about."""


class EvaluationTable:
    """The table of scores of one run."""

    def __init__(
        self,
        witnesses: Mapping[str, ModalityEvaluator],
        decoders: Mapping[str, Autoencoder],
        modalities: Mapping[str, Modality],
        data: Data,
        samples: Sequence[SubsetSamples],
        seed: int,
    ) -> None:
        self.witnesses = witnesses
        self.modalities = modalities
        self.data = data
        self.samples = [subset for subset in samples if len(subset.rows)]
        self.labelled = bool(data.classes)
        self.rng = np.random.default_rng(derive(seed, "judge", "bootstrap"))
        self.items = {
            subset.given: {name: decode(decoders[name], z) for name, z in subset.latents.items()}
            for subset in self.samples
        }
        self.shown = {
            given: {name: witnesses[name].predict(x) for name, x in items.items()}
            for given, items in self.items.items()
            if self.labelled
        }

    def table(self) -> dict[str, Any]:
        """Everything, in the shape of metrics.json."""
        own = {name: self._own(name) for name in self.witnesses}
        return {
            "schema_version": SCHEMA_VERSION,
            "modalities": own,
            "joint_coherence": self._joint_coherence(),
            "joint_ceiling": self._joint_ceiling(),
            "pairwise_agreement": self._pairwise(),
            "conditional_coherence": self._conditional(),
            "frechet": self._frechet(),
            "nfe": {subset_key(subset.given): subset.nfe for subset in self.samples},
            "seconds_per_sample": {
                subset_key(subset.given): subset.seconds for subset in self.samples
            },
            "warnings": list(self._warnings(own)),
        }

    def _own(self, name: str) -> dict[str, Any]:
        """What concerns one modality alone."""
        witness, modality = self.witnesses[name], self.modalities[name]
        accuracy = reconstructed = None
        known = witness.labels >= 0
        if self.labelled and bool(known.any()):
            labels = witness.labels[known]
            accuracy = self._share(witness.predict(witness.test[known]) == labels)
            reconstructed = self._share(witness.predict(witness.reconstructions[known]) == labels)
        return {
            "kind": modality.kind,
            "classifier_accuracy": accuracy,
            "reconstruction_accuracy": reconstructed,
            "reconstruction_error": {
                "value": mean_nll(witness.autoencoder, witness.test),
                "n": len(witness.test),
            },
            "reconstruction_frechet": self._distance(name, witness.reconstructions),
            "metrics": {
                title: self._measured(name, title, metric)
                for title, metric in modality.metrics().items()
            },
        }

    def _measured(self, name: str, title: str, metric: Metric) -> dict[str, Any]:
        """One of the plugin's metrics: of reconstructions where it compares row by row, else of
        joint samples, with the value of real test items beside it."""
        witness = self.witnesses[name]
        samples = self.items.get((), {}).get(name)
        if metric.against == "originals":
            value = self._measure(name, title, metric, witness.reconstructions, witness.test)
            real = None
        else:
            reference = self._reference(name, metric)
            value = self._measure(name, title, metric, samples, reference)
            real = self._measure(name, title, metric, witness.test, reference)
        return {
            "value": value,
            "reference": real,
            "of": "reconstructions" if metric.against == "originals" else "joint samples",
            "better": metric.better,
            "best": metric.best,
            "unit": metric.unit,
        }

    def _reference(self, name: str, metric: Metric) -> Tensor:
        index = list(self.witnesses).index(name)
        if metric.against == "test":
            return self.witnesses[name].test
        train = self.data.train
        items = train.items[name][train.present[:, index]]
        return items if metric.against == "train" else items[:0]

    def _measure(
        self, name: str, title: str, metric: Metric, x: Tensor | None, reference: Tensor
    ) -> float | None:
        """The metric's value; None where there is nothing to measure."""
        if x is None or not len(x) or (metric.against != "none" and not len(reference)):
            return None
        try:
            value = float(metric.measure(x, reference))
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            kind = self.modalities[name].kind
            raise PluginError(
                f"kind {kind!r}: metric {title!r} failed on {name}: {told}"
            ) from error
        return value if np.isfinite(value) else None

    def _joint_coherence(self) -> dict[str, Any] | None:
        """The share of joint samples whose modalities all show the same class."""
        shown = list(self.shown.get((), {}).values())
        if len(shown) < 2:
            return None
        return self._share((torch.stack(shown) == shown[0]).all(0))

    def _joint_ceiling(self) -> dict[str, Any] | None:
        """The share of complete test rows whose reconstructions are all classified right."""
        test = self.data.test
        if not self.labelled or test.labels is None:
            return None
        use = test.present.all(1) & (test.labels >= 0)
        if not bool(use.any()):
            return None
        right = torch.ones(int(use.sum())).bool()
        for index, witness in enumerate(self.witnesses.values()):
            own = use[test.present[:, index]]
            right &= witness.predict(witness.reconstructions[own]) == test.labels[use]
        return self._share(right)

    def _pairwise(self) -> list[dict[str, Any]]:
        shown = self.shown.get((), {})
        return [
            {"modalities": [a, b], **self._share(shown[a] == shown[b])}
            for a, b in combinations(shown, 2)
        ]

    def _conditional(self) -> list[dict[str, Any]]:
        """How often a target shows the label of the test row that was given."""
        found: list[dict[str, Any]] = []
        labels = self.data.test.labels
        if not self.labelled or labels is None:
            return found
        for subset in self.samples:
            known = labels[subset.rows] >= 0 if subset.given else torch.zeros(0).bool()
            if not bool(known.any()):
                continue
            truth = labels[subset.rows][known]
            for target, shown in self.shown[subset.given].items():
                share = self._share(shown[known] == truth)
                found.append({"given": list(subset.given), "target": target, **share})
        return found

    def _frechet(self) -> list[dict[str, Any]]:
        return [
            {
                "given": list(subset.given),
                "target": target,
                "value": self._distance(target, x),
                "n": len(x),
                "extractor": self.witnesses[target].extractor,
            }
            for subset in self.samples
            for target, x in self.items[subset.given].items()
        ]

    def _distance(self, name: str, x: Tensor) -> float | None:
        witness = self.witnesses[name]
        if min(len(x), len(witness.test)) < 2:
            return None
        return frechet_distance(witness.features(x), witness.features(witness.test))

    def _share(self, right: Bool[Tensor, " row"]) -> dict[str, Any]:
        """A share with its 95 % bootstrap interval; resampling a yes-or-no mean is binomial."""
        n, value = len(right), float(right.double().mean())
        low, high = np.quantile(self.rng.binomial(n, value, RESAMPLES) / n, [0.025, 0.975])
        return {"value": value, "low": float(low), "high": float(high), "n": n}

    def _warnings(self, own: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """What a reader must know before believing the scores."""
        told = []
        if not self.labelled:
            told.append(
                "The data have no labels: there is no coherence, and Frechet distances are taken "
                "on latents of the samples, encoded again."
            )
        for name, scores in own.items():
            real, back = scores["classifier_accuracy"], scores["reconstruction_accuracy"]
            if real and back and back["value"] < real["value"] - MAX_ACCURACY_DROP:
                told.append(
                    f"The autoencoder of {name} is the bottleneck: its reconstructions are "
                    f"classified right {back['value']:.3f} of the time, originals "
                    f"{real['value']:.3f}. Give it more latents or more steps."
                )
        return told
