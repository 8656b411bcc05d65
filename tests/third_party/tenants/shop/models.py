"""What each tenant has in its schema."""

from __future__ import annotations

from django.db import connection, models

from django_fsmworker.graph import State, StateGraph
from django_fsmworker.models import StateField, StatorModel


class JobStates(StateGraph):
    new = State()
    done = State()
    held = State(manual=True)

    new.transitions_to(done)
    new.transitions_to(held)
    held.transitions_to(done)

    @classmethod
    def check_new(cls, job: Job) -> State:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_schema()")
            (job.seen_from,) = cursor.fetchone()
        job.save()
        if job.fails:
            raise RuntimeError("it was made to fail")
        return cls.done


class Job(StatorModel):
    state = StateField(JobStates)
    fails = models.BooleanField(default=False)
    seen_from = models.CharField(max_length=63, blank=True)
