"""The bed: which limiters there are, what each needs, a server of one in a process of its own.

What serves is in `served.py` and `node/express.js`. What is good enough, the tests and the benchmark
say.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple
from uuid import UUID

from hilos_async import HilosSession, RateLimit
from hilos_async.testing import FakeHilos

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

_ROOT = Path(__file__).parents[2]
NODE = Path(__file__).parent / "node"


@dataclass(frozen=True)
class Limiter:
    """One limiter: what it allows, what it is made of, and what must be installed for it.

    ``leaky``: a bucket without burst, which refuses whatever comes too soon after the last request.
    ``approximate``: no exact window, so that its limit is not counted but approached.
    """

    name: str
    limit: RateLimit
    options: tuple[str, ...]  # for the process that serves it
    needs: tuple[str, ...]  # packages of Python, or programs
    leaky: bool = False
    approximate: bool = False

    @property
    def missing(self) -> str | None:
        """What is not installed here, and how it would be; ``None`` if all is there."""
        for need in self.needs:
            if need in ("nginx", "node") and shutil.which(need) is None:
                return f"{need} is missing: apt-get install {need}"
            if need == "express" and not (NODE / "node_modules" / "express-rate-limit").is_dir():
                return "express-rate-limit is missing: npm ci --prefix tests/limiters/node"
            if need not in ("nginx", "node", "express") and not importlib.util.find_spec(need):
                return f"{need} is missing: it is in the dependency group 'tests'"
        return None

    def command(self, work: bool) -> list[str]:
        """The command that serves it, with 30 to 60 ms of work for each request or with none."""
        last = "work" if work else "none"
        if "node" in self.needs:
            document = json.dumps(FakeHilos().document("0" * 32))
            return ["node", str(NODE / "express.js"), *self.options, last, document]
        return [sys.executable, "-m", "tests.limiters.served", *self.options, last]


_FIFTY = RateLimit(50)
_DRF = ("django", "rest_framework", "waitress")
_FLASK = ("flask", "flask_limiter", "waitress")
_SLOWAPI = ("fastapi", "slowapi", "uvicorn")
_NGINX = ("nginx", "uvicorn")
_NODE = ("node", "express")

LIMITERS = (
    Limiter("drf", _FIFTY, ("drf", "50/second"), _DRF),
    Limiter("flask-limiter", _FIFTY, ("flask", "50 per second", "fixed-window"), _FLASK),
    Limiter(
        "flask-counter",
        _FIFTY,
        ("flask", "50 per second", "sliding-window-counter"),
        _FLASK,
        approximate=True,
    ),
    Limiter(
        "flask-10s", RateLimit(100, 10), ("flask", "100 per 10 second", "fixed-window"), _FLASK
    ),
    Limiter("slowapi", _FIFTY, ("slowapi", "50/second"), _SLOWAPI),
    Limiter(
        "nginx-burst",
        _FIFTY,
        ("nginx", "50r/s", "burst=20 nodelay", "429"),
        _NGINX,
        approximate=True,
    ),
    Limiter("nginx", _FIFTY, ("nginx", "50r/s", "", "429"), _NGINX, leaky=True, approximate=True),
    Limiter(
        "nginx-503", _FIFTY, ("nginx", "50r/s", "", "503"), _NGINX, leaky=True, approximate=True
    ),
    Limiter(
        "nginx-5", RateLimit(5), ("nginx", "5r/s", "", "429"), _NGINX, leaky=True, approximate=True
    ),
    Limiter("express", _FIFTY, ("1000", "50", "false"), _NODE),
    Limiter("express-draft-7", _FIFTY, ("1000", "50", "draft-7"), _NODE),
    Limiter("express-minute", RateLimit(300, 60), ("60000", "300", "false"), _NODE),
    Limiter("express-minute-draft-7", RateLimit(300, 60), ("60000", "300", "draft-7"), _NODE),
)


@dataclass
class Server:
    """A limiter that runs: where, and after it has ended, how often it answered with which status."""

    url: str
    statuses: Counter[int] = field(default_factory=Counter[int])

    @property
    def accepted(self) -> int:
        return self.statuses[200]

    @property
    def refused(self) -> int:
        return self.statuses[429] + self.statuses[503]


@contextmanager
def running(limiter: Limiter, *, work: bool) -> Generator[Server]:
    """Serve it while the block runs."""
    with subprocess.Popen(
        limiter.command(work),
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, f"{limiter.name} did not start"
        server = Server(f"http://127.0.0.1:{port}/api")
        yield server
        counts, _ = process.communicate()
    server.statuses.update({int(status): n for status, n in json.loads(counts).items()})


class Run(NamedTuple):
    """How a session did."""

    fetched: int
    lost: int
    seconds: float
    limit: RateLimit | None  # what the session kept: the median over the second half of its lookups


async def fetch(
    url: str, pace: RateLimit | Literal["learn"], count: int, patience: float | None = None
) -> Run:
    """Fetch so many executions with a session of the library; after ``patience`` they count as lost."""
    async with HilosSession("a-key", base_url=url, pace=pace) as hilos:
        kept: list[RateLimit | None] = []
        began = time.monotonic()
        batch = await hilos.gather_executions(
            ids(count),
            timeout=patience,
            on_progress=lambda _: kept.append(hilos.stats.limit),
        )
        took = time.monotonic() - began
    # What is kept just now may be a try that is about to be refused.
    half = [limit for limit in kept[len(kept) // 2 :] if limit is not None]
    half.sort(key=lambda limit: limit.rate)
    learned = half[len(half) // 2] if half else None
    return Run(len(batch.executions), len(batch.errors), took, learned)


def ids(count: int) -> Iterator[str]:
    """So many different ids."""
    return (str(UUID(int=number)) for number in range(count))
