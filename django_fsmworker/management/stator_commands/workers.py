"""``stator workers``: who runs, and telling workers what to do."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError
from django.db import router

from django_fsmworker import workers
from django_fsmworker.management.labels import chosen_models
from django_fsmworker.management.output import Output
from django_fsmworker.management.stator_commands.subcommand import (
    ExitCode,
    Subcommand,
    add_action,
    add_by,
    add_labels,
    age,
)
from django_fsmworker.models import Worker
from django_fsmworker.models.companions import is_companion
from django_fsmworker.models.discovery import stator_models

NONE = "No worker is on record."
ORDERS = ("suspend", "resume", "stop")
COLUMNS = ("id", "state", "host", "pid", "heartbeat", "in flight")
SHOWN = (
    "name", "started", "heartbeat", "expires", "health_address", "served", "versions", "options",
    "totals", "ordered", "ordered_by", "order_reason",
)  # fmt: skip


class WorkersSubcommand(Subcommand):
    """Has subcommands of its own; each is a method here."""

    name = "workers"
    help = "Show the workers, and tell them to suspend, to resume or to stop."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        listed = add_action(actions, "list", "all workers on record")
        _add_choice(listed)
        listed.add_argument("--living", action="store_true", help="only those that run")
        stats = add_action(actions, "stats", "numbers of workers and of attempts, by name")
        _add_choice(stats)
        shown = add_action(actions, "show", "everything on record about a worker")
        shown.add_argument("id", metavar="ID", help="its id")
        health = add_action(
            actions, "health", f"end with {ExitCode.FOUND:d} if a model has no worker"
        )
        add_labels(health)
        for order in ORDERS:
            own = add_action(actions, order, f"tell workers to {order}")
            _add_target(own)
            add_by(own)
            own.add_argument("--reason", default="", help="why; it is put on record")
        stacks = add_action(actions, "stacks", "show the stacks of workers' threads")
        _add_target(stacks)
        purge = add_action(actions, "purge", "delete records of stopped and lost workers")
        purge.add_argument(
            "--older-than", type=age, default=timedelta(days=1), metavar="AGE",
            help="since their last sign of life: 90s, 30m, 12h, 7d (default: 1d)",
        )  # fmt: skip

    def run(self, options: dict[str, Any], out: Output) -> int:
        action: Callable[[dict[str, Any], Output], int] = getattr(self, f"_{options['action']}")
        return action(options, out)

    def _list(self, options: dict[str, Any], out: Output) -> int:
        found = self._chosen(options)
        if options["living"]:
            found = workers.Workers(each for each in found if each.is_living)
        out.data([_summary(each) for each in found])
        if found:
            cells = [column.replace(" ", "_") for column in COLUMNS]
            out.table(COLUMNS, [[_summary(each)[cell] for cell in cells] for each in found])
        else:
            out.line(NONE)
        return ExitCode.DONE

    def _show(self, options: dict[str, Any], out: Output) -> int:
        worker = self._one(options)
        details = {name: getattr(worker, name) for name in SHOWN}
        out.data(
            {
                **_summary(worker),
                **details,
                "running": [asdict(each) for each in worker.longest_running],
            }
        )
        for name, value in {**_summary(worker), **details}.items():
            out.line(f"{name}: {_text(value)}")
        for check in worker.longest_running:
            rows = f"{check.model} {', '.join(check.keys)} in {check.state}"
            out.line(f"running: {rows} since {check.since}")
        return ExitCode.DONE

    def _stats(self, options: dict[str, Any], out: Output) -> int:
        by_name: dict[str, Counter[str]] = {}
        for worker in self._chosen(options):
            numbers = by_name.setdefault(worker.name, Counter())
            numbers[worker.state] += 1
            numbers.update(worker.totals)
            numbers["in_flight"] += worker.in_flight if worker.is_living else 0
        out.data({name: dict(numbers) for name, numbers in by_name.items()})
        for name, numbers in by_name.items():
            counted = " ".join(f"{key}={number}" for key, number in numbers.items() if number)
            out.line(f"{name}: {counted}")
        if not by_name:
            out.line(NONE)
        return ExitCode.DONE

    def _health(self, options: dict[str, Any], out: Output) -> int:
        """Say which models lack a worker that runs and is neither suspended nor stopping."""
        aliases = self.databases.of_workers(options)
        working = workers.living(databases=aliases)
        served = {label for each in working if each.state == "ready" for label in each.served}
        asked = chosen_models(options["labels"], [], None) if options["labels"] else None
        kept = dict.fromkeys(model for alias in aliases for model in _kept_in(alias, options))
        labels = [model._meta.label for model in asked or kept if not is_companion(model)]
        unserved = [label for label in labels if label not in served]
        out.data({"living": len(working), "unserved": unserved})
        for label in unserved:
            out.line(f"No worker runs {label}.")
        if not unserved:
            out.line("Every model has a worker that runs it.")
        return ExitCode.FOUND if unserved else ExitCode.DONE

    def _suspend(self, options: dict[str, Any], out: Output) -> int:
        return self._order(options, out)

    def _resume(self, options: dict[str, Any], out: Output) -> int:
        return self._order(options, out)

    def _stop(self, options: dict[str, Any], out: Output) -> int:
        return self._order(options, out)

    def _order(self, options: dict[str, Any], out: Output) -> int:
        order = options["action"]
        told = getattr(self._targets(options), order)(by=options["by"], reason=options["reason"])
        out.data({"told": told})
        for worker_id in told:
            out.line(f"The worker {worker_id} is told to {order}.")
        if not told:
            out.line("No worker was told: none of those takes the order.")
        return ExitCode.DONE if told else ExitCode.FOUND

    def _stacks(self, options: dict[str, Any], out: Output) -> int:
        found = self._targets(options).show_stacks()
        out.data(found)
        for worker_id, stacks in found.items():
            out.line(f"== {worker_id}")
            out.text(stacks)
        return ExitCode.DONE if found else ExitCode.FOUND

    def _purge(self, options: dict[str, Any], out: Output) -> int:
        aliases = self.databases.of_workers(options)
        number = workers.purge(options["older_than"], databases=aliases)
        out.data({"purged": number})
        out.line(f"{number} {'record' if number == 1 else 'records'} purged.")
        return ExitCode.DONE

    def _chosen(self, options: dict[str, Any]) -> workers.Workers:
        return workers.all(
            name=options["name"], host=options["host"], databases=self.databases.of_workers(options)
        )

    def _targets(self, options: dict[str, Any]) -> workers.Workers:
        """The workers that an order is for; without any word that chooses, nobody is meant."""
        chosen = options["all"] or options["name"] or options["host"]
        if bool(options["ids"]) == bool(chosen):
            raise CommandError("Name workers by their ids, or by --name, --host or --all.")
        if options["ids"]:
            return workers.Workers(self._one({**options, "id": each}) for each in options["ids"])
        return workers.Workers(each for each in self._chosen(options) if each.is_living)

    def _one(self, options: dict[str, Any]) -> Worker:
        try:
            return workers.get(options["id"], databases=self.databases.of_workers(options))
        except Worker.DoesNotExist as error:
            raise CommandError(
                f"There is no record of a worker {options['id']!r}; "
                f"'manage.py stator workers list' has those that there are."
            ) from error


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="only workers of this name")
    parser.add_argument("--host", help="only workers on this host")


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", nargs="*", metavar="ID", help="their ids")
    _add_choice(parser)
    parser.add_argument("--all", action="store_true", help="all that run")


def _kept_in(alias: str, options: dict[str, Any]) -> list[Any]:
    """The models whose rows are in that database: any that may be, or those written there."""
    if options["database"]:
        return stator_models(alias)
    return [model for model in stator_models() if router.db_for_write(model) == alias]


def _summary(worker: Worker) -> dict[str, Any]:
    return {
        "id": worker.id,
        "name": worker.name,
        "state": worker.state,
        "host": worker.host,
        "pid": worker.pid,
        "heartbeat": worker.heartbeat,
        "in_flight": worker.in_flight,
    }


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={each}" for key, each in value.items())
    return "-" if value in (None, "") else str(value)
