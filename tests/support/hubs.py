"""Hubs for tests: a cache as `huggingface_hub` lays it out, and a server that speaks its API."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[2]
COMMIT, OTHER = "a" * 40, "b" * 40
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
SIZES = {"F32": 4, "BF16": 2, "I64": 8}
Files = Mapping[str, bytes]


def safetensors(tensors: Mapping[str, tuple[str, list[int]]], fill: int = 0) -> bytes:
    """A safetensors file; every byte of its data is `fill`."""
    listed, end = {}, 0
    for key, (dtype, shape) in tensors.items():
        begin, count = end, 1
        for size in shape:
            count *= size
        end = begin + count * SIZES[dtype]
        listed[key] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(listed).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes([fill]) * end


def model(fill: int = 0, width: int = 4) -> dict[str, bytes]:
    """A model of one transformer and one scheduler; `fill` changes the transformer's weights."""
    index = {
        "_class_name": "FluxPipeline",
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "transformer": ["diffusers", "FluxTransformer2DModel"],
        "image_encoder": [None, None],
        "boundary_ratio": 0.9,
    }
    config = {"_class_name": "FluxTransformer2DModel", "in_channels": width, "rope": {"theta": 10}}
    scheduler = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
    return {
        "model_index.json": json.dumps(index).encode(),
        "README.md": b"# a model",
        "scheduler/scheduler_config.json": json.dumps(scheduler).encode(),
        "transformer/config.json": json.dumps(config).encode(),
        WEIGHTS: safetensors({"w": ("F32", [256, width]), "b": ("BF16", [256])}, fill),
    }


def folder(path: Path, files: Files) -> Path:
    """Write files to a plain folder."""
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def blob(name: str, content: bytes) -> str:
    """The name of a blob: SHA-256 of large files, git's own hash of small ones."""
    if name.endswith(".safetensors"):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def cache(home: Path, id: str, snapshots: Mapping[str, Files], refs: Mapping[str, str]) -> Path:
    """Add a repository to a hub cache: blobs, snapshots of links to them, refs."""
    store = home / f"models--{id.replace('/', '--')}"
    (store / "blobs").mkdir(parents=True)
    for ref, commit in refs.items():
        (store / "refs").mkdir(exist_ok=True)
        (store / "refs" / ref).write_text(commit)
    for commit, files in snapshots.items():
        for name, content in files.items():
            (store / "blobs" / blob(name, content)).write_bytes(content)
            link = store / "snapshots" / commit / name
            link.parent.mkdir(parents=True, exist_ok=True)
            up = "/".join([".."] * (2 + name.count("/")))
            link.symlink_to(f"{up}/blobs/{blob(name, content)}")
    return store


def python(code: str, home: Path, **env: str) -> str:
    """Run code in a fresh process with a hub cache of its own; what it printed."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    settings = {"HF_HOME": str(home), "HF_HUB_CACHE": str(home), "HF_HUB_DISABLE_XET": "1", **env}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, "PYTHONPATH": str(ROOT), **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does, for the repositories that `server` gives it."""

    repos: Mapping[str, Files | tuple[int, str]]
    asked: list[str]

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.asked.append(f"{self.command} {path}")
        name = next(r for r in self.repos if r in path)
        held = self.repos[name]
        if isinstance(held, tuple):
            self.reply(held[0], b"", {"X-Error-Code": held[1]})
        elif path.startswith("/api/"):
            revision = re.search(r"/(?:revision|tree)/([^/]+)", path)
            if revision and revision[1] not in {"main", COMMIT}:
                self.reply(404, b"", {"X-Error-Code": "RevisionNotFound"})
            else:
                content = listing(name, held, tree="/tree/" in path)
                self.reply(200, json.dumps(content).encode(), {})
        else:
            inside = path.split(f"/resolve/{COMMIT}/")[1]
            tag = {"ETag": f'"{blob(inside, held[inside])}"', "X-Repo-Commit": COMMIT}
            self.reply(200, held[inside], tag)

    def reply(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@contextmanager
def server(repos: Mapping[str, Files | tuple[int, str]]) -> Iterator[tuple[str, list[str]]]:
    """A hub on a loopback port: repository to its files, or to a status and error code.

    Yields its address and the list of what was asked of it.
    """
    kind: type[Hub] = type("Asked", (Hub,), {"repos": repos, "asked": []})
    hub = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{hub.server_port}", kind.asked
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


def listing(id: str, files: Files, *, tree: bool) -> Any:
    """What the hub's API says of a repository."""
    entries = []
    for path, content in files.items():
        lfs = path.endswith(".safetensors")
        facts: dict[str, Any] = {"size": len(content)}
        if lfs:
            sha = {"sha256": blob(path, content), "oid": blob(path, content)}
            facts["lfs"] = {**sha, "size": len(content), "pointerSize": 100}
        oid = hashlib.sha1(content).hexdigest() if lfs else blob(path, content)
        key = {"type": "file", "path": path, "oid": oid} if tree else {"rfilename": path}
        entries.append({**key, **facts, "blobId": oid})
    return entries if tree else {"id": id, "sha": COMMIT, "siblings": entries}
