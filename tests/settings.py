"""The settings of the tests: their app and the runnable project, on the database under test."""

from __future__ import annotations

from tests.app.settings import *
from tests.databases import database_settings

DATABASES = database_settings()
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
