"""
A MariaDB server for the tests, from the ``mariadbd`` that the system has installed.

It keeps its data, its socket and its port to itself: a server that runs already is left alone.
``python -m tests.mariadb`` keeps one running and prints its URL, for ``TEST_MYSQL_URL``.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pymysql

from tests import servers
from tests.servers import START_SECONDS, STOP_SECONDS, USER, ServerUnavailable, serve

# Not on every user's path.
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin")


def connect(url: str, **options: Any) -> Any:
    """A connection to the server that ``url`` names, in autocommit mode."""
    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=unquote(parts.username or "root"),
        password=unquote(parts.password or ""),
        autocommit=True,
        connect_timeout=10,
        **options,
    )


def reach(url: str) -> None:
    """Connect to a server that somebody named."""
    try:
        connect(url).close()
    except pymysql.Error as error:
        raise ServerUnavailable(str(error)) from error


# For data that nobody misses when the server is killed.
THROWAWAY = {"innodb-flush-log-at-trx-commit": 0, "innodb-flush-method": "nosync"}


@contextmanager
def running_server(**settings: Any) -> Iterator[str]:
    """Start a server on a free port of the loopback interface and yield its URL; stop it after."""
    with own_server(**settings) as server:
        yield server.url


@contextmanager
def own_server(**settings: Any) -> Iterator[Server]:
    """A server to do with as one likes, with these settings beside its usual ones."""
    programs = {name: _program(name) for name in ("mariadbd", "mariadb-install-db")}
    with ExitStack() as stack:
        folder = stack.enter_context(servers.folder("mariadb"))
        account: dict[str, Any] = {}
        if os.geteuid() == 0:
            account = servers.account()
            os.chown(folder, account["user"], account["group"])
        server = Server(programs, folder, account, settings)
        server.initialise()
        stack.callback(server.stop)
        server.start()
        yield server


class Server:
    """One server: its programs, its data in `folder`, and the account it runs under."""

    def __init__(
        self,
        programs: dict[str, str],
        folder: Path,
        account: dict[str, Any],
        settings: dict[str, Any],
    ) -> None:
        self._programs = programs
        self._folder = folder
        self._settings = settings
        self._data = folder / "data"
        self._log = folder / "log"
        self._grants = folder / "grants.sql"
        self._password = secrets.token_hex(16)
        self.port = 0
        self._process: subprocess.Popen[Any] | None = None
        # No settings of the caller's.
        environment = {"LC_ALL": "C", "PATH": os.environ["PATH"]}
        self._options: dict[str, Any] = {"cwd": folder, "env": environment, **account}

    @property
    def url(self) -> str:
        return f"mysql://{USER}:{self._password}@127.0.0.1:{self.port}/"

    def initialise(self) -> None:
        command = [
            self._programs["mariadb-install-db"],
            "--no-defaults",
            f"--datadir={self._data}",
            "--auth-root-authentication-method=normal",
            "--skip-name-resolve",
            "--skip-test-db",
            f"--tmpdir={self._folder}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, **self._options)
        if done.returncode:
            raise ServerUnavailable(f"mariadb-install-db failed: {done.stderr or done.stdout}")
        # Run at the server's start, before anybody can connect: nobody gets in without a password.
        self._grants.write_text(
            f"CREATE USER IF NOT EXISTS {USER}@'127.0.0.1' IDENTIFIED BY '{self._password}';\n"
            f"GRANT ALL ON *.* TO {USER}@'127.0.0.1' WITH GRANT OPTION;\n"
            "ALTER USER root@localhost ACCOUNT LOCK;\n"
        )
        self._grants.chmod(0o600)
        if "user" in self._options:
            os.chown(self._grants, self._options["user"], self._options["group"])

    def start(self) -> None:
        # Between finding a free port and listening on it, somebody else may take it.
        for _ in range(3):
            self.port = servers.free_port()
            if self._launch():
                return
        raise ServerUnavailable(f"the server did not start: {self._last_words()}")

    def restart(self) -> None:
        """Killed, and started again on the same port with the data that it left behind."""
        self.stop()
        if not self._launch():
            raise ServerUnavailable(f"the server did not come back: {self._last_words()}")

    def _launch(self) -> bool:
        """Start it; whether it answers."""
        settings = {
            "bind-address": "127.0.0.1",
            "character-set-server": "utf8mb4",
            "datadir": self._data,
            "default-time-zone": "+00:00",
            "init-file": self._grants,
            "log-error": self._log,
            "max-connections": 200,
            "pid-file": self._folder / "pid",
            "port": self.port,
            "socket": self._folder / "socket",
            "tmpdir": self._folder,
            **self._settings,
        }
        command = [self._programs["mariadbd"], "--no-defaults", "--skip-name-resolve"]
        command += [f"--{name}={value}" for name, value in settings.items()]
        # A session of its own: Ctrl-C is for the tests; the server is stopped after them.
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **self._options,
        )
        return self._answers()

    def _answers(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                connect(self.url).close()
            except pymysql.Error:
                time.sleep(0.05)
            else:
                return True
        self.stop()
        return False

    def _last_words(self) -> str:
        if not self._log.exists():
            return "it said nothing"
        return " / ".join(self._log.read_text(errors="replace").splitlines()[-5:])

    def stop(self) -> None:
        """Stop at once, by SIGKILL: the data is thrown away, so nothing has to be written back."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.kill()
        process.wait(STOP_SECONDS)


def _program(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *SYSTEM_FOLDERS]))
    if found is None:
        raise ServerUnavailable(
            f"{name} is not installed; install MariaDB's server, or name one in TEST_MYSQL_URL"
        )
    return found


if __name__ == "__main__":
    serve("TEST_MYSQL_URL", running_server)
