"""A network with its conditioning bound: the leaf of every tree of denoisers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from nodes.contracts import Transformer
from runtime.contract.calls import Asking, Call
from runtime.contract.denoising import Parts, Step


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network predicts for one prompt.

    forward  `(net, latents, timestep, **bound, **shared)`, batch-first, to a tensor like the
             latents. The timestep, b, comes as the scheduler made it: its form, its sign and the
             order of its casts are the family's
    bound    what else each sample takes, 1 ... or a list of one; none is left out
    part     the modality that is predicted
    shared   hashable values, equal within a batch
    """

    network: Transformer
    forward: Callable[..., tuple[Tensor]]
    bound: Mapping[str, Any]
    part: str = "image"
    shared: Mapping[str, Any] = field(default_factory=dict)

    def predict(self, x: Parts, step: Step) -> Asking[Parts]:
        """Ask for one forward."""
        latents = x[self.part]
        batched = {"latents": latents, "timestep": step.t.expand(len(latents))}
        batched |= {k: value for k, value in self.bound.items() if value is not None}
        ((predicted,),) = yield [Call(self.network, self.forward, batched, self.shared)]
        return {self.part: predicted}

    def touches(self, step: Step) -> frozenset[str]:
        """The one network."""
        return frozenset([self.network.name])


def to_unit(timestep: Tensor, latents: Tensor) -> Tensor:
    """Timesteps b, 0 to 1000, to 0 to 1 in the latents' dtype.

    First the cast, then the division: the order shows in bfloat16.
    """
    return timestep.to(latents.dtype) / 1000
