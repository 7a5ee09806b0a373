"""Files in an S3-compatible store: read in ranges, and what goes wrong there in sentences.

Named in `STORAGES` when IMPORTOPS_STORAGE is `s3`, and imported only then: its packages are in
requirements-s3.txt. What it is based on downloads a whole object to open it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.core.files import File
from storages.backends.s3 import S3Storage
from urllib3.exceptions import HTTPError

from importops.engine.ranged_source import RangedSource, RangeFailed
from importops.errors import FileMissing, MustWait, SourceChanged

MISSING = ("404", "NoSuchKey", "NotFound")
CHANGED = ("412", "PreconditionFailed")
REFUSED = ("400", "401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch")
# All that is tried for one range (`ranged_source.TRY_FOR`, and one more of these) is shorter than a
# lease: a worker that waits for an answer holds a slice, and others would take it over and wait too.
PATIENCE = Config(
    connect_timeout=3, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 1}
)
SETTINGS = "IMPORTOPS_S3_BUCKET, _ENDPOINT, _REGION, _ACCESS_KEY and _SECRET_KEY"


class ObjectStorage(S3Storage):  # type: ignore[misc]
    """Django's storage, with `open` that reads ranges. Every method raises `MustWait` when the store
    is away, does not let us in or has no such bucket, and `FileMissing` for an object that is gone."""

    client_config: Any

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.client_config = self.client_config.merge(PATIENCE)

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        if mode != "rb":
            raise ValueError(f"Objects are read or saved whole, not opened as {mode!r}.")
        item = self.bucket.Object(name)
        with errors_told(name):
            size, version = item.content_length, item.e_tag

        def fetch(start: int, stop: int) -> bytes:
            # The version makes sure that all ranges are of one and the same file.
            with errors_told(name, retried=True):
                answer = item.get(Range=f"bytes={start}-{stop - 1}", IfMatch=version)
                data = cast(bytes, answer["Body"].read())
            if len(data) != stop - start:
                raise RangeFailed(f"{len(data):,} bytes came instead of {stop - start:,}")
            return data

        return File(cast(IO[bytes], RangedSource(fetch, size, name)), name)

    def _save(self, name: str, content: File[Any]) -> str:
        with errors_told(name):
            return str(super()._save(name, content))

    def exists(self, name: str) -> bool:
        with errors_told(name):
            return bool(super().exists(name))

    def delete(self, name: str) -> None:
        with errors_told(name):
            super().delete(name)


@contextmanager
def errors_told(name: str, *, retried: bool = False) -> Iterator[None]:
    """Turn what the store's client raises into our errors; `retried`: into `RangeFailed` what a
    second try may cure."""
    try:
        yield
    except ClientError as error:
        raise _of_answer(name, error, retried) from error
    except (BotoCoreError, Boto3Error, HTTPError, OSError) as error:
        if retried:
            raise RangeFailed(str(error)) from error
        raise MustWait(f"The storage of the archives cannot be reached: {error}") from error


def _of_answer(name: str, error: ClientError, retried: bool) -> Exception:
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code in MISSING:
        return FileMissing(f"The export {name} is no longer in the storage.")
    if code in CHANGED:
        return SourceChanged()
    if code == "NoSuchBucket":
        return MustWait(f"The storage has no such bucket. Make it, or look at {SETTINGS}.")
    if code in REFUSED:
        return MustWait(f"The storage does not let us in ({code}). Look at {SETTINGS}.")
    if retried:
        return RangeFailed(str(error))
    return MustWait(f"The storage of the archives does not do what it should: {error}")
