"""Policies: where and how a graph runs. Frozen, resolved, knowing no family. Imports no torch.

A field's metadata is its declaration: what it accepts, its unit, its help. `conf/GROUP/OPTION.yaml`
holds named sets of values; a path that no policy declares is consumed by nothing, and is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from runtime.files.image_files import QUALITIES
from runtime.files.object_store import ObjectStore
from runtime.files.video_encode import PRESETS
from runtime.settings.field import Field

LOG_LEVELS = ("debug", "info", "warning", "error")
QUALITY_CHOICES = ("default", *QUALITIES)
PRECISION_OF: Mapping[str, str] = {  # role to the field of `Precision`
    "dit": "dit", "pipeline": "dit", "vae": "vae", "text_encoder": "text_encoders"
}  # fmt: skip
# `placebo` takes far longer than `veryslow` without a visible gain.
PRESET_CHOICES = tuple(preset for preset in PRESETS if preset != "placebo")


def setting(default: Any, type: str = "text", **accepts: Any) -> Any:
    """A policy field: its default, and what `Field` accepts of it.

    at  its path below the group, where that is not its name
    """
    return dataclasses.field(default=default, metadata={"type": type, **accepts})


@dataclass(frozen=True)
class Model:
    """Which checkpoint, and how it is found."""

    path: str | None = setting(None, "path", help="folder or hub id of a checkpoint")
    id: str | None = setting(None, help="hub id that chooses the graph, where the path does not")
    revision: str | None = setting(None, help="branch, tag or commit of the hub repository")
    trust_remote_code: bool = setting(False, "bool", help="allow code that a checkpoint brings")
    backend: str = setting("auto", "choice", choices=("auto", "sglang", "diffusers"))
    pipeline_class_name: str | None = setting(None, help="pipeline class, instead of _class_name")


@dataclass(frozen=True)
class Placement:
    """Where nodes run."""

    device: str = setting("auto", help="auto, or a device such as cuda:0, mps, cpu")
    batch: int | None = setting(
        None, "int", min=1, max=64,
        help="samples of one request that share calls of networks; none: 1 on a CPU, else 8",
    )  # fmt: skip


@dataclass(frozen=True)
class Precision:
    """Dtype of weights by role, over what the graph recommends; none: the graph's."""

    dit: str | None = setting(None, "dtype", help="components of role dit")
    vae: str | None = setting(None, "dtype", help="components of role vae")
    text_encoders: tuple[str, ...] = setting(
        (), "dtype", many=True, help="components of role text_encoder, in the graph's order"
    )


@dataclass(frozen=True)
class Adjust:
    """Request fields that are rounded to the nearest value that the graph makes, with a note."""

    size: bool = setting(False, "bool", help="round height and width")
    frames: bool = setting(False, "bool", help="round the number of frames")


def tile(type: str, unit: str, help: str) -> Any:
    """A policy field of `vae.config`: a number of a tile; none is the model's own."""
    return setting(
        None, type, at="config.*", min=0.001 if type == "float" else 1, unit=unit, help=help
    )


@dataclass(frozen=True)
class Vae:
    """How a VAE saves memory; none leaves it as the model has it."""

    tiling: bool | None = setting(None, "bool", help="decode in tiles")
    slicing: bool | None = setting(None, "bool", help="decode one sample at a time")
    load_encoder: bool = setting(True, "bool", at="config.load_encoder", help="load its encoder")
    load_decoder: bool = setting(True, "bool", at="config.load_decoder", help="load its decoder")
    tile_sample_min_height: int | None = tile("int", "px", "of a tile")
    tile_sample_min_width: int | None = tile("int", "px", "of a tile")
    tile_sample_min_num_frames: int | None = tile("int", "frames", "of a tile")
    tile_sample_min_size: int | None = tile("int", "px", "sides of a square tile")
    tile_sample_stride_height: int | None = tile("int", "px", "from one tile to the next")
    tile_sample_stride_width: int | None = tile("int", "px", "from one tile to the next")
    tile_sample_stride_num_frames: int | None = tile("int", "frames", "from one to the next")
    tile_overlap_factor: float | None = tile("float", "", "part of a tile that the next shares")
    tile_overlap_factor_height: float | None = tile("float", "", "the same, of its height")
    tile_overlap_factor_width: float | None = tile("float", "", "the same, of its width")


@dataclass(frozen=True)
class Memo:
    """How many bytes of earlier results are cached."""

    max_mb: int = setting(512, "int", min=0, unit="MB", help="0 keeps nothing")


@dataclass(frozen=True)
class Checks:
    """Checks before and while nodes run."""

    finite: bool = setting(False, "bool", help="stop at the first NaN or infinity")
    trained: bool = setting(
        True, "bool", help="refuse requests for which the model was not trained"
    )


@dataclass(frozen=True)
class Output:
    """Which files a run writes, and what it prints."""

    path: str = setting("outputs", "path", help="output folder")
    file_name: str | None = setting(None, help="file name; its suffix picks the format")
    overwrite: bool = setting(False, "bool", help="replace files instead of numbering names")
    save: bool | None = setting(None, "bool", help="write the result (on by default)")
    return_frames: bool = setting(False, "bool", help="raw frames as .npy, uint8, f h w c")
    quality: str = setting("default", "choice", choices=QUALITY_CHOICES)
    compression: int | None = setting(None, "int", min=0, max=100)
    x264_preset: str = setting("fast", "choice", choices=PRESET_CHOICES)
    num_outputs: int | None = setting(None, "int", min=1, help="samples per prompt")
    prompt_file: str | None = setting(None, "path", help="one prompt per line")
    perf_dump_path: str | None = setting(None, "path", help="JSON of times per node and step")
    log_level: str = setting("info", "choice", choices=LOG_LEVELS)
    dry_run: bool = setting(False, "bool", help="print the plan, load nothing")
    metadata: bool = setting(True, "bool", help="files have a record of how they were made")


@dataclass(frozen=True)
class Server:
    """The address, the limits and the retention of `sglang serve`."""

    host: str = setting("127.0.0.1", help="address to listen on")
    port: int = setting(30010, "int", min=0, max=65535, help="0 picks a free one")
    api_key: str | None = setting(None, help="clients must send it as a bearer token")
    served_model_name: str | None = setting(None, help="name of the model in answers")
    cors_origin: tuple[str, ...] = setting((), many=True, help="origins of web pages that may call")
    job_attempts: int = setting(3, "int", min=1, help="attempts at a job whose engine dies")
    max_queue: int = setting(64, "int", min=1, help="waiting jobs; more are answered with 429")
    request_timeout: int = setting(3600, "int", min=1, unit="s", help="longest run of one job")
    http_graceful_shutdown_timeout: int = setting(30, "int", min=0, unit="s")
    keep_jobs: int = setting(
        1000, "int", min=1, help="finished jobs that are kept with their files"
    )
    keep_hours: float = setting(168.0, "float", min=0, help="hours that finished jobs are kept")
    input_save_path: str | None = setting(None, "path", help="folder of uploads")
    max_upload_mb: int = setting(50, "int", min=1, unit="MB", help="largest uploaded file")
    max_upload_pixels: int = setting(
        120_000_000, "int", min=1, help="largest width times height of an uploaded picture"
    )
    max_pixels: int = setting(
        4096 * 4096, "int", min=1, help="largest width times height of a result or a clip"
    )
    max_frames: int = setting(1024, "int", min=1, help="longest clip")
    max_steps: int = setting(200, "int", min=1, help="most denoising steps")
    log_requests: bool = setting(False, "bool", help="log every request")


@dataclass(frozen=True)
class Storage:
    """The object store that outputs are uploaded to. Its keys come from the environment alone."""

    type: str = setting("none", "choice", choices=("none", "s3"))
    bucket: str | None = setting(None)
    endpoint_url: str | None = setting(None, help="of MinIO, OSS, COS; none is AWS")
    region: str = setting("us-east-1")

    def store(self) -> ObjectStore:
        """The object store that this policy names."""
        return ObjectStore(self.type, self.bucket, self.endpoint_url, self.region)


@dataclass(frozen=True)
class Parallel:
    """Replicas. Other degrees than one are not in this version."""

    dp_size: int = setting(1, "int", min=1, max=64, help="engine processes of a server")
    vae_sp: bool = setting(False, "bool", help="split the VAE over ranks; nothing to do on one")


@dataclass(frozen=True)
class Policies:
    """All policies of one run."""

    model: Model = Model()
    placement: Placement = Placement()
    precision: Precision = Precision()
    vae: Vae = Vae()
    memo: Memo = Memo()
    checks: Checks = Checks()
    adjust: Adjust = Adjust()
    output: Output = Output()
    server: Server = Server()
    storage: Storage = Storage()
    parallel: Parallel = Parallel()


@cache
def policy_fields() -> Mapping[str, Mapping[str, Field]]:
    """Group name to its fields, as declared above, by their paths below it."""
    found: dict[str, dict[str, Field]] = {}
    for group in dataclasses.fields(Policies):
        found[group.name] = {}
        for f in dataclasses.fields(type(group.default)):  # type: ignore[arg-type]  # an instance
            accepts = {**f.metadata}
            at = accepts.pop("at", f.name).replace("*", f.name)
            field = Field(name=f"{group.name}.{f.name}", default=f.default, **accepts)
            found[group.name][at] = field
    return found


def build_policies(values: Mapping[str, Mapping[str, Any]]) -> Policies:
    """Policies from typed values per group; what is not given keeps its default."""
    made: dict[str, Any] = {}
    for group, fields in policy_fields().items():
        own = {fields[at].name.split(".")[1]: v for at, v in values.get(group, {}).items()}
        made[group] = dataclasses.replace(getattr(Policies(), group), **own)
    return Policies(**made)


def left_out(vae: Vae, role: str) -> tuple[str, ...]:
    """Parts of a component that are not loaded."""
    loaded = {"encoder": vae.load_encoder, "decoder": vae.load_decoder}
    return tuple(p for p in loaded if role == "vae" and not loaded[p])


def role_dtype(precision: Precision, roles: Mapping[str, str], component: str) -> str | None:
    """The dtype that the precision policy gives a component. roles: of all components, in order."""
    role = roles.get(component, "")
    field = PRECISION_OF.get(role)
    if not field:
        return None
    dtypes = getattr(precision, field)
    if not isinstance(dtypes, tuple):
        return str(dtypes) if dtypes else None
    index = [name for name, other in roles.items() if other == role].index(component)
    return str(dtypes[min(index, len(dtypes) - 1)]) if dtypes else None
