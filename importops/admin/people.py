"""Who may do what to whom: the rules by which no staff member reaches beyond his own rights."""

from __future__ import annotations

from typing import cast

from django.contrib.auth.models import Permission
from django.db.models import Q
from django.http import HttpRequest

from importops.models import User


def signed_in(request: HttpRequest) -> User:
    """The staff member who asks; every admin view has made sure that there is one."""
    return cast(User, request.user)


def granted_permissions(user: User) -> set[str]:
    """What `user` was granted, also while inactive: who is deactivated can be activated again."""
    granted = Permission.objects.filter(Q(group__user=user) | Q(user=user))
    return {
        f"{app}.{codename}"
        for app, codename in granted.values_list("content_type__app_label", "codename")
    }


def may_change(actor: User, target: User) -> bool:
    """Whether `actor` may change `target`'s account at all.

    Who can set a password can sign in with it, so the target's rights have to be rights that the
    actor has too, and superusers are for superusers.
    """
    if actor.is_superuser or actor.pk == target.pk:
        return True
    if target.is_superuser:
        return False
    return granted_permissions(target) <= actor.get_all_permissions()
