"""Devices: which one is used, what it has free, what was used. Only this file names any."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from runtime.errors import UserError

CPU = torch.device("cpu")
clock = time.perf_counter  # what a stopwatch reads on the host; a benchmark may count CPU time
MOST_THREADS = 1024
ONE_OF_A_KIND = frozenset({"mps", "cpu"})  # types of device of which a machine has one
# Spellings of one device; on a machine without it the error lists what there is.
ALIASES = {"cpu:0": "cpu", "mps:0": "mps"}
MAX_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, else in KiB


def accelerator() -> str | None:
    """The type of this machine's accelerator as torch knows it (cuda, xpu, mps, ...), or none."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found.type if found else None


def available() -> list[str]:
    """Names of the devices of this machine, best first."""
    kind = accelerator()
    count = torch.accelerator.device_count() if kind else 0
    own = [kind] if kind == "mps" else [f"{kind}:{i}" for i in range(count)]
    return [*filter(None, own), "cpu"]


def choose_device(requested: str | None) -> torch.device:
    """The requested device, else the best there is: the accelerator, then the CPU."""
    names = available()
    if requested is None:
        return torch.device(names[0])
    wanted = requested.strip().lower()
    if wanted == "auto":
        return torch.device(names[0])
    aliases = dict(ALIASES)
    if kind := accelerator():
        aliases |= {kind: names[0], "gpu": names[0], "gpu:0": names[0]}
    wanted = aliases.get(wanted, wanted)
    if wanted not in names:
        listed = ", ".join(names)
        raise UserError(
            f"there is no device `{requested}`." if wanted else "the name of the device is empty.",
            help=f"this machine has: {listed}",
            field="placement.device",
        )
    return torch.device(wanted)


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


def backend(device: torch.device) -> Any:
    """The module of torch for an accelerator: `torch.cuda`, `torch.xpu`, `torch.mps`, ..."""
    return torch.get_device_module(device)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what was asked of it."""
    if device.type != "cpu":
        backend(device).synchronize(*_at(device))


def empty_cache(device: str) -> None:
    """Give memory that torch keeps for later back to the device."""
    where = torch.device(device)
    if where.type != "cpu":
        backend(where).empty_cache()


def free_bytes(device: torch.device) -> int:
    """Bytes that can still be allocated on the device."""
    if device.type == "cpu":
        return _host_free()
    module = backend(device)
    if hasattr(module, "mem_get_info"):
        free, _ = module.mem_get_info(device)
        unused = _count(device, "memory_reserved") - _count(device, "memory_allocated")
        return int(free) + max(unused, 0)
    return int(module.recommended_max_memory() - module.driver_allocated_memory())


def peak_bytes(device: torch.device) -> int:
    """The most bytes in use since the start, or since `reset_peak` where the device has one."""
    if device.type == "cpu":
        return _host_peak()
    return _count(device, "max_memory_allocated", "driver_allocated_memory")


def reset_peak(device: torch.device) -> None:
    """Start counting the peak anew; the host's cannot be reset."""
    if device.type != "cpu" and hasattr(backend(device), "reset_peak_memory_stats"):
        backend(device).reset_peak_memory_stats(device)


def measured_speeds(device: torch.device) -> tuple[dict[str, float], float]:
    """FLOP/s of matrix products by dtype, and bytes per second of a copy: the best of three."""
    size, rates = 512 if device.type == "cpu" else 4096, {}
    for dtype in (torch.float32, torch.bfloat16):
        square = torch.ones(size, size, dtype=dtype, device=device)
        work = 2 * size**3
        rates[str(dtype).removeprefix("torch.")] = work / _fastest(device, square.matmul, square)
    block = torch.ones(2**24, device=device)
    target = torch.empty_like(block)
    return rates, 2 * block.nbytes / _fastest(device, target.copy_, block)


def _fastest(device: torch.device, work: Callable[..., Any], argument: torch.Tensor) -> float:
    seconds = []
    for _ in range(4):  # the first one warms up
        began = clock()
        work(argument)
        synchronize(device)
        seconds.append(clock() - began)
    return max(min(seconds[1:]), 1e-9)


def _at(device: torch.device) -> tuple[torch.device, ...]:
    """The device as an argument, for backends that have several."""
    return () if device.index is None else (device,)


def _count(device: torch.device, *names: str) -> int:
    """A number that the backend counts, under the first name that it has; 0 where it has none."""
    module = backend(device)
    for name in names:
        if found := getattr(module, name, None):
            return int(found(*_at(device)))
    return 0


class Stopwatch:
    """Sums the time of pieces of work on a device: of the work, not of its launches.

    On an accelerator the pieces lie between two events on its stream; elsewhere, and where the
    backend has no such events, the clock of the host is read.
    """

    def __init__(self, device: torch.device) -> None:
        make = None if device.type == "cpu" else getattr(backend(device), "Event", None)
        self._make: Callable[..., Any] | None = make
        self._pairs: list[tuple[Any, Any]] = []
        self._first: Any = None
        self._began = self._seconds = 0.0

    def __enter__(self) -> None:
        """Count what is launched from here on."""
        if self._make is None:
            self._began = clock()
        else:
            self._first = self._make(enable_timing=True)
            self._first.record()

    def __exit__(self, *_: object) -> None:
        """Until here."""
        if self._make is None:
            self._seconds += clock() - self._began
        else:
            last = self._make(enable_timing=True)
            last.record()
            self._pairs.append((self._first, last))

    def seconds(self) -> float:
        """Seconds so far; waits until the work that was launched is done."""
        for first, last in self._pairs:
            last.synchronize()
            self._seconds += first.elapsed_time(last) / 1000
        self._pairs.clear()
        return self._seconds


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

    def megabytes(self) -> dict[str, float]:
        """As a checkpoint of the perf dump has it."""
        mb = {name: round(value / 2**20, 2) for name, value in asdict(self).items()}
        names = ("allocated", "reserved", "peak_allocated", "peak_reserved")
        return {**{f"{n}_mb": mb[n] for n in names}, "peak_host_anon_mb": mb["host_peak"]}


def memory(device: torch.device) -> Memory:
    """What is in use now, and the most so far."""
    host, host_peak = _host_used(), peak_bytes(CPU)
    if device.type == "cpu":
        return Memory(host=host, host_peak=host_peak)
    used = _count(device, "memory_allocated", "current_allocated_memory")
    held = _count(device, "memory_reserved", "driver_allocated_memory")
    peaks = _count(device, "max_memory_allocated"), _count(device, "max_memory_reserved")
    return Memory(used, held, peaks[0] or used, peaks[1] or held, host, host_peak)


def describe_device(device: torch.device) -> str:
    """The device in words, for reports."""
    if name := _hardware(device):
        return name
    return f"{device.type}, {torch.get_num_threads()} threads"


def _hardware(device: torch.device) -> str:
    """The name of an accelerator; empty where its backend does not know it."""
    naming = None if device.type == "cpu" else getattr(backend(device), "get_device_name", None)
    return str(naming(device)) if naming else ""


def execution(device: torch.device) -> dict[str, object]:
    """What the last bits of a result depend on besides its inputs: device, threads, kernels."""
    host = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    kernels = {name: get() for name, (get, _) in KERNELS.items()}
    return {
        "device": str(device),
        "threads": torch.get_num_threads(),
        "hardware": _hardware(device) or host,
        "kernels": kernels,
    }


def force(execution: Mapping[str, object]) -> None:
    """Compute as `execution` told elsewhere: with as many threads, and the same kernels."""
    threads = execution.get("threads")
    if isinstance(threads, int) and 0 < threads <= MOST_THREADS:
        torch.set_num_threads(threads)
    kernels = execution.get("kernels")
    for name, value in kernels.items() if isinstance(kernels, Mapping) else ():
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
