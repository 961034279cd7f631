"""Muon: momentum whose every step is an orthogonal matrix, on any CPU.

torch.optim.Muon iterates in bfloat16 always, a hundred times slower on such CPUs than float32.
Source: Jordan et al., kellerjordan.github.io/posts/muon; the scale by Liu et al., arXiv:2502.16982.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

# Coefficients of the quintic iteration that lifts small singular values quickest.
LINEAR, CUBIC, QUINTIC = 3.4445, -4.7750, 2.0315
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Nesterov momentum made orthogonal, for matrices; weight decay apart from the gradient."""

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        *,
        lr: float,
        dtype: torch.dtype,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        self.dtype, self.momentum, self.weight_decay = dtype, momentum, weight_decay
        super().__init__(matrices, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closures here
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._move(matrix, group["lr"])

    def _move(self, matrix: Tensor, rate: float) -> None:
        gradient, state = matrix.grad, self.state[matrix]
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].lerp_(gradient, 1 - self.momentum)
        update = orthogonal(gradient.lerp(state["momentum"], self.momentum).to(self.dtype))
        matrix.mul_(1 - rate * self.weight_decay)
        # this scale makes the steps as long as Adam's, so that both share one rate
        matrix.add_(update.to(matrix.dtype), alpha=-rate * 0.2 * math.sqrt(max(matrix.shape)))


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest (semi-)orthogonal matrix: all singular values brought near 1."""
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    x: Tensor = matrix / matrix.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = LINEAR * x + (CUBIC * gram + QUINTIC * gram @ gram) @ x
    return x
