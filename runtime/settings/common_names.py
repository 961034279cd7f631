"""Option names of other programs, and the option of this one that they mean.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from runtime.errors import did_you_mean

# Option to its names elsewhere: diffusers scripts, ComfyUI, stable-diffusion.cpp, OpenAI's API.
_ELSEWHERE: Mapping[str, str] = {
    "request.prompt": "p t text positive positive_prompt caption description input_text query",
    "request.negative_prompt": "np neg negative neg_prompt uncond uncond_prompt",
    "request.num_inference_steps": "steps step num_steps n_steps inference_steps sampling_steps"
    " sample_steps denoising_steps num_sampling_steps ddim_steps iterations iters",
    "request.guidance_scale": "cfg cfg_scale scale guidance g gs guide_scale sample_guide_scale"
    " unconditional_guidance_scale",
    "request.true_cfg_scale": "true_cfg true_guidance_scale",
    "request.seed": "s random_seed rng_seed noise_seed base_seed manual_seed generator",
    "request.height": "ht image_height output_height",
    "request.width": "w wd image_width output_width",
    "request.num_frames": "frames f frame_num n_frames frame_count length video_length"
    " num_video_frames",
    "request.fps": "frame_rate framerate rate frames_per_second",
    "request.image_path": "i img image images init_image init_img input_image input_images"
    " input_reference reference_image ref_image first_frame start_image",
    "request.last_image": "end_image last_frame end_frame last_image_path",
    "request.video_path": "video input_video init_video source_video",
    "request.strength": "denoise denoising_strength denoise_strength image_strength",
    "request.flow_shift": "shift sample_shift timestep_shift",
    "request.max_sequence_length": "max_length text_len max_tokens token_limit",
    "output.num_outputs": "n num num_images num_images_per_prompt images_per_prompt batch_size"
    " batch count batch_count samples n_samples num_videos num_videos_per_prompt",
    "output.file_name": "o output out outfile out_file output_file output_name file filename"
    " save_file save_name output_image format output_format",
    "output.path": "d dir out_dir outdir output_dir output_directory output_folder save_dir"
    " save_path result_dir results_dir",
    "output.overwrite": "y yes force replace clobber",
    "output.log_level=debug": "v verbose vv verbosity",
    "output.log_level=error": "q quiet silent",
    "output.prompt_file": "prompts_file prompt_list prompts from_file",
    "model.path": "m model model_name model_dir model_name_or_path ckpt ckpt_path ckpt_dir"
    " checkpoint checkpoint_path pretrained_model pretrained_model_name_or_path repo repo_id"
    " hf_repo diffusion_model weights",
    "model.trust_remote_code=true": "remote_code allow_remote_code",
    "model.backend": "engine",
    "graph": "g_file workflow pipeline_graph config_graph",
    "components.scheduler.path=DIR": "scheduler sampler sampling_method sample_solver solver"
    " sampler_name scheduler_type noise_schedule",
    "components.vae.path=DIR": "vae",
    "placement.device=cpu": "cpu use_cpu force_cpu no_cuda no_gpu",
    "placement.device=cuda": "cuda gpu use_gpu use_cuda",
    "placement.device=mps": "mps metal",
    "precision.dit": "dtype torch_dtype data_type weight_dtype precision_type",
    "precision.dit=fp16": "half fp16 float16",
    "precision.dit=bf16": "bf16 bfloat16",
    "precision.dit=fp32": "fp32 float32 full_precision no_half",
    "vae.tiling=true": "tiling tile tiled_vae enable_tiling enable_vae_tiling use_tiling",
    "vae.slicing=true": "slicing enable_slicing enable_vae_slicing",
    "server.host": "listen bind address ip server_host server_name",
    "server.port": "server_port http_port",
    "parallel.dp_size": "replicas workers num_workers",
}  # fmt: skip
_MEANT = {name: option for option, names in _ELSEWHERE.items() for name in names.split()}
SIZE_NAMES = frozenset(
    {"size", "image_size", "img_size", "output_size", "res", "dimensions", "shape"}
)


def common_option(name: str) -> str:
    """The option that a name from elsewhere means: a config path, some with a value; or nothing."""
    return _MEANT.get(name.strip("-").replace("-", "_").lower(), "")


def did_you_mean_field(name: str, fields: Iterable[str]) -> str:
    """`did you mean X?` among request fields: by a name from elsewhere, else by spelling."""
    known = list(fields)
    option = common_option(name).partition("=")[0].removeprefix("request.")
    return f"did you mean `{option}`?" if option in known else did_you_mean(name, known)
