"""Several workers, as they were when they were looked up, and orders to all of them."""

from __future__ import annotations

from collections.abc import Callable

from django_fsmworker.exceptions import WorkerUnavailable
from django_fsmworker.models.worker import Worker


class Workers(tuple[Worker, ...]):
    """Workers that were looked up together; those that have gone meanwhile take no orders.

    Each verb returns the ids of the workers that took the order.
    """

    def suspend(self, *, by: str = "", reason: str = "") -> list[str]:
        """Let them claim nothing more; what they run goes on to its end."""
        return self._each(lambda worker: worker.suspend(by=by, reason=reason))

    def resume(self, *, by: str = "", reason: str = "") -> list[str]:
        """Let suspended ones go on."""
        return self._each(lambda worker: worker.resume(by=by, reason=reason))

    def stop(self, *, by: str = "", reason: str = "") -> list[str]:
        """Let them drain and end."""
        return self._each(lambda worker: worker.stop(by=by, reason=reason))

    def show_stacks(self, timeout: float = 15.0) -> dict[str, str]:
        """The stacks of their threads by id; ``timeout`` seconds for each."""
        stacks: dict[str, str] = {}
        self._each(lambda worker: stacks.update({worker.id: worker.show_stacks(timeout)}))
        return stacks

    def _each(self, tell: Callable[[Worker], None]) -> list[str]:
        took = []
        for worker in self:
            try:
                tell(worker)
            except WorkerUnavailable:
                continue
            took.append(worker.id)
        return took
