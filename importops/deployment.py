"""Where the queue and the archives are: what the environment's words mean for Django's settings.

`project/settings.py` reads the words; here is what goes together, said in sentences when it does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

QUEUES = ("database", "celery")
STORAGES = ("file", "s3")
BROKERS = ("amqp", "amqps", "redis", "rediss")


@dataclass(frozen=True, slots=True)
class Queue:
    kind: str = "database"
    broker_url: str = field(default="", repr=False)

    def problems(self) -> Iterator[str]:
        if self.kind not in QUEUES:
            yield f"IMPORTOPS_QUEUE is one of {', '.join(QUEUES)}, not {self.kind!r}."
        elif self.kind == "celery":
            yield from self._problems_of_broker()
        elif self.broker_url:
            yield "IMPORTOPS_BROKER_URL has no effect unless IMPORTOPS_QUEUE is celery."

    def _problems_of_broker(self) -> Iterator[str]:
        # Never with the address in it: there is a password in that.
        if not self.broker_url:
            yield "IMPORTOPS_QUEUE=celery needs IMPORTOPS_BROKER_URL (amqp://… or redis://…)."
            return
        try:
            address = urlsplit(self.broker_url)
            usable = address.scheme in BROKERS and bool(address.hostname) and address.port != 0
        except ValueError:
            usable = False
        if not usable:
            yield (
                "IMPORTOPS_BROKER_URL is not the address of a broker: "
                "amqp://user:password@host:5672/name (RabbitMQ) or redis://host:6379/0."
            )
        yield from _missing_packages("IMPORTOPS_QUEUE=celery", "celery", "redis", "celery")

    def tasks(self) -> dict[str, Any]:
        """Django's TASKS."""
        backend = {
            "database": "django_tasks_db.DatabaseBackend",
            "celery": "importops.tasks.celery_backend.CeleryBackend",
        }[self.kind]
        return {"default": {"BACKEND": backend, "QUEUES": ["default"]}}


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """An S3-compatible store. Without keys its client looks for them where it usually does."""

    bucket: str = ""
    endpoint: str = ""
    region: str = ""
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)

    def problems(self, kind: str, *, has_secret_key: bool) -> Iterator[str]:
        if kind not in STORAGES:
            yield f"IMPORTOPS_STORAGE is one of {', '.join(STORAGES)}, not {kind!r}."
        elif kind == "s3":
            yield from self._problems_of_store(has_secret_key=has_secret_key)
        elif any((self.bucket, self.endpoint, self.region, self.access_key, self.secret_key)):
            yield "IMPORTOPS_S3_… has no effect unless IMPORTOPS_STORAGE is s3."

    def _problems_of_store(self, *, has_secret_key: bool) -> Iterator[str]:
        if not self.bucket:
            yield "IMPORTOPS_STORAGE=s3 needs IMPORTOPS_S3_BUCKET."
        if bool(self.access_key) != bool(self.secret_key):
            yield "IMPORTOPS_S3_ACCESS_KEY and IMPORTOPS_S3_SECRET_KEY go together."
        if self.endpoint and not self.endpoint.startswith(("http://", "https://")):
            yield "IMPORTOPS_S3_ENDPOINT begins with http:// or https://."
        if not has_secret_key:
            yield (
                "IMPORTOPS_STORAGE=s3 is for several machines, which have to share SECRET_KEY: "
                "set it, the same everywhere."
            )
        yield from _missing_packages("IMPORTOPS_STORAGE=s3", "storages", "boto3", "s3")

    def storage(self) -> dict[str, Any]:
        """Django's STORAGES["default"]."""
        options = {
            "bucket_name": self.bucket,
            "endpoint_url": self.endpoint or None,
            "region_name": self.region or None,
            "access_key": self.access_key or None,
            "secret_key": self.secret_key or None,
            "signature_version": "s3v4",
            "file_overwrite": False,
            # A bucket in the path works with every store; one in the host name needs a DNS entry each.
            "addressing_style": "path" if self.endpoint else None,
        }
        return {"BACKEND": "importops.engine.object_storage.ObjectStorage", "OPTIONS": options}


def _missing_packages(what: str, first: str, second: str, group: str) -> Iterator[str]:
    if not (find_spec(first) and find_spec(second)):
        yield f"{what} needs more packages: pip install -r requirements-{group}.txt."


def refuse(problems: list[str]) -> None:
    """Stop a process whose settings contradict each other."""
    if problems:
        raise ImproperlyConfigured(" ".join(problems))
