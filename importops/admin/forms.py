"""Forms of the admin: names and addresses that ignore case, and the wish for a token."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.forms import UsernameField
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from importops.admin.generic import (
    AdminUserCreationForm,
    BaseInlineFormSet,
    ModelForm,
    UserChangeForm,
)
from importops.models import ApiToken, User, UserEmail
from importops.records import fold


def free_username(username: str, user: User) -> str:
    """`username`, when nobody else has it in any case. Raises `ValidationError`."""
    others = User.objects.filter(username_key=fold(username)).exclude(pk=user.pk)
    if others.exists():
        raise ValidationError(_("A user with that username already exists."))
    return username


class UserAddForm(AdminUserCreationForm[User]):
    class Meta:
        model = User
        fields = ("username",)
        field_classes = {"username": UsernameField}

    def clean_username(self) -> str:
        return free_username(self.cleaned_data["username"], self.instance)


class UserForm(UserChangeForm[User]):
    class Meta:
        model = User
        fields = "__all__"  # noqa: DJ007 - the fieldsets of the admin say which
        field_classes = {"username": UsernameField}

    def clean_username(self) -> str:
        return free_username(self.cleaned_data["username"], self.instance)


class EmailForm(ModelForm[UserEmail]):
    class Meta:
        model = UserEmail
        fields = ("address", "verified")

    def clean_address(self) -> str:
        address: str = self.cleaned_data["address"].strip()
        validate_email(address)
        others = UserEmail.objects.filter(address_key=fold(address))
        if others.exclude(pk=self.instance.pk).exists():
            raise ValidationError(_("This address is in use already."))
        return address


class EmailFormSet(BaseInlineFormSet[UserEmail, User, EmailForm]):
    def clean(self) -> None:
        super().clean()
        keys = [
            fold(form.cleaned_data["address"])
            for form in self.forms
            if form.is_valid() and form.cleaned_data.get("address")
        ]
        if len(keys) != len(set(keys)):
            raise ValidationError(_("The same address stands here twice."))


class TokenForm(ModelForm[ApiToken]):
    class Meta:
        model = ApiToken
        fields = ("user", "kind", "name", "expires_at")

    def clean_expires_at(self) -> Any:
        expires_at = self.cleaned_data["expires_at"]
        if expires_at is not None and expires_at <= timezone.now():
            raise ValidationError(_("This moment has passed."))
        return expires_at

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if self.cleaned_data.get("kind") != ApiToken.Kind.PERSONAL:
            return cleaned
        name = self.cleaned_data.get("name", "")
        if not name:
            self.add_error("name", _("A personal access token needs a name."))
        elif ApiToken.objects.filter(
            user=self.cleaned_data.get("user"), name=name, kind=ApiToken.Kind.PERSONAL
        ).exists():
            self.add_error("name", _("This user has a token with this name already."))
        return cleaned
