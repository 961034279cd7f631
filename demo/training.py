"""A training loop that can be killed and continued: schedule, averaged weights, log, state."""

from __future__ import annotations

import time
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

State = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """Where and how a stage runs.

    work        folder of all stages' results
    resume      continue an unfinished stage from its last saved state
    log_every   steps between lines of the log
    save_every  steps between saved states
    """

    work: Path
    device: str = "cpu"
    seed: int = 0
    resume: bool = False
    log_every: int = 50
    save_every: int = 200

    def result(self, stage: str) -> Path:
        """The file that a finished stage leaves."""
        return self.work / f"{stage}.pt"

    def load(self, stage: str) -> State:
        """What a finished stage left, tensors on this run's device."""
        path = self.result(stage)
        if not path.is_file():
            raise SystemExit(f"{path} is missing: run `python -m demo.train {stage}` first.")
        loaded: State = torch.load(path, map_location=self.device)
        return loaded

    def save(self, stage: str, state: State) -> None:
        """Write a stage's result under its final name at once, or not at all."""
        save_whole(state, self.result(stage))

    def log(self, stage: str, line: str) -> None:
        """Print a line and keep it in the stage's log."""
        print(f"{stage}: {line}", flush=True)
        with (self.work / f"{stage}.log").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    @property
    def product_dtype(self) -> torch.dtype:
        """Of matrix products: bfloat16 but on a CPU that would have to emulate it."""
        native = self.device != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return torch.bfloat16 if native else torch.float32

    def autocast(self) -> torch.autocast:
        """Matrix products in `product_dtype`."""
        kind, dtype = self.device.split(":")[0], self.product_dtype
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


def save_whole(state: State, path: Path) -> None:
    """Write under a temporary name and rename, so that a kill leaves the old file or the new."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


@dataclass(frozen=True)
class Schedule:
    """How long to train and how fast: constant after a warm-up, then linearly to zero.

    steps, minutes  whichever is reached first ends the run; 0 is no limit
    warm            steps of warm-up
    decay           share of the run, at its end, over which the rate falls
    """

    steps: int
    minutes: float
    learning_rate: float
    warm: int = 100
    decay: float = 0.35

    def fraction(self, step: int, seconds: float) -> float:
        """The share of the run that is done."""
        by_time = seconds / (60 * self.minutes) if self.minutes else 0.0
        return max(by_time, step / self.steps if self.steps else 0.0)

    def rate(self, step: int, seconds: float) -> float:
        """The learning rate of a step."""
        done = min(self.fraction(step, seconds), 1.0)
        falling = 1.0 if done < 1 - self.decay else (1 - done) / self.decay
        return self.learning_rate * min(1.0, (step + 1) / self.warm) * falling


class Average:
    """An exponential moving average of parameters, quick at first."""

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        self.parameters, self.decay, self.updates = parameters, decay, 0
        self.values = [parameter.detach().clone() for parameter in parameters]

    def update(self) -> None:
        """Move towards the present parameters."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.values, [p.detach() for p in self.parameters], 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averages in the place of the parameters for a while."""
        data = [parameter.data for parameter in self.parameters]
        copies = [tensor.clone() for tensor in data]
        torch._foreach_copy_(data, self.values)
        yield
        torch._foreach_copy_(data, copies)


class Loop:
    """The steps of one training stage.

    Iterating yields a random generator per step, seeded by run, stage and step, so that a run
    draws the same data however often it was interrupted. The body calls `update` once.
    """

    def __init__(
        self,
        stage: str,
        run: Run,
        modules: Mapping[str, nn.Module],
        optimisers: Sequence[torch.optim.Optimizer],
        schedule: Schedule,
        *,
        average: float,
        clip: float = 1.0,
    ) -> None:
        self.stage, self.run, self.modules = stage, run, modules
        self.optimisers, self.schedule, self.clip = optimisers, schedule, clip
        everything = [p for module in modules.values() for p in module.parameters()]
        self.average = Average(everything, average)
        self.trained = [p for o in optimisers for group in o.param_groups for p in group["params"]]
        self.step, self._earlier, self._started = 0, 0.0, time.monotonic()
        self._window: dict[str, list[dict[str, float]]] = defaultdict(list)
        self._state_path = run.work / f"{stage}.state"

    @property
    def seconds(self) -> float:
        """Time trained so far, over all interrupted runs."""
        return self._earlier + time.monotonic() - self._started

    @property
    def fraction(self) -> float:
        """The share of the run that is done."""
        return self.schedule.fraction(self.step, self.seconds)

    def __iter__(self) -> Iterator[np.random.Generator]:
        self._restore()
        self._started = time.monotonic()
        while self.fraction < 1:
            for optimiser in self.optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = self.schedule.rate(self.step, self.seconds)
            key = (self.run.seed, zlib.crc32(self.stage.encode()), self.step)
            rng = np.random.default_rng(key)
            torch.manual_seed(int(rng.integers(2**62)))
            yield rng
            self.step += 1
            if self.step % self.run.log_every == 0:
                self._log()
            if self.step % self.run.save_every == 0:
                self._save()

    def update(self, loss: Tensor, kind: str, **measured: float) -> None:
        """Take one step down the slope of `loss`; `measured` goes to the log, per kind of batch."""
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        norm = torch.nn.utils.clip_grad_norm_(self.trained, self.clip)
        for optimiser in self.optimisers:
            optimiser.step()
        self.average.update()
        values = {"loss": loss.detach().item(), **measured, "gradient": norm.item()}
        self._window[kind].append(values)

    @contextmanager
    def finished(self) -> Iterator[None]:
        """Save the averaged weights as the stage's result; the body may look at them."""
        with self.average.in_place():
            states = {name: module.state_dict() for name, module in self.modules.items()}
            self.run.save(self.stage, {**states, "steps": self.step, "seconds": self.seconds})
            self.run.log(self.stage, f"{self.step} steps in {self.seconds:.0f} s")
            yield
        self._state_path.unlink(missing_ok=True)

    def _log(self) -> None:
        for kind, rows in sorted(self._window.items()):
            means = {name: np.mean([row[name] for row in rows]) for name in rows[0]}
            losses_text = " ".join(f"{name} {mean:.4g}" for name, mean in means.items())
            rate = self.schedule.rate(self.step, self.seconds)
            self.run.log(
                self.stage,
                f"step {self.step} {self.seconds:.0f} s {self.fraction:.0%} {kind} {losses_text}"
                f" rate {rate:.1e}",
            )
        self._window.clear()

    def _save(self) -> None:
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "average": self.average.values,
            "updates": self.average.updates,
        }
        save_whole(state, self._state_path)

    def _restore(self) -> None:
        if not self.run.resume or not self._state_path.is_file():
            self._state_path.unlink(missing_ok=True)
            return
        state = torch.load(self._state_path, map_location=self.run.device)
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        torch._foreach_copy_(self.average.values, state["average"])
        self.average.updates = state["updates"]
        self.step, self._earlier = state["step"], state["seconds"]
        self.run.log(self.stage, f"continues at step {self.step}")
