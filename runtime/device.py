"""Devices: which one is used, what it has free, what was used. Only this file names any."""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from runtime.errors import UserError

CPU = torch.device("cpu")
MOST_THREADS = 1024
# Spellings of one device; on a machine without it the error lists what there is.
ALIASES = {"cpu:0": "cpu", "mps:0": "mps", "gpu": "cuda", "gpu:0": "cuda"}
MAX_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, else in KiB


def available() -> list[str]:
    """Names of the devices of this machine, best first."""
    names = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]


def choose(requested: str | None) -> torch.device:
    """The requested device, else the best there is: CUDA, then MPS, then the CPU."""
    names = available()
    if requested is None:
        return torch.device(names[0])
    wanted = requested.strip().lower()
    if wanted == "auto":
        return torch.device(names[0])
    known = {"cuda", *names} if names[0].startswith("cuda") else set(names)
    for alias, device in ALIASES.items():
        wanted = device if wanted == alias and device in known else wanted
    if wanted not in known:
        listed = ", ".join(names)
        raise UserError(
            f"there is no device `{requested}`." if wanted else "the name of the device is empty.",
            help=f"this machine has: {listed}",
            field="placement.device",
        )
    return torch.device("cuda:0" if wanted == "cuda" else wanted)


def default_dtype(device: torch.device, recommended: str | None) -> torch.dtype | None:
    """float32 on a CPU, else the recommendation; None is the file's own dtype."""
    if device.type == "cpu":
        return torch.float32
    return to_dtype(recommended)


def to_dtype(name: str | torch.dtype | None) -> torch.dtype | None:
    """The dtype of a name such as `bfloat16`."""
    if name is None or isinstance(name, torch.dtype):
        return name
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise UserError(
            f"`{name}` is no dtype.", help="write float32, float16 or bfloat16", field="dtype"
        )
    return found


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def free_bytes(device: torch.device) -> int:
    """Bytes that can still be allocated on the device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + unused)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return _host_free()


def peak_bytes(device: torch.device) -> int:
    """The most bytes in use since the start, or since `reset_peak` where the device has one."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if device.type == "mps":
        return int(torch.mps.driver_allocated_memory())
    return _host_peak()


def reset_peak(device: torch.device) -> None:
    """Start counting the peak anew; the host's cannot be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


@dataclass(frozen=True)
class Memory:
    """Memory in bytes: of the device's allocator (0 on a CPU), and of this process on the host.

    host_peak  includes mapped files: the kernel keeps no peak without them
    """

    allocated: int = 0
    reserved: int = 0
    peak_allocated: int = 0
    peak_reserved: int = 0
    host: int = 0
    host_peak: int = 0


def memory(device: torch.device) -> Memory:
    """What is in use now, and the most so far."""
    host, host_peak = _host_used(), peak_bytes(CPU)
    if device.type == "cuda":
        return Memory(
            torch.cuda.memory_allocated(device),
            torch.cuda.memory_reserved(device),
            torch.cuda.max_memory_allocated(device),
            torch.cuda.max_memory_reserved(device),
            host,
            host_peak,
        )
    if device.type == "mps":
        used, held = torch.mps.current_allocated_memory(), torch.mps.driver_allocated_memory()
        return Memory(used, held, used, held, host, host_peak)
    return Memory(host=host, host_peak=host_peak)


def describe(device: torch.device) -> str:
    """The device in words, for reports."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{device.type}, {torch.get_num_threads()} threads"


def execution(device: torch.device) -> dict[str, Any]:
    """What the last bits of a result depend on besides its inputs: device, threads, kernels."""
    found = {"device": str(device), "threads": torch.get_num_threads()}
    if device.type == "cuda":
        found["hardware"] = torch.cuda.get_device_name(device)
    else:
        found["hardware"] = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    kernels = {name: get() for name, (get, _) in KERNELS.items()}
    return {**found, "kernels": kernels}


def force(execution: Mapping[str, Any]) -> None:
    """Compute as `execution` told elsewhere: with as many threads, and the same kernels."""
    threads = execution.get("threads")
    if isinstance(threads, int) and 0 < threads <= MOST_THREADS:
        torch.set_num_threads(threads)
    told = execution.get("kernels")
    for name, value in told.items() if isinstance(told, Mapping) else ():
        get, put = KERNELS.get(name, (None, None))
        if get and put and value != get() and isinstance(value, type(get())):
            put(value)


_SDP = torch.backends.cuda  # its switches hold for every device, the host too
# Choices of torch that change numbers, each with what reads and what sets it.
KERNELS: Mapping[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "float32_matmul": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "flash_attention": (_SDP.flash_sdp_enabled, _SDP.enable_flash_sdp),
    "efficient_attention": (_SDP.mem_efficient_sdp_enabled, _SDP.enable_mem_efficient_sdp),
    "math_attention": (_SDP.math_sdp_enabled, _SDP.enable_math_sdp),
    "cudnn_attention": (_SDP.cudnn_sdp_enabled, _SDP.enable_cudnn_sdp),
    "cudnn_benchmark": (
        lambda: bool(torch.backends.cudnn.benchmark),
        lambda value: setattr(torch.backends.cudnn, "benchmark", value),
    ),
    "deterministic": (
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms,
    ),
}  # fmt: skip


def _host_used() -> int:
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return peak_bytes(CPU)


def _host_peak() -> int:
    # Linux counts a parent's pages in a child's ru_maxrss, so the process's own mark comes first.
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAX_RSS_UNIT


def _host_free() -> int:
    """Free bytes of the host, or of the container where that has a limit."""
    pages = os.sysconf("SC_AVPHYS_PAGES") if "SC_AVPHYS_PAGES" in os.sysconf_names else 0
    free = pages * os.sysconf("SC_PAGE_SIZE")
    info = Path("/proc/meminfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
    limit, used = (Path(f"/sys/fs/cgroup/memory.{n}") for n in ("max", "current"))
    if limit.exists() and used.exists() and (most := limit.read_text().strip()).isdigit():
        free = min(free, int(most) - int(used.read_text()))
    return max(free, 0)
