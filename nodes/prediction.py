"""A network with its conditioning: the leaf of every tree of denoisers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from nodes.contracts import Transformer
from runtime.contract.calls import Asking, Call
from runtime.contract.denoising import Parts, Step, component_names


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction of a network for one prompt.

    forward  `(net, latents, timestep, **bound, **shared)`, batch-first, to a tensor in the shape of
             the latents. The timestep, b, has the scheduler's values and dtype; each family's
             forward scales and casts it in its own order
    bound    the conditioning: a tensor 1 ... or a list of one item by argument name; None is not
             passed on
    part     the modality that is predicted, such as `image`
    shared   other arguments: hashable values, equal within a batch
    """

    network: Transformer
    forward: Callable[..., tuple[Tensor]]
    bound: Mapping[str, Any]
    part: str = "image"
    shared: Mapping[str, Any] = field(default_factory=dict)

    def predict(self, x: Parts, step: Step) -> Asking[Parts]:
        """Ask for one forward of the network."""
        latents = x[self.part]
        batched = {"latents": latents, "timestep": step.t.expand(len(latents))}
        batched |= {k: value for k, value in self.bound.items() if value is not None}
        ((predicted,),) = yield [Call(self.network, self.forward, batched, self.shared)]
        return {self.part: predicted}

    def touches(self, step: Step) -> frozenset[str]:
        """The name of the one network."""
        return component_names(self.network)


def to_unit(timestep: Tensor, latents: Tensor) -> Tensor:
    """Timesteps b from 0 to 1000, scaled to 0 to 1 in the latents' dtype.

    The cast comes before the division, as in diffusers: in bfloat16 the other order gives other
    values.
    """
    return timestep.to(latents.dtype) / 1000
