"""Processes in the registry of workers: killed, ordered about, replaced one at a time; health."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_fsmworker import workers
from django_fsmworker.models import Worker
from tests.app.models import Chain, CheckLog, Trouble
from tests.runner.health_pages import page
from tests.runner.processes import Process
from tests.servers import free_port

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]

Start = Callable[..., Process]
Eventually = Callable[..., Any]

QUICK = ("--poll-interval=0.5", "--concurrency=2")
BEATS = {"FSMWORKER_HEARTBEAT_INTERVAL": "0.5", "FSMWORKER_HEARTBEAT_TIMEOUT": "4"}


def by_pid(pid: int) -> Worker:
    (worker,) = [each for each in workers.all() if each.pid == pid]
    return worker


def test_a_killed_runner_is_lost_and_its_rows_run_elsewhere(
    start_process: Start, eventually: Eventually
) -> None:
    command = ("runstator", "tests.Chain", "--lease=3", *QUICK)
    fleet = [start_process(*command, **BEATS) for _ in range(2)]
    eventually(lambda: len(workers.living()) == 2, 60)
    row = Chain.objects.create(pause=30)
    pid = eventually(lambda: CheckLog.objects.filter(row=row.pk).first(), 30).worker
    killed = next(each for each in fleet if str(each.pid) == pid)
    Chain.objects.filter(pk=row.pk).update(pause=0)

    killed.send(signal.SIGKILL)
    killed.wait()

    # Where little is left for the others, one of them may be taken for lost until it is heard.
    eventually(lambda: by_pid(killed.pid).is_lost, 30)
    lost = by_pid(killed.pid)
    # SQLite reads its clock once for each of the two.
    assert abs(lost.expires - lost.heartbeat - timedelta(seconds=4)) < timedelta(seconds=1)
    eventually(lambda: Chain.objects.get(pk=row.pk).state == "last", 40)
    again = start_process(*command, **BEATS)
    eventually(lambda: any(each.pid == again.pid for each in workers.living()), 60)
    assert by_pid(again.pid).name == lost.name
    assert by_pid(again.pid).id != lost.id


class TestUnderASupervisor:
    def test_those_that_reach_a_limit_are_replaced_one_at_a_time(
        self, start_process: Start, eventually: Eventually
    ) -> None:
        supervisor = start_process(
            "runstator", "tests.Trouble", "--processes=2", "--max-tasks=9", "--max-failures=1",
            *QUICK, **BEATS,
        )  # fmt: skip

        def reached(limit: str) -> bool:
            return f"has reached {limit} (" in supervisor.stderr

        Trouble.objects.create(mode="raise")
        eventually(lambda: reached("max_failures"), 60)
        Trouble.objects.bulk_create(Trouble() for _ in range(40))  # among three processes at most
        eventually(lambda: reached("max_tasks"), 60)
        eventually(lambda: supervisor.stderr.count("has reached a limit and is replaced") > 1, 60)
        supervisor.send(signal.SIGTERM)

        assert supervisor.wait(60) == 0
        assert "has ended unexpectedly" not in supervisor.stderr
        held = Trouble.objects.filter(mode="succeed", state_lease__isnull=False)
        assert not held.exists(), "they were drained"
        said = [
            "replaced" if "is replaced" in line else "up"
            for line in supervisor.stderr.splitlines()
            if "is replaced" in line or "INFO Running" in line
        ]
        first = said.index("replaced")
        assert "replaced replaced" not in " ".join(said[first:]), "its successor was up before"


class TestAlone:
    def test_health_is_served_and_told_to_the_service_manager(
        self, start_process: Start, eventually: Eventually, short_path: Any
    ) -> None:
        port = free_port()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind(str(short_path / "notify"))
            listening.settimeout(40)
            runner = start_process(
                "runstator",
                "tests.Noop",
                f"--health-port={port}",
                *QUICK,
                NOTIFY_SOCKET=str(short_path / "notify"),
                **BEATS,
            )
            assert listening.recv(100) == b"READY=1"
            assert listening.recv(100) == b"WATCHDOG=1"
            eventually(lambda: page(port, "/readyz") == (200, "ok\n"), 40)
            worker = eventually(lambda: next(iter(workers.living()), None), 30)
            assert worker.health_address == f"http://127.0.0.1:{port}"

            worker.suspend()

            suspended = (503, "It is suspended.\n")
            eventually(lambda: page(port, "/readyz") == suspended, 40)
            assert page(port, "/livez") == (200, "ok\n")
            runner.send(signal.SIGTERM)
            said = listening.recv(100)
            while said == b"WATCHDOG=1":  # now and again, for as long as it makes progress
                said = listening.recv(100)
            assert said == b"STOPPING=1"
            assert runner.wait() == 0

    def test_a_port_that_is_taken_ends_it(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(CommandError, match="^The pages on health cannot be served on port"):
                call_command("runstator", "tests.Noop", f"--health-port={port}", "--once")

    def test_stop_by_an_order_ends_it_with_0(
        self, start_process: Start, eventually: Eventually
    ) -> None:
        row = Chain.objects.create(pause=1)
        runner = start_process("runstator", "tests.Chain", *QUICK, **BEATS)
        eventually(lambda: CheckLog.objects.exists() and workers.living(), 60)

        workers.living().stop()

        assert runner.wait() == 0
        row.refresh_from_db()
        # What ran was waited for; how far the row had come when the order was heard is open.
        assert row.state != "first"
        assert row.state_lease is None
