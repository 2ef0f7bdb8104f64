"""Plugins' metrics of conditional samples against the items of their rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from mld.data.encoding import decode, encode
from mld.data.estimates import best_estimates
from mld.data.loading import SplitRows
from mld.data.types import SubsetSamples
from mld.evaluation.evaluator import ModalityEvaluator
from mld.evaluation.plugin_metric import measure, measure_with_ci
from mld.runtime.seeds import derive
from mld_core import Autoencoder, Metric, Modality, plugin_call


@dataclass(frozen=True)
class TruthPlot:
    """A picture of samples beside the truth, as SVG, and what the samples were given."""

    given: tuple[str, ...]
    svg: str


class TruthComparison:
    """Compares samples with the items of the rows that they were given.

    With several draws of each row, metrics against the truth are of the best estimate from them,
    and metrics of draws of all.

    Args:
        evaluators: by modality.
        decoders: by modality, of the samples.
        rows: the evaluated split.
        samples: by conditioning subset.
        seed: of pairs of unrelated rows.
    """

    def __init__(
        self,
        evaluators: Mapping[str, ModalityEvaluator],
        decoders: Mapping[str, Autoencoder],
        modalities: Mapping[str, Modality],
        rows: SplitRows,
        samples: Sequence[SubsetSamples],
        seed: int,
    ) -> None:
        self.evaluators = evaluators
        self.decoders = decoders
        self.modalities = modalities
        self.rows = rows
        self.samples = samples
        self.seed = seed
        drawn = [z.shape[1] for subset in samples for z in subset.draws.values()]
        self.draws = max(drawn, default=1)
        self._real_latents = cache(self._encode_originals)

    def metrics(self, subset: SubsetSamples, target: str, x: Tensor) -> Iterator[dict[str, Any]]:
        """The metrics of one target of a subset, of which `x` are the first samples.

        Rows that lack the target are left out. Joint samples have no rows.
        """
        if not subset.given:
            return
        recorded = self.rows.present[subset.rows, list(self.evaluators).index(target)]
        if not bool(recorded.any()):
            return
        modality, truth = self.modalities[target], self.rows.items[target][subset.rows[recorded]]
        measured = {"truth": x[recorded]}
        if target in subset.draws:
            measured = self._measured_draws(target, subset.draws[target][recorded])
        for title, metric in modality.metrics().items():
            if metric.against in measured:
                yield {
                    "given": list(subset.given),
                    "target": target,
                    "metric": title,
                    "against": metric.against,
                    "of": self._measured_name(metric),
                    **measure_with_ci(
                        target,
                        modality,
                        title,
                        metric,
                        measured[metric.against],
                        truth,
                        self.evaluators[target].device,
                    ),
                    "better": metric.better,
                    "best": metric.best,
                    "unit": metric.unit,
                }

    def plot(self, target: str, x: Mapping[tuple[str, ...], Tensor]) -> TruthPlot | None:
        """The modality's picture of those samples of a target that were given the most.

        None if the modality draws none, or no row with samples has the target.

        Args:
            x: the first samples of the target by what they were given.
        """
        modality, index = self.modalities[target], list(self.evaluators).index(target)
        if type(modality).plot is Modality.plot:
            return None
        for subset in sorted(self.samples, key=lambda each: -len(each.given)):
            recorded = self.rows.present[subset.rows, index] if subset.given else None
            if recorded is None or subset.given not in x or not bool(recorded.any()):
                continue
            draws = x[subset.given][recorded][:, None]
            if target in subset.draws:
                z = subset.draws[target][recorded]
                items = decode(self.decoders[target], z.flatten(0, 1), target)
                draws = items.unflatten(0, z.shape[:2])
            truth = self.rows.items[target][subset.rows[recorded]]
            with plugin_call(f"kind {modality.kind!r}: plot of {target}"):
                svg = modality.plot(draws, truth)
            return TruthPlot(subset.given, svg) if svg else None
        return None

    def of_unrelated_rows(self, name: str, title: str, metric: Metric) -> float | None:
        """A metric of real items of other rows, as a model would reach that ignores what is given.

        As many of each row as there are draws. None for a metric that is not against the truth, or
        with too few rows.
        """
        evaluator = self.evaluators[name]
        originals, device = evaluator.originals, evaluator.device
        count = min(self.draws, len(originals) - 1)
        if count < {"truth": 1, "draws": 2}.get(metric.against, len(originals)):
            return None
        generator = torch.Generator().manual_seed(derive(self.seed, "evaluate", "unrelated", name))
        order = torch.randperm(len(originals), generator=generator)
        others = torch.stack([order.roll(1 + number) for number in range(count)], 1)
        if metric.against == "draws":
            items = originals[others]
        elif count == 1:
            items = originals[others[:, 0]]
        else:
            z, flat = self._real_latents(name), others.flatten()
            items = best_estimates(
                self.modalities[name],
                z[others],
                _spread(z),
                lambda numbers: originals[flat[numbers]],
            )
        modality, reference = self.modalities[name], originals[order]
        return measure(name, modality, title, metric, items, reference, device)

    def _measured_draws(
        self, target: str, z: Float[Tensor, "row draw latent"]
    ) -> dict[str, Tensor]:
        """What is measured of draws, by what their metrics are against."""
        modality, decoder = self.modalities[target], self.decoders[target]

        def items_at(numbers: Tensor) -> Shaped[Tensor, " index *item"]:
            return decode(decoder, z.flatten(0, 1)[numbers], target)

        scale = _spread(self._real_latents(target))
        measured = {"truth": best_estimates(modality, z, scale, items_at)}
        if any(metric.against == "draws" for metric in modality.metrics().values()):
            draws = items_at(torch.arange(z.shape[0] * z.shape[1]))
            measured["draws"] = draws.unflatten(0, z.shape[:2])
        return measured

    def _measured_name(self, metric: Metric) -> str:
        """What a metric was measured on, for readers of metrics.json."""
        if self.draws == 1:
            return "one sample"
        best = "" if metric.against == "draws" else "best estimate of "
        return f"{best}{self.draws} draws"

    def _encode_originals(self, name: str) -> Float[Tensor, "row latent"]:
        """The latents of the real items, in the space of the samples' latents."""
        evaluator = self.evaluators[name]
        return encode(self.decoders[name], evaluator.originals, evaluator.latent_dim)


def _spread(z: Float[Tensor, "row latent"]) -> Float[Tensor, " latent"]:
    """The standard deviation of each coordinate; 1 where it does not vary."""
    std = z.std(0, correction=0)
    return torch.where(std > 0, std, 1.0)
