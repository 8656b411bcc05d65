"""For the runner of one tenant, whose schema is in ``SCHEMA``."""

from __future__ import annotations

from tests.third_party.tenants.settings import *

INSTALLED_APPS = [app for app in INSTALLED_APPS if app != "django_tenants"]
DATABASES["default"]["ENGINE"] = "django.db.backends.postgresql"
DATABASES["default"]["OPTIONS"] = {"options": f"-c search_path={env.str('SCHEMA')},public"}
DATABASE_ROUTERS = []
