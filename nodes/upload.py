"""Upload of written files to the object store."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from runtime.output import File, Url
from runtime.storage import Store, upload_file


@dataclass(frozen=True, kw_only=True)
class Upload:
    """Upload a file and delete the local one; where the upload fails, the file stays.

    file  its name becomes the key of the object
    to    the object store
    url   public URL and key
    """

    class Out(NamedTuple):
        url: Url

    def run(self, *, file: File, to: Store) -> Out:
        key = file.path.name
        url = upload_file(to, file.path, key, file.media_type)
        with suppress(OSError):  # it is in the store: a copy that cannot be removed is no failure
            file.path.unlink()
        return self.Out(Url(url, key))
