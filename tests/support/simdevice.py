"""A simulated accelerator: torch devices `sim:0`, `sim:1`, ... that obey a device's rules on a CPU.

    sim = register(count=2, capacity=64 * 2**20)   # once per process
    net.to("sim:0"); net(x.to("sim:0")).cpu()      # the numbers of the CPU
    sim.peak["sim:0"], sim.copies                  # bytes at most; (from, to, bytes, thread) each

Tensors of two devices in one operation are an error, as on real hardware; an allocation over the
capacity raises torch.OutOfMemoryError; views share storage and are counted once. Not simulated:
streams, workspaces of kernels, speed.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections import Counter
from typing import Any

import torch
from torch.utils import backend_registration
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

NAME = "sim"
# Operations that may take tensors of two devices: transfers, and host indices into a tensor.
TRANSFERS = frozenset(
    ["aten::_to_copy", "aten::copy_", "aten::to", "aten::cpu", "aten::type_as", "aten::_copy_from"]
)
INDEXING = frozenset(
    [
        "aten::index",
        "aten::index_put",
        "aten::index_put_",
        "aten::_index_put_impl_",
        "aten::_unsafe_index",
    ]
)


class Sim:
    """Counts what the simulated devices do. capacity: bytes per device; none: unlimited."""

    def __init__(self, count: int, capacity: int | None) -> None:
        self.count, self.capacity = count, capacity
        self.used: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self.copies: list[tuple[str, str, int, str]] = []
        self._storages: set[int] = set()
        self._lock = threading.RLock()

    def reset(self) -> None:
        """Forget peaks and copies; what is in use stays."""
        with self._lock:
            self.peak = Counter(self.used)
            self.copies = []

    def allocate(self, device: str, inner: torch.Tensor) -> None:
        """Count a tensor's storage once, or raise torch.OutOfMemoryError."""
        storage = inner.untyped_storage()
        key, nbytes = storage._cdata, storage.nbytes()
        with self._lock:
            if key in self._storages:
                return
            if self.capacity is not None and self.used[device] + nbytes > self.capacity:
                used = f"{self.used[device]} of {self.capacity} in use"
                raise torch.OutOfMemoryError(f"{device} out of memory: {nbytes} bytes, {used}")
            self._storages.add(key)
            self.used[device] += nbytes
            self.peak[device] = max(self.peak[device], self.used[device])
        weakref.finalize(storage, self._freed, device, key, nbytes)

    def _freed(self, device: str, key: int, nbytes: int) -> None:
        with self._lock:
            self._storages.discard(key)
            self.used[device] -= nbytes

    def copied(self, source: torch.device, target: torch.device, nbytes: int) -> None:
        """Log a transfer, with the thread that makes it."""
        with self._lock:
            thread = threading.current_thread().name
            self.copies.append((str(source), str(target), nbytes, thread))


class Registered:
    """The one simulation of this process, and what keeps its kernels alive."""

    sim: Sim
    library: Any


def register(count: int = 1, capacity: int | None = None) -> Sim:
    """Make the devices known to torch; the second call only sets the capacity."""
    if hasattr(Registered, "sim"):
        Registered.sim.capacity = capacity
        return Registered.sim
    sim = Registered.sim = Sim(count, capacity)

    class Backend(backend_registration._DummyBackendModule):
        """`torch.sim`."""

        def device_count(self) -> int:
            return count

        def is_available(self) -> bool:
            return True

        def current_device(self) -> int:
            return 0

        def set_device(self, *_: Any) -> None: ...

        def synchronize(self, *_: Any) -> None: ...

        def empty_cache(self) -> None: ...

        def manual_seed_all(self, *_: Any) -> None: ...

        def get_rng_state(self, *_: Any) -> torch.Tensor:
            return torch.get_rng_state()

        def set_rng_state(self, state: torch.Tensor, *_: Any) -> None:
            torch.set_rng_state(state)

        def memory_allocated(self, device: Any = 0) -> int:
            return sim.used[_name(device)]

        def max_memory_allocated(self, device: Any = 0) -> int:
            return sim.peak[_name(device)]

        def mem_get_info(self, device: Any = 0) -> tuple[int, int]:
            total = sim.capacity if sim.capacity is not None else 1 << 40
            return total - sim.used[_name(device)], total

    backend_registration._setup_privateuseone_for_python_backend(NAME, Backend())
    make: Any = torch.library.Library
    library = Registered.library = make("aten", "IMPL")
    library.impl("empty.memory_format", _empty, "PrivateUse1")
    library.impl("empty_strided", _empty_strided, "PrivateUse1")
    library.impl("_copy_from", _copy_from, "PrivateUse1")
    return sim


def _name(device: Any) -> str:
    return f"{NAME}:{device}" if isinstance(device, int) else str(torch.device(device))


def _indexed(device: Any) -> torch.device:
    return torch.device(NAME, torch.device(device).index or 0)


def _empty(
    size: Any,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
    memory_format: Any = None,
) -> Any:
    made = torch.empty(
        size,
        dtype=dtype or torch.get_default_dtype(),
        memory_format=memory_format or torch.contiguous_format,
        device="cpu",
    )
    return SimTensor(made, _indexed(device))


def _empty_strided(
    size: Any,
    stride: Any,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
) -> Any:
    kind = dtype or torch.get_default_dtype()
    return SimTensor(torch.empty_strided(size, stride, dtype=kind, device="cpu"), _indexed(device))


def _copy_from(source: Any, target: Any, non_blocking: bool = False) -> Any:
    """Where torch makes a tensor from Python data, below `__torch_dispatch__`."""
    to, of = (t.host if isinstance(t, SimTensor) else t for t in (target, source))
    to.copy_(of)
    Registered.sim.copied(source.device, target.device, of.numel() * of.element_size())
    return target


class SimTensor(torch.Tensor):
    """A tensor on a simulated device; `host` has its numbers on the CPU."""

    host: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor, device: torch.device) -> SimTensor:
        """Wrap a tensor of the CPU, and count its storage."""
        made: Any = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, device=device, requires_grad=False,
        )  # fmt: skip
        made.host = inner
        Registered.sim.allocate(str(device), inner)
        wrapped: SimTensor = made
        return wrapped

    def __repr__(self) -> str:  # type: ignore[override]
        return f"{self.host!r} on {self.device}"

    def __deepcopy__(self, memo: Any) -> Any:
        return self.clone()

    def tolist(self) -> Any:
        """The numbers."""
        return self.host.tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's stub is no classmethod
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Compute on the CPU, by the rules of a device."""
        return _dispatch(func, args, kwargs or {})


def _check_devices(name: str, args: Any, flat: list[Any], sims: list[SimTensor]) -> None:
    """Refuse tensors of two devices, but for transfers, host scalars and host indices."""
    plain = [t for t in flat if isinstance(t, torch.Tensor) and not isinstance(t, SimTensor)]
    host = [t for t in plain if t.dim() > 0]
    where = {str(s.device) for s in sims}
    indexes = name in INDEXING and isinstance(args[0], SimTensor)
    if name not in TRANSFERS and sims and (len(where) > 1 or (host and not indexes)):
        found = ", ".join(sorted(where | ({"cpu"} if host else set())))
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found {found} in {name}"
        )


def _dispatch(func: Any, args: Any, kwargs: Any) -> Any:
    flat, spec = tree_flatten((args, kwargs))
    name = func._schema.name
    sims = [a for a in flat if isinstance(a, SimTensor)]
    if name == "aten::_has_compatible_shallow_copy_type":
        return False  # `Module.to` then makes a new parameter instead of swapping storage
    _check_devices(name, args, flat, sims)
    target = _target(name, args, flat, sims)
    source = (args[1] if name == "aten::copy_" else args[0]) if name in TRANSFERS else None
    inner = [_inner(a) for a in flat]
    given, named = tree_unflatten(inner, spec)
    if isinstance(named.get("device"), str) and named["device"].startswith(NAME):
        named["device"] = "cpu"
    if named.get("pin_memory"):
        named["pin_memory"] = False
    out = func(*given, **named)
    if isinstance(source, torch.Tensor) and source.device != target:
        nbytes = source.numel() * source.element_size()
        Registered.sim.copied(source.device, target, nbytes)
        if name != "aten::copy_" and any(out is i for i in inner):
            out = out.clone()  # another device has memory of its own
    if target.type != NAME:
        return out
    known = {id(s.host): s for s in sims}

    def wrap(value: Any) -> Any:
        if id(value) in known:
            return known[id(value)]
        return SimTensor(value, target) if isinstance(value, torch.Tensor) else value

    frozen = all(s.is_inference() for s in sims) if sims else True
    with torch.inference_mode(frozen and torch.is_inference_mode_enabled()):
        return tree_map(wrap, out)


def _inner(value: Any) -> Any:
    if isinstance(value, SimTensor):
        return value.host
    if isinstance(value, torch.device) and value.type == NAME:
        return torch.device("cpu")
    return value


def _target(name: str, args: Any, flat: list[Any], sims: list[SimTensor]) -> torch.device:
    """Where the result of an operation is."""
    if name == "aten::copy_":
        return torch.device(args[0].device)
    if name == "aten::cpu":
        return torch.device("cpu")
    given = args[1] if len(args) > 1 else None
    if name in ("aten::to", "aten::type_as") and isinstance(given, torch.Tensor):
        return given.device
    asked = [a for a in flat if isinstance(a, torch.device)]
    if asked:
        return _indexed(asked[0]) if asked[0].type == NAME else asked[0]
    return sims[0].device if sims else torch.device("cpu")


def mebibytes(count: float) -> int:
    """A capacity in bytes."""
    return math.ceil(count * 2**20)
