"""The roles everybody starts with, and the built-in bot.

`admin` holds every permission of ours but the reading of private rooms, `user` may make its own
tokens, `bot` is not rate limited.
"""

from __future__ import annotations

from typing import Any

from django.apps.registry import Apps
from django.contrib.auth.management import create_permissions
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

from importops.records import SYSTEM_BOT, fold

OURS = {
    "admin": [
        "run_import",
        "view_importoperation",
        "create_personal_access_tokens",
        "view_full_other_user_info",
        "view_other_user_channels",
        "bypass_rate_limit",
    ],
    "user": ["create_personal_access_tokens"],
    "bot": ["bypass_rate_limit"],
}


def make_groups(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    # Permissions are normally made after all migrations; the groups need them now.
    config: Any = apps.get_app_config("importops")
    config.models_module = True
    create_permissions(config, apps=apps, verbosity=0)
    config.models_module = None
    group_model = apps.get_model("auth", "Group")
    permission = apps.get_model("auth", "Permission")
    for name, codenames in OURS.items():
        group, _ = group_model.objects.get_or_create(name=name)
        group.permissions.add(
            *permission.objects.filter(content_type__app_label="importops", codename__in=codenames)
        )


def make_system_bot(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    user = apps.get_model("importops", "User")
    bot, _ = user.objects.get_or_create(
        public_id=SYSTEM_BOT,
        defaults={
            "username": SYSTEM_BOT,
            "username_key": fold(SYSTEM_BOT),
            "name": "Rocket.Cat",
            "type": "bot",
            "password": "!built-in",
        },
    )
    bot.groups.add(apps.get_model("auth", "Group").objects.get(name="bot"))


class Migration(migrations.Migration):
    dependencies = [
        ("importops", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [
        migrations.RunPython(make_groups, migrations.RunPython.noop),
        migrations.RunPython(make_system_bot, migrations.RunPython.noop),
    ]
