"""Accounts and tokens: one name once, whatever its case; secrets only as hashes; who is let in."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.hashers import check_password, identify_hasher, make_password
from django.contrib.auth.models import Group, Permission
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from importops.actions.accounts import issue_token
from importops.errors import TokenExists
from importops.hashers import DigestArgon2PasswordHasher, password_digest
from importops.models import ApiToken, User, UserEmail
from tests.factories import PASSWORD, ApiTokenFactory, UserEmailFactory, UserFactory, secret_of

pytestmark = pytest.mark.django_db

SAME_NAMES = [
    ("Straße", "STRASSE"),
    ("ａｎｎ", "Ann"),
    ("ÉLODIE", "élodie"),
    ("İpek", "i̇pek"),
    ("ﬁona", "FIONA"),
    ("Ελλάς", "ΕΛΛΆΣ"),
]


@pytest.mark.parametrize(("one", "other"), SAME_NAMES)
def test_a_username_is_taken_in_every_case_and_width(one: str, other: str) -> None:
    UserFactory.create(username=one)

    with pytest.raises(IntegrityError), transaction.atomic():
        UserFactory.create(username=other)
    with pytest.raises(ValidationError):
        User(username=other, password="x").full_clean()
    assert User.objects.get_by_natural_key(other).username == one


@pytest.mark.parametrize(("one", "other"), SAME_NAMES)
def test_an_address_is_taken_in_every_case_and_width(one: str, other: str) -> None:
    UserEmailFactory.create(address=f"{one}@example.com")

    with pytest.raises(IntegrityError), transaction.atomic():
        UserEmailFactory.create(address=f"{other}@EXAMPLE.com")
    assert UserEmail.objects.get().address == f"{one}@example.com"


def test_names_that_differ_by_more_than_case_stand_side_by_side() -> None:
    for name in ("jose", "josé", "jo se", "ｊｏｓｅ２"):
        UserFactory.create(username=name)


def test_a_renamed_user_is_found_by_the_new_name_only(alice: User) -> None:
    alice.username = "Ålice"
    alice.save(update_fields=["username"])

    assert User.objects.get_by_natural_key("åLICE") == alice
    assert not User.objects.filter(username_key="alice").exists()


def test_login_ignores_the_case_of_the_name(rf: Any) -> None:
    user = UserFactory.create(username="Straße")

    assert authenticate(rf.post("/"), username="STRASSE", password=PASSWORD) == user
    assert authenticate(rf.post("/"), username="STRASSE", password=PASSWORD + "!") is None


def test_a_token_rests_only_as_its_hash(alice: User) -> None:
    token, text = issue_token(alice, "laptop", ApiToken.Kind.PERSONAL)

    assert len(text) == 43
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM importops_apitoken WHERE id = %s", [token.pk])
        stored = " ".join(map(str, cursor.fetchone()))
    assert text not in stored and text[:-6] not in stored
    assert hashlib.sha256(text.encode()).hexdigest() in stored
    assert token.last_part == text[-6:]


def test_a_personal_token_has_a_name_of_its_own(alice: User, bob: User) -> None:
    issue_token(alice, "laptop", ApiToken.Kind.PERSONAL)

    with pytest.raises(TokenExists):
        issue_token(alice, "laptop", ApiToken.Kind.PERSONAL)
    issue_token(bob, "laptop", ApiToken.Kind.PERSONAL)
    issue_token(alice, "laptop", ApiToken.Kind.LOGIN)
    issue_token(alice, "laptop", ApiToken.Kind.LOGIN)


def test_only_login_tokens_end_by_themselves(alice: User) -> None:
    login, _ = issue_token(alice)
    personal, _ = issue_token(alice, "laptop", ApiToken.Kind.PERSONAL)

    assert login.expires_at is not None
    assert abs(login.expires_at - timezone.now() - timedelta(days=90)) < timedelta(minutes=1)
    assert personal.expires_at is None


def test_a_pair_names_its_user_and_token(alice: User, alice_token: ApiToken) -> None:
    found = ApiToken.objects.authenticate(alice.public_id, secret_of(alice_token))

    assert found == (alice, alice_token)
    user, token = found
    assert (user.username, user.name, user.is_active) == ("alice", "Alice", True)
    assert token.expires_at == alice_token.expires_at


def test_the_hash_and_foreign_ids_name_nobody(alice: User, bob: User) -> None:
    token = ApiTokenFactory.create(user=alice)

    for public_id, text in [
        (alice.public_id, token.token_hash),
        (bob.public_id, secret_of(token)),
        (alice.public_id.swapcase(), secret_of(token)),
        ("", secret_of(token)),
        (alice.public_id, ""),
        (alice.public_id, "\udcff\x00"),
        ("é", secret_of(token)),
    ]:
        assert ApiToken.objects.authenticate(public_id, text) is None


def test_inactive_users_and_expired_tokens_name_nobody(alice: User, charlie: User) -> None:
    gone = ApiTokenFactory.create(user=charlie)
    over = ApiTokenFactory.create(user=alice, expires_at=timezone.now() - timedelta(microseconds=1))

    assert ApiToken.objects.authenticate(charlie.public_id, secret_of(gone)) is None
    assert ApiToken.objects.authenticate(alice.public_id, secret_of(over)) is None


@pytest.mark.parametrize("way", ["group", "own", "superuser", "none", "other"])
def test_the_permission_that_comes_with_the_token_is_djangos_own(bob: User, way: str) -> None:
    """`authenticate` answers it in its own SQL; `has_perm` is who it has to agree with."""
    if way == "group":
        bob.groups.add(Group.objects.get(name="admin"))
    elif way == "own":
        bob.user_permissions.add(Permission.objects.get(codename="run_import"))
    elif way == "superuser":
        User.objects.filter(pk=bob.pk).update(is_superuser=True)
    elif way == "other":
        bob.user_permissions.add(Permission.objects.get(codename="view_importoperation"))
    token = ApiTokenFactory.create(user=bob)
    found = ApiToken.objects.authenticate(bob.public_id, secret_of(token))

    assert found is not None
    assert found[0].__dict__["run_import_granted"] == (way not in ("none", "other"))
    assert found[0].can_run_imports == User.objects.get(pk=bob.pk).can_run_imports


def test_use_is_noted_at_most_once_a_minute(alice_token: ApiToken) -> None:
    alice_token.note_use()
    first = ApiToken.objects.get()
    assert first.last_used_at is not None
    for again in (first, alice_token):
        again.note_use()
    cache.clear()  # the row remembers too
    first.note_use()
    assert ApiToken.objects.get().last_used_at == first.last_used_at

    past = timezone.now() - timedelta(seconds=61)
    ApiToken.objects.update(last_used_at=past)
    cache.clear()
    ApiToken.objects.get().note_use()
    assert ApiToken.objects.get().last_used_at != past


def test_two_processes_that_both_read_an_old_time_note_it_once(alice_token: ApiToken) -> None:
    stale = ApiToken.objects.get()
    alice_token.note_use()
    noted = ApiToken.objects.get().last_used_at
    stale.note_use()

    assert ApiToken.objects.get().last_used_at == noted


@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
def test_a_locked_database_is_not_waited_for(alice_token: ApiToken) -> None:
    name = connection.settings_dict["NAME"]
    import_in_progress = sqlite3.connect(name, isolation_level=None)
    import_in_progress.execute("BEGIN IMMEDIATE")
    try:
        started = time.monotonic()
        alice_token.note_use()
        took = time.monotonic() - started
    finally:
        import_in_progress.execute("ROLLBACK")
        import_in_progress.close()

    assert took < 1
    assert ApiToken.objects.get().last_used_at is None
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        assert cursor.fetchone() == (20_000,)


def test_passwords_rest_as_argon2_of_their_digest() -> None:
    encoded = make_password("pässword")
    hasher = identify_hasher(encoded)

    assert isinstance(hasher, DigestArgon2PasswordHasher)
    assert encoded.startswith("argon2_digest$argon2id$") and "m=19456,t=2,p=1" in encoded
    assert check_password("pässword", encoded)
    assert not check_password("passwort", encoded)
    assert not check_password(password_digest("pässword"), encoded)


def test_a_client_may_send_the_digest_in_place_of_the_password() -> None:
    encoded = make_password("pässword")
    hasher = DigestArgon2PasswordHasher()
    digest = hashlib.sha256("pässword".encode()).hexdigest()

    assert hasher.verify_digest(digest, encoded)
    assert hasher.verify_digest(digest.upper(), encoded)
    assert not hasher.verify_digest("pässword", encoded)
    assert not hasher.verify_digest(password_digest(digest), encoded)
    assert not hasher.verify_digest("", encoded)
