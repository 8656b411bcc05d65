"""The demo of the admin, as a user runs it."""

from __future__ import annotations

import http.cookiejar
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from django_fsmworker.models import FailureRecord, Worker
from testapp.models import Webhook
from tests.paths import ROOT

COMMAND = [sys.executable, "-m", "testapp", "admin"]

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]


class Demo:
    """The command, with what it has said so far."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._said = folder / "said"
        with self._said.open("wb") as output:
            self.process = subprocess.Popen(
                [*COMMAND, "--port", "0", "--processes", "1"],
                cwd=ROOT, env=environment, stdout=output, stderr=output,
            )  # fmt: skip

    @property
    def said(self) -> str:
        assert self.process.poll() in (None, 0), self._said.read_text()
        return self._said.read_text()

    def address(self) -> str:
        found = re.search(r"dashboard: (\S+)", self.said)
        return found[1] if found and "Ctrl-C ends it all" in self.said else ""


@pytest.fixture
def environment(database_env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    own = {"DJANGO_SETTINGS_MODULE": "testapp.settings", "DATA_DIR": str(tmp_path / "data")}
    return {**database_env, **own}


@pytest.fixture
def demo(environment: dict[str, str], tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(environment, tmp_path)
    yield demo
    demo.process.kill()
    demo.process.wait()


def logged_in(address: str, name: str) -> urllib.request.OpenerDirector:
    cookies = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
    with browser.open(address) as form:
        login, token = form.url, next(each.value for each in cookies if each.name == "csrftoken")
    data = {"username": name, "password": name, "csrfmiddlewaretoken": token, "next": address}
    browser.open(login, urllib.parse.urlencode(data).encode()).close()
    return browser


def test_it_shows_trouble_and_ends_with_all_its_processes(
    demo: Demo, eventually: Callable[..., object]
) -> None:
    eventually(demo.address, 60)
    eventually(lambda: Webhook.objects.filter(state="sent").count() == 400, 60)
    failing = FailureRecord.objects.filter(resolved=None)
    eventually(lambda: failing.values("error").distinct().count() == 3)

    with logged_in(demo.address(), "viewer").open(demo.address()) as page:
        text = page.read().decode()
    pids = list(Worker.objects.values_list("pid", flat=True))
    demo.process.send_signal(signal.SIGINT)

    assert "ConnectionRefusedError" in text
    assert "The warehouse is being moved until noon." in text
    assert "Nobody runs testapp.File." in text
    assert "Nobody runs testapp.Webhook." not in text
    assert '<button type="submit" class="button"' not in text
    assert demo.process.wait(60) == 0
    assert demo.said.endswith("admin: stopped.\n")
    assert len(pids) == 1
    assert not os.path.exists(f"/proc/{pids[0]}")
    assert not Webhook.objects.filter(state_claim__gt=0).exists()


def test_a_port_that_is_taken_is_named(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = subprocess.run(
            [*COMMAND, "--port", port], cwd=ROOT, env=environment, capture_output=True, text=True
        )

    assert done.returncode == 1
    assert (
        done.stderr
        == f"admin: Port {port} cannot be used (Address already in use); try --port 0.\n"
    )
