"""What a database has to be able to do for a runner. A package for each implements it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.core.checks import CheckMessage
from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Q, QuerySet, Value

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.graph import State, Transition
from django_fsmworker.models.engine import Dialect, Term
from django_fsmworker.models.entering import entering, revoked_sql
from django_fsmworker.models.event import Event, EventStates
from django_fsmworker.models.functions import DatabaseNow
from django_fsmworker.models.indexes import checked_states, states_keyed_by
from django_fsmworker.models.keys import MOST_KEYS, portions, with_keys
from django_fsmworker.models.limits import Bucket, Pause, Permit
from django_fsmworker.models.locking import keys_and_states, lockable, locked, moments
from django_fsmworker.models.querysets import StatorQuerySet
from django_fsmworker.models.records import FailureRecord, TransitionRecord
from django_fsmworker.models.touching import TOUCHED, touched_sql
from django_fsmworker.models.transition_log import logs_transitions
from django_fsmworker.store.after_commit import log_errors_after_commit
from django_fsmworker.store.errors import is_refusal, may_be_mismatch
from django_fsmworker.store.fence import Fence, Lane, LostReplies, Outcome
from django_fsmworker.store.guards import first_true
from django_fsmworker.store.pauses import Paused, current
from django_fsmworker.store.permits import Permits
from django_fsmworker.store.statistics import Statistics
from django_fsmworker.store.tables import Table, table_for
from django_fsmworker.store.transition_log import guarded, log_moves, settled
from django_fsmworker.traces import trace_if_active

READ_COMMITTED = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"


class Store(ABC):
    """All SQL of the protocol, for the database behind one alias.

    Every method uses the calling thread's own connection. Times are the database's; durations are
    seconds. Anything the database refuses is raised as Django's ``DatabaseError``.
    """

    dialect: ClassVar[Dialect]

    # What Django's system checks say of a connection's settings and of the models that are kept
    # there; the database is not asked. Without settings of the runner, these are wrong.
    check_settings: ClassVar[
        staticmethod[[Any, Sequence[Any], RunnerSettings | None], Iterator[CheckMessage]]
    ]

    # What the database knows about large tables, and what is wrong with it.
    statistics_class: ClassVar[type[Statistics]] = Statistics

    permits_class: ClassVar[type[Permits]] = Permits

    # Whether a wait for the database can be ended from outside, or ends when it pleases.
    interruptible = True

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.permits = self.permits_class(alias, self.transaction)
        self._lost_replies = LostReplies(alias, self.hand_back)
        self._session_lasts: Callable[[], bool] = lambda: False

    def is_waited_for_by(self, ident: int) -> bool:
        """Whether this thread waits for the database; asked where that wait cannot be ended."""
        raise NotImplementedError

    @property
    def statistics(self) -> Statistics:
        """For people who look after the database."""
        return self.statistics_class(self.alias)

    @property
    def connection(self) -> BaseDatabaseWrapper:
        """The calling thread's connection."""
        return connections[self.alias]

    def keeps_sessions(self, proven: Callable[[], bool]) -> None:
        """From now on ``session_lasts()`` answers what ``proven()`` does."""
        self._session_lasts = proven

    def session_lasts(self) -> bool:
        """Whether what is left in a session of the calling thread is still there the next time.

        False unless somebody has proven it: a pooler may give each statement another session.
        """
        return self._session_lasts()

    @contextmanager
    def transaction(self, patience: float | None = None) -> Iterator[None]:
        """A transaction that may write from its first statement on, at READ COMMITTED.

        ``patience`` are the seconds to wait for others to end where one only may write at a time;
        None for as long as the connection waits.

        What it raises was raised before the commit, or by it: of what user code has left to be
        called after the commit (``on_commit``), an error is logged, and the others are called.
        """
        outermost = not self.connection.in_atomic_block
        with transaction.atomic(using=self.alias):
            if outermost and self._has_other_isolation():
                with self.connection.cursor() as cursor:
                    cursor.execute(READ_COMMITTED)
            yield
            if outermost:
                log_errors_after_commit(self.connection)

    def _has_other_isolation(self) -> bool:
        """Whether the project has its own transactions run at another level than READ COMMITTED."""
        return False

    def inside(self) -> AbstractContextManager[None]:
        """Inside somebody's transaction a savepoint, so that an error does not break that."""
        return self.transaction() if self.connection.in_atomic_block else nullcontext()

    @abstractmethod
    def shortcomings(self) -> list[str]:
        """Sentences about this database's own settings that a runner will suffer from."""

    @property
    def switches_schemas(self) -> bool:
        """Whether each connection has a schema of its own, which its user sets: one a tenant."""
        return False

    def refusals(self, model: Any) -> list[str]:
        """Sentences that say why rows of ``model`` cannot be run on this database."""
        return []

    def missing_indexes(self, model: Any) -> list[tuple[str, str]]:
        """Sentences on a runner's indexes that a table lacks: that it does, and how to add each."""
        return []

    def own_statement_limit(self) -> float | None:
        """Seconds after which the server ends a statement by the project's own settings."""
        return None

    @abstractmethod
    def now(self) -> datetime:
        """The database's time."""

    def pauses(self, labels: Collection[str]) -> list[Paused]:
        """The pauses that are in force of these models, or of all."""
        return current(self.alias, labels)

    @abstractmethod
    def claim(
        self, model: Any, lanes: Sequence[Lane], lease: float, until: datetime | None = None
    ) -> list[Any]:
        """Claim due rows, each lane's oldest first; with ``until`` only what was due by then.

        The rows come back whole, carrying token and lease. A row whose lease had lapsed is taken
        over: that counts as one failure in the same write, and its token is odd. Not if its claim
        was revoked: what lapsed then is the check of a state in which the row is no longer.
        """

    @abstractmethod
    def peek(self, lanes: Mapping[Any, Sequence[Lane]]) -> dict[tuple[Any, str], float]:
        """Seconds until the first free row of each lane is due, below zero if it is already.

        Keyed by model and state; lanes without such a row are left out. One statement for all.
        """

    def due_keys(
        self, model: Any, state: str, column: str, after: Any, most: int
    ) -> list[tuple[Any, bool]]:
        """The next values of a column that rows of this state have, and which have due rows.

        ``column`` is the attribute; at most ``most`` values beyond ``after`` (None: from the first
        one), in their order. Where the look is from the first one, NULL comes before all, if it has
        due rows.
        """
        table = table_for(model, self.alias)
        rows = self._due_keys(table, state, column, after, most)
        values = table.loaded(column, [value for value, _ in rows])
        found = [(value, bool(due)) for value, (_, due) in zip(values, rows, strict=True)]
        if after is None and self._null_is_due(model, state, column):
            found.insert(0, (None, True))
        return found

    @abstractmethod
    def _due_keys(
        self, table: Table, state: str, column: str, after: Any, most: int
    ) -> list[tuple[Any, Any]]:
        """The values and whether rows are due, as the driver reads them; without NULL."""

    def _null_is_due(self, model: Any, state: str, column: str) -> bool:
        if not model._meta.get_field(column).null:
            return False
        rows: QuerySet[Any] = QuerySet(model, using=self.alias)
        indexed = Q(state__in=states_keyed_by(model, column))
        due = rows.filter(indexed, state=state, state_next__lte=DatabaseNow())
        return due.filter(**{f"{column}__isnull": True}).order_by("state_next").exists()

    @abstractmethod
    def settle(self, model: Any, outcomes: Sequence[Outcome], worker: str = "") -> set[Any]:
        """Write outcomes back and free their rows; returns the keys of the rows it changed.

        A row that is missing is either locked by somebody or no longer ours: ``still_held`` tells.
        Where transitions are logged, so are those that it wrote, as the work of ``worker``.
        """

    @abstractmethod
    def advance(
        self, model: Any, outcomes: Sequence[Outcome], lease: float, worker: str = ""
    ) -> list[Any]:
        """Write transitions as ``settle`` does, and keep the rows for their next checks.

        The rows it changed come back whole, under a new token (a graph may come back to the same
        state), leased for ``lease`` seconds: one write instead of a settling and a claim.
        """

    def renew(self, model: Any, fences: Sequence[Fence], lease: float) -> set[Any]:
        """Make the leases last ``lease`` seconds from now; returns the keys renewed.

        The due time moves along, so that long-running rows leave the head of their lane; that of a
        row that was touched stays behind the lease.
        """
        table = table_for(model, self.alias)
        end, params = self.dialect.later(self.connection, lease)
        after, later = self.dialect.later(self.connection, lease + TOUCHED)
        due = f"CASE WHEN {touched_sql(table.next, table.lease)} THEN {after} ELSE {end} END"
        # In this order: MySQL takes the new value of each column for what is assigned after it.
        changes = table.assignments({"state_next": due, "state_lease": end})
        return self._write_held(table, fences, (changes, later + params * 2), same_state=True)

    def hand_back(self, model: Any, fences: Sequence[Fence]) -> set[Any]:
        """Free rows that were not started: due at once, nothing counted, suspects still suspect."""
        # A suspect keeps a lease in the past: whoever claims it takes it over once more, which
        # counts the failure that is taken back here.
        table = table_for(model, self.alias)
        now, params = self.dialect.now(self.connection)
        suspect = f"{table.claim} %% 2 = 1"
        changes = table.assignments(
            {
                "state_failures": f"CASE WHEN {suspect} AND {table.failures} > 0 "
                f"THEN {table.failures} - 1 ELSE {table.failures} END",
                "state_lease": f"CASE WHEN {suspect} THEN {now} ELSE NULL END",
                "state_next": f"CASE WHEN {table.next} < {now} THEN {table.next} ELSE {now} END",
                "state_claim": "NULL",
            }
        )
        return self._write_held(table, fences, (changes, params * 3), same_state=False)

    def revoke(self, model: Any, fences: Sequence[Fence]) -> set[Any]:
        """Revoke our own claims of rows that somebody moved without doing so; returns the keys.

        They are due at once when they are released, since a renewal may have put that off.
        """
        table = table_for(model, self.alias)
        now, params = self.dialect.now(self.connection)
        due = f"CASE WHEN {table.next} < {now} THEN {table.next} ELSE {now} END"
        changes = table.assignments({"state_claim": revoked_sql(table.claim), "state_next": due})
        return self._write_held(table, fences, (changes, params * 2), same_state=False)

    def revoked(self, model: Any, fences: Sequence[Fence]) -> set[Any]:
        """The keys of those rows that were moved while they were held, and are not free yet."""
        return self.still_held(model, [each.revoked() for each in fences], same_state=False)

    def extend(self, model: Any, fences: Sequence[Fence], lease: float) -> set[Any]:
        """Renew the leases of claims that were revoked, whose checks still run; the due times stay.

        Returns the keys of the rows.
        """
        table = table_for(model, self.alias)
        end, params = self.dialect.later(self.connection, lease)
        fences = [each.revoked() for each in fences]
        changes = table.assignments({"state_lease": end})
        return self._write_held(table, fences, (changes, params), same_state=False)

    def release(self, model: Any, fences: Sequence[Fence]) -> set[Any]:
        """Free rows whose claims were revoked and whose checks have ended; returns the keys.

        They stay in the state, and due when, whoever moved them has written.
        """
        table = table_for(model, self.alias)
        changes = table.assignments({"state_lease": "NULL", "state_claim": "NULL"})
        fences = [each.revoked() for each in fences]
        return self._write_held(table, fences, (changes, []), same_state=False)

    @abstractmethod
    def _write_held(
        self, table: Table, fences: Sequence[Fence], changes: Term, *, same_state: bool
    ) -> set[Any]:
        """Apply ``changes`` to the rows that still carry their token and that nobody has locked.

        With ``same_state`` only to those that are in the state in which they were claimed, too.
        """

    @abstractmethod
    def still_held(
        self, model: Any, fences: Sequence[Fence], *, same_state: bool = True
    ) -> set[Any]:
        """The keys of those rows that still carry their token and, if asked, are in their state."""

    def key_at(self, rows: QuerySet[Any], position: int) -> Any:
        """The key at that position of ``rows`` (0 is the first), by key; None if they are fewer."""
        keys = rows.order_by("pk").values_list("pk", flat=True)
        return next(iter(keys[position : position + 1]), None)

    def sweep(self, rows: QuerySet[Any], target: State, worker: str = "") -> set[Any]:
        """Move those of ``rows`` that nobody has locked to ``target``; returns their keys.

        ``rows`` say by a condition, possibly over other tables, which row may move. They are locked
        first, in the order of their keys, and written in the same transaction: a row that somebody
        else has just moved is not moved again. Where transitions are logged, so are these, as the
        work of ``worker``.
        """
        model: Any = rows.model
        moved: QuerySet[Any] = QuerySet(model, using=self.alias)
        with self.transaction():
            # A join may bring a row twice.
            if logs_transitions(model):
                found = set(moments(locked(rows, skip=True)))
                log_moves(self.alias, model, [guarded(*each, target, worker) for each in found])
                keys = {key for key, _, _ in found}
            else:
                keys = {key for key, _ in keys_and_states(locked(rows, skip=True))}
            for some in portions(list(keys), MOST_KEYS):
                entered = entering(model, target, trace=trace_if_active())
                moved.filter(with_keys(model, some)).update(**entered)
        return keys

    def first_true(
        self, model: Any, guards: Sequence[Transition], keys: Collection[Any]
    ) -> dict[Any, Transition]:
        """The first of one state's ``guards`` that is true, by key; of other rows none is.

        A guard is not asked about a row of which an earlier one is true.
        """
        return first_true(model, guards, keys, self.alias)

    def probe(self, model: Any) -> None:
        """Raise ``DatabaseError`` if the table is not as statements expect it, which touch no row.

        A column that is not there, or is of another type; a table that cannot be written.
        """
        no_rows: QuerySet[Any] = QuerySet(model, using=self.alias).extra(where=["1 = 0"])
        list(no_rows)
        if hasattr(model, "state_graph"):
            now = DatabaseNow()
            no_rows.update(
                state=Value(""),  # as it is: no state has this name
                state_changed=now,
                state_next=now,
                state_lease=now,
                state_claim=0,
                state_failures=0,
            )
        else:
            table = self.connection.ops.quote_name(model._meta.db_table)
            with self.connection.cursor() as cursor:
                cursor.execute(f"INSERT INTO {table} SELECT * FROM {table} WHERE 1 = 0")

    def probe_all(self, model: Any) -> None:
        """Probe the table of ``model``, and those of the records beside it."""
        for table in _used_with(model):
            self.probe(table)

    def mismatch(self, model: Any, error: BaseException) -> tuple[Any, DatabaseError] | None:
        """The table that is not as statements expect it, if that is what ``error`` comes from.

        That of ``model``, or of the records beside it; with what the database says of it. Raises an
        outage.
        """
        for table in _used_with(model) if may_be_mismatch(error) else ():
            try:
                with self.inside():
                    self.probe(table)
            except DatabaseError as found:
                if not is_refusal(found):
                    raise
                return table, found
        return None

    def undeclared_states(self, model: Any, most: int) -> dict[str, int]:
        """The states that the graph does not declare, of rows with a due time, and how many there
        are, counted up to ``most``. A few look-ups in the index of due rows.
        """
        due: QuerySet[Any] = QuerySet(model, using=self.alias).filter(state_next__isnull=False)
        by_state, found = due.order_by("state", "state_next").values_list("state", flat=True), {}
        state = by_state.first()
        while state is not None:
            if state not in model.state_graph.states:
                found[state] = due.filter(state=state)[:most].count()
            state = by_state.filter(state__gt=state).first()
        return found

    def has_value(self, model: Any, key: Any, column: str, value: Any) -> bool:
        """Whether the row with this primary key has that value, as the database compares them."""
        rows: QuerySet[Any] = QuerySet(model, using=self.alias)
        return rows.filter(with_keys(model, [key]), **{column: value}).exists()

    def lock(self, model: Any, keys: Collection[Any]) -> set[Any]:
        """Lock those of these rows that nobody else has locked, in the caller's transaction.

        Returns their keys.
        """
        rows: QuerySet[Any] = QuerySet(model, using=self.alias)
        here = locked(rows.filter(with_keys(model, list(keys))), skip=True)
        return {key for key, _ in keys_and_states(here)}

    def locked_rows(self, model: Any, keys: Collection[Any]) -> tuple[list[Any], datetime | None]:
        """Lock, in the order of their keys, and read those of these rows that nobody has locked.

        Returns the database's time, too, if there are any.
        """
        rows: QuerySet[Any] = QuerySet(model, using=self.alias)
        wanted = rows.filter(with_keys(model, list(keys))).annotate(fsm_now_=DatabaseNow())
        found = [row for some in lockable(wanted) for row in locked(some, skip=True)]
        return found, max((row.__dict__.pop("fsm_now_") for row in found), default=None)

    def fired_events(
        self, label: str, hashes: Collection[int], now: datetime, most: int
    ) -> list[Event]:
        """The pending events of the rows of ``label`` with these hashes that have fired by ``now``.

        In the order of their rows and of their delivery; ``most`` at the most.
        """
        events: QuerySet[Event] = QuerySet(Event, using=self.alias)
        fired = events.filter(
            model=label, row_hash__in=hashes, state=EventStates.pending.name, fires_at__lte=now
        )
        return list(fired.order_by("row_hash", "fires_at", "pk")[:most])

    def with_stranded_rows(self, models: Collection[Any], older: float = 0.0) -> list[Any]:
        """The part of ``models`` that has stranded rows; one statement for all.

        Only rows count that entered their state ``older`` seconds ago, or before.
        """
        # The states are written out: SQLite takes no parameters for those of a partial index.
        parts, params, asked = [], [], []
        moment, values = self.dialect.later(self.connection, -older)
        for model in models:
            table, states = table_for(model, self.alias), checked_states(model.state_graph)
            if states:
                asked.append(model)
                params += values
                parts.append(
                    f"EXISTS (SELECT 1 FROM {table.name} WHERE {table.state} IN ("
                    + ", ".join(f"'{state}'" for state in states)
                    + f") AND {table.next} IS NULL AND {table.failures} = 0"
                    f" AND {table.changed} <= {moment})"
                )
        if not parts:
            return []
        (found,) = self._fetch(f"SELECT {', '.join(parts)}", params)
        return [model for model, has_some in zip(asked, found, strict=True) if has_some]

    def rescue_stranded(self, model: Any, most: int, older: float = 0.0) -> int:
        """Make up to ``most`` rows due that are in an automatic state with nothing due.

        Those that entered it ``older`` seconds ago, or before. Returns how many. They are locked in
        the order of their keys, then written.
        """
        rows: StatorQuerySet[Any] = StatorQuerySet(model, using=self.alias)
        since = DatabaseNow() - timedelta(seconds=older)
        with self.transaction():
            stranded = lockable(rows.stranded().filter(state_changed__lte=since)[:most])
            keys = [key for some in stranded for key, _ in keys_and_states(locked(some))]
            found = rows.filter(with_keys(model, keys))
            return found.update(state_next=DatabaseNow()) if keys else 0

    def _log_settled(self, model: Any, outcomes: Sequence[Outcome], worker: str) -> None:
        """Log the moves among outcomes that are written, in the transaction that has done that."""
        if logs_transitions(model):
            moved = [settled(each, worker) for each in outcomes if each.moved]
            log_moves(self.alias, model, moved)

    def _fetch(self, sql: str, params: list[Any]) -> list[Any]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)
            rows: list[Any] = cursor.fetchall()
            return rows


def _used_with(model: Any) -> list[Any]:
    """The tables without which rows of ``model`` are neither claimed nor settled."""
    tables = [model, FailureRecord, Pause]
    if logs_transitions(model):
        tables.append(TransitionRecord)
    if any(state.limits.are_asked for state in model.state_graph.states.values()):
        tables += [Permit, Bucket]
    return tables
