"""A project with a schema for each tenant; its database comes from ``DATABASE_URL``."""

from __future__ import annotations

import environ

env = environ.Env()

SECRET_KEY = "only-for-tests"
SHARED_APPS = [
    "django_tenants",
    "django.contrib.contenttypes",
    "tests.third_party.tenants.customers",
]
TENANT_APPS = [
    "django.contrib.contenttypes",
    "django_fsmworker",
    "tests.third_party.tenants.shop",
]
INSTALLED_APPS = list(dict.fromkeys([*SHARED_APPS, *TENANT_APPS]))
TENANT_MODEL = "customers.Client"
TENANT_DOMAIN_MODEL = "customers.Domain"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True

DATABASES = {"default": env.db("DATABASE_URL")}
DATABASES["default"]["ENGINE"] = "django_tenants.postgresql_backend"
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
