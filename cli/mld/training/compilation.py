"""Compilation of what is trained by torch.compile, and the error where no compiler works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn

from mld_core.errors import SpecError


def compile_method(module: nn.Module, name: str) -> None:
    """Have a method of a module compiled at its first call.

    Args:
        name: dotted, through submodules: "loss", "network.forward".
    """
    owner, _, method = name.rpartition(".")
    target = module.get_submodule(owner)
    setattr(target, method, torch.compile(getattr(target, method)))


@contextmanager
def compiler_errors(job: str, is_compiled: bool) -> Iterator[None]:
    """SpecError that names the training if what is compiled in it cannot be."""
    if not is_compiled:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise SpecError(
            f"compute.compile: {job} cannot be compiled here ({reason}): install a C++ compiler "
            "that torch supports, or set compute.compile: false"
        ) from error


def uncompiled(is_compiled: bool) -> AbstractContextManager[object]:
    """Run what is compiled as it is written, as with other weights than its parameters."""
    # Loading the compiler takes seconds.
    return torch.compiler.set_stance("force_eager") if is_compiled else nullcontext()
