"""The campaign board on campaigns of this machine: no key, no network, and in two minutes they end.

python demo.py
"""

import argparse
import asyncio
import contextlib

from app import HERE, Server, create_app
from board import Board

from hilos_async.testing import FakeHilos, FakeLimit, Fault


async def main(port: int) -> None:
    """Serve the board, and the API that it asks: 5 requests per second, one in ten fails."""
    ids = (HERE / "ids.txt").read_text().split()
    broken, missing = ids[3], ids[8]
    faults = [Fault.status(500, ids=[broken]), Fault.status(503, share=0.1)]
    async with FakeHilos(limit=FakeLimit(5), lifetime=120, faults=faults) as fake:
        fake.remove(missing)
        board = Board(ids)
        await Server(create_app(board, fake.session), board, port).serve()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Show the board on campaigns of this machine.")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(options.port))
