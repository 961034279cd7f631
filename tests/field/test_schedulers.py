"""Every scheduler class of diffusers with its options, beside diffusers' pipelines.

The result is equal, or refused before anything is loaded with the scheduler's name and the reason.
The default run takes chosen pairs; the cross product of families and classes is slow.
"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, TypeAlias

import diffusers
import numpy as np
import pytest
import torch

from runtime import Runtime, UserError
from tests.support.tiny import flux, sana, sd3, sdxl, wan
from tests.support.tiny.rows import Pixels, pipeline, pixels

pytestmark = pytest.mark.filterwarnings("ignore")  # of NumPy and diffusers, by old schedulers
Options: TypeAlias = Mapping[str, Any]

SIZE = dict(prompt="a red circle", guidance_scale=3.0, height=32, width=32)
FAMILIES: Mapping[str, tuple[Callable[[Path], Path], Options]] = {
    "sdxl": (sdxl.checkpoint, SIZE | {"negative_prompt": "blue"}),
    "sd3": (sd3.checkpoint, SIZE | {"negative_prompt": "blue"}),
    "flux1": (flux.checkpoint, SIZE),
    "wan": (wan.checkpoint, SIZE | {"negative_prompt": "blue", "num_frames": 5}),
    "sana": (sana.checkpoint, SIZE | {"negative_prompt": "blue"}),
}
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
# Values of options that differ from the defaults, tried one at a time.
VALUES: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"), (True,)),
    **dict.fromkeys(("use_lu_lambdas", "euler_at_final", "thresholding"), (True,)),
    **dict.fromkeys(("rescale_betas_zero_snr", "invert_sigmas", "skip_prk_steps"), (True,)),
    **dict.fromkeys(("predict_x0", "set_alpha_to_one"), (False,)),
    **dict.fromkeys(("lower_order_final", "clip_sample", "stochastic_sampling"), (True, False)),
    **dict.fromkeys(("solver_order", "predictor_order"), (1, 3)),
    "use_dynamic_shifting": (True, False),
    "solver_type": ("midpoint", "heun", "bh1", "bh2", "logrho"),
    "algorithm_type": ("dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++"),
    "final_sigmas_type": ("sigma_min",),
    "prediction_type": ("v_prediction", "sample", "flow_prediction"),
    "timestep_spacing": ("leading", "trailing", "linspace"),
    "timestep_type": ("continuous",),
    "interpolation_type": ("log_linear",),
    "beta_schedule": ("squaredcos_cap_v2",),
    "variance_type": ("fixed_large", "learned"),
    "sigma_schedule": ("exponential",),
    "time_shift_type": ("linear",),
    "steps_offset": (1,),
    "shift_terminal": (0.1,),
    "shift": (3.0,),
    "eta": (0.0,),
}


def scheduler_classes() -> Iterator[str]:
    """Schedulers that step through latents; their packages may be missing."""
    for name in sorted(dir(diffusers)):
        found = getattr(diffusers, name, None)
        if name.endswith("Scheduler") and not name.startswith("Flax") and isinstance(found, type):
            yield name


def option_sets(name: str) -> Iterator[dict[str, Any]]:
    """Configs of a class: the defaults and flow matching, each with one option changed."""
    cls = getattr(diffusers, name)
    parameters = inspect.signature(cls.__init__).parameters
    bases: list[dict[str, Any]] = [{}]
    if {"use_flow_sigmas", "flow_shift"} <= set(parameters):
        bases.append(dict(FLOW))
    for base in bases:
        yield base
        for option, values in VALUES.items():
            known = parameters.get(option)
            for value in values if known is not None and option not in base else ():
                if known is not None and known.default != value:
                    yield {**base, option: value}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The tiny checkpoint of a family, written at its first use."""
    written: dict[str, Path] = {}

    def checkpoint(family: str) -> Path:
        if family not in written:
            folder = tmp_path_factory.mktemp(family) / "model"
            written[family] = FAMILIES[family][0](folder)
        return written[family]

    return checkpoint


def reference(folder: Path, request: Options, name: str, options: Options) -> Pixels | None:
    """Frames of diffusers' pipeline with this scheduler; None where it fails or gives NaN.

    Schedulers that draw are given the pipeline's generator, also where the pipeline passes none to
    `step`: else a seed would not give one result.
    """
    generator = torch.Generator().manual_seed(3)
    pipe = pipeline(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pipe.scheduler = with_generator(
                getattr(diffusers, name).from_config(options), generator
            )
            out = pipe(**request, generator=generator, output_type="np")
        except Exception:
            return None
    finite = np.isfinite(out.frames[0] if hasattr(out, "frames") else out.images).all()
    return pixels(out) if finite else None


def with_generator(scheduler: Any, generator: torch.Generator) -> Any:
    """The scheduler, whose `step` draws from this generator alone."""
    step = scheduler.step
    takes = "generator" in inspect.signature(step).parameters

    @wraps(step)
    def drawing(*arguments: Any, **more: Any) -> Any:
        if takes:
            return step(*arguments, **{"generator": generator, **more})
        torch.set_rng_state(generator.get_state())
        result = step(*arguments, **more)
        generator.set_state(torch.get_rng_state())
        return result

    scheduler.step = drawing
    return scheduler


def ours(
    folder: Path, request: Options, name: str, options: Options, scheduler: Path
) -> Pixels | UserError:
    """Frames of our graph with this scheduler, or the refusal."""
    scheduler.mkdir(parents=True)
    config = {"_class_name": name, **options}
    (scheduler / "scheduler_config.json").write_text(json.dumps(config), "utf-8")
    runtime = Runtime.load(folder, {"components.scheduler.path": str(scheduler)})
    assert runtime.graph.name != "diffusers"
    try:
        (value,) = runtime.generate(**request, seed=3).outputs.values()
    except UserError as problem:
        return problem
    return np.asarray(value.frames if hasattr(value, "frames") else value.pixels[None])


def compare(folder: Path, family: str, name: str, options: Options, steps: int, to: Path) -> str:
    """`equal`, `only ours` where diffusers fails, or why it was refused; else the test fails."""
    request = {**FAMILIES[family][1], "num_inference_steps": steps}
    found = ours(folder, request, name, options, to)
    case = f"{family}, {name} {options}, {steps} steps"
    if isinstance(found, UserError):
        assert name in str(found), case
        assert found.field.startswith(("components.scheduler", "request.num_inference")), case
        return str(found)
    expected = reference(folder, request, name, options)
    if expected is None:  # the pipeline fails or gives NaN: there is nothing to be equal to
        return "only ours"
    assert found.shape == expected.shape, case
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1, case
    return "equal"


EQUAL = [
    ("sdxl", "TCDScheduler", {}),  # the pipeline passes eta=0, the scheduler's own is 0.3
    ("sdxl", "DDIMScheduler", {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}),
    ("sdxl", "KDPM2DiscreteScheduler", {}),  # scales by its state
    ("sdxl", "KDPM2AncestralDiscreteScheduler", {"use_karras_sigmas": True}),
    ("sdxl", "HeunDiscreteScheduler", {"use_exponential_sigmas": True}),
    ("sdxl", "EulerDiscreteScheduler", {"interpolation_type": "log_linear"}),
    ("sdxl", "EDMEulerScheduler", {}),
    ("sdxl", "LCMScheduler", {}),
    ("sdxl", "IPNDMScheduler", {}),  # states neither sigmas nor alphas_cumprod
    ("sdxl", "PNDMScheduler", {"skip_prk_steps": True}),
    ("sdxl", "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    ("sdxl", "SASolverScheduler", {}),
    ("sd3", "FlowMatchHeunDiscreteScheduler", {"shift": 3.0}),
    ("sd3", "FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True}),  # ours draws
    ("sd3", "FlowMatchLCMScheduler", {}),
    ("sd3", "UniPCMultistepScheduler", {**FLOW, "solver_order": 3}),
    ("flux1", "FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True}),
    ("flux1", "FlowMatchEulerDiscreteScheduler", {"use_exponential_sigmas": True}),
    ("wan", "DPMSolverMultistepScheduler", {**FLOW, "euler_at_final": True}),
    ("wan", "DEISMultistepScheduler", FLOW),
    ("sana", "DPMSolverMultistepScheduler", {**FLOW, "algorithm_type": "sde-dpmsolver++"}),
]
REFUSED = [
    ("sdxl", "FlowMatchEulerDiscreteScheduler", {}, "flow matching schedulers have not"),
    ("sdxl", "UniPCMultistepScheduler", {"solver_type": "bh1"}, "solver_type=bh1"),
    ("sdxl", "EulerDiscreteScheduler", {"prediction_type": "flow_prediction"}, "prediction_type="),
    ("sd3", "EulerDiscreteScheduler", {}, "scales the model's input"),
    ("sd3", "DEISMultistepScheduler", {**FLOW, "use_dynamic_shifting": True}, "dynamic_shifting"),
    ("flux1", "DDIMScheduler", {}, "unexpected keyword argument"),
    ("flux1", "FlowMatchLCMScheduler", {}, "draws noise at each step"),
    ("wan", "UniPCMultistepScheduler", {**FLOW, "lower_order_final": False}, "lower_order_final="),
    ("wan", "UniPCMultistepScheduler", {**FLOW, "solver_type": "bh1"}, "solver_type=bh1"),
    ("sana", "DPMSolverMultistepScheduler", {**FLOW, "use_karras_sigmas": True}, "karras_sigmas="),
    ("sana", "VQDiffusionScheduler", {}, "cannot run here"),
]


def case_name(value: Any) -> str:
    """A config as part of a test's name."""
    return value if isinstance(value, str) else "-".join(f"{k}={v}" for k, v in value.items())


@pytest.mark.parametrize(("family", "name", "options"), EQUAL, ids=case_name)
def test_a_chosen_scheduler_equals_diffusers(
    family: str, name: str, options: Options, model: Callable[[str], Path], tmp_path: Path
) -> None:
    assert compare(model(family), family, name, options, 3, tmp_path / "scheduler") == "equal"


@pytest.mark.usefixtures("nothing_loaded")
@pytest.mark.parametrize(("family", "name", "options", "reason"), REFUSED, ids=case_name)
def test_a_config_that_cannot_run_is_refused_before_loading(
    family: str, name: str, options: Options, reason: str, model: Callable[[str], Path],
    tmp_path: Path,
) -> None:  # fmt: skip
    assert reason in compare(model(family), family, name, options, 3, tmp_path / "scheduler")


@pytest.mark.parametrize("name", sorted(scheduler_classes()))
@pytest.mark.parametrize("family", FAMILIES)
def test_every_scheduler_with_its_options_equals_diffusers_or_is_refused(
    family: str, name: str, model: Callable[[str], Path], tmp_path: Path
) -> None:
    for index, options in enumerate(option_sets(name)):
        steps = 3 if index else 1 + len(name) % 4
        compare(model(family), family, name, options, steps, tmp_path / str(index))


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_one_and_two_steps_of_the_published_scheduler(
    family: str, steps: int, model: Callable[[str], Path], tmp_path: Path
) -> None:
    config = json.loads((model(family) / "scheduler/scheduler_config.json").read_text("utf-8"))
    name = config.pop("_class_name")
    assert compare(model(family), family, name, config, steps, tmp_path / "scheduler") == "equal"


@pytest.mark.parametrize("name", ["LMSDiscreteScheduler", "EulerDiscreteScheduler"])
def test_a_missing_package_is_named(
    name: str, model: Callable[[str], Path], tmp_path: Path
) -> None:
    options = {"use_beta_sigmas": True}
    outcome = compare(model("sdxl"), "sdxl", name, options, 2, tmp_path / "scheduler")
    assert outcome == "equal" or "scipy" in outcome  # equal where scipy is installed
