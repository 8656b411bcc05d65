"""The settings of the project."""

from __future__ import annotations

from tests.projects.common_settings import *
from tests.projects.common_settings import env

INSTALLED_APPS = ["django_fsmworker", "tests.projects.orders"]
ROOT_URLCONF = "tests.projects.orders.urls"

PAYMENT_PROVIDER = env.str("PAYMENT_PROVIDER", default="http://127.0.0.1:9")
