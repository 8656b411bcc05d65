"""All subcommands of ``manage.py stator``, in the order in which its help lists them."""

from __future__ import annotations

from django_fsmworker.management.stator_commands.doctor import Doctor
from django_fsmworker.management.stator_commands.events import EventsSubcommand
from django_fsmworker.management.stator_commands.explain import Explain
from django_fsmworker.management.stator_commands.graph import Graph
from django_fsmworker.management.stator_commands.pauses import ListPauses, PauseRows, ResumeRows
from django_fsmworker.management.stator_commands.plan import PlanRows
from django_fsmworker.management.stator_commands.purge import Purge
from django_fsmworker.management.stator_commands.rows import (
    CancelRows,
    MoveRows,
    ParkRows,
    RetryRows,
    UnparkRows,
)
from django_fsmworker.management.stator_commands.status import Status
from django_fsmworker.management.stator_commands.subcommand import Subcommand
from django_fsmworker.management.stator_commands.workers import WorkersSubcommand

SUBCOMMANDS: tuple[type[Subcommand], ...] = (
    Status,
    Explain,
    RetryRows,
    ParkRows,
    UnparkRows,
    MoveRows,
    CancelRows,
    EventsSubcommand,
    PauseRows,
    ResumeRows,
    ListPauses,
    Graph,
    PlanRows,
    Doctor,
    Purge,
    WorkersSubcommand,
)
