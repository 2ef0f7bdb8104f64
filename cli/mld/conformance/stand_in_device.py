"""A device that stands in for a GPU where there is none.

It computes with the processor, and its tensors are kept apart from the processor's: an operation on
some of both fails as it does with a GPU, and so does the conversion to NumPy. It has torch's name
"meta", of a device that holds no numbers and that nothing else uses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

Keywords = Mapping[str, Any] | None
STAND_IN = torch.device("meta")
CPU = torch.device("cpu")
_ATEN = torch.ops.aten
_COPIES = (_ATEN._to_copy.default, _ATEN.copy_.default)
"""Operations from one device to another."""
_INDEXING = (_ATEN.index.Tensor, _ATEN.index_put.default, _ATEN.index_put_.default)
"""Operations on a GPU's tensor that also take indices of the processor."""


class StandInTensor(Tensor):
    """A tensor of the device; `numbers` is the processor's tensor that holds its values."""

    numbers: Tensor
    has_double = True
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, numbers: Tensor) -> StandInTensor:
        """A tensor with the shape, strides and dtype of a processor's."""
        if numbers.dtype == torch.float64 and not cls.has_double:
            raise TypeError("the device has no float64")
        tensor: StandInTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            numbers.shape,
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            device=STAND_IN,
        )
        tensor.numbers = numbers
        return tensor

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return _compute(func, args, dict(kwargs or {}))

    def __repr__(self) -> str:  # type: ignore[override]
        return f"StandInTensor({self.numbers!r})"

    def tolist(self) -> Any:
        """The numbers, which are copied from any device."""
        return self.numbers.tolist()

    def numpy(self, *_: Any, **__: Any) -> NoReturn:
        """A TypeError: NumPy has no other device than the processor."""
        raise TypeError(
            "a tensor of another device has no NumPy array: call .cpu() before .numpy()"
        )

    __array__ = numpy


class StandInGenerator(torch.Generator):
    """A generator of numbers on the device."""

    device = STAND_IN


class StandInDevice(TorchDispatchMode):
    """Within the block `torch.device("meta")` is the stand-in; tensors from it end with the block.

    Args:
        has_double: whether it has double precision, unlike Apple's GPUs.

    Attributes:
        calls: how often each operation was computed, by its name and whether on the device.
    """

    def __init__(self, has_double: bool = True) -> None:
        super().__init__()
        self.has_double = has_double
        self.calls: Counter[tuple[str, bool]] = Counter()
        self._functions = _Functions()

    def __enter__(self) -> StandInDevice:
        super().__enter__()
        StandInTensor.has_double = self.has_double
        self._functions.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._functions.__exit__(*error)
        StandInTensor.has_double = True
        super().__exit__(*error)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        is_there = any(isinstance(x, StandInTensor) for x in tree_leaves((args, kwargs)))
        self.calls[func.overloadpacket.__name__, is_there] += 1
        return _compute(func, args, kwargs)


class _Functions(TorchFunctionMode):
    """What torch does before it dispatches an operation.

    A tensor of given values is made on the processor, then moved, because torch itself forgets
    values for the device "meta". A generator must be of the device on which it draws.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.new_tensor:
            like, *args = args
            kwargs = {"dtype": like.dtype, "device": like.device, **kwargs}
            func = torch.tensor
        device = kwargs.get("device")
        if (generator := kwargs.get("generator")) is not None:
            drawn_on = device or next((x.device for x in args if isinstance(x, Tensor)), CPU)
            if torch.device(drawn_on) != generator.device:
                raise RuntimeError(f"{func} has a generator of another device than its numbers")
        if func not in (torch.tensor, torch.as_tensor) or torch.device(device or CPU) != STAND_IN:
            return func(*args, **kwargs)
        return func(*args, **{**kwargs, "device": CPU}).to(STAND_IN)


def _compute(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The result of an operation, on the device that it names or else that of its tensors."""
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    there = [x for x in tensors if isinstance(x, StandInTensor)]
    # A GPU takes single numbers of the processor.
    here = [x for x in tensors if not isinstance(x, StandInTensor) and x.ndim]
    takes_both = func in _COPIES or (func in _INDEXING and isinstance(args[0], StandInTensor))
    if there and here and not takes_both:
        raise RuntimeError(f"{func} has tensors of the processor and of another device")
    device = kwargs.get("device")
    is_there = bool(there) if device is None else torch.device(device) == STAND_IN
    if device is not None:
        kwargs["device"] = CPU
    result = func(*tree_map(_numbers, args), **tree_map(_numbers, kwargs))
    if func is _ATEN.copy_.default:
        return args[0]
    if not is_there:
        return result
    changed = {id(x.numbers): x for x in there}
    return tree_map(lambda x: changed.get(id(x), _stand_in(x)), result)


def _numbers(value: Any) -> Any:
    return value.numbers if isinstance(value, StandInTensor) else value


def _stand_in(value: Any) -> Any:
    return StandInTensor(value) if isinstance(value, Tensor) else value
