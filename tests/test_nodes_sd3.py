"""What a Stable Diffusion 3 checkpoint cannot do is refused before a weight is read."""

import pytest
from tiny.sd3 import checkpoint

from runtime import Runtime, UserError


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime.load(checkpoint(tmp_path_factory.mktemp("sd3") / "model"))


def test_no_size_is_larger_than_the_table_of_positions(runtime: Runtime) -> None:
    runtime.plan(prompt="a cat", height=1024, width=1024)  # 64 patches of 16 px
    with pytest.raises(UserError, match=r"`width` expects at most 1024 px .* got 1040"):
        runtime.plan(prompt="a cat", height=1024, width=1040)


def test_layers_that_are_not_there_are_not_skipped(runtime: Runtime) -> None:
    said = {"prompt": "a cat", "height": 32, "width": 32, "num_inference_steps": 1}
    with pytest.raises(UserError, match=r"`skip_guidance_layers` expects 0 to 3 .* got 9"):
        runtime.generate(**said, skip_guidance_layers=[1, 9])
