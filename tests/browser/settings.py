"""The settings of the site that a browser visits: the runnable project, under a strict policy."""

from __future__ import annotations

from testapp.settings import *

MIDDLEWARE = ["tests.browser.policy.strict_policy", *MIDDLEWARE]
# As in tests.settings, by which the users are made.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
