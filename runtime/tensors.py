"""Tensors of weight files, read one at a time: mapped where they stay as they are, else read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from runtime.errors import UserError
from runtime.weights import Stored, header

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


@dataclass(frozen=True)
class Lazy:
    """One tensor of a safetensors file that is read only when it is indexed with `[...]`.

    mapped  an open file to map the tensor from; none: it is read, and leaves no page of the file
            in this process (a mapped source would count twice during a cast)
    """

    path: Path
    key: str
    stored: Stored
    mapped: Any = None

    def __getitem__(self, index: Any) -> Tensor:
        whole = self._map() if self.mapped is not None else self._read()
        return whole if index is ... else whole[index]

    def get_dtype(self) -> str:
        """The dtype as safetensors spells it."""
        return self.stored.dtype

    def get_shape(self) -> list[int]:
        """The shape."""
        return list(self.stored.shape)

    def _map(self) -> Tensor:
        tensor: Tensor = self.mapped.get_tensor(self.key)
        return tensor

    def _read(self) -> Tensor:
        buffer = torch.empty(self.stored.nbytes, dtype=torch.uint8)
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.stored.start)
            view: memoryview = buffer.numpy().data
            while view.nbytes:
                count = file.readinto(view)
                if not count:
                    raise UserError(f"{self.path} is cut short.", help="download the file again")
                view = view[count:]
        return buffer.view(DTYPES[self.stored.dtype]).view(self.stored.shape)


def open_weights(paths: Sequence[Path], dtype: torch.dtype) -> Mapping[str, Any]:
    """Every tensor of the files by key; `value[...]` reads it. dtype: what most will be cast to."""
    found: dict[str, Any] = {}
    for path in paths:
        found.update(_safetensors(path, dtype) if path.suffix == ".safetensors" else _pickle(path))
    return found


def stored_dtype(weights: Sequence[Path]) -> torch.dtype:
    """The dtype that most bytes of the weights are stored in; float32 for pickles."""
    counts: dict[str, int] = {}
    for path in weights:
        if path.suffix == ".safetensors":
            for tensor in header(path).values():
                counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.nbytes
    floating = {k: n for k, n in counts.items() if k in DTYPES and DTYPES[k].is_floating_point}
    return DTYPES[max(floating, key=lambda k: floating[k])] if floating else torch.float32


def _safetensors(path: Path, dtype: torch.dtype) -> Mapping[str, Lazy]:
    from safetensors import safe_open

    stored = header(path)
    for key, tensor in stored.items():
        if tensor.dtype not in DTYPES:
            raise UserError(f"{path}: `{key}` has the dtype {tensor.dtype}, which is unsupported.")
    same = any(DTYPES[t.dtype] == dtype for t in stored.values())
    mapped = safe_open(path, framework="pt") if same else None
    return {
        k: Lazy(path, k, t, mapped if DTYPES[t.dtype] == dtype else None) for k, t in stored.items()
    }


def _pickle(path: Path) -> Mapping[str, Any]:
    """A pickle, read by the unpickler that builds tensors only; it runs no code of the file."""
    import zipfile
    from pickle import UnpicklingError

    try:
        loaded = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except (UnpicklingError, RuntimeError, EOFError) as problem:
        reason = str(problem).strip().partition("\n")[0]
        raise UserError(
            f"{path} was refused: it is a pickle with more than tensors in it, or damaged. {reason}",
            help="use a model with .safetensors weights; a pickle can run any code",
        ) from problem
    if not isinstance(loaded, Mapping) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise UserError(
            f"{path} holds no state dict.", help="use a model with .safetensors weights"
        )
    return loaded
