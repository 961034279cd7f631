"""The shortest script that draws the same picture with vanilla diffusers, for `cold_start`."""

import sys

import torch
from diffusers import DiffusionPipeline

model, prompt, path = sys.argv[1:4]
pipeline = DiffusionPipeline.from_pretrained(model)
generator = torch.Generator().manual_seed(42)
size = {"height": 128, "width": 128, "num_frames": 1}
video = pipeline(
    prompt,
    **size,
    num_inference_steps=12,
    guidance_scale=2.5,
    generator=generator,
    output_type="pil",
)
video.frames[0][0].save(path)
