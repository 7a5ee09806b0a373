from __future__ import annotations

from importops.models import Message, User
from tests.commands.conftest import Run
from tests.factories import MessageFactory, UserFactory


def test_it_merges_and_tells(run: Run, root: User, bob: User) -> None:
    ghost = UserFactory.create(username="ghost", is_placeholder=True)
    message = MessageFactory.create(author=ghost)
    ran = run("merge_users", "ghost", bob.public_id)

    assert ran.code == 0, ran.err
    assert "note: ghost was removed." in ran.out
    assert Message.objects.get(pk=message.pk).author == bob


def test_a_dry_run_counts_and_changes_nothing(run: Run, root: User, bob: User) -> None:
    message = MessageFactory.create(author=UserFactory.create(username="ghost"))
    ran = run("merge_users", "ghost", "bob", "--dry-run", "--json")

    assert ran.code == 0
    assert ran.json["messages"] == 1
    assert Message.objects.get(pk=message.pk).author.username == "ghost"
    assert "Nothing was changed." in run("merge_users", "ghost", "bob", "--dry-run").out


def test_what_must_not_be_merged_is_wrong_usage(run: Run, root: User, bob: User) -> None:
    assert run("merge_users", "bob", "bob").code == 2
    assert run("merge_users", "nobody", "bob").code == 2
