"""The settings of the many processes here that only move rows.

No module of an admin is imported, which is a fifth of what it takes to start one of them. (It is
the admin, too, that lets runners look for bulk actions.)
"""

from __future__ import annotations

from tests.app.settings import *

INSTALLED_APPS = [
    "django.contrib.admin.apps.SimpleAdminConfig" if app == "django.contrib.admin" else app
    for app in INSTALLED_APPS
]
