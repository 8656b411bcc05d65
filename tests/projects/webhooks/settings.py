"""The settings of the project."""

from __future__ import annotations

from tests.projects.common_settings import *
from tests.projects.common_settings import env

INSTALLED_APPS = ["django_fsmworker", "tests.projects.webhooks"]
ROOT_URLCONF = "tests.projects.webhooks.urls"

# Seconds that an endpoint has to answer.
WEBHOOK_TIMEOUT = env.float("WEBHOOK_TIMEOUT", default=0.5)
