"""Vanilla pipelines as one node: the same pixels, checked arguments, steps, trusted code."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cli.main import main
from runtime import Cancelled, NodeFailed, Runtime, UserError
from runtime.events import Loading, NodeDone, Planned, Stepped
from runtime.run.residency import residency
from tests.support import hubs
from tests.support.servers import serving
from tests.support.tiny import flux, other, wan
from tests.support.tiny.rows import pipeline, pixels, scene, vanilla

CALL: dict[str, Any] = {
    "prompt": "a red circle",
    "height": 48,
    "width": 80,
    "num_inference_steps": 3,
    "seed": 7,
}
VANILLA = {"model.backend": "diffusers"}
OWN_CODE = """
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, ImagePipelineOutput, UNet2DConditionModel


class Stripes(DiffusionPipeline):
    def __init__(self, unet: UNet2DConditionModel, scheduler: DDIMScheduler):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    @torch.no_grad()
    def __call__(self, width: int, bright: float = 1.0, output_type: str = "pil"):
        drawn = torch.zeros(8, width, 3)
        for column in self.progress_bar(range(width)):
            drawn[:, column] = torch.rand(3) * bright
        return ImagePipelineOutput(images=drawn[None].numpy())
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    makers = {"wan": wan.checkpoint, "flux": flux.checkpoint, "sd": other.checkpoint}
    return {name: make(root / name) for name, make in makers.items()}


@pytest.fixture
def stripes(models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that brings the code of its pipeline."""
    from diffusers.utils import dynamic_modules_utils

    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "stripes"
    folder.mkdir()
    parts = {"unet": "UNet2DConditionModel", "scheduler": "DDIMScheduler"}
    for part in parts:
        (folder / part).symlink_to(models["sd"] / part)
    said: dict[str, Any] = {n: ["diffusers", c] for n, c in parts.items()}
    said |= {"_class_name": ["stripes", "Stripes"], "_diffusers_version": "0.42.1"}
    (folder / "model_index.json").write_text(json.dumps(said))
    (folder / "stripes.py").write_text(OWN_CODE)
    return folder


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Any:
    before = threading.active_count()
    yield
    assert threading.active_count() <= before


def made(runtime: Runtime, **request: Any) -> Any:
    value = runtime.generate(**request).outputs["image"]
    return (value.frames if hasattr(value, "frames") else value.pixels[None]).numpy()


def loaded() -> Any:
    """The vanilla pipeline that was loaded last."""
    return [r.value for r in residency().resident() if r.name == "pipeline"][-1]


def fails(runtime: Runtime, **request: Any) -> str:
    """What is said before anything is loaded."""
    before = residency().resident()
    with pytest.raises(UserError) as caught:
        runtime.generate(**request)
    assert residency().resident() == before
    return str(caught.value)


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("wan", {"num_frames": 5, "guidance_scale": 3.0, "negative_prompt": "blue"}),
        ("flux", {"true_cfg_scale": 2.0, "negative_prompt": "blue"}),
        ("sd", {"guidance_scale": 4.0}),
    ],
)
def test_equals_vanilla(models: dict[str, Path], model: str, more: dict[str, Any]) -> None:
    request = CALL | more
    runtime = Runtime.load(models[model], VANILLA)
    assert runtime.graph.name == "diffusers"
    result = vanilla(models[model], request, [])
    np.testing.assert_array_equal(made(runtime, **request), result)
    assert result.std() > 5


def test_only_what_is_said_is_passed_on(models: dict[str, Path]) -> None:
    request = {"prompt": "a red circle", "num_inference_steps": 2, "seed": 3}
    reference = vanilla(models["sd"], request, [])
    np.testing.assert_array_equal(made(Runtime.load(models["sd"]), **request), reference)
    with_eta = pixels(
        pipeline(models["sd"])(
            "a red circle", num_inference_steps=2, eta=1.0, guidance_rescale=0.7,
            generator=torch.Generator().manual_seed(3), output_type="np",
        )
    )  # fmt: skip
    assert (with_eta != reference).any()
    runtime = Runtime.load(models["sd"])
    kwargs = {"eta": 1.0, "guidance_rescale": 0.7}
    found = made(runtime, **request, diffusers_kwargs=kwargs)
    np.testing.assert_array_equal(found, with_eta)


def test_pictures_come_in_and_another_class_runs(models: dict[str, Path]) -> None:
    classed = {"model.pipeline_class_name": "StableDiffusionImg2ImgPipeline"}
    runtime = Runtime.load(models["sd"], classed)
    assert "runs the vanilla StableDiffusionImg2ImgPipeline" in runtime.notes[0]
    request = {"prompt": "a red circle", "num_inference_steps": 4, "seed": 1, "strength": 0.5}
    ours = made(runtime, **request, image_path=[scene(0)])
    from diffusers import StableDiffusionImg2ImgPipeline

    reference = StableDiffusionImg2ImgPipeline.from_pretrained(models["sd"])
    call = {n: v for n, v in request.items() if n != "seed"}
    theirs = reference(
        **call, image=scene(0), generator=torch.Generator().manual_seed(1), output_type="np"
    )
    np.testing.assert_array_equal(ours, pixels(theirs))
    assert fails(runtime, **request) == (
        "StableDiffusionImg2ImgPipeline needs `image`, and none is given\n"
        "    help: add `request.image_path=FILE|URL`"
    )


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"diffusers_kwargs": {"etaa": 1}},
         "`request.diffusers_kwargs`: StableDiffusionPipeline takes no "
         "`etaa`\n    help: did you mean `eta`? it takes: prompt, height, "),
        ({"true_cfg_scale": 2.0}, "StableDiffusionPipeline takes no `true_cfg_scale`\n    help: "),
        ({"num_frames": 5}, "StableDiffusionPipeline takes no `num_frames`\n    help: "),
        ({"image_path": [Image.new("RGB", (8, 8))]}, "StableDiffusionPipeline takes no `image`"),
        ({"prompt": None}, "StableDiffusionPipeline needs `prompt`, and none is given\n"
         "    help: add `request.prompt=TEXT`"),
        ({"diffusers_kwargs": {"generator": 1}},
         "`request.diffusers_kwargs` has `generator`, which "
         "the request itself sets\n    help: give `request.seed`"),
        ({"diffusers_kwargs": {"height": 64}}, "`request.diffusers_kwargs` has `height`"),
    ],
    ids=lambda value: re.sub(r" at 0x\w+", "", str(value)),
)  # fmt: skip
def test_arguments_are_checked_before_weights_are_read(
    models: dict[str, Path], request_: dict[str, Any], message: str
) -> None:
    assert fails(Runtime.load(models["sd"]), **(CALL | request_)).startswith(message)


def test_what_the_pipeline_itself_refuses_is_a_mistake_of_the_user(models: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="have to be divisible by 8"):
        made(Runtime.load(models["sd"]), **(CALL | {"height": 50}))


def test_other_failures_are_failures_of_the_node(models: dict[str, Path]) -> None:
    with pytest.raises(NodeFailed, match=r"generate.*diffusers\.RunPipeline"):
        made(Runtime.load(models["sd"]), **CALL, diffusers_kwargs={"timesteps": ["x"]})


def test_steps_are_counted_and_a_second_run_reuses_the_pipeline(models: dict[str, Path]) -> None:
    runtime = Runtime.load(models["wan"], VANILLA)
    request = CALL | {"num_frames": 1, "prompt": "a blue square"}
    events = [*runtime.start(**request)]
    steps = [(e.index, e.count) for e in events if isinstance(e, Stepped)]
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert next(e.steps for e in events if isinstance(e, Planned)) == 3
    held = loaded()
    again = [*runtime.start(**request | {"seed": 8})]
    assert not [e for e in again if isinstance(e, Loading)]
    assert loaded() is held
    (known,) = [e for e in runtime.start(**request) if isinstance(e, NodeDone)]
    assert known.memoised


def test_a_cancelled_run_stops_at_the_end_of_its_step(models: dict[str, Path]) -> None:
    runtime = Runtime.load(models["sd"])
    threads = threading.active_count()
    run = runtime.start(**CALL | {"num_inference_steps": 50})
    events = iter(run)
    while not isinstance(next(events), Stepped):
        pass
    assert threading.active_count() == threads + 1
    run.cancel()
    with pytest.raises(Cancelled):
        next(events)
    assert threading.active_count() == threads
    np.testing.assert_array_equal(made(runtime, **CALL), vanilla(models["sd"], CALL, []))


def test_the_vae_tiles_and_slices(models: dict[str, Path]) -> None:
    runtime = Runtime.load(models["sd"], {"vae.tiling": True, "vae.slicing": True})
    made(runtime, **CALL)
    assert (loaded().vae.use_tiling, loaded().vae.use_slicing) == (True, True)
    made(Runtime.load(models["sd"], {"vae.tiling": False}), **CALL | {"seed": 2})
    assert (loaded().vae.use_tiling, loaded().vae.use_slicing) == (False, False)


def test_a_pipeline_without_a_vae_has_nothing_to_tile(stripes: Path) -> None:
    said = {"model.trust_remote_code": True, "vae.tiling": True}
    with pytest.raises(UserError, match=r"`vae\.tiling`: Stripes has no tiling of its VAE"):
        Runtime.load(stripes, said).plan(width=5)


def test_precision_of_the_whole_and_of_parts(models: dict[str, Path]) -> None:
    said = {"precision.dit": "bf16", "components.vae.dtype": "fp32"}
    runtime = Runtime.load(models["wan"], VANILLA | said)
    made(runtime, **CALL | {"num_frames": 1})
    found = loaded()
    types = {n: getattr(found, n).dtype for n in ("transformer", "text_encoder", "vae")}
    assert types == {
        "transformer": torch.bfloat16, "text_encoder": torch.bfloat16, "vae": torch.float32,
    }  # fmt: skip
    assert runtime.engine.facts["pipeline"].nbytes > 0
    made(Runtime.load(models["sd"], {"precision.text_encoders": ["fp32"]}), **CALL)
    assert loaded().unet.dtype == torch.float32


def test_weights_of_a_variant(models: dict[str, Path], tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    model = StableDiffusionPipeline.from_pretrained(models["sd"])
    model.save_pretrained(tmp_path, variant="fp16")
    assert not (tmp_path / "unet/diffusion_pytorch_model.safetensors").exists()
    found = made(Runtime.load(tmp_path), **CALL)
    np.testing.assert_array_equal(found, vanilla(models["sd"], CALL, []))


def test_a_part_comes_from_elsewhere(models: dict[str, Path], tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(models["sd"] / "vae")
    with torch.no_grad():
        for parameter in vae.decoder.parameters():
            parameter.mul_(0.9)
    vae.save_pretrained(tmp_path / "vae")
    changed = Runtime.load(models["sd"], {"components.vae.path": str(tmp_path / "vae")})
    found = made(changed, **CALL)
    assert (found != vanilla(models["sd"], CALL, [])).any()
    with pytest.raises(UserError, match="has no component `vea`"):
        Runtime.load(models["sd"], {"components.vea.path": str(tmp_path / "vae")})


def test_code_of_a_model_runs_only_where_it_is_trusted(stripes: Path) -> None:
    with pytest.raises(UserError) as caught:
        Runtime.load(stripes)
    assert str(caught.value) == (
        f"`{stripes}` brings Python of its own (stripes.py) for Stripes, which runs only with"
        " `model.trust_remote_code`\n"
        "    help: read it; if you trust it, add `model.trust_remote_code=true`"
    )
    runtime = Runtime.load(stripes, {"model.trust_remote_code": True})
    events = [*(run := runtime.start(width=5, seed=3))]
    assert [e.index for e in events if isinstance(e, Stepped)] == [1, 2, 3, 4, 5]
    generator = torch.Generator().manual_seed(3)
    drawn = torch.stack([torch.rand(3, generator=generator) for _ in range(5)])
    pixels = run.result.outputs["image"].pixels
    assert torch.equal(pixels[0], (drawn * 255).round().to(torch.uint8))
    assert fails(runtime).startswith("Stripes needs `width`")


def test_a_model_of_the_hub_with_its_code(stripes: Path, tmp_path: Path) -> None:
    files = {
        str(path.relative_to(stripes)): path.read_bytes()
        for part in ("*", "unet/*", "scheduler/*")
        for path in stripes.glob(part)
        if path.is_file()
    }
    code = f"""
from cli.main import main
words = ["generate", "--model-path", "org/stripes", "--width", "5", "--return-frames"]
words += ["--output-path", {str(tmp_path)!r}, "--log-level", "error"]
assert main(words) == 2
assert main([*words, "--trust-remote-code"]) == 0"""
    with hubs.server({"org/stripes": files}) as (address, asked):
        first = hubs.python(code, tmp_path / "hub", HF_ENDPOINT=address)
    assert sum(path.endswith("stripes.py") for path in asked if path.startswith("GET")) == 1
    again = hubs.python(code, tmp_path / "hub", HF_HUB_OFFLINE="1")
    np.testing.assert_array_equal(np.load(first), np.load(again))


def test_auto_says_why_and_sglang_names_what_is_near(models: dict[str, Path]) -> None:
    chosen = Runtime.load(models["sd"])
    assert chosen.graph.name == "diffusers"
    assert chosen.notes == (
        f"graph `diffusers` runs the vanilla StableDiffusionPipeline ({models['sd']}): no graph"
        f" serves StableDiffusionPipeline (from `{models['sd']}`)",
    )
    assert Runtime.load(models["flux"]).graph.name == "flux1"
    assert Runtime.load(models["flux"], graph="diffusers").graph.name == "diffusers"
    with pytest.raises(UserError) as caught:
        Runtime.load(models["sd"], {"model.backend": "sglang"})
    assert "`sdxl` (StableDiffusionXLPipeline)" in caught.value.help
    assert "`model.backend=diffusers` runs it vanilla" in caught.value.help
    with pytest.raises(UserError, match="`backend` is sglang, and graph `diffusers` is none"):
        Runtime.load(models["sd"], {"model.backend": "sglang"}, graph="diffusers")


def test_the_command_line(
    models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", f"--model-path={models['sd']}", f"--output-path={tmp_path}"]
    words += [f"--{k.replace('_', '-')}={v}" for k, v in CALL.items()]
    eta = ("--diffusers-kwargs", '{"eta": 0.5}')
    assert main([*words, *eta, "diffusers_kwargs.guidance_rescale=0.7"]) == 0
    said = capsys.readouterr()
    assert Path(said.out.strip()).suffix == ".png"
    assert "runs the vanilla StableDiffusionPipeline" in said.err
    config = tmp_path / "run.yaml"
    config.write_text("diffusers_kwargs: {eta: 0.5, guidance_rescale: 0.7}\n")
    assert main([*words, "--config", str(config), "--return-frames"]) == 0
    frames = np.load(capsys.readouterr().out.strip())
    np.testing.assert_array_equal(frames[0], np.asarray(Image.open(said.out.strip())))
    assert main([*words, "--diffusers-kwargs.ettaa=1"]) == 2
    assert "takes no `ettaa`\nhelp: did you mean `eta`?" in capsys.readouterr().err
    assert main([*words, "--diffusers-attention-backend", "sage"]) == 2
    told = "--diffusers-attention-backend is sage, and nothing in this version uses it\nhelp: leave"
    assert told in capsys.readouterr().err
    of_flux = [w.replace(str(models["sd"]), str(models["flux"])) for w in words]
    assert main([*of_flux, *eta]) == 2
    assert "graph `flux1` takes no `diffusers_kwargs`" in capsys.readouterr().err


def test_a_server(models: dict[str, Path], tmp_path: Path) -> None:
    with serving(tmp_path, "--model-path", str(models["sd"])) as server:
        body = {"prompt": "a red circle", "seed": 7, "response_format": "b64_json"}
        answer = server.post("/v1/images/generations", body)
        assert answer.status_code == 200, answer.text
        found = Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))
        request = {**body, "height": 64, "width": 64, "num_inference_steps": 1}
        del request["response_format"]
        reference = vanilla(models["sd"], request, [])
        np.testing.assert_array_equal(np.asarray(found)[None], reference)
        wrong = server.post("/v1/images/generations", body | {"diffusers_kwargs": {"etaa": 1}})
        assert wrong.status_code == 400
        assert "did you mean `eta`?" in wrong.text
