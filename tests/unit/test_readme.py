"""What the README says is what is there."""

from __future__ import annotations

import inspect
import re
import unittest
from typing import Any

import pytest
from django.contrib import admin
from django.test import TestCase

from django_fsmworker.admin import StatorModelAdmin
from django_fsmworker.testing import assert_path, run_until_idle
from testapp.models import Order, orders
from tests.paths import ROOT

README = (ROOT / "README.md").read_text()


def blocks(language: str, text: str = README) -> list[str]:
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)
    return found


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.M | re.S)
    assert found is not None
    return found[1]


class TestExample:
    def test_it_is_the_module_below_its_imports(self) -> None:
        [example] = [block for block in blocks("python") if "class OrderStates" in block]

        _, imports, body = inspect.getsource(orders).partition("from testapp import carrier\n\n\n")

        assert imports
        assert example == body

    def test_its_admin_line_registers_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        [line] = [block for block in blocks("python") if "admin.site.register" in block]
        site = admin.AdminSite()
        monkeypatch.setattr(admin, "site", site)

        exec(line, {"admin": admin, "Order": Order, "StatorModelAdmin": StatorModelAdmin})

        assert isinstance(site.get_model_admin(Order), StatorModelAdmin)

    def test_the_runnable_project_has_the_admin_line(self) -> None:
        [line] = [block for block in blocks("python") if "admin.site.register" in block]

        assert line in (ROOT / "testapp/admin.py").read_text()

    @pytest.mark.django_db
    def test_its_test_passes(self) -> None:
        [test] = [block for block in blocks("python") if "TestCase" in block]
        names: dict[str, Any] = {
            "assert_path": assert_path,
            "Order": Order,
            "run_until_idle": run_until_idle,
            "TestCase": TestCase,
        }

        exec(test, names)
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(names["OrderTests"]).run(result)

        assert result.testsRun == 1
        assert not result.errors + result.failures


class TestQuickStart:
    def test_it_has_two_commands(self) -> None:
        assert blocks("sh", section("Quick start")) == [
            "./quickstart demo\n",
            "./quickstart test\n",
        ]

    def test_no_other_commands_stand_there(self) -> None:
        assert section("Quick start").count("```") == 4


class TestLinks:
    @pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)[^)]*\)", README))))
    def test_what_is_linked_exists(self, target: str) -> None:
        assert (ROOT / target).is_file()
