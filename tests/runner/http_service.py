"""A program that answers every HTTP request after 20 to 50 ms, one for ``/slow`` after a minute.

It prints its port. Beside the runner, not in its process: it would take the runner's time.
"""

from __future__ import annotations

import asyncio
import random


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if length := head.lower().partition(b"content-length: ")[2]:
                await reader.readexactly(int(length.partition(b"\r\n")[0]))
            await asyncio.sleep(60 if b" /slow " in head else random.uniform(0.02, 0.05))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def serve() -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
