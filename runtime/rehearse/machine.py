"""Machines as data: `conf/machine/NAME.yaml`, and the one at hand measured into the same form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from runtime import device as devices
from runtime.errors import UserError, did_you_mean
from runtime.graph import catalog

GIB, GB, TERA = 2**30, 1e9, 1e12
AT_HAND = "this machine"


@dataclass(frozen=True)
class Machine:
    """A machine on which a plan is to run.

    device         type of its devices, as torch has it; count: how many
    memory         bytes of each; reserved: of those, for the driver, the system and fragments
    bandwidth      of its memory, bytes per second
    rates          FLOP/s of matrix products by dtype
    host_memory    bytes
    host_link      bytes per second between host and device
    device_link    bytes per second between devices; 0: through the host
    """

    name: str
    title: str
    device: str
    memory: int
    reserved: int
    bandwidth: float
    rates: Mapping[str, float]
    host_memory: int
    host_link: float
    device_link: float
    count: int = 1

    @property
    def budget(self) -> int:
        """Bytes of a device that weights and values may take."""
        return self.memory - self.reserved

    @property
    def first(self) -> torch.device:
        """The device that nodes run on."""
        return torch.device(self.names[0])

    @property
    def names(self) -> list[str]:
        """Names of its devices."""
        several = self.count > 1 or self.device not in devices.ONE_OF_A_KIND
        return [f"{self.device}:{i}" for i in range(self.count)] if several else [self.device]

    def rate(self, dtype: str) -> float:
        """FLOP/s of a dtype; of float32 where the machine has no rate for it."""
        return self.rates.get(dtype) or self.rates["float32"]

    def seconds(self, flops: Mapping[str, int], matrix_bytes: int, other_bytes: int) -> float:
        """Time by roofline: products at the slower of arithmetic and memory, then the rest."""
        arithmetic = sum(count / self.rate(dtype) for dtype, count in flops.items())
        return max(arithmetic, matrix_bytes / self.bandwidth) + other_bytes / self.bandwidth


def machine_names() -> list[str]:
    """Names of all machines that are described."""
    return sorted(path.stem for path in (catalog.packaged("conf") / "machine").glob("*.yaml"))


def find_machine(text: str) -> Machine:
    """The machine of `NAME`, or `2xNAME`: two of its devices in one host."""
    matched = re.fullmatch(r"(?:(\d+)x)?(.+)", text.strip().lower())
    count, name = (int(matched[1] or 1), matched[2]) if matched else (0, text)
    if name not in machine_names():
        listed = f"there are: {', '.join(machine_names())}"
        raise UserError(
            f"there is no machine `{text}`.",
            help=" ".join(filter(None, (did_you_mean(name, machine_names()), listed))),
            field="machine",
        )
    if not 1 <= count <= 16:
        raise UserError(f"`{text}` has {count} devices.", help="write 1 to 16", field="machine")
    found = described_machine(name)
    if count > 1 and found.device in devices.ONE_OF_A_KIND:
        raise UserError(f"`{name}` has one device.", help=f"write {name}", field="machine")
    return replace(found, count=count, name=text.strip().lower())


def described_machine(name: str) -> Machine:
    """A machine as its file describes it."""
    data: dict[str, Any] = catalog.read_yaml(catalog.packaged("conf") / "machine" / f"{name}.yaml")
    return Machine(
        name, data["title"], data["device"], int(data["memory_gib"] * GIB),
        int(data["reserved_gib"] * GIB), data["bandwidth_gbs"] * GB,
        {dtype: rate * TERA for dtype, rate in data["tflops"].items()},
        int(data["host_memory_gib"] * GIB), data["host_link_gbs"] * GB,
        data["device_link_gbs"] * GB,
    )  # fmt: skip


def machine_at_hand(device: torch.device) -> Machine:
    """The machine at hand, as one of its devices sees it: free bytes, and speeds as measured."""
    title, free = devices.describe_device(device), devices.free_bytes(device)
    for name in machine_names():
        words = catalog.read_yaml(catalog.packaged("conf") / "machine" / f"{name}.yaml")["matches"]
        if any(word in title for word in words):
            return replace(
                described_machine(name), name=AT_HAND, title=title, memory=free, reserved=0
            )
    rates, bandwidth = devices.measured_speeds(device)
    host = devices.free_bytes(devices.CPU)
    return Machine(
        AT_HAND, title, device.type, free, 0, bandwidth, rates, host, bandwidth, 0.0
    )  # fmt: skip
