"""Stage `diffuse`: training of the joint model.

The stage is named after mld's own method; a plugin's method may do something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pydantic import JsonValue

from mld.config.sections import MethodSpec
from mld.config.spec import Spec
from mld.data.loading import Data, layout_of
from mld.data.types import LatentCache
from mld.pipeline.diffusion_method import DiffusionMethod
from mld.pipeline.joint_method import JointGenerator, JointMethod
from mld.pipeline.plugin_method import PluginMethod
from mld.pipeline.stage import StageOutput, run_stage
from mld.runtime.context import RunContext
from mld.storage.stages import DIFFUSE
from mld.training.cached import train_cached
from mld.training.job import count_parameters, is_trainable
from mld.training.parallel import Trainers, shared_training
from mld.training.train import TrainedWeights, train
from mld_core import Autoencoder, Modality, Registry
from mld_core.diffusion.sampling import ScoreModel


def select_method(
    spec: Spec,
    registry: Registry,
    modalities: Mapping[str, Modality],
    earlier: ScoreModel | None = None,
) -> JointMethod:
    """The method that `diffuse.method` selects. SpecError if it does not support the modalities.

    Args:
        earlier: with which the training of mld's own method starts.
    """
    if isinstance(spec.diffuse, MethodSpec):
        return PluginMethod(spec.diffuse, registry, modalities)
    return DiffusionMethod(spec.diffuse, spec.generate, layout_of(modalities), earlier)


def train_joint_model(
    method: JointMethod,
    autoencoders: Mapping[str, Autoencoder],
    data: Data,
    latents: LatentCache,
    context: RunContext,
    pool: Trainers | None,
) -> JointGenerator:
    """The trained joint model; the processes of a pool share large batches."""

    def compute() -> StageOutput:
        dropped = int((~method.usable(latents.train.present)).sum())
        if dropped:
            message = f"{method.title} needs complete rows: {dropped} incomplete rows are left out"
            context.run_dir.warn(DIFFUSE.name, message)
        job = method.job(data, latents, context)
        if is_trainable(job.objective):
            compute = shared_training(job.config.batch_size, context.compute, pool)
            train_job = pool.train_together if pool and compute.processes > 1 else train
            trained = train_cached(job, replace(context, compute=compute), train_job)
        else:
            trained = TrainedWeights(job.objective.state_dict(), None)
        files = method.save(trained, latents, context.run_dir)
        metadata: dict[str, JsonValue] = {
            "parameters": {DIFFUSE.job: count_parameters(job.objective)},
            "trainings": trained.end_of(job.name),
            "incomplete": dropped,
        }
        return StageOutput(files, metadata)

    return run_stage(
        context.run_dir,
        DIFFUSE,
        context.fingerprint(DIFFUSE),
        compute,
        lambda: method.load(autoencoders, context),
    )
