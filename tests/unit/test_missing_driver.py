"""A driver that is missing is named by the extra that brings it."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_fsmworker import missing_driver

MYSQL = {"ENGINE": "django.db.backends.mysql"}
SQLITE = {"ENGINE": "django.db.backends.sqlite3"}
PUT = "put 'import pymysql; pymysql.install_as_MySQLdb()' at the top of your settings."


@pytest.fixture
def installed(monkeypatch):
    """``installed(*modules)``: of the drivers, only these can be imported."""

    def install(*modules):
        for name in ("MySQLdb", "pymysql"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        known = {"MySQLdb", "pymysql"} - set(modules)
        monkeypatch.setattr(
            missing_driver, "find_spec", lambda name: None if name in known else find_spec("json")
        )

    return install


def complaint(settings, databases):
    settings.DATABASES = databases
    with pytest.raises(ImproperlyConfigured) as caught:
        missing_driver.require_drivers()
    return str(caught.value)


@pytest.mark.filterwarnings("ignore:Overriding setting DATABASES")
class TestRequireDrivers:
    def test_none_is_needed(self, settings, installed):
        installed()
        settings.DATABASES = {"default": SQLITE, "other": {}}

        missing_driver.require_drivers()

    def test_there_is_one(self, settings, installed):
        installed("MySQLdb")
        settings.DATABASES = {"default": MYSQL}

        missing_driver.require_drivers()

    def test_there_is_none(self, settings, installed):
        installed()

        assert complaint(settings, {"default": SQLITE, "shop": MYSQL}) == (
            "DATABASES['shop'] is on MariaDB or MySQL, and Django finds no driver for it: run "
            f"pip install 'django-fsmworker[mysql]', and {PUT}"
        )

    def test_django_does_not_know_of_it(self, settings, installed):
        installed("pymysql")

        assert complaint(settings, {"default": MYSQL}) == (
            f"DATABASES['default'] is on MariaDB or MySQL, and Django finds no driver for it: {PUT}"
        )
