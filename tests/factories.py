"""Rows for tests: `UserFactory.create(username="ann", groups=["user"])`."""

# mypy: disable-error-code="no-untyped-call, untyped-decorator"

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group
from django.utils import timezone
from factory.declarations import LazyAttribute, LazyFunction, Sequence, SubFactory
from factory.django import DjangoModelFactory
from factory.helpers import post_generation

from importops.models import (
    ApiToken,
    ImportFailure,
    ImportOperation,
    ImportSlice,
    Membership,
    Message,
    Room,
    StagedRecord,
    Status,
    User,
    UserEmail,
)
from importops.tokens import hash_token, last_part, new_token

PASSWORD = "correct horse battery staple"  # noqa: S105
_HASHED: list[str] = []


def hashed_password() -> str:
    """`PASSWORD` as it rests; hashing is slow on purpose, so it is done once."""
    if not _HASHED:
        _HASHED.append(make_password(PASSWORD))
    return _HASHED[0]


class UserFactory(DjangoModelFactory[User]):
    """`groups` takes names of roles; the password is `PASSWORD`."""

    class Meta:
        model = User
        skip_postgeneration_save = True

    username = Sequence(lambda n: f"user{n}")
    name = LazyAttribute(lambda user: user.username.title())
    password = LazyFunction(hashed_password)

    @post_generation
    def groups(self: Any, create: bool, extracted: list[str] | None, **_: Any) -> None:
        if create and extracted:
            cast(User, self).groups.set(Group.objects.filter(name__in=extracted))


class UserEmailFactory(DjangoModelFactory[UserEmail]):
    class Meta:
        model = UserEmail

    user = SubFactory(UserFactory)
    address = Sequence(lambda n: f"user{n}@example.com")
    verified = True


class ApiTokenFactory(DjangoModelFactory[ApiToken]):
    """The created row remembers its text, for the test only, for `secret_of`."""

    class Meta:
        model = ApiToken

    user = SubFactory(UserFactory)
    kind = ApiToken.Kind.LOGIN

    @classmethod
    def _create(cls, model_class: type[ApiToken], *args: Any, **kwargs: Any) -> ApiToken:
        secret = kwargs.pop("secret", None) or new_token()
        kwargs.setdefault("expires_at", timezone.now() + timedelta(days=90))
        token: Any = super()._create(
            model_class,
            *args,
            token_hash=hash_token(secret),
            last_part=last_part(secret),
            **kwargs,
        )
        token.secret = secret
        return cast(ApiToken, token)


def secret_of(token: ApiToken) -> str:
    """The text of a token that `ApiTokenFactory` made."""
    return str(token.__dict__["secret"])


class ImportOperationFactory(DjangoModelFactory[ImportOperation]):
    class Meta:
        model = ImportOperation

    importer_key = "slack"
    type = "Slack"
    source = "slack"
    status = Status.USER_SELECTION
    user = SubFactory(UserFactory)


class ImportSliceFactory(DjangoModelFactory[ImportSlice]):
    class Meta:
        model = ImportSlice

    operation = SubFactory(ImportOperationFactory)
    phase = "messages"
    number = Sequence(lambda n: n)


class StagedUserFactory(DjangoModelFactory[StagedRecord]):
    class Meta:
        model = StagedRecord

    operation = SubFactory(ImportOperationFactory)
    kind = StagedRecord.Kind.USER
    import_id = Sequence(lambda n: f"U{n:04}")
    place = Sequence(lambda n: f"users.json[{n}]")
    data = LazyAttribute(
        lambda row: {"import_ids": [row.import_id], "username": row.import_id.lower()}
    )


class StagedRoomFactory(DjangoModelFactory[StagedRecord]):
    class Meta:
        model = StagedRecord

    operation = SubFactory(ImportOperationFactory)
    kind = StagedRecord.Kind.ROOM
    import_id = Sequence(lambda n: f"C{n:04}")
    place = Sequence(lambda n: f"channels.json[{n}]")
    data = LazyAttribute(lambda row: {"import_ids": [row.import_id], "name": row.import_id.lower()})
    found = LazyFunction(lambda: {"messages": 0})


class ImportFailureFactory(DjangoModelFactory[ImportFailure]):
    class Meta:
        model = ImportFailure

    operation = SubFactory(ImportOperationFactory)
    stage = ImportFailure.Stage.IMPORTING
    kind = ImportFailure.Kind.MESSAGE
    place = Sequence(lambda n: f"general/2024-01-02.json[{n}]")
    code = "importer-message-invalid-timestamp"
    message = "The message has no time."


class RoomFactory(DjangoModelFactory[Room]):
    class Meta:
        model = Room

    type = Room.Type.PUBLIC
    name = Sequence(lambda n: f"room{n}")
    name_key = LazyAttribute(lambda room: room.name)


class MembershipFactory(DjangoModelFactory[Membership]):
    class Meta:
        model = Membership

    room = SubFactory(RoomFactory)
    user = SubFactory(UserFactory)


class MessageFactory(DjangoModelFactory[Message]):
    class Meta:
        model = Message

    room = SubFactory(RoomFactory)
    author = SubFactory(UserFactory)
    source_id = Sequence(lambda n: f"1700000000.{n:06}")
    sent_at = LazyFunction(timezone.now)
    text = "hello"
