"""A policy server as a process that can be watched from outside: prints its address, ends with its standard input."""

import asyncio
import sys
import threading

from served import KnownTogether

from vla.serving import PolicyServer
from vla.serving_options import ServerOptions


async def run():
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def wait():
        sys.stdin.read()
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait, daemon=True).start()
    options = ServerOptions(port=0, handshake_s=1.0, message_s=1.0, ping_s=1.0, idle_s=300.0)
    await PolicyServer(KnownTogether(), options).run(stop, lambda host, port: print(f"{host} {port}", flush=True))


if __name__ == "__main__":
    asyncio.run(run())
