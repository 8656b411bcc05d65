"""Processes in the registry of workers: killed, ordered about, replaced one at a time; health."""

from __future__ import annotations

import os
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_fsmworker import workers
from django_fsmworker.models import Worker
from tests.app.models import Chain, CheckLog
from tests.runner.processes import Process
from tests.runner.supervisor_children import alive, children

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]

Start = Callable[..., Process]
Eventually = Callable[..., Any]

QUICK = ("--poll-interval=0.5", "--concurrency=2")
BEATS = {"FSMWORKER_HEARTBEAT_INTERVAL": "0.5", "FSMWORKER_HEARTBEAT_TIMEOUT": "4"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def page(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def by_pid(pid: int) -> Worker:
    (worker,) = [each for each in workers.all() if each.pid == pid]
    return worker


def test_a_killed_runner_is_lost_and_its_rows_run_elsewhere(
    start_process: Start, eventually: Eventually
) -> None:
    command = ("runstator", "tests.Chain", "--lease=3", *QUICK)
    fleet = [start_process(*command, **BEATS) for _ in range(4)]
    eventually(lambda: len(workers.living()) == 4, 60)
    row = Chain.objects.create(pause=30)
    pid = eventually(lambda: CheckLog.objects.filter(row=row.pk).first(), 20).worker
    killed = next(each for each in fleet if str(each.pid) == pid)
    Chain.objects.filter(pk=row.pk).update(pause=0)

    killed.send(signal.SIGKILL)
    killed.wait()

    lost = eventually(lambda: next(iter(workers.lost()), None))
    assert lost.pid == killed.pid
    # SQLite reads its clock once for each of the two.
    assert abs(lost.expires - lost.heartbeat - timedelta(seconds=4)) < timedelta(seconds=1)
    eventually(lambda: Chain.objects.get(pk=row.pk).state == "last", 20)
    again = start_process(*command, **BEATS)
    eventually(lambda: any(each.pid == again.pid for each in workers.living()), 30)
    assert by_pid(again.pid).name == lost.name
    assert by_pid(again.pid).id != lost.id


class TestUnderASupervisor:
    def test_health_of_all_is_on_one_port(
        self, start_process: Start, eventually: Eventually
    ) -> None:
        port = free_port()
        supervisor = start_process(
            "runstator", "tests.Noop", "--processes=2", f"--health-port={port}", *QUICK
        )
        eventually(lambda: page(port, "/readyz") == (200, "ok\n"), 40)
        assert page(port, "/livez") == (200, "ok\n")
        assert len(children(supervisor)) == 2
        addresses = eventually(lambda: {each.health_address for each in workers.living()})
        assert addresses == {f"http://127.0.0.1:{port}"}

        up = {f'fsmworker_up{{process="{number}"}} 1.0' for number in (1, 2)}
        eventually(lambda: up <= set(page(port, "/metrics")[1].splitlines()), 20)

        os.kill(children(supervisor)[0], signal.SIGKILL)

        eventually(lambda: page(port, "/readyz")[0] == 503)
        eventually(lambda: page(port, "/readyz") == (200, "ok\n"), 40)
        supervisor.send(signal.SIGTERM)
        assert supervisor.wait() == 0

    def test_one_that_is_told_to_stop_stays_away(
        self, start_process: Start, eventually: Eventually
    ) -> None:
        supervisor = start_process(
            "runstator", "tests.Noop", "--processes=2", "--worker-id=pod", *QUICK, **BEATS
        )
        eventually(lambda: {each.id for each in workers.living()} == {"pod.1", "pod.2"}, 40)

        workers.get("pod.1").stop()

        eventually(lambda: not alive(workers.get("pod.1").pid), 20)
        assert alive(workers.get("pod.2").pid)
        workers.get("pod.2").stop()
        assert supervisor.wait() == 0
        assert "has ended unexpectedly" not in supervisor.stderr
        assert [each.state for each in workers.all()] == ["stopped", "stopped"]

    def test_those_that_reach_a_limit_are_replaced_one_at_a_time(
        self, start_process: Start, eventually: Eventually
    ) -> None:
        supervisor = start_process(
            "runstator", "tests.Noop", "--processes=2", "--max-memory=1", *QUICK, **BEATS
        )
        eventually(lambda: supervisor.stderr.count("has reached a limit and is replaced") > 2, 60)

        supervisor.send(signal.SIGTERM)

        assert supervisor.wait() == 0
        assert "has ended unexpectedly" not in supervisor.stderr
        said = [
            "replaced" if "is replaced" in line else "up"
            for line in supervisor.stderr.splitlines()
            if "is replaced" in line or "INFO Running" in line
        ]
        first = said.index("replaced")
        assert "replaced replaced" not in " ".join(said[first:]), "its successor was up before"


class TestAlone:
    def test_health_is_served_and_told_to_the_service_manager(
        self, start_process: Start, eventually: Eventually, tmp_path: Any
    ) -> None:
        port = free_port()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind(str(tmp_path / "notify"))
            listening.settimeout(40)
            runner = start_process(
                "runstator",
                "tests.Noop",
                f"--health-port={port}",
                *QUICK,
                NOTIFY_SOCKET=str(tmp_path / "notify"),
                **BEATS,
            )
            assert listening.recv(100) == b"READY=1"
            assert listening.recv(100) == b"WATCHDOG=1"
            eventually(lambda: page(port, "/readyz") == (200, "ok\n"), 20)
            worker = eventually(lambda: next(iter(workers.living()), None))
            assert worker.health_address == f"http://127.0.0.1:{port}"

            worker.suspend()

            suspended = (503, "It is suspended.\n")
            eventually(lambda: page(port, "/readyz") == suspended, 20)
            assert page(port, "/livez") == (200, "ok\n")
            runner.send(signal.SIGTERM)
            assert listening.recv(100) == b"STOPPING=1"
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
        eventually(lambda: CheckLog.objects.exists() and workers.living())

        workers.living().stop()

        assert runner.wait() == 0
        row.refresh_from_db()
        assert (row.state, row.state_lease) == ("second", None)
