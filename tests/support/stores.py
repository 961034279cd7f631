"""An object store for tests: moto's S3 server, in a process of its own on a loopback port."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

BUCKET = "pictures"
PUBLIC = {
    "Version": "2012-10-17",
    "Statement": {
        "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{BUCKET}/*",
    },
}  # fmt: skip
ACCESS, SECRET = "AKIATESTACCESSKEY", "test/secret+key-that-must-stay-secret"


@dataclass
class StoreServer:
    """A store that can go down and come back on its port; going down, it loses everything."""

    port: int
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self, bucket: str = BUCKET) -> dict[str, str]:
        """The variables that make a process upload here."""
        return {
            "SGLANG_CLOUD_STORAGE_TYPE": "s3",
            "SGLANG_S3_BUCKET_NAME": bucket,
            "SGLANG_S3_ENDPOINT_URL": self.url,
            "SGLANG_S3_ACCESS_KEY_ID": ACCESS,
            "SGLANG_S3_SECRET_ACCESS_KEY": SECRET,
        }

    def up(self, **environment: str) -> None:
        """Start it, with an empty bucket that anyone may read."""
        self.started.append(
            subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                env={**os.environ, **environment}, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        self.client().create_bucket(Bucket=BUCKET)
        self.client().put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(PUBLIC))

    def down(self) -> None:
        """Stop it at once."""
        for process in self.started:
            process.kill()
            process.wait()
        self.started.clear()

    def client(self) -> Any:
        """A client of boto3 for looking inside."""
        import boto3

        return boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id="x", aws_secret_access_key="x",
            region_name="us-east-1",
        )  # fmt: skip

    def keys(self) -> list[str]:
        """Names of the objects in the bucket."""
        found = self.client().list_objects_v2(Bucket=BUCKET).get("Contents", [])
        return [item["Key"] for item in found]


def fetch(url: str) -> tuple[bytes, Mapping[str, str]]:
    """What is served at a public URL: the body, and the headers."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read(), answer.headers


@contextmanager
def object_store(**environment: str) -> Iterator[StoreServer]:
    """A running store."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        store = StoreServer(free.getsockname()[1])
    try:
        store.up(**environment)
        yield store
    finally:
        store.down()
