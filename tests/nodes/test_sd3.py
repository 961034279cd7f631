"""Stable Diffusion 3: defaults by the model's name, and what a checkpoint cannot do is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from runtime import Runtime, UserError
from tests.support.tiny.sd3 import checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("sd3") / "model")


@pytest.mark.parametrize(
    ("name", "graph", "steps", "scale"),
    [
        ("stable-diffusion-3-medium-diffusers", "sd3", 28, 7.0),
        ("stabilityai/stable-diffusion-3.5-large", "sd3_5_large", 28, 3.5),
        ("stable-diffusion-3.5-large-turbo", "sd3_5_large_turbo", 4, 0.0),
        ("stable-diffusion-3.5-medium", "sd3_5_medium", 40, 4.5),
    ],
)
def test_the_name_gives_the_defaults(
    model: Path, name: str, graph: str, steps: int, scale: float
) -> None:
    runtime = Runtime.load(model, {"model.id": name})
    fields = runtime.fields
    assert runtime.graph.name == graph
    assert (fields["num_inference_steps"].default, fields["guidance_scale"].default) == (
        steps,
        scale,
    )


def test_no_size_is_larger_than_the_table_of_positions(model: Path) -> None:
    runtime = Runtime.load(model)
    runtime.plan(prompt="a cat", height=1024, width=1024)  # 64 patches of 16 px
    with pytest.raises(UserError, match=r"`request.width` expects at most 1024 px .* got 1040"):
        runtime.plan(prompt="a cat", height=1024, width=1040)


def test_layers_that_are_not_there_are_not_skipped(model: Path) -> None:
    said = {"prompt": "a cat", "height": 32, "width": 32, "num_inference_steps": 1}
    with pytest.raises(UserError, match=r"`request.skip_guidance_layers` expects 0 to 3 .* got 9"):
        Runtime.load(model).generate(**said, skip_guidance_layers=[1, 9])


def test_t5_can_be_left_out_of_a_checkpoint_that_has_it(tmp_path: Path) -> None:
    """Null removes a component: as a checkpoint without it, and nothing of it is loaded."""
    whole, without = checkpoint(tmp_path / "a"), checkpoint(tmp_path / "b", t5_encoder=False)
    request: dict[str, Any] = dict(
        prompt="a cat", height=48, width=64, num_inference_steps=1, seed=1
    )
    removed = Runtime.load(whole, {"components.text_encoder_3": None})
    assert "text_encoder_3" not in removed.plan(**request).facts.components
    found = removed.generate(**request).outputs["image"].pixels
    expected = Runtime.load(without).generate(**request).outputs["image"].pixels
    assert torch.equal(found, expected)
    with pytest.raises(UserError, match=r"components.vae is null, and `\w+` .* needs it"):
        Runtime.load(whole, {"components.vae": None}).plan(**request)
