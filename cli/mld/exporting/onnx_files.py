"""Networks as ONNX files, each compared with torch before it is kept."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from pydantic import JsonValue
from torch import Tensor

from mld.config.version import __version__
from mld.exporting.decompositions import decompositions
from mld.exporting.networks import ExportedNetwork, exported_networks
from mld.inference.trained_run import TrainedRun
from mld.pipeline.diffusion_method import DiffusionGenerator
from mld.runtime.progress import with_progress
from mld.storage.files import atomic_write, with_checksum, write_json
from mld.storage.outputs import claimed
from mld_core import PluginError, describe_exception
from mld_core.diffusion.roles import Role

CONTENT = "exported networks"
"""What the mark of a folder of exports says that it holds."""
INDEX_FILE = "export.json"
"""What the files of a folder take and return, and the numbers that their use needs."""
DEFAULT_OPSET = 18
"""The version of ONNX's operators."""
TOLERANCE = 1e-4
"""Largest difference from torch, relative to the largest output where that is above 1."""
BATCH_SIZES = (1, 2, 5)
"""Rows of the batches on which both are compared."""


def export_onnx(run: TrainedRun, folder: Path, opset: int = DEFAULT_OPSET) -> list[Path]:
    """Write the decoders of a run and its score network to a folder; returns the files.

    OutputError if the folder holds anything else. PluginError, after all others are written, if a
    network cannot be exported or differs from torch.
    """
    written: dict[str, JsonValue] = {}
    errors: list[str] = []
    with claimed(folder, CONTENT):
        for network in with_progress("export", exported_networks(run), "networks"):
            path = folder / f"{network.name}.onnx"
            try:
                with atomic_write(path) as partial:
                    write_onnx(network, partial, opset)
                    difference = difference_from_torch(network, partial)
            except PluginError as error:
                errors.append(str(error))
                continue
            written[path.name] = {
                "inputs": {name: _in_words(x) for name, x in network.inputs.items()},
                "output": network.output,
                "difference": difference,
            }
        index: dict[str, JsonValue] = {
            "run": str(run.run_dir.path),
            "mld": __version__,
            "opset": opset,
            "files": written,
            "modalities": _modality_facts(run),
            **_diffusion_facts(run),
        }
        write_json(folder / INDEX_FILE, with_checksum(index))
    if errors:
        raise PluginError("\n".join(errors))
    return [folder / name for name in written]


def write_onnx(network: ExportedNetwork, path: Path, opset: int) -> None:
    """Write a network. PluginError if it cannot be exported."""
    try:
        with _quiet(), torch.no_grad():
            batch = torch.export.Dim("batch")
            traced = torch.export.export(
                network.module,
                tuple(network.inputs.values()),
                dynamic_shapes=tuple({0: batch} for _ in network.inputs),
            )
            program = torch.onnx.export(
                traced.run_decompositions(decompositions()),
                input_names=[*network.inputs],
                output_names=[network.output],
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            program.save(str(path), external_data=False)
    except Exception as error:
        # torch.onnx wraps the error of torch.export in advice for its developers.
        reason = describe_exception(error.__cause__ or error).partition("\n")[0]
        raise PluginError(
            f"{network.description} cannot be exported to ONNX: {reason} (torch.export must be able"
            " to trace it, without branches that depend on the values of tensors, and ONNX have its"
            " operations)"
        ) from error


def difference_from_torch(network: ExportedNetwork, path: Path) -> float:
    """The largest difference of a file's outputs from torch's, for batches of several sizes.

    Relative to the largest output where that is above 1. PluginError if it is above the tolerance,
    or if the file cannot be run.
    """
    differences = []
    for size in BATCH_SIZES:
        inputs = {name: x[:size] for name, x in network.inputs.items()}
        with torch.no_grad():
            expected = network.module(*inputs.values())
        try:
            outputs = _run(path, inputs)
        except Exception as error:
            raise PluginError(
                f"{network.description}: the ONNX file does not run with {size} rows: "
                f"{describe_exception(error)}"
            ) from error
        if outputs.shape != expected.shape:
            raise PluginError(
                f"{network.description}: the ONNX file gives an output of shape "
                f"{tuple(outputs.shape)} for {size} rows, and torch {tuple(expected.shape)}"
            )
        gap = (outputs.double() - expected.double()).abs()
        if network.defined is not None:
            gap = gap[network.defined[:size]]
        differences.append(float(gap.max()) / max(1.0, float(expected.double().abs().max())))
    difference = max(differences)
    if not difference <= TOLERANCE:
        raise PluginError(
            f"{network.description}: the ONNX file differs from torch by {difference:.3g}, more "
            f"than {TOLERANCE:g}"
        )
    return difference


def _run(path: Path, inputs: dict[str, Tensor]) -> Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {name: x.numpy() for name, x in inputs.items()})
    return torch.from_numpy(np.array(output))


def _in_words(x: Tensor) -> JsonValue:
    """Type and shape of an input, of which the first axis is the batch."""
    shape: list[JsonValue] = ["batch", *x.shape[1:]]
    return {"dtype": str(x.dtype).removeprefix("torch."), "shape": shape}


def _modality_facts(run: TrainedRun) -> JsonValue:
    """Of each modality its kind and the shape of its latent, in the order of the joint latent."""
    return {
        name: {"kind": modality.kind, "latent_shape": [*modality.latent_shape]}
        for name, modality in run.modalities.items()
    }


def _diffusion_facts(run: TrainedRun) -> dict[str, JsonValue]:
    """What sampling with the score network needs; empty if the run has none."""
    if not isinstance(run.generator, DiffusionGenerator):
        return {}
    model = run.score_model
    return {
        "roles": {role.name: role.value for role in Role},
        "scheme": model.scheme,
        "schedule": {"beta_min": model.schedule.beta_min, "beta_max": model.schedule.beta_max},
        "standardiser": {
            "mean": model.standardiser.mean.tolist(),
            "std": model.standardiser.std.tolist(),
        },
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch.onnx and its libraries print about their work."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
