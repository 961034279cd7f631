"""Repositories of the Hugging Face hub, in the cache its users know. Imports no torch.

Everything goes through `huggingface_hub` (cache folder, HF_HUB_OFFLINE, HF_TOKEN, HF_ENDPOINT,
progress bars), which is imported only once a hub id is given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from runtime.errors import UserError

ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")
METADATA = (".json", ".txt", ".model", ".jinja", ".spm", ".tiktoken")
METADATA_BYTES = 64 * 2**20
REFETCH = "it is not in the cache: unset HF_HUB_OFFLINE to download it"
REFETCH_WEIGHTS = "its weights are not in the cache: unset HF_HUB_OFFLINE to download them"


@dataclass(frozen=True)
class RemoteFile:
    """A file as the hub lists it: size in bytes, and the blob's name in the cache."""

    size: int
    blob: str


@dataclass(frozen=True)
class Repo:
    """One commit of a repository: its snapshot folder, and what the hub says it holds.

    files  path in the repository to its size and blob; empty where the hub was not asked (offline)
    """

    id: str
    revision: str | None
    commit: str
    root: Path
    files: Mapping[str, RemoteFile] = field(default_factory=dict, repr=False, compare=False)


def is_hub_id(text: str) -> bool:
    """Whether `text` could be `organisation/name` on the hub."""
    return len(text) <= 96 and ".." not in text and "--" not in text and bool(ID.fullmatch(text))


def id_of_url(text: str) -> str:
    """The `organisation/name` of a page of the hub (`https://.../organisation/name/tree/main`).

    Empty for what is no address.
    """
    address = urlsplit(text if "://" in text else f"https://{text}")
    if not text.startswith(("http://", "https://", "hf://", "huggingface.co/", "hf.co/")):
        return ""
    parts = [part for part in address.path.split("/") if part]
    if address.scheme == "hf" and address.netloc:
        parts = [address.netloc, *parts]
    parts = [part for part in parts[:3] if part != "models"][:2]
    id = "/".join(parts)
    return id if is_hub_id(id) else ""


def open_repo(id: str, revision: str | None = None) -> Repo:
    """Resolve a repository and fetch its small files (configs, tokenizers), never its weights."""
    try:
        commit, files = _listing(id, revision)
    except _problems() as problem:
        root = cached(id, revision)
        if root is None:
            raise _explain(id, revision, problem) from problem
        return Repo(id, revision, root.name, root)
    wanted = [n for n, f in files.items() if n.endswith(METADATA) and f.size <= METADATA_BYTES]
    root = cached(id, revision)
    if root is None or root.name != commit or not all((root / n).exists() for n in wanted):
        root = _download(id, revision, wanted)
    return Repo(id, revision, commit, root, files)


def fetch_files(repo: Repo, names: Sequence[str]) -> None:
    """Download files of a repository into the cache, with the hub's progress bars."""
    _download(repo.id, repo.commit, names)


def cached(id: str, revision: str | None = None) -> Path | None:
    """The snapshot folder of a revision that is in the cache already."""
    from huggingface_hub import constants

    store = Path(constants.HF_HUB_CACHE).expanduser() / f"models--{id.replace('/', '--')}"
    revision = revision or "main"
    if not COMMIT.fullmatch(revision):
        try:
            revision = (store / "refs" / revision).read_text().strip()
        except OSError:
            return None
    root = store / "snapshots" / revision
    return root if root.is_dir() else None


def _listing(id: str, revision: str | None) -> tuple[str, dict[str, RemoteFile]]:
    from huggingface_hub import HfApi

    info = HfApi().model_info(id, revision=revision, files_metadata=True)
    files = {}
    for entry in info.siblings or ():
        blob = entry.lfs.sha256 if entry.lfs else entry.blob_id
        files[entry.rfilename] = RemoteFile(entry.size or 0, blob or "")
    return str(info.sha), files


def _download(id: str, revision: str | None, names: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(id, revision=revision, allow_patterns=list(names)))
    except _problems() as problem:
        raise _explain(id, revision, problem) from problem


def _problems() -> tuple[type[BaseException], ...]:
    """What the hub's client raises: any error of its HTTP library, and the operating system's."""
    from huggingface_hub import errors

    # The HTTP library differs between versions of the client; its root error is a base of this one.
    return (*errors.HfHubHTTPError.__bases__, OSError)


def _explain(id: str, revision: str | None, problem: object) -> UserError:
    """Say in words what the hub answered, and what to do."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{id}"
    status = getattr(getattr(problem, "response", None), "status_code", 0)
    if constants.HF_HUB_OFFLINE:
        where = f"revision `{revision}` of `{id}`" if revision else f"`{id}`"
        return UserError(
            f"{where} is not in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE is set.",
            help="unset HF_HUB_OFFLINE to download it, or give a local folder",
        )
    if isinstance(problem, errors.GatedRepoError) or status == 403:
        return UserError(
            f"`{id}` is gated: its licence has to be accepted before it can be downloaded.",
            help=f"accept it at {page}, then set HF_TOKEN to a token of that account",
        )
    if isinstance(problem, errors.RevisionNotFoundError):
        return UserError(
            f"`{id}` has no revision `{revision}`.",
            help=f"branches and tags are listed at {page}/tree/main",
            field="revision",
        )
    if isinstance(problem, errors.RepositoryNotFoundError) or status in {401, 404}:
        return UserError(
            f"the hub has no model `{id}`, or it is private.",
            help=f"check the name at {page}; for a private model set HF_TOKEN",
        )
    if status:
        return UserError(f"the hub answered {status} for `{id}`.", help="try again later")
    return UserError(
        f"`{id}` is not in the cache {constants.HF_HUB_CACHE}, and {constants.ENDPOINT} cannot be"
        f" reached ({type(problem).__name__}).",
        help="check the connection, or give a local folder",
    )
