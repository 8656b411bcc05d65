"""Who they are, at which versions, and with which settings: everything that may be argued about."""

from __future__ import annotations

from dataclasses import dataclass

PSYCOPG = "psycopg[binary,pool]==3.3.9"


@dataclass(frozen=True)
class Setting:
    """Options of a peer's worker, how many jobs to drain with them, and processes to start."""

    name: str
    jobs: int
    options: tuple[str, ...] = ()
    processes: int = 1

    def together(self, processes: int) -> Setting:
        """The same in so many processes, with as much work for each of them."""
        name = self.name.removeprefix(f"{self.processes} processes, ")
        jobs = self.jobs * processes // self.processes
        return Setting(f"{processes} x {name}", jobs, self.options, processes)


@dataclass(frozen=True)
class Peer:
    """``left``: SQL that counts the jobs which are not finished."""

    name: str
    module: str
    requirements: tuple[str, ...]
    default: Setting
    best: Setting
    left: str


PEERS = (
    Peer(
        "PgQueuer",
        "pgqueuer",
        ("pgqueuer==1.6.0", "asyncpg==0.32.0", "uvloop==0.23.0"),
        Setting("default", 15_000),
        Setting("batch_size=1000", 40_000, ("batch_size=1000",)),
        "SELECT count(*) FROM pgqueuer",
    ),
    Peer(
        "pgqrs",
        "pgqrs",
        ("pgqrs==0.15.3", "psycopg[binary]==3.3.9"),
        Setting("documented loop", 1_000),
        Setting("batches of 100", 40_000, ("batch=100",)),
        "SELECT count(*) FROM pgqrs_messages WHERE archived_at IS NULL",
    ),
    Peer(
        "Oban",
        "oban",
        ("oban==0.7.0", PSYCOPG, "uvloop==0.23.0"),
        Setting("default (limit=10)", 5_000),
        Setting("limit=200", 10_000, ("limit=200",)),
        "SELECT count(*) FROM oban_jobs WHERE state <> 'completed'",
    ),
    Peer(
        "procrastinate",
        "procrastinate",
        ("procrastinate==3.10.0", PSYCOPG),
        Setting("default (concurrency=1)", 600),
        Setting("concurrency=30", 1_000, ("concurrency=30",)),
        "SELECT count(*) FROM procrastinate_jobs WHERE status <> 'succeeded'",
    ),
    Peer(
        "django-tasks-db",
        "django_tasks_db",
        ("django==6.0.10", "django-tasks-db==0.13.0", PSYCOPG),
        Setting("default", 300),
        Setting("4 processes, persistent", 1_000, ("conn_max_age=None",), processes=4),
        "SELECT count(*) FROM django_tasks_database_dbtaskresult WHERE status <> 'SUCCESSFUL'",
    ),
    Peer(
        "django-ox",
        "django_ox",
        ("django==6.0.10", "django-ox==1.9.1", PSYCOPG),
        Setting("default", 500),
        Setting("concurrency=16, persistent", 2_000, ("concurrency=16",)),
        "SELECT count(*) FROM django_ox_oxtask WHERE status <> 'SUCCESSFUL'",
    ),
    Peer(
        "django-absurd",
        "django_absurd",
        ("django==6.0.10", "django-absurd==1.0.1", PSYCOPG),
        Setting("default", 500),
        Setting("concurrency=50", 2_000, ("concurrency=50",)),
        "SELECT count(*) FROM absurd.t_default WHERE state <> 'completed'",
    ),
    Peer(
        "django-logic",
        "django_logic",
        ("django==6.0.10", "django-logic==2.4.2", PSYCOPG),
        Setting("default", 100),
        Setting("concurrency=4", 200, ("concurrency=4",)),
        "SELECT count(*) FROM logic_jobs_job WHERE status <> 'done'",
    ),
)


def chosen(names: str | None) -> list[Peer]:
    """The peers named in `names`, separated by commas; all if it is None, none if it is empty."""
    if names is None:
        return list(PEERS)
    known = {peer.name.lower(): peer for peer in PEERS}
    wanted = [name.strip().lower() for name in names.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in known]:
        raise SystemExit(f"There is no peer {unknown[0]!r}; there are: {', '.join(known)}.")
    return [known[name] for name in wanted]
