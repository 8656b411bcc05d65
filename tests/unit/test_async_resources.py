"""``per_loop()``: one object for each event loop, closed at that loop's end."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest
from asgiref.sync import async_to_sync

from django_fsmworker.async_resources import per_loop


class Resource:
    """What remembers where it was closed."""

    made: list[Resource]

    def __init__(self) -> None:
        self.closed_on: object = None
        self.made.append(self)

    async def _close(self) -> None:
        await asyncio.sleep(0)
        self.closed_on = asyncio.get_running_loop()


class Client(Resource):
    async def aclose(self) -> None:
        await self._close()


class Session(Resource):
    async def close(self) -> None:
        await self._close()


class Pool(Resource):
    async def __aexit__(self, *error: object) -> None:
        await self._close()


class File(Resource):
    def close(self) -> None:
        self.closed_on = asyncio.get_running_loop()


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[Resource]:
    resources: list[Resource] = []
    monkeypatch.setattr(Resource, "made", resources, raising=False)
    return resources


class TestPerLoop:
    def test_is_one_for_all_on_a_loop(self, made: list[Resource]) -> None:
        client = per_loop(Client)

        async def ask() -> Client:
            await asyncio.sleep(0)
            return client()

        async def run() -> list[Client]:
            return await asyncio.gather(*(ask() for _ in range(10)))

        found = asyncio.run(run())

        assert found == [made[0]] * 10
        assert len(made) == 1

    def test_is_made_when_first_asked_for(self, made: list[Resource]) -> None:
        per_loop(Client)

        assert not made

    def test_each_loop_has_its_own(self) -> None:
        client = per_loop(Client)

        async def ask() -> Client:
            return client()

        assert asyncio.run(ask()) is not asyncio.run(ask())

    def test_each_factory_has_its_own(self, made: list[Resource]) -> None:
        first, second = per_loop(Client), per_loop(Client)

        async def ask() -> bool:
            return first() is second()

        assert not asyncio.run(ask())
        assert all(each.closed_on for each in made)

    def test_without_a_loop(self) -> None:
        with pytest.raises(RuntimeError, match="no running event loop"):
            per_loop(Client)()

    def test_a_factory_that_fails_is_asked_again(self, made: list[Resource]) -> None:
        errors = [ValueError("no")]

        def make() -> Client:
            if errors:
                raise errors.pop()
            return Client()

        client = per_loop(make)

        async def ask() -> Client:
            with pytest.raises(ValueError, match="no"):
                client()
            return client()

        assert asyncio.run(ask()).closed_on


class TestEnd:
    @pytest.mark.parametrize("kind", [Client, Session, Pool, File])
    def test_is_closed_on_its_loop(self, kind: type[Resource]) -> None:
        client = per_loop(kind)

        async def ask() -> tuple[Resource, object]:
            return client(), asyncio.get_running_loop()

        made, loop = asyncio.run(ask())

        assert made.closed_on is loop

    def test_what_has_no_end_needs_none(self) -> None:
        limit = per_loop(lambda: asyncio.Semaphore(2))

        async def ask() -> bool:
            async with limit():
                return limit().locked()

        assert asyncio.run(ask()) is False

    def test_with_a_loop_of_asgiref(self) -> None:
        client = per_loop(Client)

        async def ask() -> Client:
            return client()

        assert async_to_sync(ask)().closed_on

    def test_when_the_coroutine_fails(self, made: list[Resource]) -> None:
        client = per_loop(Client)

        async def ask() -> None:
            client()
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            asyncio.run(ask())

        assert made[0].closed_on

    def test_one_that_fails_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        class Broken(Client):
            async def aclose(self) -> None:
                raise ValueError("no")

        broken, client = per_loop(Broken), per_loop(Client)

        async def ask() -> Client:
            broken()
            return client()

        with caplog.at_level(logging.ERROR, logger="asyncio"):
            made = asyncio.run(ask())

        assert made.closed_on
        assert "an error occurred during closing of asynchronous generator" in caplog.text

    def test_a_loop_that_is_closed_at_once_is_forgotten(self) -> None:
        client = per_loop(Client)

        async def ask() -> Client:
            return client()

        loop = asyncio.new_event_loop()
        lost = loop.run_until_complete(ask())
        loop.close()
        made = asyncio.run(ask())
        gc.collect()

        assert lost is not made
        assert lost.closed_on is None
        assert not client._held
