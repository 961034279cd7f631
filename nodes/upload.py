"""Nodes that upload written files to the object store."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from runtime.contract.outputs import File, Url
from runtime.files.embedded_text import is_own_sidecar, sidecar_path
from runtime.files.object_store import ObjectStore, UploadFailed, upload_file


@dataclass(frozen=True, kw_only=True)
class Upload:
    """Upload a file, then delete the local one. If the upload fails, the local file is not deleted.

    file  its name is the key of the object
    to    the object store
    url   public URL and key
    """

    class Out(NamedTuple):
        url: Url

    def run(self, *, file: File, to: ObjectStore) -> Out:
        (url,) = upload_all((file,), to)
        return self.Out(url)


@dataclass(frozen=True, kw_only=True)
class UploadAll:
    """Upload several files, then delete the local ones. If one upload fails, none is deleted.

    files  their names are the keys of the objects
    to     the object store
    urls   public URLs and keys, in order
    """

    class Out(NamedTuple):
        urls: tuple[Url, ...]

    def run(self, *, files: tuple[File, ...], to: ObjectStore) -> Out:
        return self.Out(upload_all(files, to))


def upload_all(files: tuple[File, ...], to: ObjectStore) -> tuple[Url, ...]:
    """Upload files, then delete the local ones."""
    keys = [file.path.name for file in files]
    urls = [upload_file(to, f.path, f.path.name, f.media_type) for f in files]
    sidecars = [s for file in files if is_own_sidecar(s := sidecar_path(file.path))]
    for sidecar in sidecars:
        with suppress(UploadFailed):  # the files themselves are uploaded
            upload_file(to, sidecar, sidecar.name, "application/json")
    for path in [*(file.path for file in files), *sidecars]:
        with suppress(
            OSError
        ):  # the upload succeeded; a local copy that cannot be deleted is harmless
            path.unlink()
    return tuple(Url(url, key) for url, key in zip(urls, keys, strict=True))
