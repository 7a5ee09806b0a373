"""Arguments that several commands share, checked while the command line is read."""

from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError, CommandParser

from importops.models import ImportOperation, StagedRecord, User
from importops.records import fold

USAGE = 2


def chosen(text: str) -> dict[str, Any]:
    """`all`, `none` or import ids with commas between them, as a selection has it."""
    if text == "all":
        return {"all": True}
    ids = [] if text == "none" else [part.strip() for part in text.split(",")]
    if not all(ids):
        raise ArgumentTypeError(
            f"{text!r} is neither all, nor none, nor ids such as U024BE7LH,U0G9QF9C6"
        )
    return {"list": list(dict.fromkeys(ids))}


def moment(text: str) -> str:
    """An ISO date or time, left as it is: the engine reads it again."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a date such as 2024-01-31") from None
    return text


def add_selection_arguments(parser: CommandParser) -> None:
    every = "all (the default), none, or import ids with commas between them"
    parser.add_argument("--users", type=chosen, help=f"Users to import: {every}.")
    parser.add_argument(
        "--channels",
        type=chosen,
        help=f"Rooms to import: {every}; __directMessages__ means all direct ones.",
    )
    parser.add_argument(
        "--since",
        type=moment,
        metavar="DATE",
        help="Only messages from this day on (UTC), or from this ISO time on.",
    )
    parser.add_argument(
        "--until",
        type=moment,
        metavar="DATE",
        help="Only messages up to this day, the whole of it included (UTC), or before "
        "this ISO time.",
    )
    parser.add_argument(
        "--grant-roles",
        action="store_true",
        help="Give users the roles that the export asks for. Only a superuser may.",
    )


def selection_of(options: dict[str, Any]) -> dict[str, Any]:
    """What `add_selection_arguments` read, as `start_operation` takes it."""
    selection = {
        "users": options["users"] or {"all": True},
        "channels": options["channels"] or {"all": True},
        "since": options["since"],
        "until": options["until"],
        "grantRoles": options["grant_roles"],
    }
    return {name: value for name, value in selection.items() if value}


def selection_arguments(selection: dict[str, Any]) -> str:
    """The arguments that say `selection`, for a person to copy."""
    words = []
    for name in ("users", "channels"):
        ids = selection[name].get("list")
        words.append(f"--{name} {'all' if ids is None else ','.join(ids) or 'none'}")
    words += [f"--{name} {selection[name]}" for name in ("since", "until") if name in selection]
    if selection.get("grantRoles"):
        words.append("--grant-roles")
    return " ".join(words)


def refuse_unknown_ids(operation: ImportOperation, selection: dict[str, Any]) -> None:
    """A mistyped id would silently import less than was meant. Raises `CommandError`."""
    kinds = {"users": StagedRecord.Kind.USER, "channels": StagedRecord.Kind.ROOM}
    for name, kind in kinds.items():
        ids = set(selection.get(name, {}).get("list", ())) - {"__directMessages__"}
        staged = StagedRecord.objects.filter(operation=operation, kind=kind)
        known = staged.filter(import_id__in=ids).values_list("import_id", flat=True)
        if unknown := sorted(ids - set(known)):
            raise CommandError(
                f"--{name}: the export has no {', '.join(unknown[:10])}. Import ids are wanted, such as "
                f"{staged.values_list('import_id', flat=True).first()}. Nothing was imported.",
                returncode=USAGE,
            )


def add_operation_argument(parser: CommandParser) -> None:
    parser.add_argument(
        "id", nargs="?", default="", help="The operation; the current one if left out."
    )


def operation_called(public_id: str) -> ImportOperation | None:
    """The operation with this id; without one the current, or None if there is none.

    Raises `CommandError` for an id that does not exist.
    """
    operations = ImportOperation.objects.select_related("user")
    if not public_id:
        return operations.current()
    operation = operations.filter(public_id=public_id).first()
    if operation is None:
        raise CommandError(
            f"There is no operation {public_id}; import_list shows which there are.",
            returncode=USAGE,
        )
    return operation


def required_operation(public_id: str) -> ImportOperation:
    """As `operation_called`, where there has to be one."""
    operation = operation_called(public_id)
    if operation is None:
        raise CommandError("Nothing has been imported yet.", returncode=USAGE)
    return operation


def acting_user(name: str) -> User:
    """Who runs a command: the active user called so, or else the first active superuser.

    Raises `CommandError`.
    """
    active = User.objects.filter(is_active=True)
    if name:
        user = active.filter(username_key=fold(name)).first()
        problem = f"There is no active user {name}."
    else:
        user = active.filter(is_superuser=True).order_by("pk").first()
        problem = "There is no administrator yet: run bootstrap first, or name a --user."
    if user is None:
        raise CommandError(problem, returncode=USAGE)
    return user
