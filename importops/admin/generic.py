"""Django's admin classes with their type parameters, which at run time only the stubs know.

class RoomAdmin(ModelAdmin[Room]): ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin, TabularInline
    from django.contrib.auth.admin import UserAdmin
    from django.contrib.auth.forms import AdminUserCreationForm, UserChangeForm
    from django.forms import ModelForm
    from django.forms.models import BaseInlineFormSet
else:
    from django import forms
    from django.contrib import admin
    from django.contrib.auth import admin as auth_admin
    from django.contrib.auth import forms as auth_forms

    class _Parametrised:
        def __class_getitem__(cls, _parameters: object) -> type:
            return cls

    class ModelAdmin(_Parametrised, admin.ModelAdmin):
        pass

    class TabularInline(_Parametrised, admin.TabularInline):
        pass

    class UserAdmin(_Parametrised, auth_admin.UserAdmin):
        pass

    class AdminUserCreationForm(_Parametrised, auth_forms.AdminUserCreationForm):
        pass

    class UserChangeForm(_Parametrised, auth_forms.UserChangeForm):
        pass

    class BaseInlineFormSet(_Parametrised, forms.BaseInlineFormSet):
        pass

    class ModelForm(_Parametrised, forms.ModelForm):
        pass


__all__ = [
    "AdminUserCreationForm",
    "BaseInlineFormSet",
    "ModelAdmin",
    "ModelForm",
    "TabularInline",
    "UserAdmin",
    "UserChangeForm",
]
