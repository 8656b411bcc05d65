"""``runstator``'s command line: what it takes, what it refuses and in which words."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.models.companions import is_companion
from django_fsmworker.models.discovery import stator_models
from tests.app.models import BasicModel, Noop, Trouble
from tests.runner.embedded import Embedded
from tests.runner.rows import fresh

pytestmark = pytest.mark.django_db(transaction=True)

KNOWN = ", ".join(sorted(model._meta.label for model in stator_models() if not is_companion(model)))


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command("runstator", *arguments, stdout=output, stderr=output)
    return output.getvalue()


def refusal(*arguments: str) -> str:
    with pytest.raises(CommandError) as refused:
        run(*arguments)
    return str(refused.value)


class TestArguments:
    @pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", ""])
    def test_concurrency_is_a_whole_number(self, value: str) -> None:
        text = f"Error: argument -c/--concurrency: {value!r} is not a whole number above 0"

        assert refusal("-c", value) == text

    @pytest.mark.parametrize(
        "option", ["--deadline", "--lease", "--poll-interval", "--concurrency-per-model"]
    )
    def test_what_has_to_be_above_zero(self, option: str) -> None:
        kind = "whole number" if "concurrency" in option else "number of seconds"

        assert refusal(option, "0") == f"Error: argument {option}: '0' is not a {kind} above 0"

    @pytest.mark.parametrize("option", ["-s", "--schedule-interval"])
    def test_an_option_of_the_ancestor_that_has_nothing_to_do(self, option: str) -> None:
        assert refusal(option, "30") == (
            "Error: argument -s/--schedule-interval: runstator has no such option; nothing is "
            "scheduled here, and expired rows are looked for every FSMWORKER_DELETE_INTERVAL "
            "seconds."
        )

    @pytest.mark.parametrize("value", ["-1", "soon", "inf", "nan"])
    @pytest.mark.parametrize("option", ["--drain-timeout", "--connect-timeout"])
    def test_what_may_be_zero(self, option: str, value: str) -> None:
        text = f"Error: argument {option}: {value!r} is not a number of seconds, 0 or more"

        assert refusal(f"{option}={value}") == text

    def test_run_for_has_to_be_seconds(self) -> None:
        assert refusal("-r", "a while") == (
            "Error: argument -r/--run-for: 'a while' is not a number of seconds, 0 or more"
        )

    def test_fractions_of_a_second(self) -> None:
        assert run("tests.Noop", "--run-for=0.1", "--poll-interval=0.05").startswith("stopped: ")


class TestRefusals:
    def test_an_unknown_label_names_the_known_ones(self) -> None:
        assert refusal("tests.Nirvana") == (
            f"'tests.Nirvana' is not a model with a state graph; there are: {KNOWN}."
        )

    def test_a_model_without_a_graph_is_unknown(self) -> None:
        assert refusal("tests.CheckLog") == (
            f"'tests.CheckLog' is not a model with a state graph; there are: {KNOWN}."
        )

    def test_an_unknown_label_to_exclude(self) -> None:
        assert refusal("-x", "Trouble") == (
            f"'Trouble' is not a model with a state graph; there are: {KNOWN}."
        )

    def test_a_run_without_any_model_is_refused(self) -> None:
        assert refusal("tests.Noop", "-x", "tests.Noop") == (
            "There is nothing to run: every model is excluded."
        )

    def test_once_and_run_for(self) -> None:
        assert refusal("--once", "--run-for=5") == "--once is --run-for 0; give one of them."

    @pytest.mark.parametrize("argument", ["--once", "--run-for=5", "--run-for=0"])
    def test_reload_and_an_end(self, argument: str) -> None:
        assert refusal("--reload", argument) == (
            "--reload runs forever; leave out --once and --run-for."
        )

    def test_an_unknown_database(self) -> None:
        assert refusal("--database", "archive") == (
            "There is no database 'archive'; DATABASES has default, other."
        )

    def test_a_setting_that_is_wrong(self, settings: Any) -> None:
        settings.FSMWORKER = {"CONCURRENCY": "many"}

        assert refusal("--once") == (
            "settings.FSMWORKER[\"CONCURRENCY\"] is 'many'; it has to be a whole number above 0."
        )


class TestOnce:
    def test_a_pass_over_the_models_that_are_named(self) -> None:
        row, other = Trouble.objects.create(), Noop.objects.create()

        output = run("tests.trouble", "--once")

        assert output == (
            "stopped: moved=1 stayed=0 failed=0 overran=0 timed_out=0 "
            "interrupted=0 superseded=0 expired=0\n"
        )
        assert (fresh(row).state, fresh(other).state) == ("done", "new")

    def test_run_for_zero_is_the_same(self) -> None:
        row = Trouble.objects.create()

        run("tests.Trouble", "--run-for", "0")

        assert fresh(row).state == "done"

    def test_without_labels_every_model_is_run(self) -> None:
        rows = [
            Trouble.objects.create(),
            Noop.objects.create(),
            BasicModel.objects.create(ready=True),
        ]

        run("--once")

        assert {fresh(row).state for row in rows} == {"done"}

    def test_without_those_that_are_excluded(self) -> None:
        row, other = Trouble.objects.create(), Noop.objects.create()

        run("--once", "-x", "tests.Trouble", "--exclude", "tests.BasicModel")

        assert (fresh(row).state, fresh(other).state) == ("new", "done")

    @pytest.mark.django_db(transaction=True, databases=["default", "other"])
    def test_only_rows_of_the_named_database_are_run(self) -> None:
        here, there = Trouble.objects.create(), Trouble.objects.using("other").create()

        run("tests.Trouble", "--once", "--database", "other")

        assert fresh(here).state == "new"
        assert Trouble.objects.using("other").get(pk=there.pk).state == "done"


class TestLogging:
    def test_the_root_logger_is_left_alone(self) -> None:
        root = logging.getLogger()
        before = (list(root.handlers), root.level, logging.getLogger("django_fsmworker").level)

        run("tests.Noop", "--once")

        package = logging.getLogger("django_fsmworker")
        assert (list(root.handlers), root.level, package.level) == before
        assert package.handlers == [], "the project has decided where the log goes"


class TestOptionsReachTheRunner:
    def test_every_option_reaches_the_runner(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: dict[str, Any] = {}

        class Recorder(Embedded):
            too_many_abandoned = limit_reached = False
            counters = "nothing"
            settings = RunnerSettings()

            def __init__(self, models: Any, **options: Any) -> None:
                seen.update(options, models=models)

            def run(self, run_for: float | None) -> None:
                seen["run_for"] = run_for

            def stop(self, timeout: float | None = None) -> None: ...

        monkeypatch.setattr("django_fsmworker.runner.processes.group.StatorRunner", Recorder)
        run(
            "tests.Noop", "-c", "3", "--async-concurrency", "50", "--concurrency-per-model", "2",
            "-r", "7", "--deadline", "8", "--lease", "9", "--drain-timeout", "0",
            "--poll-interval", "1.5", "--connect-timeout", "4", "--liveness-file", "alive",
            "--worker-id", "me@here", "--worker-name", "me", "--health-host", "localhost",
            "--max-tasks", "10", "--max-failures", "11", "--max-memory", "12",
            "--check-logger", "shop",
        )  # fmt: skip

        on_stall: Callable[[], None] = seen.pop("on_stall")
        assert callable(on_stall)
        assert seen == {
            "models": [Noop],
            "database": None,
            "run_for": 7,
            "concurrency": 3,
            "async_concurrency": 50,
            "concurrency_per_model": 2,
            "deadline": 8,
            "lease": 9,
            "drain_timeout": 0,
            "poll_interval": 1.5,
            "connect_timeout": 4,
            "liveness_file": "alive",
            "worker_id": "me@here",
            "worker_name": "me",
            "health_host": "localhost",
            "health_port": None,
            "max_tasks": 10,
            "max_failures": 11,
            "max_memory": 12,
            "check_logger": "shop",
        }
