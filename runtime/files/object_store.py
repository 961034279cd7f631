"""The object store that outputs are uploaded to: S3 or a compatible service. Imports no torch.

Credentials are read from the environment only when a client is created. They never appear in a
setting, event, message or log. boto3 (the extra `s3`) is imported only when a store is used.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import quote, urlsplit

from runtime.errors import UserError

ACCESS_KEY, SECRET_KEY = "SGLANG_S3_ACCESS_KEY_ID", "SGLANG_S3_SECRET_ACCESS_KEY"
PART_BYTES = 8 * 2**20  # larger files are sent in parts of this size
CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 5, 60, 4
# Hosts that require the bucket in the host name (OSS always, COS for buckets made since 2024).
VIRTUAL_HOSTED = (".aliyuncs.com", ".myqcloud.com")
DENIED = frozenset(
    {"AccessDenied", "Forbidden", "403", "401", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
    | {"ExpiredToken", "InvalidToken", "AllAccessDisabled", "AccountProblem"}
)


class UploadFailed(Exception):
    """An upload or deletion failed after all retries.

    reason     short text for the user; never contains credentials or the address of the store
    path       the local file, which still exists; None for a deletion
    transient  whether a later attempt may succeed
    """

    def __init__(self, reason: str, path: Path | None = None, *, transient: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.path, self.transient = reason, path, transient


@dataclass(frozen=True)
class ObjectStore:
    """The settings of an object store.

    type          none | s3
    endpoint_url  URL of MinIO, OSS, COS, ...; None is AWS
    region        the name of the region in the store's own terms
    """

    type: str = "none"
    bucket: str | None = None
    endpoint_url: str | None = None
    region: str = "us-east-1"
    on_host: ClassVar[bool] = True

    @property
    def addressing(self) -> Literal["auto", "path", "virtual"]:
        """S3 addressing style: bucket in the path, in the host name, or boto3's choice (auto)."""
        if self.endpoint_url is None:
            return "auto"
        host = urlsplit(self.endpoint_url).hostname or ""
        return "virtual" if host.endswith(VIRTUAL_HOSTED) else "path"

    def url(self, key: str) -> str:
        """The public URL of an object."""
        name = quote(key, safe="/")
        if self.endpoint_url is None:
            return f"https://{self.bucket}.s3.{self.region}.amazonaws.com/{name}"
        if self.addressing == "virtual":
            parts = urlsplit(self.endpoint_url)
            return f"{parts.scheme}://{self.bucket}.{parts.netloc}/{name}"
        return f"{self.endpoint_url.rstrip('/')}/{self.bucket}/{name}"


def check_store(store: ObjectStore) -> None:
    """Raise a UserError for wrong settings or missing credentials, without a network request."""
    if store.type == "none":
        raise UserError(
            "there is no object store to upload to", field="storage.type",
            help="set SGLANG_CLOUD_STORAGE_TYPE=s3 and SGLANG_S3_BUCKET_NAME",
        )  # fmt: skip
    if not store.bucket:
        raise UserError(
            "uploads need a bucket, and `storage.bucket` is not set", field="storage.bucket",
            help="set SGLANG_S3_BUCKET_NAME (or storage.bucket=NAME)",
        )  # fmt: skip
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", store.bucket):
        raise UserError(
            f'SGLANG_S3_BUCKET_NAME is "{store.bucket}", which is not a valid bucket name',
            help="use letters, digits, dots and dashes, without s3://", field="storage.bucket",
        )  # fmt: skip
    if not re.fullmatch(r"[A-Za-z0-9-]+", store.region):
        raise UserError(
            f'SGLANG_S3_REGION_NAME is "{store.region}", which is not a valid region name',
            help="for example us-east-1", field="storage.region",
        )  # fmt: skip
    _check_endpoint(store.endpoint_url)
    _check_credentials(store)


def upload_file(store: ObjectStore, path: Path, key: str, media_type: str) -> str:
    """Upload a file, in parts if it is large, and return its public URL.

    An object with the same key is replaced. After the last retry it raises UploadFailed; the local
    file is never deleted here.
    """
    transfer = _boto3().s3.transfer
    try:
        with path.open("rb") as file:
            _client(store).upload_fileobj(
                file, store.bucket, key,
                ExtraArgs={"ContentType": media_type},
                Config=transfer.TransferConfig(
                    multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES,
                    use_threads=False,  # with threads, Ctrl-C waits until the store has answered
                ),
            )  # fmt: skip
    except Exception as problem:
        # Not chained: boto3's messages may quote headers, which contain a key.
        reason, transient = _reason(store, problem)
        raise UploadFailed(reason, path, transient=transient) from None
    return store.url(key)


def download_object(store: ObjectStore, key: str, path: Path) -> None:
    """Download an object to a new file. Raises UploadFailed after the retries."""
    transfer = _boto3().s3.transfer
    try:
        with path.open("xb") as file:
            _client(store).download_fileobj(
                store.bucket, key, file, Config=transfer.TransferConfig(use_threads=False)
            )
    except OSError:
        raise  # of this disk: the store's own errors are boto3's
    except Exception as problem:
        reason, transient = _reason(store, problem)
        raise UploadFailed(reason, transient=transient) from None


def delete_object(store: ObjectStore, key: str) -> None:
    """Delete an object if it exists. Raises UploadFailed after the last retry."""
    _boto3()
    try:
        _client(store).delete_object(Bucket=store.bucket, Key=key)
    except Exception as problem:
        reason, transient = _reason(store, problem)
        raise UploadFailed(reason, transient=transient) from None


def _check_endpoint(url: str | None) -> None:
    if url is None:
        return
    try:
        parts = urlsplit(url)
        wrong = parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0
    except ValueError:
        wrong = True
    if wrong or "@" in url or "?" in url or "#" in url:
        # The URL is not in the message, because it may contain a password.
        raise UserError(
            "SGLANG_S3_ENDPOINT_URL is not a valid URL of an object store",
            help="write http://HOST:PORT or https://HOST; put credentials into "
            f"{ACCESS_KEY} and {SECRET_KEY}",
            field="storage.endpoint_url",
        )


def _check_credentials(store: ObjectStore) -> None:
    _boto3()
    names = (ACCESS_KEY, SECRET_KEY)
    missing = [name for name, value in zip(names, _credentials(), strict=True) if not value]
    if len(missing) == 1:
        (given,) = set(names) - set(missing)
        raise UserError(f"{given} is set, but not {missing[0]}", help="set both, or neither")
    for name, value in zip(names, _credentials(), strict=True):
        if value and not re.fullmatch(r"[!-~]+", value):
            raise UserError(f"{name} has characters that keys cannot have", help="copy it again")
    try:
        found = bool(_session(store).get_credentials())
    except Exception as problem:
        what = type(problem).__name__
        raise UserError(f"the credentials of the store cannot be read ({what})") from None
    if not found:
        raise UserError(
            "there are no credentials for the object store",
            help=f"set {ACCESS_KEY} and {SECRET_KEY}, or configure boto3",
        )


def _credentials() -> tuple[str | None, str | None]:
    """Access key and secret key of the environment; None if unset or empty."""
    access, secret = (os.environ.get(name, "").strip() for name in (ACCESS_KEY, SECRET_KEY))
    return access or None, secret or None


def _boto3() -> Any:
    try:
        import boto3
        import boto3.s3.transfer
    except ImportError:
        raise UserError(
            "uploads need boto3, which is not installed",
            help='pip install "sglang-graph[s3]"', field="storage.type",
        ) from None  # fmt: skip
    return boto3


def _session(store: ObjectStore) -> Any:
    access, secret = _credentials()
    return _boto3().session.Session(
        aws_access_key_id=access, aws_secret_access_key=secret, region_name=store.region
    )


def _client(store: ObjectStore) -> Any:
    from botocore.config import Config  # type: ignore[import-untyped]  # it has no types

    compatible = store.endpoint_url is not None
    for log in map(logging.getLogger, ("boto3", "botocore", "s3transfer")):
        if log.getEffectiveLevel() < logging.INFO:
            log.setLevel(logging.INFO)  # their debug logs contain headers with a key
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "adaptive", "total_max_attempts": ATTEMPTS},
        s3={"addressing_style": store.addressing},
        ignore_configured_endpoint_urls=True,  # uploads must go to the URL in the answer
        # Only AWS supports trailing checksums; OSS, COS and older MinIO refuse such uploads.
        request_checksum_calculation="when_required" if compatible else "when_supported",
        response_checksum_validation="when_required" if compatible else "when_supported",
    )
    return _session(store).client("s3", endpoint_url=store.endpoint_url, config=config)


def _reason(store: ObjectStore, problem: Exception) -> tuple[str, bool]:
    """A short reason for the user, and whether the failure is transient."""
    from botocore import exceptions as errors  # type: ignore[import-untyped]  # it has no types

    if isinstance(problem, errors.ClientError):
        code = re.sub(r"\W", "", str(problem.response.get("Error", {}).get("Code", "")))[:40]
        status = problem.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code == "NoSuchBucket" or (status == 404 and code in {"404", "NotFound"}):
            return f"the object store has no bucket `{store.bucket}`", False
        if code in DENIED:
            return f"the object store denied access ({code})", False
        return f"the object store answered {code or status}", status >= 500 or status in {408, 429}
    if isinstance(problem, errors.HTTPClientError | errors.ConnectionError):
        return "the object store is unreachable", True
    credentials = (errors.NoCredentialsError, errors.PartialCredentialsError)
    if isinstance(problem, (*credentials, errors.CredentialRetrievalError)):
        return "there are no credentials for the object store", False
    if isinstance(problem, OSError) and problem.filename:
        return f"the file cannot be read ({(problem.strerror or '').lower()})", False
    return f"the upload failed ({type(problem).__name__})", False
