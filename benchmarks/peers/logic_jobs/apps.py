from __future__ import annotations

from django.apps import AppConfig


class LogicJobsConfig(AppConfig):
    name = "benchmarks.peers.logic_jobs"
    label = "logic_jobs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django_logic import ProcessManager

        from benchmarks.peers.logic_jobs.models import Job
        from benchmarks.peers.logic_jobs.process import JobProcess

        ProcessManager.bind_model_process(Job, JobProcess, state_field="status")
