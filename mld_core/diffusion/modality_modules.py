"""Modules by modality, whatever the modality is called."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView
from typing import Generic, TypeVar, cast

from torch import nn

_PREFIX = "modality_"

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class ModalityModules(nn.ModuleDict, Generic[ModuleT]):
    """A ModuleDict whose keys are names of modalities.

    An ordinary one refuses names of attributes that every module has, such as `type`, `items` or
    `train`, which columns of a table may well have.
    """

    def __getitem__(self, name: str) -> ModuleT:
        return cast(ModuleT, super().__getitem__(_PREFIX + name))

    def __setitem__(self, name: str, module: nn.Module) -> None:
        super().__setitem__(_PREFIX + name, module)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(_PREFIX + name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(_PREFIX + name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> KeysView[str]:
        """The names."""
        return self._by_name().keys()

    def items(self) -> ItemsView[str, ModuleT]:
        """Names and modules."""
        return self._by_name().items()

    def _by_name(self) -> dict[str, ModuleT]:
        return {
            key.removeprefix(_PREFIX): cast(ModuleT, module)
            for key, module in self._modules.items()
        }
