"""The admin demo from beginning to end."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import Error
from django.urls import reverse

from testapp.admin_demo.processes import Child, Ended, running
from testapp.admin_demo.trouble import prepare

DESCRIPTION = """\
Webhooks and orders, some of them in trouble: failing, parked, paused, overdue, in a state that no
longer exists. Runners work on them, and the admin shows it. Each time it starts afresh. The tea
shop's webhooks go through once its endpoint is set to "answers" and the failures are retried."""

HOST = "127.0.0.1"
START_SECONDS = 30.0


def run(arguments: Sequence[str]) -> int:
    """Run until Ctrl-C or SIGTERM; returns the exit status."""
    options = _parser().parse_args(arguments)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        port = _free_port(options.port)
        call_command("migrate", verbosity=0)
        prepare()
        _users()
        _serve(port, options.processes)
    except KeyboardInterrupt:
        print("admin: stopped.")
        return 0
    except (Ended, Error, OSError) as error:
        print(f"admin: {str(error).strip()}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m testapp admin", description=DESCRIPTION)
    parser.add_argument(
        "--port",
        type=int,
        default=8000,
        help="of the site; 0 takes one that is free (default: 8000)",
    )
    parser.add_argument(
        "--processes", type=int, default=2, metavar="N", help="how many runners work (default: 2)"
    )
    return parser


def _free_port(wanted: int) -> int:
    """That port, or a free one for 0; raises ``OSError`` if it is taken."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError as error:
            raise OSError(
                f"Port {wanted} cannot be used ({error.strerror}); try --port 0."
            ) from None
        return int(probe.getsockname()[1])


def _users() -> None:
    """An operator who may do everything, and somebody who may only look."""
    users: Any = get_user_model()
    users.objects.filter(username__in=["admin", "viewer"]).delete()
    users.objects.create_superuser("admin", password="admin")
    viewer = users.objects.create_user("viewer", password="viewer", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))


def _serve(port: int, processes: int) -> None:
    folder = Path(settings.DATA_DIR) / "admin"
    folder.mkdir(parents=True, exist_ok=True)
    # Not testapp.File, which belongs to the other demo: nobody runs it, and the dashboard says so.
    runner = ["runstator", "testapp.Webhook", "testapp.Order", "--poll-interval", "1"]
    commands = {
        "site": ["runserver", "--noreload", "--insecure", f"{HOST}:{port}"],
        **{f"runner-{number}": runner for number in range(1, processes + 1)},
    }
    with running(commands, folder) as children:
        _until(lambda: _answers(port), children)
        site = f"http://{HOST}:{port}"
        print(f"The dashboard: {site}{reverse('admin:django_fsmworker_dashboard')}")
        print(f"The admin:     {site}{reverse('admin:index')}")
        print("Log in as admin with the password admin; as viewer, viewer you may only look.")
        print(f"What the site and the runners say is in {folder}. Ctrl-C ends it all.", flush=True)
        _until(lambda: False, children, seconds=float("inf"))


def _until(
    condition: Callable[[], bool], children: list[Child], seconds: float = START_SECONDS
) -> None:
    """Look every now and then, also whether all processes are there."""
    deadline = time.monotonic() + seconds
    while not condition():
        for child in children:
            child.check()
        if time.monotonic() > deadline:
            raise Ended(f"The site did not answer within {seconds:g} s; see {children[0].log}.")
        time.sleep(0.2)


def _answers(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), 1).close()
    except OSError:
        return False
    return True
