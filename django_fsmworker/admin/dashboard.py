"""The page that an operator opens first: who runs, what waits, what fails, what is paused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.admin import AdminSite
from django.db import router
from django.db.models import Count, Max, Min, QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from django_fsmworker import workers
from django_fsmworker.admin.formatting import ago, change_url, duration
from django_fsmworker.admin.graph_page import graph_url_name
from django_fsmworker.admin.rates import Rates
from django_fsmworker.admin.redaction import redacted
from django_fsmworker.diagnosis.status import Number, StateStatus, status_of, total
from django_fsmworker.models import BulkAction, FailureRecord, StatorModel, Worker
from django_fsmworker.models.companions import is_companion
from django_fsmworker.models.keys import declaring_model

MOST_GROUPS, MOST_STOPPED, MOST_BULK_ACTIONS = 20, 10, 10
ORDERS_TAKEN = {"ready": ("suspend", "stop"), "suspended": ("resume", "stop")}
"""By a worker's state; in any other it takes none."""

COUNTED = (("due", "now"), ("running", "running"), ("failing", "failing"), ("parked", "parked"))
"""The numbers of a line, and what the filter by due time calls their rows."""


@dataclass(frozen=True, slots=True)
class Line:
    """The rows of one state, or of a whole model; ``url`` lists them."""

    name: str
    url: str
    rows: Number
    due: Number
    oldest_due: str
    running: Number
    failing: Number
    parked: Number
    overdue: float
    """Seconds since the first of them was due; 0 if none is."""
    per_minute: str
    """How many attempts end in a minute; empty if none do."""

    @property
    def links(self) -> dict[str, str]:
        """The lists of the rows that each of the numbers counts."""
        joint = "&" if "?" in self.url else "?"
        return {kind: f"{self.url}{joint}due={due}" for kind, due in COUNTED if self.url}


@dataclass(frozen=True, slots=True)
class ModelPart:
    """A model: its rows by state, and whether anybody runs them."""

    label: str
    graph_url: str
    total: Line
    states: tuple[Line, ...]
    served: bool
    rates: SafeString | None
    """A drawing of the attempts a minute in the last two hours."""


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """A worker, and the orders that it takes now."""

    worker: Worker
    silence: str
    orders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Rows that fail in the same state of the same model with the same error."""

    model: str
    state: str
    error: str
    number: int
    first: datetime
    last: datetime
    url: str
    verbs: tuple[str, ...]
    """What this user may do to the rows of the group."""

    @property
    def seen(self) -> tuple[SafeString, SafeString]:
        """How long ago they failed first and last."""
        return ago(self.first), ago(self.last)


def model_parts(
    site: AdminSite, request: HttpRequest, living: Sequence[Worker]
) -> Iterator[ModelPart]:
    """The models with a life in ``site`` that this user may see, with numbers of all their rows."""
    rates = Rates()
    for model, model_admin in sorted(site._registry.items(), key=lambda each: each[0]._meta.label):
        if not issubclass(model, StatorModel) or model._meta.proxy:
            continue
        if is_companion(model) or not model_admin.has_view_or_change_permission(request):
            continue
        alias = model_admin.get_queryset(request).db
        url = _list_of(site, model)
        found = status_of(model, alias)
        lines = [
            _line(
                each.state,
                f"{url}?{urlencode({'state': each.state})}" if url else "",
                [each],
                rates.now(model, alias, [each.state]),
            )
            for each in found
            if each.rows.number or each.due.number
        ]
        label = declaring_model(model)._meta.label
        served = any(label in worker.served for worker in living)
        graph_url = _address(site, graph_url_name(model))
        pace = rates.now(model, alias, [each.state for each in found])
        total = _line(label, url, found, pace)
        drawn = rates.line(model, alias)
        yield ModelPart(model._meta.label, graph_url, total, tuple(lines), served, drawn)


def worker_lines(may_order: bool) -> list[WorkerLine]:
    """The workers, the last of those that have stopped among them; with what may be ordered."""
    found = workers.all()
    stopped = [each for each in found if each.state == "stopped"]
    stopped.sort(key=lambda each: each.heartbeat, reverse=True)
    shown = [each for each in found if each.state != "stopped"] + stopped[:MOST_STOPPED]
    return [
        WorkerLine(
            each,
            duration(each.age.total_seconds()),
            ORDERS_TAKEN.get(each.state, ()) if may_order else (),
        )
        for each in shown
    ]


def failure_groups(site: AdminSite, verbs: Callable[[str], tuple[str, ...]]) -> list[FailureGroup]:
    """The failures that are not resolved, the most frequent first.

    ``verbs`` says what may be done to rows of the model of a label.
    """
    alias = router.db_for_read(FailureRecord)
    records: QuerySet[FailureRecord] = QuerySet(FailureRecord, using=alias)
    groups = (
        records.filter(resolved=None, count__gt=0)
        .order_by()
        .values("model", "state", "error")
        .annotate(number=Count("pk"), first=Min("first_seen"), last=Max("last_seen"))
        .order_by("-number")[:MOST_GROUPS]
    )
    listed = _list_of(site, FailureRecord)
    return [
        FailureGroup(**each, url=_listing(listed, each), verbs=verbs(each["model"]))
        for each in groups
    ]


def pause_line(pause: Any) -> tuple[Any, str, SafeString, str, str]:
    """A pause, its database, how long ago it began, its key and its reason."""
    key = redacted("label", pause.key or "", pause)
    reason = redacted("reason", pause.reason, pause)
    return pause, pause._state.db, ago(pause.since), key, reason


def bulk_actions(site: AdminSite, request: HttpRequest) -> list[tuple[BulkAction, str | None]]:
    """The bulk actions that are not done, the latest first, with their pages; one query."""
    if not request.user.has_perm("django_fsmworker.view_bulkaction"):
        return []
    actions: QuerySet[BulkAction] = QuerySet(BulkAction, using=router.db_for_read(BulkAction))
    left = actions.exclude(state="done").defer("rows").order_by("-pk")[:MOST_BULK_ACTIONS]
    return [(each, change_url(site, request, BulkAction, each.pk)) for each in left]


def _line(name: str, url: str, found: Sequence[StateStatus], pace: str) -> Line:
    oldest = [each.oldest_due for each in found if each.oldest_due is not None]
    return Line(
        name,
        url,
        total(each.rows for each in found),
        total(each.due for each in found),
        duration(max(oldest)) if oldest else "",
        total(each.running for each in found),
        total(each.failing for each in found),
        total(each.parked for each in found),
        max(oldest, default=0.0),
        pace,
    )


def _listing(listed: str, group: Mapping[str, Any]) -> str:
    asked = {"q": group["error"], "model": group["model"], "resolved": "no"}
    return f"{listed}?{urlencode(asked)}" if listed else ""


def _list_of(site: AdminSite, model: Any) -> str:
    if not site.is_registered(model):
        return ""
    return _address(site, f"{model._meta.app_label}_{model._meta.model_name}_changelist")


def _address(site: AdminSite, name: str) -> str:
    try:
        return reverse(f"admin:{name}", current_app=site.name)
    except NoReverseMatch:
        return ""
