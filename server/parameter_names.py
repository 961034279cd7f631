"""Names of request parameters in messages: what clients write, instead of config paths."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from runtime import UserError, did_you_mean

# A request field in a message of the runtime: "`request.height`", or "`request.height=96`".
REQUEST_PATH = re.compile(r"`request\.([A-Za-z0-9_]+)")

# Names that other APIs have for our parameters, and what they are called here, best match first.
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("steps", "num_steps", "step", "sampling_steps", "inference_steps", "sample_steps",
         "infer_steps", "n_steps", "nsteps", "iterations", "num_sampling_steps"),
        ("num_inference_steps",),
    ),
    **dict.fromkeys(
        ("cfg", "cfg_scale", "guidance", "scale", "cfgscale", "guidance_strength",
         "prompt_strength", "embedded_guidance_scale", "classifier_free_guidance"),
        ("guidance_scale", "true_cfg_scale"),
    ),
    **dict.fromkeys(
        ("negative", "neg_prompt", "negativeprompt", "neg", "uncond_prompt"), ("negative_prompt",)
    ),
    **dict.fromkeys(
        ("num_images", "num_images_per_prompt", "num_videos_per_prompt", "num_videos",
         "num_samples", "samples", "batch_size", "batch", "count", "n_samples",
         "num_outputs", "n_images", "number_of_images", "candidate_count"),
        ("n",),
    ),
    **dict.fromkeys(
        ("image_size", "resolution", "dimensions", "video_size", "aspect_ratio", "ratio"), ("size",)
    ),
    **dict.fromkeys(("w", "image_width", "video_width"), ("width",)),
    **dict.fromkeys(("h", "image_height", "video_height"), ("height",)),
    **dict.fromkeys(
        ("frames", "n_frames", "video_length", "num_video_frames", "frame_num", "number_of_frames"),
        ("num_frames",),
    ),
    **dict.fromkeys(("duration", "length", "video_duration", "duration_seconds"), ("seconds",)),
    **dict.fromkeys(("frame_rate", "framerate", "frames_per_second", "rate"), ("fps",)),
    **dict.fromkeys(("format", "image_format", "file_format", "type"), ("output_format",)),
    **dict.fromkeys(
        ("init_image", "input_image", "reference_image", "image_url", "image", "first_frame",
         "start_image", "images", "control_image", "ref_image"),
        ("image", "input_reference", "image_path"),
    ),
    **dict.fromkeys(
        ("video", "input_video", "init_video", "source_video", "video_file", "reference_video"),
        ("video_reference", "input_reference", "video_path"),
    ),
    **dict.fromkeys(("mask_image", "mask_url", "inpaint_mask"), ("mask", "mask_path")),
    **dict.fromkeys(("text", "input", "query", "caption", "description"), ("prompt",)),
    **dict.fromkeys(
        ("random_seed", "noise_seed", "rng_seed", "manual_seed", "seeds", "generator"), ("seed",)
    ),
    **dict.fromkeys(("model_id", "model_name", "engine", "model_path"), ("model",)),
    **dict.fromkeys(
        ("denoise", "denoising_strength", "image_strength", "image_prompt_strength"), ("strength",)
    ),
    **dict.fromkeys(("shift", "timestep_shift", "sigma_shift"), ("flow_shift",)),
    **dict.fromkeys(("compression", "jpeg_quality", "webp_quality"), ("output_compression",)),
}  # fmt: skip
WRAPPERS = frozenset({"extra_body", "extra_json", "extra_args", "extra_params", "parameters"})
SERVER_SETTINGS = frozenset(
    {"sampler", "scheduler", "sampler_name", "scheduler_name", "lora", "loras", "vae", "dtype",
     "device", "attention_backend", "generator_device", "precision"}
)  # fmt: skip


def as_parameters(text: str) -> str:
    """A message of the runtime with request fields named as parameters: "`height`"."""
    return REQUEST_PATH.sub(r"`\1", text)


def message_of(problem: UserError) -> str:
    """The message of an error of the runtime with its help, for a client."""
    text = f"{problem.message}; {problem.help}" if problem.help else problem.message
    return as_parameters(text)


def parameter(field: str) -> str | None:
    """The request parameter of `UserError.field`; None where it is no field of the request."""
    name = field.removeprefix("request.")
    return name if name and "." not in name and not name.startswith("-") else None


def unknown_parameter_help(name: str, known: Collection[str]) -> str:
    """What to write instead of an unknown parameter, as the end of a message; may be empty."""
    lowered = name.lower().replace("-", "_")
    for target in (lowered, *SYNONYMS.get(lowered, ())):
        if target in known and target != name:
            return f"; did you mean `{target}`?"
    if lowered in WRAPPERS:
        return "; send its members as parameters of the request itself"
    if lowered in SERVER_SETTINGS:
        return "; it is set when the server starts, for all requests"
    near = did_you_mean(lowered, known)
    return f"; {near}" if near else ""
