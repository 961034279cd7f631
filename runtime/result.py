"""What a run gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.errors import UserError

if TYPE_CHECKING:
    import PIL.Image

    from runtime.contract.values import Video


@dataclass(frozen=True)
class Result:
    """What a run gave.

    outputs           by the graph's output name, on the host
    rows              one per node that ran: node, type, duration_ms, memoised, and bytes in use
                      after it and at most until then (nbytes, peak_nbytes)
    denoise_steps_ms  one per denoising step
    memory            name of a checkpoint in the run to allocated_mb, reserved_mb, peaks
    notes             what the user is told: options without effect, prompts that are cut, retries
    """

    outputs: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]] = ()
    denoise_steps_ms: Sequence[float] = ()
    memory: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def image(self) -> PIL.Image.Image:
        """The picture, or the first frame of a clip, of the first output that is one."""
        from runtime.files.save_media import frame_picture

        picture: PIL.Image.Image = frame_picture(self._media())
        return picture

    @property
    def video(self) -> Video:
        """The clip: `frames` (uint8, f h w c) and `fps`; a picture model gives none."""
        found: Video = self._media("frames")
        return found

    def save(self, path: str | Path) -> Path:
        """Write the picture or the clip in the format of the suffix; the path.

        For a file that says how it was made, ask for the output `file` instead.
        """
        from runtime.files.save_media import save_media

        return save_media(self._media(), Path(path).expanduser())

    def _media(self, *attributes: str) -> Any:
        wanted = attributes or ("frames", "pixels")
        for value in self.outputs.values():
            if any(hasattr(value, name) for name in wanted):
                return value
        kind = "clip" if attributes else "picture and no clip"
        raise UserError(
            f"the run has no {kind} in memory; its outputs are: {', '.join(self.outputs)}",
            help="ask for an output that is one, as in outputs=['video', 'file']", field="outputs",
        )  # fmt: skip
