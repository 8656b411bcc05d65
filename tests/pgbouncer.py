"""PgBouncer in transaction mode, before the PostgreSQL server under test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests import servers
from tests.waiting import eventually

POOL_SIZE = 6


class PgBouncer:
    """One process on a port of its own, with so many connections to the server."""

    def __init__(self, program: str, folder: Path, server: dict[str, Any]) -> None:
        self.port = servers.free_port()
        self._log = folder / "log"
        self._account = servers.account() if os.geteuid() == 0 else {}
        users = folder / "users"
        users.write_text(f'"{server["USER"]}" "{server["PASSWORD"]}"\n')
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": users,
            "pool_mode": "transaction",
            "default_pool_size": POOL_SIZE,
            "server_login_retry": 1,
        }
        configuration = folder / "pgbouncer.ini"
        configuration.write_text(
            f"[databases]\n* = host={server['HOST']} port={server['PORT']}\n[pgbouncer]\n"
            + "".join(f"{name} = {value}\n" for name, value in settings.items())
        )
        for path in (folder, users, configuration):
            if self._account:
                os.chown(path, self._account["user"], self._account["group"])
        self._command = [program, str(configuration)]
        self._options: dict[str, Any] = {"cwd": folder, **self._account}

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, start_new_session=True, **self._options
            )
        eventually(self._listens)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def _listens(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        with suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", self.port), 5).close()
            return True
        return False


@contextmanager
def running_pgbouncer(program: str, server: dict[str, Any]) -> Iterator[PgBouncer]:
    """Start it before a server, given by Django's settings for it, and kill it afterwards."""
    with servers.folder("pgbouncer") as folder:
        pooler = PgBouncer(program, folder, server)
        pooler.start()
        try:
            yield pooler
        finally:
            pooler.kill()
