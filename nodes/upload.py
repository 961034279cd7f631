"""Upload of written files to the object store."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from runtime.contract.outputs import File, Url
from runtime.files.embedded_text import beside, is_ours
from runtime.files.object_store import ObjectStore, UploadFailed, upload_file


@dataclass(frozen=True, kw_only=True)
class Upload:
    """Upload a file and delete the local one; where the upload fails, the file stays.

    file  its name becomes the key of the object
    to    the object store
    url   public URL and key
    """

    class Out(NamedTuple):
        url: Url

    def run(self, *, file: File, to: ObjectStore) -> Out:
        (url,) = uploaded((file,), to)
        return self.Out(url)


@dataclass(frozen=True, kw_only=True)
class UploadAll:
    """Upload files that belong together; where one upload fails, all of them stay.

    files  their names become the keys of the objects
    to     the object store
    urls   public URLs and keys, in order
    """

    class Out(NamedTuple):
        urls: tuple[Url, ...]

    def run(self, *, files: tuple[File, ...], to: ObjectStore) -> Out:
        return self.Out(uploaded(files, to))


def uploaded(files: tuple[File, ...], to: ObjectStore) -> tuple[Url, ...]:
    """Upload files, then delete the local ones."""
    keys = [file.path.name for file in files]
    urls = [upload_file(to, f.path, f.path.name, f.media_type) for f in files]
    sides = [side for file in files if is_ours(side := beside(file.path))]
    for side in sides:
        with suppress(UploadFailed):  # the files are in the store, which is what was asked
            upload_file(to, side, side.name, "application/json")
    for path in [*(file.path for file in files), *sides]:
        with suppress(OSError):  # it is in the store: a copy that cannot be removed is no failure
            path.unlink()
    return tuple(Url(url, key) for url, key in zip(urls, keys, strict=True))
