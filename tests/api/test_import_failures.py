"""`GET import.failures`: in pages, filtered, and as CSV that no spreadsheet takes for formulas."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.utils import timezone

from importops.models import ImportFailure, ImportOperation, Status, User
from tests.clients import ApiClient
from tests.factories import ImportFailureFactory, ImportOperationFactory

FAILURES = "import.failures"


@pytest.fixture
def operation(alice: User) -> ImportOperation:
    may_read = Permission.objects.get(codename="view_private_messages")
    alice.user_permissions.add(may_read)
    return ImportOperationFactory.create(status=Status.DONE, started_at=timezone.now())


def rows(response: Any) -> list[dict[str, str]]:
    text = b"".join(response.streaming_content).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_failure_tells_place_code_and_reason(
    alice_client: ApiClient, operation: ImportOperation
) -> None:
    ImportFailureFactory.create(
        operation=operation,
        import_id="1704189600.000100",
        place="general/2024-01-02.json[17]",
        raw='{"ts": null}',
        retryable=True,
    )
    response = alice_client.get(FAILURES)
    assert (response.status_code, response.json()) == (
        200,
        {
            "failures": [
                {
                    "kind": "messages",
                    "importId": "1704189600.000100",
                    "place": "general/2024-01-02.json[17]",
                    "code": "importer-message-invalid-timestamp",
                    "message": "The message has no time.",
                    "retryable": True,
                    "record": '{"ts": null}',
                }
            ],
            "count": 1,
            "offset": 0,
            "total": 1,
            "success": True,
        },
    )


@pytest.mark.parametrize(
    ("query", "places", "offset"),
    [
        ("", range(50), 0),
        ("?count=3", range(3), 0),
        ("?offset=100&count=3", range(100, 103), 100),
        ("?count=1000", range(100), 0),
        ("?count=0", range(50), 0),
        ("?offset=119", range(119, 120), 119),
        ("?offset=120", range(0), 120),
        ("?offset=1e30", range(0), 2**31),
    ],
)
def test_it_comes_in_pages(
    alice_client: ApiClient,
    operation: ImportOperation,
    query: str,
    places: range,
    offset: int,
) -> None:
    for number in range(120):
        ImportFailureFactory.create(operation=operation, place=str(number))
    body = alice_client.get(f"{FAILURES}{query}").json()
    assert [failure["place"] for failure in body["failures"]] == [str(n) for n in places]
    assert (body["count"], body["offset"], body["total"]) == (len(places), offset, 120)


def test_kind_and_code_filter(alice_client: ApiClient, operation: ImportOperation) -> None:
    ImportFailureFactory.create(operation=operation, kind=ImportFailure.Kind.USER, place="u")
    ImportFailureFactory.create(operation=operation, code="other", place="m")
    ImportFailureFactory.create(operation=operation, place="n")

    def places(query: str) -> list[str]:
        failures = alice_client.get(f"{FAILURES}?{query}").json()["failures"]
        return [failure["place"] for failure in failures]

    assert places("kind=users") == ["u"]
    assert places("kind=messages") == ["m", "n"]
    assert places("kind=messages&code=other") == ["m"]
    assert places("code=none") == []


def test_failures_of_other_operations_are_not_shown(
    alice_client: ApiClient, operation: ImportOperation
) -> None:
    ImportFailureFactory.create(operation=ImportOperationFactory.create(ts="2020-01-01T00:00Z"))
    assert alice_client.get(FAILURES).json()["failures"] == []


def test_csv_has_a_line_for_each(alice_client: ApiClient, operation: ImportOperation) -> None:
    for number in range(120):
        ImportFailureFactory.create(operation=operation, place=f"p{number}", raw='{"a",\n"b"}')
    response = alice_client.get(f"{FAILURES}?format=csv&count=5")
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert operation.public_id in response["Content-Disposition"]
    assert "attachment" in response["Content-Disposition"]
    assert response["Cache-Control"] == "no-store"
    lines = rows(response)
    assert [line["place"] for line in lines] == [f"p{number}" for number in range(120)]
    assert lines[0]["kind"] == "messages"
    assert lines[0]["record"] == '{"a",\n"b"}'


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r"])
def test_csv_cells_are_never_formulas(
    alice_client: ApiClient, operation: ImportOperation, first: str
) -> None:
    text = f'{first}HYPERLINK("https://evil.example")'
    ImportFailureFactory.create(operation=operation, raw=text, import_id=text)
    (line,) = rows(alice_client.get(f"{FAILURES}?format=csv"))
    assert (line["record"], line["import_id"]) == (f"'{text}", f"'{text}")


def test_tokens_of_the_export_are_masked(
    alice_client: ApiClient, operation: ImportOperation
) -> None:
    ImportFailureFactory.create(operation=operation, raw="https://f/?t=xoxe-123-abc")
    body = alice_client.get(FAILURES).content
    assert b"xoxe-123" not in body
    assert b"REDACTED" in body


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("x=1", "must NOT have additional properties"),
        ("offset=-1", "must be >= 0"),
        ("offset=three", "must be number"),
        ("kind=user", "must be equal to one of the allowed values"),
        ("format=xml", "must be equal to one of the allowed values"),
    ],
)
def test_a_bad_query_is_refused(
    alice_client: ApiClient, operation: ImportOperation, query: str, message: str
) -> None:
    response = alice_client.get(f"{FAILURES}?{query}")
    assert (response.status_code, response.json()) == (
        400,
        {"success": False, "errorType": "error-invalid-params", "error": message},
    )


@pytest.mark.parametrize("query", ["code=%zz", "code=%ff", "code=%"])
def test_a_query_that_cannot_be_read_is_refused(
    alice_client: ApiClient, operation: ImportOperation, query: str
) -> None:
    response = alice_client.get(f"{FAILURES}?{query}")
    assert (response.status_code, response.json()) == (
        400,
        {"success": False, "error": "Invalid query parameters"},
    )


def test_a_nul_in_a_query_is_harmless(alice_client: ApiClient, operation: ImportOperation) -> None:
    assert alice_client.get(f"{FAILURES}?code=%00").status_code == 200


def test_without_an_operation_it_is_an_error(alice_client: ApiClient) -> None:
    response = alice_client.get(FAILURES)
    assert (response.status_code, response.json()["details"]) == (400, FAILURES)


def test_a_member_is_forbidden(bob_client: ApiClient) -> None:
    assert bob_client.get(FAILURES).status_code == 403


@pytest.mark.parametrize("query", ["", "?format=csv"])
def test_records_of_messages_are_for_those_who_may_read_private_rooms(
    query: str, alice: User, alice_client: ApiClient, operation: ImportOperation
) -> None:
    alice.user_permissions.clear()
    ImportFailureFactory.create(operation=operation, raw="the salary is a secret")
    ImportFailureFactory.create(operation=operation, kind="user", raw="a member")
    response = alice_client.get(FAILURES + query)
    found = rows(response) if query else response.json()["failures"]

    assert [failure["record"] for failure in found] == ["", "a member"]
