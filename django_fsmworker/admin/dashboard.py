"""The page that an operator opens first: who runs, what waits, what fails, what is paused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.admin import AdminSite
from django.db.models import Case, Count, Max, Min, QuerySet, When
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from django_fsmworker import workers
from django_fsmworker.admin.bulk_actions import bulk_action_url
from django_fsmworker.admin.formatting import ago, duration, model_of, moment
from django_fsmworker.admin.graph_facts import label_of
from django_fsmworker.admin.graph_page import graph_url_name
from django_fsmworker.admin.rates import Rates, per_minute_text
from django_fsmworker.admin.reach import Reach
from django_fsmworker.admin.redaction import redacted
from django_fsmworker.admin.refreshing import kept_rate
from django_fsmworker.diagnosis.status import Number, StateStatus, status_of, total
from django_fsmworker.models import BulkAction, FailureRecord, StatorModel, Worker
from django_fsmworker.models.companions import is_companion
from django_fsmworker.models.keys import declaring_model
from django_fsmworker.models.limits import Pause

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
    undeclared: Number
    """Those of the rows that are in states that the graph does not declare."""

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
    per_minute: str
    """How many attempts end there in a minute; empty if none do."""
    orders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PauseLine:
    """A pause that is in force, as people may read it."""

    pause: Pause
    database: str
    what: str
    key: str
    reason: str
    since: SafeString
    until: str


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Rows that fail in the same state of the same model with the same error."""

    model: str
    state: str
    error: str
    database: str
    number: int
    first: datetime
    last: datetime
    url: str
    verbs: tuple[str, ...]
    """What this user may do to the rows of the group."""
    went_to: str
    """The state in which their last failure has put them; empty while they are tried or parked."""

    @property
    def seen(self) -> tuple[SafeString, SafeString]:
        """How long ago they failed first and last."""
        return ago(self.first), ago(self.last)

    @property
    def state_label(self) -> str:
        """What people read of the state; of a model that is gone the name."""
        return _label(self.model, self.state)

    @property
    def what_became(self) -> str:
        """Where the rows are, if they are tried no more; otherwise empty."""
        if not self.went_to:
            return ""
        return gettext("They went to: %(state)s.") % {"state": _label(self.model, self.went_to)}


def _label(model: str, state: str) -> str:
    graph = getattr(model_of(model), "state_graph", None)
    return state if graph is None else label_of(graph, state)


def dashboard_url(site: AdminSite) -> str:
    """The address of the dashboard."""
    return reverse("admin:django_fsmworker_dashboard", current_app=site.name)


def back_url(site: AdminSite, request: HttpRequest) -> str:
    """The address of the dashboard for who comes from there: it goes on to load itself again."""
    return f"{dashboard_url(site)}{kept_rate(request)}"


def shown_lives(site: AdminSite, request: HttpRequest) -> Iterator[tuple[Any, Any]]:
    """The models with a life in ``site`` that this user may see, each with its admin.

    A proxy stands for its model where that is not among them.
    """
    shown: dict[Any, tuple[Any, Any]] = {}
    for model, model_admin in sorted(site._registry.items(), key=_proxies_last):
        if not issubclass(model, StatorModel) or is_companion(model):
            continue
        if model_admin.has_view_or_change_permission(request):
            shown.setdefault(model._meta.concrete_model, (model, model_admin))
    yield from sorted(shown.values(), key=lambda each: each[0]._meta.label)


def _proxies_last(registered: tuple[Any, Any]) -> tuple[bool, str]:
    meta = registered[0]._meta
    return meta.proxy, meta.label


def model_parts(
    site: AdminSite, request: HttpRequest, living: Sequence[Worker], reach: Reach
) -> Iterator[ModelPart]:
    """The models with a life in ``site`` that this user may see, with numbers of all their rows."""
    rates = Rates()
    for model, model_admin in shown_lives(site, request):
        alias = model_admin.get_queryset(request).db
        if not reach(alias):
            continue
        url = _list_of(site, model)
        found = status_of(model, alias)
        lines = [
            _line(
                label_of(model.state_graph, each.state),
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


def worker_lines(databases: Iterable[str], may_order: bool) -> list[WorkerLine]:
    """The workers, the last of those that have stopped among them; with what may be ordered."""
    found = workers.all(databases=databases)
    stopped = [each for each in found if each.state == "stopped"]
    stopped.sort(key=lambda each: each.heartbeat, reverse=True)
    shown = [each for each in found if each.state != "stopped"] + stopped[:MOST_STOPPED]
    return [
        WorkerLine(
            each,
            duration(each.age.total_seconds()),
            per_minute_text(sum(t["per_minute"] for t in each.pace) if each.is_living else 0),
            ORDERS_TAKEN.get(each.state, ()) if may_order else (),
        )
        for each in shown
    ]


def failure_groups(
    site: AdminSite,
    request: HttpRequest,
    databases: Iterable[str],
    verbs: Callable[[str, str], tuple[str, ...]],
) -> list[FailureGroup]:
    """The failures that are not resolved, the most frequent first; one query for each database.

    Those of rows that are not tried any more come last, and nothing can be done to them. ``verbs``
    says what may be done to rows of the model of a label in a database.
    """
    listed = _list_of(site, FailureRecord)
    shown = site.get_model_admin(FailureRecord).get_queryset(request).db if listed else None
    found = [
        FailureGroup(
            **each,
            database=alias,
            url=_listing(listed, each) if alias == shown else "",
            verbs=() if each["went_to"] else verbs(each["model"], alias),
        )
        for alias in databases
        for each in _most_frequent(alias)
    ]
    return sorted(found, key=lambda group: (group.went_to != "", -group.number))[:MOST_GROUPS]


def _most_frequent(alias: str) -> Iterable[Any]:
    return (
        open_failures(alias)
        .order_by()
        .values("model", "state", "error", "went_to")
        .annotate(number=Count("pk"), first=Min("first_seen"), last=Max("last_seen"))
        .order_by(Case(When(went_to="", then=0), default=1), "-number")[:MOST_GROUPS]
    )


def open_failures(alias: str) -> QuerySet[FailureRecord]:
    """The records of failures that are not resolved; not those of rows parked without one."""
    records: QuerySet[FailureRecord] = QuerySet(FailureRecord, using=alias)
    return records.filter(resolved=None, count__gt=0)


def pause_line(pause: Pause) -> PauseLine:
    """What the dashboard says of a pause."""
    named = redacted("label", pause.key or "", pause)
    what = ".".join(filter(None, [pause.model, pause.state])) or gettext("everything")
    until = gettext("it is lifted") if pause.until is None else moment(pause.until)
    if pause.kind == Pause.Kind.BREAKER and pause.until is not None:
        until = gettext("%(moment)s, when one row is tried") % {"moment": until}
    reason = redacted("reason", pause.reason, pause)
    database = pause._state.db or ""
    return PauseLine(pause, database, what, named, reason, ago(pause.since), until)


def bulk_actions(
    site: AdminSite, request: HttpRequest, databases: Iterable[str]
) -> list[tuple[BulkAction, str | None]]:
    """The bulk actions that are not done, the latest first, with their pages.

    It takes one query for each database.
    """
    if not request.user.has_perm("django_fsmworker.view_bulkaction"):
        return []
    left: list[BulkAction] = []
    for alias in databases:
        actions: QuerySet[BulkAction] = QuerySet(BulkAction, using=alias)
        left += actions.exclude(state="done").defer("rows").order_by("-pk")[:MOST_BULK_ACTIONS]
    left.sort(key=lambda action: action.started, reverse=True)
    return [(each, bulk_action_url(site, request, each)) for each in left[:MOST_BULK_ACTIONS]]


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
        total(each.rows for each in found if not each.declared),
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
