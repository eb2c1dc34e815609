"""The campaign board's server: its page, and the events that the page lives on.

Knows FastAPI and uvicorn. What the page is told is left to `board.py`, how it looks to `static/`.

With `pip install ".[fastapi]" uvicorn` in the checkout of this example, a key in HILOS_API_KEY and a
file of ids, one a line:

    python app.py ids.txt
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn
from board import Board
from fastapi import FastAPI
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles

from hilos_async import HilosSession
from hilos_async.fastapi import HilosDep, hilos_lifespan

HERE = Path(__file__).parent


def create_app(board: Board, factory: Callable[[], HilosSession] = HilosSession) -> FastAPI:
    """The page, what it is made of, and the events that it lives on."""
    app = FastAPI(lifespan=hilos_lifespan(factory), openapi_url=None)
    app.mount("/static", StaticFiles(directory=HERE / "static"))

    @app.get("/")
    async def page() -> FileResponse:
        policy = "default-src 'self'; frame-ancestors 'none'"
        return FileResponse(HERE / "page.html", headers={"Content-Security-Policy": policy})

    @app.get("/events")
    async def events(hilos: HilosDep) -> StreamingResponse:
        board.follow(hilos)
        # A proxy or a GZipMiddleware that keeps the events to send them later would keep them for ever.
        headers = {
            "Cache-Control": "no-store",
            "Content-Encoding": "identity",
            "X-Accel-Buffering": "no",
        }
        return StreamingResponse(
            board.events(hilos), headers=headers, media_type="text/event-stream"
        )

    return app


class Server(uvicorn.Server):
    """uvicorn that stops when it is told to: it waits for every answer, and events never end."""

    def __init__(self, app: FastAPI, board: Board, port: int) -> None:
        super().__init__(uvicorn.Config(app, port=port))
        self._board = board

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Let the browsers go first."""
        self._board.closing = True
        super().handle_exit(sig, frame)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Show how campaigns move, on one page.")
    parser.add_argument("ids", type=Path, help="a file of ids, one a line")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    board = Board(options.ids.read_text("utf-8-sig").split())
    Server(create_app(board), board, options.port).run()
