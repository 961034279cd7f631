"""The demo: its scenes, its reader, its checkpoint, and every stage of its recipe."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from demo import evaluate
from demo.attention import PaddedTextAttention, encode_text
from demo.captions import caption
from demo.classify import judge_clip, judge_picture, read_picture
from demo.drawing import CANVAS, CLIP_FRAMES, geometry, render, to_pixels
from demo.heldout import held_out_clips, held_out_pictures
from demo.models import make_text_encoder, make_transformer
from demo.muon import Muon, orthogonal
from demo.passes import decode, encode, use_whole_clip_passes
from demo.scenes import MOTIONS, held_out, sample_scenes, scenes_of
from demo.text import build_tokenizer, tokenize
from demo.train import main as train

CHECKPOINT = Path(evaluate.__file__).parent / "checkpoint"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def drawn(count: int, *, video: bool = False) -> list[tuple[Any, Any]]:
    """Scenes of one object and their true renderings, `h w 3` or `f h w 3`."""
    rng = np.random.default_rng(5)
    scenes = sample_scenes(count, rng, video=video, two=0.0)
    pixels = render(scenes, geometry(scenes, rng), frames=CLIP_FRAMES if video else 1)
    clips = [np.stack([to_pixels(f) for f in clip.movedim(1, 0)]) for clip in pixels]
    return [(s, c if video else c[0]) for s, c in zip(scenes, clips, strict=True)]


def test_scenes_are_the_same_for_the_same_seed() -> None:
    first, second = (sample_scenes(50, np.random.default_rng(3), video=True) for _ in range(2))
    assert (first.table() == second.table()).all()
    assert held_out_pictures(5, 2024) == held_out_pictures(5, 2024)
    assert held_out_clips(5, 4048) != held_out_clips(5, 4049)


@pytest.mark.parametrize("video", [False, True])
def test_training_never_sees_what_is_held_out(video: bool) -> None:
    scenes = sample_scenes(5000, np.random.default_rng(0), video=video)
    assert not held_out(scenes.shape, scenes.colour, scenes.background).any()
    asked = held_out_clips(40, 4048) if video else held_out_pictures(100, 2024)
    for one in asked:
        combination = (one.scene.shape, one.scene.colour, one.scene.background)
        assert held_out(*(np.array([value]) for value in combination)).all()


def test_caption_says_what_the_scene_shows() -> None:
    for scene in sample_scenes(200, np.random.default_rng(1), video=True):
        said = caption(scene, random.Random(0))
        assert MOTIONS[scene.motion].removesuffix("ing").removesuffix("t") in said.replace(
            "spinning", "rotating"
        )


def test_reader_reads_true_pictures() -> None:
    for scene, pixels in drawn(60):
        verdict = judge_picture(scene, pixels)
        del verdict["size"]  # a large shape beside the edge is drawn smaller
        assert all(verdict.values()), (scene, verdict)


def test_reader_reads_true_clips() -> None:
    for scene, clip in drawn(30, video=True):
        assert all(judge_clip(scene, clip).values()), (scene, judge_clip(scene, clip))


def test_reader_finds_nothing_in_a_blank_picture() -> None:
    seen = read_picture(np.full((CANVAS, CANVAS, 3), 245, np.uint8)).words()
    assert (seen["background"], seen["colour"], seen["shape"]) == ("white", None, None)


def test_tokenizer_is_the_one_of_the_checkpoint() -> None:
    shipped = json.loads((CHECKPOINT / "tokenizer/tokenizer.json").read_text())
    assert build_tokenizer().get_vocab() == shipped["model"]["vocab"]


def test_muon_agrees_with_the_one_of_torch() -> None:
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.ones(24, 48)) for _ in range(2))
    mine = Muon([ours], lr=0.01, dtype=torch.float32)
    other: torch.optim.Optimizer = torch.optim.Muon(
        [theirs], lr=0.01, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(3):
        gradient = torch.randn(24, 48)
        ours.grad, theirs.grad = gradient, gradient.clone()
        mine.step()
        other.step()
    assert torch.allclose(ours, theirs, atol=1e-3)  # torch's iterates in bfloat16
    assert torch.linalg.svdvals(orthogonal(torch.randn(48, 24))).sub(1).abs().max() < 0.4


def test_one_row_of_padding_stands_for_all() -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    tokens = tokenize(tokenizer, ["a red circle", "a blue star on a white background"])
    encoder = make_text_encoder(tokenizer.get_vocab_size()).eval()
    transformer, latents = make_transformer().eval(), torch.randn(2, 8, 2, 8, 8)
    arguments = {"timestep": torch.tensor([500.0, 20.0]), "return_dict": False}
    with torch.no_grad():
        context, bias = encode_text(encoder, tokens, torch.tensor([512, 512]), "cpu")
        padded = torch.nn.functional.pad(context, (0, 0, 0, 512 - context.shape[1]))
        want = transformer(latents, encoder_hidden_states=padded, **arguments)[0]
        attention = PaddedTextAttention()
        attention.bias = bias
        for block in transformer.blocks:
            block.attn1.set_processor(attention)
            block.attn2.set_processor(attention)
        got = transformer(latents, encoder_hidden_states=context, **arguments)[0]
    assert torch.allclose(got, want, atol=1e-5)


def test_whole_clip_passes_equal_the_cached_ones() -> None:
    from diffusers import AutoencoderKLWan

    vae = AutoencoderKLWan.from_pretrained(CHECKPOINT / "vae").eval()
    pixels = torch.rand(1, 3, 9, 64, 64) * 2 - 1
    with torch.no_grad():
        mean = vae.encode(pixels).latent_dist.mean
        frames = vae.decode(mean).sample
        use_whole_clip_passes(vae)
        assert torch.allclose(encode(vae, pixels)[0], mean, atol=1e-4)
        assert torch.allclose(decode(vae, mean).clamp(-1, 1), frames, atol=1e-4)


def run_recipe(work: Path, *words: str) -> None:
    """Run stages at the tiny sizes."""
    shared = ["--recipe", "small", "--work", str(work), "--threads", "1"]
    assert train([words[0], *shared, "--log-every", "1", "--save-every", "1", *words[1:]]) == 0


def test_every_stage_runs_and_the_export_loads(tmp_path: Path) -> None:
    """All stages in turn, from nothing to a folder that vanilla diffusers draws with."""
    out = tmp_path / "checkpoint"
    for stage in ("vae", "vvae", "dec", "dit", "clips", "mixed"):
        settings = ["--steps", "1", "--batch", "2"]
        if stage == "dec":
            run_recipe(tmp_path, "fold")
        if stage == "dit":
            run_recipe(tmp_path, "latents", "--images", "6", "--shard", "4", "--clips", "2")
        run_recipe(tmp_path, stage, *settings)
    run_recipe(tmp_path, "export", "--out", str(out))
    shipped = {path.relative_to(CHECKPOINT) for path in CHECKPOINT.rglob("*")}
    assert {path.relative_to(out) for path in out.rglob("*")} == shipped
    frames = draw(out, "a red circle on a blue background", steps=1)
    assert frames.shape == (1, CANVAS, CANVAS, 3)
    before = (tmp_path / "vae.pt").stat().st_mtime_ns
    run_recipe(tmp_path, "vae", "--resume")
    assert (tmp_path / "vae.pt").stat().st_mtime_ns == before


def test_killed_stage_continues_to_the_same_weights(tmp_path: Path) -> None:
    """A stage killed in the middle ends with the weights of one that was not."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_recipe(whole, "vae", "--batch", "2", "--steps", "4")
    words = [sys.executable, "-m", "demo.train", "vae", "--recipe", "small", "--work", str(killed)]
    words += ["--threads", "1", "--batch", "2", "--steps", "4", "--save-every", "1"]
    process = subprocess.Popen(words, cwd=CHECKPOINT.parent.parent, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 50
    while not (killed / "vae.state").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (killed / "vae.pt").exists()
    run_recipe(killed, "vae", "--batch", "2", "--steps", "4", "--resume")
    assert "continues at step" in (killed / "vae.log").read_text()
    wanted, got = (torch.load(work / "vae.pt")["vae"] for work in (whole, killed))
    for name, tensor in wanted.items():
        assert torch.allclose(got[name], tensor, atol=1e-6), name


def draw(folder: Path, prompt: str, *, steps: int) -> Any:
    """Frames `f h w 3` in [0, 1] of vanilla diffusers."""
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        prompt, height=CANVAS, width=CANVAS, num_frames=1, num_inference_steps=steps,
        guidance_scale=2.5, generator=torch.Generator().manual_seed(0), output_type="np",
    ).frames[0]  # fmt: skip


def test_checkpoint_is_small_and_draws_in_vanilla_diffusers() -> None:
    size = sum(path.stat().st_size for path in CHECKPOINT.rglob("*") if path.is_file())
    assert size <= 8_000_000
    frames = draw(CHECKPOINT, "a red circle on a blue background", steps=12)
    seen = read_picture((frames[0] * 255).round().astype(np.uint8)).words()
    assert (seen["background"], seen["colour"], seen["shape"]) == ("blue", "red", "circle")


def write_renderings(folder: Path, *, wrong: bool = False) -> None:
    """True renderings of held-out scenes with a manifest; `wrong` draws other colours."""
    names: dict[str, list[str]] = {"pictures": [], "clips": []}
    for kind, asked in (
        ("pictures", held_out_pictures(4, 2024)),
        ("clips", held_out_clips(2, 4048)),
    ):
        for index, one in enumerate(asked):
            scenes = scenes_of(np.array([one.scene]))
            where = geometry(scenes, np.random.default_rng(0))
            where.rgb[:] = where.rgb[:, ::-1] if wrong else where.rgb
            clip = render(scenes, where, frames=1 if kind == "pictures" else CLIP_FRAMES)[0]
            frames = np.stack([to_pixels(frame) for frame in clip.movedim(1, 0)])
            names[kind].append(f"{kind}_{index}" + (".png" if kind == "pictures" else ".npy"))
            if kind == "pictures":
                Image.fromarray(frames[0]).save(folder / names[kind][-1])
            else:
                np.save(folder / names[kind][-1], frames)
    (folder / "manifest.json").write_text(json.dumps(names))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--pictures", "-1"], "argument --pictures: expects 0 or more, got -1"),
        (
            ["--pictures", "0", "--clips", "0"],
            "--pictures 0 and --clips 0 leave nothing to measure",
        ),
    ],
)
def test_evaluation_of_nothing(
    tmp_path: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        evaluate.main(["--out", str(tmp_path / "out"), *words])
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {says}\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [False, True])
def test_evaluation_counts_and_judges(
    tmp_path: Path, wrong: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    write_renderings(tmp_path, wrong=wrong)
    words = ["--out", str(tmp_path), "--from", str(tmp_path), "--pictures", "4", "--clips", "2"]
    assert evaluate.main(words) == int(wrong)
    results = json.loads((tmp_path / "results.json").read_text())
    assert math.isclose(results["pictures"]["shares"]["all asked"], 0.0 if wrong else 1.0)
    assert bool(results["missed"]) is wrong
    assert {"eval_pictures.png", "eval_clips.png"} <= {path.name for path in tmp_path.iterdir()}
    assert "| pictures (4) |" in capsys.readouterr().out
    assert evaluate.main([*words[:-1], "3"]) == 1
    assert "names 2 clips for 3 prompts: pass --clips 2" in capsys.readouterr().err
