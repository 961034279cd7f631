"""The served model: its names, the outputs of its graph, and its request fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from runtime import Runtime, UserError
from runtime.settings.field import Field
from runtime.settings.policies import Policies

FRAMES_FIELD, STEPS_FIELD = "num_frames", "num_inference_steps"
IMAGE_FIELD, MASK_FIELD, CLIP_FIELD = "image_path", "mask_path", "video_path"
FILES = frozenset({"image", "video", "file", "path"})  # types of fields whose values name files
# Beyond these a float overflows in half precision; no graph has a use for such numbers.
LARGEST_FLOAT = 1e4


@dataclass(frozen=True)
class ServedModel:
    """The served model as clients see it.

    name    of the model in answers
    names   values that `model` may have in a request
    fields  the request fields of the graph, with the limits of the server
    """

    runtime: Runtime
    policies: Policies
    name: str
    names: frozenset[str]
    fields: Mapping[str, Field]

    @classmethod
    def of(cls, runtime: Runtime, policies: Policies) -> ServedModel:
        """The model of a configured runtime."""
        path = model_path(runtime)
        name = policies.server.served_model_name or path
        names = {name, path, runtime.graph.name, policies.model.path or path}
        names.add(runtime.config.checkpoint.name)
        fields = {n: _limited(f, policies) for n, f in runtime.fields.items()}
        return cls(runtime, policies, name, frozenset(names), fields)

    @property
    def pictures(self) -> bool:
        """Whether the graph makes pictures: as such, or as clips of one frame."""
        return "image" in self.runtime.graph.outputs or (
            "video" in self.runtime.graph.outputs and self._fits_one_frame()
        )

    @property
    def clips(self) -> bool:
        """Whether the graph makes clips of more than one frame."""
        frames = self.fields.get(FRAMES_FIELD)
        return "video" in self.runtime.graph.outputs and not (
            frames is not None and frames.max is not None and frames.max <= 1
        )

    @property
    def picture(self) -> Field | None:
        """The field that takes a picture, if the graph has one."""
        return self.fields.get(IMAGE_FIELD)

    @property
    def image_fields(self) -> tuple[str, ...]:
        """The fields that take pictures, by their own names."""
        return tuple(name for name, field in self.fields.items() if field.type == "image")

    @property
    def clip_fields(self) -> tuple[str, ...]:
        """The fields that take clips, by their own names."""
        return tuple(name for name, field in self.fields.items() if field.type == "video")

    @property
    def upload_fields(self) -> tuple[str, ...]:
        """The fields that take uploads or URLs."""
        return (*self.image_fields, *self.clip_fields)

    @property
    def seed(self) -> Field | None:
        """The seed's field."""
        return next((f for f in self.fields.values() if f.type == "seed"), None)

    @property
    def tasks(self) -> list[str]:
        """Task names: T2I, T2V; I2I, I2V where it takes an image; V2V where it takes a clip."""
        return list(self._tasks())

    def _tasks(self) -> Iterator[str]:
        start = "T" if self.picture is None else "I" if self.picture.required else "TI"
        clips = [self.fields[name] for name in self.clip_fields]
        if self.picture is None and clips:
            start = "V" if any(field.required for field in clips) else "TV"
        if self.pictures:
            yield f"{start}2I"
        if self.clips:
            yield f"{start}2V"

    def _fits_one_frame(self) -> bool:
        frames = self.fields.get(FRAMES_FIELD)
        try:
            return frames is None or frames.parse(1) == 1
        except UserError:
            return False


def model_path(runtime: Runtime) -> str:
    """The model as answers name it: a hub id, else the folder's name, never a path on this disk."""
    path = runtime.config.policies.model.path
    if path is None:
        return runtime.graph.name
    local = runtime.config.checkpoint.files.repo is None
    return (PurePath(path).name or runtime.graph.name) if local else path


def _limited(field: Field, policies: Policies) -> Field:
    """A field with the server's limits."""
    limits = {FRAMES_FIELD: policies.server.max_frames, STEPS_FIELD: policies.server.max_steps}
    if field.name in limits:
        most = limits[field.name]
        return dataclasses.replace(field, max=most if field.max is None else min(field.max, most))
    if field.type == "float":
        low = -LARGEST_FLOAT if field.min is None else field.min
        high = LARGEST_FLOAT if field.max is None else field.max
        return dataclasses.replace(field, min=low, max=high)
    return field
