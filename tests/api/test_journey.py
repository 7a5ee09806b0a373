"""A whole Slack import over the wire, as curl would do it; only the worker is played by the test."""

from __future__ import annotations

import base64
from io import BytesIO

from importops.engine.running import run_operation
from importops.models import ImportOperation, Message
from tests.clients import ApiClient
from tests.exports import slack_message, slack_room, slack_user, slack_zip


def test_upload_choose_start_and_report(alice_client: ApiClient) -> None:
    export = BytesIO()
    slack_zip(
        export,
        users=[slack_user("U1", "ann"), slack_user("U2", "ben")],
        channels=[slack_room("C1", "general", ["U1", "U2"]), slack_room("C2", "other", ["U1"])],
        messages={
            "general": {"2024-01-02": [slack_message("hello", user="U1")]},
            "other": {"2024-01-02": [slack_message("unseen", user="U1")]},
        },
    )
    upload = {
        "binaryContent": base64.b64encode(export.getvalue()).decode(),
        "contentType": "application/zip",
        "fileName": "export.zip",
        "importerKey": "slack",
    }
    assert alice_client.post("uploadImportFile", upload).status_code == 200
    assert alice_client.get("getImportFileData").json() == {"waiting": True, "success": True}
    operation = ImportOperation.objects.get()
    run_operation(operation)
    choice = alice_client.get("getImportFileData").json()
    assert choice["message_count"] == 2
    assert [user["username"] for user in choice["users"]] == ["ann", "ben"]
    for channel in choice["channels"]:
        channel["do_import"] = channel["name"] == "general"
    selection = {"users": choice["users"], "channels": choice["channels"]}
    assert alice_client.post("startImport", {"input": selection}).status_code == 200
    operation.refresh_from_db()
    run_operation(operation)
    current = alice_client.get("getCurrentImportOperation").json()["operation"]
    assert current["status"] == "importer_done"
    count = current["count"]
    assert count["completed"] + count["error"] + count["skipped"] == count["total"]
    assert list(Message.objects.values_list("text", flat=True)) == ["hello"]
    report = alice_client.get("import.report").json()
    assert report["counts"]["messages"]["skipped"] == 1
    assert alice_client.get("import.failures").json()["total"] == 0
