"""Tensors without numbers, and the mode in which every operation makes them.

A `Shape` claims to be on the device of the rehearsal, or on the host, and holds nothing there.
Small tensors that depend on no weight keep their numbers, so that masks, lengths and schedules
steer the control flow as in a real run. What reads a number that only weights could tell raises
`Unknown`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from runtime.device import CPU
from runtime.rehearse.flops import operation_flops
from runtime.rehearse.ledger import Ledger, element_bytes

SHAPES = torch.device("meta")  # what tensors of the rehearsed device claim
SMALL = 1 << 16  # elements; a larger tensor loses its numbers
READS = frozenset(["aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::equal"])
INDEXING = frozenset(
    ["aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"]
)
COPIES = frozenset(["aten::_to_copy", "aten::to", "aten::cpu", "aten::type_as"])


class Unknown(RuntimeError):
    """A number was asked for that only weights can tell."""


class Shape(torch.Tensor):
    """A tensor of a rehearsal. bare: on the CPU with numbers, or on `meta` without."""

    bare: torch.Tensor
    ledger: Ledger

    @staticmethod
    def __new__(
        cls, inner: torch.Tensor, device: torch.device, ledger: Ledger, weight: bool = False
    ) -> Shape:
        """Wrap a tensor. weight: its bytes count with its component's, not with the node's."""
        made: Any = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, device=device, requires_grad=False,
        )  # fmt: skip
        made.bare, made.ledger = inner, ledger
        if device.type == SHAPES.type:
            ledger.allocate(inner, weight=weight)
        shape: Shape = made
        return shape

    @property
    def known(self) -> bool:
        """Whether it has numbers."""
        return self.bare.device == CPU

    def __repr__(self) -> str:  # type: ignore[override]
        return f"{tuple(self.shape)} {self.dtype} of a rehearsal"

    def __deepcopy__(self, memo: Any) -> Any:
        return self.clone()

    def tolist(self) -> Any:
        """The numbers, where there are any."""
        if not self.known:
            raise Unknown("a list of numbers that only weights can tell")
        return self.bare.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """The numbers, or zeros of that shape: pixels that are looked at by nobody."""
        if self.known:
            return self.bare.numpy()
        return np.zeros(tuple(self.shape), torch.empty(0, dtype=self.dtype).numpy().dtype)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's stub is no classmethod
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Outside of the mode, where a tensor outlives it."""
        flat, _ = tree_flatten((args, kwargs or {}))
        ledger = next(a.ledger for a in flat if isinstance(a, Shape))
        return Operation(func, args, kwargs or {}, ledger).run()


class Rehearsing(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's base is untyped
    """While this is open, operations of this thread compute shapes."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.ledger = ledger
        self._python = _FromPython()

    def __enter__(self) -> Any:
        """Open it, and what makes tensors of Python's numbers."""
        self._python.__enter__()  # type: ignore[no-untyped-call]  # as above
        return super().__enter__()  # type: ignore[no-untyped-call]  # as above

    def __exit__(self, *problem: Any) -> None:
        """Close both."""
        super().__exit__(*problem)  # type: ignore[no-untyped-call]  # as above
        self._python.__exit__(*problem)  # type: ignore[no-untyped-call]  # as above

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute the shapes of one operation."""
        return Operation(func, args, kwargs or {}, self.ledger).run()


class _FromPython(TorchFunctionMode):
    """Makes `torch.tensor(numbers, device=...)` on the host first: on `meta` it drops numbers."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            device = torch.device(kwargs["device"])
            return func(*args, **{**kwargs, "device": CPU}).to(device)
        return func(*args, **kwargs)


class Operation:
    """One operation on shapes."""

    def __init__(self, func: Any, args: Any, kwargs: Any, ledger: Ledger) -> None:
        self.name: str = func._schema.name
        if self.name in INDEXING:
            args = (args[0], _places(args[1]), *args[2:])
        self.func, self.args, self.kwargs, self.ledger = func, args, kwargs, ledger
        self.flat, self.spec = tree_flatten((args, kwargs))
        self.tensors = [a for a in self.flat if isinstance(a, torch.Tensor)]
        self.shapes = [t for t in self.tensors if isinstance(t, Shape)]

    def run(self) -> Any:
        """The result: shapes, or plain tensors where all of it is the host's and small."""
        if self.name == "aten::_has_compatible_shallow_copy_type":
            return False
        known = all(_has_numbers(t) for t in self.tensors)
        if self.name in READS:
            if not known:
                raise Unknown(f"a number that only weights can tell ({self.name})")
            return self.func(*tree_map(_inner, self.args), **tree_map(_inner, self.kwargs))
        target = self._target()
        where = CPU if known and (self.tensors or self._is_small()) else SHAPES
        return self._wrapped(self._compute(where), target, where)

    def _compute(self, where: torch.device) -> Any:
        """The result on plain tensors: of the CPU, or of `meta`."""
        if where == SHAPES and self.name == "aten::isfinite" and self.tensors[0].numel() <= SMALL:
            return torch.ones(self.tensors[0].shape, dtype=torch.bool)  # as every good run has them
        if where == SHAPES:
            self._forget_written()
        given, named = tree_unflatten([_lowered(a, where) for a in self.flat], self.spec)
        named = {k: v for k, v in named.items() if k != "pin_memory"}
        if where == SHAPES:
            named = {k: None if k == "generator" else v for k, v in named.items()}
        elif self.name == "aten::copy_" and given[0].device != where:
            raise Unknown("a copy of numbers into a tensor that has none")
        if isinstance(named.get("device"), str):
            named["device"] = where
        out = self.func(*given, **named)
        self._count(given, out)
        return out

    def _is_small(self) -> bool:
        """Whether an operation that takes no tensor makes a small one, which then has numbers."""
        made = self._made_on_meta()
        return all(t.numel() <= SMALL for t in tree_flatten(made)[0] if isinstance(t, torch.Tensor))

    def _made_on_meta(self) -> Any:
        given, named = tree_unflatten([_lowered(a, SHAPES) for a in self.flat], self.spec)
        named = {k: None if k == "generator" else v for k, v in named.items()}
        named.pop("pin_memory", None)
        if any(argument.name == "device" for argument in self.func._schema.arguments):
            named["device"] = SHAPES
        return self.func(*given, **named)

    def _forget_written(self) -> None:
        """A tensor with numbers that is written with unknown ones loses its own."""
        for argument, value in zip(self.func._schema.arguments, self.args, strict=False):
            written = argument.alias_info is not None and argument.alias_info.is_write
            if written and isinstance(value, Shape) and value.known:
                value.bare = value.bare.to(SHAPES)
                if value.device.type == SHAPES.type:
                    self.ledger.allocate(value.bare)

    def _target(self) -> torch.device:
        """Where the result claims to be."""
        if self.name == "aten::copy_":
            return torch.device(self.args[0].device)
        if self.name == "aten::cpu":
            return CPU
        given = self.args[1] if len(self.args) > 1 else None
        if self.name in ("aten::to", "aten::type_as") and isinstance(given, torch.Tensor):
            return given.device
        if asked := [a for a in self.flat if isinstance(a, torch.device)]:
            return asked[0]
        if "device" in self.kwargs and isinstance(self.kwargs["device"], str):
            return torch.device(self.kwargs["device"])
        claimed = [t.device for t in self.tensors]
        return next((d for d in claimed if d != CPU), CPU)

    def _wrapped(self, out: Any, target: torch.device, where: torch.device) -> Any:
        """The result as shapes; the same object where an operation gave back its input."""
        known = {id(t.bare): t for t in self.shapes if t.device == target}
        plain = {id(t): t for t in self.tensors if not isinstance(t, Shape)}

        def wrap(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            if id(value) in known:
                return known[id(value)]
            if target == CPU and where == CPU:
                return value if value.numel() <= SMALL or id(value) in plain else self._large(value)
            if self.name in COPIES and any(value is t for t in map(_inner, self.tensors)):
                value = value.clone()  # another device has memory of its own
            if value.device == CPU and value.numel() > SMALL:
                value = _without_numbers(value)
            return Shape(value, target, self.ledger)

        frozen = all(s.is_inference() for s in self.shapes) if self.shapes else True
        with torch.inference_mode(frozen and torch.is_inference_mode_enabled()):
            return tree_map(wrap, out)

    def _large(self, value: torch.Tensor) -> torch.Tensor:
        return Shape(_without_numbers(value), CPU, self.ledger)

    def _count(self, given: Any, out: Any) -> None:
        """Add the work of the operation, where it is the device's."""
        if not any(t.device.type == SHAPES.type for t in self.tensors):
            return
        made = [t for t in tree_flatten(out)[0] if isinstance(t, torch.Tensor)]
        cost, read = self.ledger.cost, sum(element_bytes(t) for t in self.tensors)
        if count := operation_flops(self.name, given, out):
            dtype = str(made[0].dtype).removeprefix("torch.")
            cost.flops[dtype] += count
            cost.matrix_bytes += read + sum(map(element_bytes, made))
            return
        inputs = {t.untyped_storage()._cdata for t in map(_inner, self.tensors)}
        fresh = [t for t in made if t.untyped_storage()._cdata not in inputs]
        if fresh:
            cost.other_bytes += read + sum(map(element_bytes, fresh))
        elif self.name.endswith("_"):
            cost.other_bytes += read + sum(map(element_bytes, made))


def _places(indices: Any) -> list[Any]:
    """Indices with each mask as the places that it takes: how many they are is in its numbers."""
    found: list[Any] = []
    for index in indices:
        if not isinstance(index, torch.Tensor) or index.dtype is not torch.bool:
            found.append(index)
        elif _has_numbers(index):
            found += torch.nonzero(_inner(index), as_tuple=True)
        else:
            raise Unknown("the elements of a mask that only weights can tell")
    return found


def _has_numbers(tensor: torch.Tensor) -> bool:
    inner = _inner(tensor)
    return bool(inner.device == CPU and inner.numel() <= SMALL)


def _inner(value: Any) -> Any:
    return value.bare if isinstance(value, Shape) else value


def _without_numbers(value: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=SHAPES)


def _lowered(value: Any, where: torch.device) -> Any:
    """An argument as the operation on plain tensors takes it."""
    if isinstance(value, torch.device):
        return where
    inner = _inner(value)
    if isinstance(inner, torch.Tensor) and inner.device != where:
        return inner.to(where)
    return inner
