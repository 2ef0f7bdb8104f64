"""Stage 3 for another method: rows of items to its trained joint model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mld.config.sections import MethodSpec
from mld.data.loading import Data, SplitTensors
from mld.runtime.context import RunContext
from mld.storage.digests import code_digest, tensor_digest
from mld.training.cached import train_cached
from mld.training.train import Objective
from mld_core import (
    DataError,
    JointModel,
    Method,
    Modality,
    PluginError,
    Registry,
    SpecError,
)

STAGE = "diffuse"


class MethodObjective(Objective):
    """A method's own loss on rows of items, which are augmented as for the autoencoders."""

    def __init__(self, kind: str, model: JointModel, modalities: Mapping[str, Modality]) -> None:
        super().__init__()
        self.kind = kind
        self.model = model
        self.modalities = dict(modalities)

    def forward(
        self, batch: Mapping[str, Tensor], generator: Generator
    ) -> tuple[Float[Tensor, ""], Mapping[str, Float[Tensor, ""]]]:
        """The loss of a batch of items by name and of "present"; it has no parts."""
        present, items = batch["present"], {}
        for index, (name, modality) in enumerate(self.modalities.items()):
            x = batch[f"item/{name}"]
            if self.training:
                recorded = present[:, index].reshape(-1, *[1] * (x.ndim - 1))
                x = torch.where(recorded, modality.augment(x, generator), x)
            items[name] = x
        loss = _called(self.kind, "loss", lambda: self.model.loss(items, present))
        return loss.float(), {}


def train_method(
    spec: MethodSpec,
    registry: Registry,
    modalities: Mapping[str, Modality],
    data: Data,
    context: RunContext,
) -> JointModel:
    """The trained model of a plugin's method, in eval mode."""
    run_dir = context.run_dir
    fingerprint = context.fingerprint(STAGE, spec)
    if run_dir.read_back(STAGE, fingerprint):
        return load_method(spec, registry, modalities, context)
    with run_dir.stage(STAGE) as seconds:
        method, model = _fresh(spec, registry, modalities, context)
        rows, dropped = _training_rows(data.train, method)
        held_out, _ = _training_rows(data.validation, method)
        if not len(rows["present"]):
            raise DataError(f"method {spec.method!r} needs complete rows, and none is")
        if dropped:
            told = f"method {spec.method} needs complete rows: {dropped} rows are left out"
            run_dir.log("warning", stage=STAGE, message=told)
        key = {
            "method": spec.model_dump(mode="json"),
            "code": sorted(
                code_digest(type(own).__module__) for own in (method, *modalities.values())
            ),
            "modalities": {
                name: [own.kind, own.config.model_dump(mode="json"), dict(own.facts)]
                for name, own in modalities.items()
            },
            "core": code_digest("mld_core"),
            "libraries": {name: version(name) for name in method.libraries},
            "rows": tensor_digest(*rows.values()),
        }
        objective = MethodObjective(spec.method, model, modalities)
        trained = train_cached(context, STAGE, objective, rows, held_out, spec, key)
        run_dir.write_tensors(run_dir.network, trained.weights)
        facts = {"parameters": sum(p.numel() for p in model.parameters()), "dropped": dropped}
        run_dir.finish(STAGE, fingerprint, [run_dir.network], seconds(), facts)
        run_dir.checkpoint(STAGE).unlink(missing_ok=True)
    return load_method(spec, registry, modalities, context)


def load_method(
    spec: MethodSpec,
    registry: Registry,
    modalities: Mapping[str, Modality],
    context: RunContext,
) -> JointModel:
    """The model of a run that has trained it, in eval mode."""
    _, model = _fresh(spec, registry, modalities, context)
    weights = context.run_dir.read_tensors(context.run_dir.network)
    MethodObjective(spec.method, model, modalities).load_state_dict(weights)
    return model.eval()


def method_of(spec: MethodSpec, registry: Registry, modalities: Mapping[str, Modality]) -> Method:
    """The method with its settings. SpecError if it cannot take the modalities."""
    plugin_class = registry.method(spec.method)
    try:
        return plugin_class(spec.config, modalities)
    except ValueError as error:
        raise SpecError(f"diffuse.method: {spec.method}: {error}") from error


def build_model(
    spec: MethodSpec, registry: Registry, modalities: Mapping[str, Modality]
) -> tuple[Method, JointModel]:
    """A method and its fresh model. SpecError if it cannot take the modalities."""
    method = method_of(spec, registry, modalities)
    fresh = {name: modality.autoencoder() for name, modality in modalities.items()}
    return method, _called(spec.method, "model", lambda: method.model(fresh))


def _fresh(
    spec: MethodSpec,
    registry: Registry,
    modalities: Mapping[str, Modality],
    context: RunContext,
) -> tuple[Method, JointModel]:
    return context.fresh(lambda: build_model(spec, registry, modalities), STAGE)


def _training_rows(rows: SplitTensors, method: Method) -> tuple[dict[str, Tensor], int]:
    """The rows that a method can learn from, and how many were left out."""
    fit = rows.present.all(1) if method.needs_complete else rows.present.any(1)
    items = {f"item/{name}": x[fit] for name, x in rows.items.items()}
    return {**items, "present": rows.present[fit]}, int((~fit).sum())


def _called(kind: str, what: str, call: Callable[[], object]) -> object:
    """What a plugin's method answers; PluginError, naming it, where it fails."""
    try:
        return call()
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise PluginError(f"method {kind!r}: {what} failed: {told}") from error
