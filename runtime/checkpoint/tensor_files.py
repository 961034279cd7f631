"""Tensors of weight files, read one at a time: mapped where they stay as they are, else read."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from runtime.checkpoint.weight_files import Stored, header
from runtime.device import CPU
from runtime.errors import UserError

PIECE = 2**24  # bytes read at a time
PAGES_OF_ITS_OWN = 2**18
DTYPE_OF_NAME = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
DTYPE_NAMES = {dtype: name for name, dtype in DTYPE_OF_NAME.items()}  # as safetensors spells them


@dataclass(frozen=True)
class Lazy:
    """One tensor of a safetensors file that is read only when it is indexed with `[...]`.

    mapped  an open file to map the tensor from; none: it is read, and leaves no page of the file
            in this process (a mapped source would count twice during a cast)
    cast    the dtype that indexing gives; none: as stored
    """

    path: Path
    key: str
    stored: Stored
    mapped: Any = None
    cast: torch.dtype | None = None

    def __getitem__(self, index: Any) -> Tensor:
        whole = self.read(self.cast)
        return whole if index is ... else whole[index]

    def get_dtype(self) -> str:
        """The dtype as safetensors spells it."""
        return self.stored.dtype

    def get_shape(self) -> list[int]:
        """The shape."""
        return list(self.stored.shape)

    def read(self, dtype: torch.dtype | None = None) -> Tensor:
        """The tensor on the CPU in `dtype` (as stored where none), cast piece by piece."""
        kind = DTYPE_OF_NAME[self.stored.dtype]
        if self.mapped is not None and dtype in {None, kind}:
            tensor: Tensor = self.mapped.get_tensor(self.key)
            return tensor
        whole = torch.empty(self.stored.shape, dtype=dtype or kind)
        if not self.stored.nbytes:
            return whole
        flat, size = whole.view(-1), kind.itemsize
        piece = _pages(min(PIECE, self.stored.nbytes)).view(kind)
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.stored.start)
            for start in range(0, flat.numel(), piece.numel()):
                part = piece[: flat.numel() - start]
                self._fill(file, part.view(torch.uint8).numpy().data, part.numel() * size)
                flat[start : start + part.numel()] = part
        return whole

    def _fill(self, file: FileIO, view: memoryview, wanted: int) -> None:
        while wanted:
            count = file.readinto(view[-wanted:])
            if not count:
                raise UserError(f"{self.path} is cut short.", help="download the file again")
            wanted -= count


def _pages(size: int) -> Tensor:
    """Bytes to read into; large ones are pages of their own, which leave no hole behind."""
    if size < PAGES_OF_ITS_OWN:
        return torch.empty(size, dtype=torch.uint8)
    return torch.frombuffer(mmap.mmap(-1, size), dtype=torch.uint8)


def shape(value: Any) -> tuple[int, ...]:
    """The shape of an entry of `open_weights`, without reading it."""
    return value.stored.shape if isinstance(value, Lazy) else tuple(value.shape)


def take_tensor(value: Any, dtype: torch.dtype | None, device: torch.device) -> Tensor:
    """An entry of `open_weights` on its device; `dtype` is for floating-point tensors."""
    floating = DTYPE_OF_NAME[value.stored.dtype] if isinstance(value, Lazy) else value.dtype
    final = dtype if floating.is_floating_point else None
    tensor = value.read(final) if isinstance(value, Lazy) else value
    return tensor.to(device, final)


def open_weights(
    paths: Sequence[Path], dtype: torch.dtype, *, cast: bool = False
) -> dict[str, object]:
    """Every tensor of the files by key; `value[...]` reads it.

    dtype  what most tensors will be in: those stored so are mapped, not read
    cast   whether reading gives floating-point tensors in `dtype` already
    """
    found: dict[str, Any] = {}
    for path in paths:
        if path.suffix == ".safetensors":
            found.update(_safetensors(path, dtype, cast))
        else:
            found.update(_pickle(path))
    return found


def stored_dtype(weights: Sequence[Path]) -> torch.dtype:
    """The dtype that most bytes of the weights are stored in; float32 for pickles."""
    counts: dict[str, int] = {}
    for path in weights:
        if path.suffix == ".safetensors":
            for tensor in header(path).values():
                counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.nbytes
    floating = {
        k: n for k, n in counts.items() if k in DTYPE_OF_NAME and DTYPE_OF_NAME[k].is_floating_point
    }
    return DTYPE_OF_NAME[max(floating, key=lambda k: floating[k])] if floating else torch.float32


def _safetensors(path: Path, dtype: torch.dtype, cast: bool) -> Mapping[str, Lazy]:
    from safetensors import safe_open

    stored = header(path)
    for key, tensor in stored.items():
        if tensor.dtype not in DTYPE_OF_NAME:
            raise UserError(
                f"{path}: `{key}` has the dtype {tensor.dtype}, which is unsupported.",
                help="give float16, bfloat16 or float32 weights",
            )
    same = any(DTYPE_OF_NAME[t.dtype] == dtype for t in stored.values())
    mapped = safe_open(path, framework="pt") if same else None

    def lazy(key: str, tensor: Stored) -> Lazy:
        kind = DTYPE_OF_NAME[tensor.dtype]
        final = dtype if cast and kind.is_floating_point else None
        return Lazy(path, key, tensor, mapped if kind == dtype else None, final)

    return {key: lazy(key, tensor) for key, tensor in stored.items()}


def _pickle(path: Path) -> dict[str, object]:
    """A pickle, read by the unpickler that builds tensors only; it runs no code of the file."""
    import zipfile
    from pickle import UnpicklingError

    try:
        loaded = torch.load(
            path, map_location=CPU, weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except (UnpicklingError, RuntimeError, EOFError) as problem:
        reason = str(problem).strip().partition("\n")[0]
        raise UserError(
            f"{path} was refused: it is a pickle of more than tensors, or damaged. {reason}",
            help="use a model with .safetensors weights; a pickle can run any code",
        ) from problem
    if not isinstance(loaded, Mapping) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise UserError(f"{path} holds no state dict.", help="use .safetensors weights")
    return dict(loaded)
