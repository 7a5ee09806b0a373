"""Archives in a store elsewhere: a real S3 server, read in ranges."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from pytest_django import Settings

pytest.importorskip("storages", reason="requirements-s3.txt is not installed")
pytest.importorskip("boto3", reason="requirements-s3.txt is not installed")

from importops.actions.operations import create_operation_from_path, start_operation
from importops.deployment import ObjectStore
from importops.engine import ranged_source
from importops.engine.ranged_source import BLOCK
from importops.engine.running import run_operation
from importops.engine.sources import index_path
from importops.errors import FileMissing, MustWait, SourceChanged
from importops.models import ImportOperation, Message, Status, User
from tests.benchmarks.generate import build
from tests.canonical import canonical_hash
from tests.journeys import EVERYTHING, adds_up
from tests.object_store import Front, object_store, settings_of

pytestmark = [pytest.mark.process]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with object_store(tmp_path_factory.mktemp("s3")) as front:
        yield front


@pytest.fixture
def front(store: Front, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Front:
    store.ranges.clear()
    store.whole.clear()
    store.breaking = store.refusing = 0
    monkeypatch.setattr(ranged_source, "FIRST_WAIT", 0)
    use(settings, settings_of(store))
    return store


def use(settings: Settings, chosen: ObjectStore) -> None:
    settings.STORAGES = {**settings.STORAGES, "default": chosen.storage()}


@pytest.fixture
def export(tmp_path: Path) -> Path:
    path = tmp_path / "export.zip"
    build(path, messages=4000, seed=3, users=120)
    return path


def prepare(export: Path, user: User) -> ImportOperation:
    operation = create_operation_from_path(user=user, importer_key="slack", path=export)
    run_operation(operation)
    return operation


def test_a_whole_import_reads_ranges_and_few_of_them(
    front: Front, export: Path, alice: User
) -> None:
    size = export.stat().st_size
    operation = prepare(export, alice)
    export.unlink()
    start_operation(operation, EVERYTHING, alice, queue=False)
    run_operation(operation)

    assert operation.status == Status.DONE
    assert Message.objects.count() == 4000
    assert adds_up(operation)
    assert operation.archive_path == ""
    assert front.whole == []
    # Listing, planning, counting, importing: each opens it anew, and reads no byte twice.
    assert front.asked <= 6 * (size + BLOCK)
    assert max(stop - start for start, stop in front.ranges) <= ranged_source.MOST_AT_ONCE


@pytest.mark.parametrize("trouble", ["breaking", "refusing"])
def test_ranges_that_fail_are_asked_for_again(
    front: Front, export: Path, alice: User, trouble: str
) -> None:
    operation = create_operation_from_path(user=alice, importer_key="slack", path=export)
    setattr(front, trouble, 3)
    run_operation(operation)

    assert operation.status == Status.USER_SELECTION
    assert getattr(front, trouble) == 0
    assert operation.tally["messages.total"] == 4000


def test_the_index_is_kept_beside_the_archive_for_other_machines(
    front: Front, export: Path, alice: User
) -> None:
    operation = prepare(export, alice)
    shared = f"{operation.archive.name}.index"
    mine = index_path(operation).read_bytes()
    assert default_storage.open(shared).read() == mine

    index_path(operation).unlink()
    start_operation(operation, EVERYTHING, alice, queue=False)
    run_operation(operation)
    assert operation.status == Status.DONE
    assert index_path(operation).read_bytes() == mine


def test_without_the_shared_index_it_is_made_anew_and_shared_again(
    front: Front, export: Path, alice: User
) -> None:
    operation = prepare(export, alice)
    shared = f"{operation.archive.name}.index"
    default_storage.delete(shared)
    index_path(operation).unlink()
    start_operation(operation, EVERYTHING, alice, queue=False)
    run_operation(operation)

    assert operation.status == Status.DONE
    assert default_storage.exists(shared)


def test_an_index_of_another_version_is_replaced_in_the_store_too(
    front: Front, export: Path, alice: User
) -> None:
    operation = prepare(export, alice)
    shared = f"{operation.archive.name}.index"
    index = index_path(operation)
    good = index.read_bytes()
    default_storage.delete(shared)
    default_storage.save(shared, ContentFile(b"of another version"))
    index.unlink()
    start_operation(operation, EVERYTHING, alice, queue=False)
    run_operation(operation)

    assert operation.status == Status.DONE
    assert default_storage.open(shared).read() == index.read_bytes() == good
    _, files = default_storage.listdir("archives")
    assert sorted(name for name in files if operation.public_id in name) == [
        operation.public_id,
        f"{operation.public_id}.index",
    ]


def test_an_archive_that_is_gone_fails_the_operation_with_a_sentence(
    front: Front, export: Path, alice: User
) -> None:
    operation = prepare(export, alice)
    start_operation(operation, EVERYTHING, alice, queue=False)
    default_storage.delete(str(operation.archive.name))
    run_operation(operation)

    assert operation.status == Status.FAILED
    assert "is no longer in the storage" in operation.error


def test_ranges_are_of_one_file_also_when_it_is_replaced_meanwhile(front: Front) -> None:
    default_storage.save("two", ContentFile(b"a" * 2 * BLOCK))
    file = default_storage.open("two")
    assert file.read(10) == b"a" * 10
    default_storage.delete("two")
    default_storage.save("two", ContentFile(b"b" * 2 * BLOCK))
    file.seek(BLOCK)
    with pytest.raises(SourceChanged):
        file.read(10)


def test_a_store_that_is_away_is_waited_for(
    front: Front, export: Path, alice: User, settings: Settings
) -> None:
    with pytest.raises(MustWait, match="cannot be reached"):
        use(settings, settings_of(front, endpoint="http://127.0.0.1:9"))
        prepare(export, alice)
    assert not ImportOperation.objects.exists()


def test_a_bucket_that_is_not_there_is_named_as_the_trouble(
    front: Front, export: Path, alice: User, settings: Settings
) -> None:
    use(settings, settings_of(front, bucket="elsewhere"))
    with pytest.raises(MustWait, match="bucket"):
        prepare(export, alice)


def test_wrong_credentials_are_told_as_such(
    export: Path, alice: User, settings: Settings, tmp_path: Path
) -> None:
    # After its first request, which makes the bucket, this server lets in nobody it does not know.
    with object_store(tmp_path, INITIAL_NO_AUTH_ACTION_COUNT="1") as strict:
        use(settings, settings_of(strict, access_key="not-a-key"))
        with pytest.raises(MustWait, match=r"does not let us in.*_ACCESS_KEY"):
            prepare(export, alice)
        with pytest.raises(MustWait, match="does not let us in"):
            default_storage.open("archives/any")


def test_an_object_that_is_not_there_is_missing(front: Front) -> None:
    with pytest.raises(FileMissing, match="archives/none is no longer in the storage"):
        default_storage.open("archives/none")


def test_an_object_that_exists_is_never_written_over(front: Front) -> None:
    first = default_storage.save("same", ContentFile(b"1"))
    second = default_storage.save("same", ContentFile(b"2"))
    assert first != second
    assert default_storage.open(first).read() == b"1"


def test_it_imports_the_same_as_from_disk(
    front: Front, export: Path, alice: User, settings: Settings, tmp_path: Path
) -> None:
    copy = shutil.copy(export, tmp_path / "copy.zip")
    operation = prepare(export, alice)
    start_operation(operation, EVERYTHING, alice, queue=False)
    run_operation(operation)
    from_store = canonical_hash()
    local = {"BACKEND": "django.core.files.storage.FileSystemStorage"}
    settings.STORAGES = {**settings.STORAGES, "default": local}
    again = prepare(copy, alice)
    assert again.archive_path == str(copy)
    start_operation(again, EVERYTHING, alice, queue=False)
    run_operation(again)

    assert canonical_hash() == from_store
    assert again.tally["messages.skipped.unchanged"] == 4000
