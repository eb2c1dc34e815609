"""The servers in Python and nginx: `python -m tests.limiters.served KIND OPTIONS... work|none`.

Each is a few lines around a limiter that others wrote, with an execution behind it. It prints its port,
serves until its standard input ends, and prints how often it answered with which status.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hilos_async.testing import FakeHilos

if TYPE_CHECKING:
    from collections.abc import Callable

_ANY_ID = "00000000-0000-0000-0000-000000000000"
_DOCUMENT = json.dumps(FakeHilos().document(_ANY_ID))
_THREADS = 16
_PATH = "/api/flow-execution/"

statuses: list[int] = []  # an append is safe in any thread


def document(id: object) -> bytes:
    """The body of the good reply for that id."""
    return _DOCUMENT.replace(_ANY_ID, str(id)).encode()


def seconds_of_work() -> float:
    return random.uniform(0.03, 0.06) if sys.argv[-1] == "work" else 0.0


# --- Django REST Framework's throttle, in threads


def drf(rate: str) -> int:
    import django
    from django.conf import settings
    from django.http import HttpResponse

    settings.configure(
        ALLOWED_HOSTS=["*"],
        CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
        INSTALLED_APPS=["rest_framework"],
        REST_FRAMEWORK={
            "DEFAULT_AUTHENTICATION_CLASSES": [],
            "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
            "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.AnonRateThrottle"],
            "DEFAULT_THROTTLE_RATES": {"anon": rate},
            "UNAUTHENTICATED_USER": None,
        },
        ROOT_URLCONF=__name__,
        USE_TZ=True,
    )
    django.setup()
    from django.core.wsgi import get_wsgi_application
    from django.urls import path
    from rest_framework.decorators import api_view

    def execution(request: object, id: object) -> HttpResponse:
        time.sleep(seconds_of_work())
        return HttpResponse(document(id), content_type="application/json")

    urlpatterns.append(path(f"{_PATH[1:]}<uuid:id>", api_view(["GET"])(execution)))
    return in_threads(get_wsgi_application())


urlpatterns: list[Any] = []  # Django looks for it in this module


# --- flask-limiter in threads, which counts as its strategy says


def flask(rate: str, strategy: str) -> int:
    from flask import Flask, Response
    from flask_limiter import Limiter
    from flask_limiter.util import get_remote_address

    app = Flask(__name__)
    Limiter(
        get_remote_address,
        app=app,
        default_limits=[rate],
        storage_uri="memory://",
        strategy=strategy,
    )

    def execution(id: object) -> Response:
        time.sleep(seconds_of_work())
        return Response(document(id), mimetype="application/json")

    app.add_url_rule(f"{_PATH}<uuid:id>", view_func=execution)
    return in_threads(app)


def in_threads(app: Any) -> int:
    """Serve a WSGI application with waitress, count its replies, and give the port."""
    from waitress.server import create_server

    def counting(environ: Any, start_response: Any) -> Any:
        def start(status: str, *rest: Any) -> Any:
            statuses.append(int(status[:3]))
            return start_response(status, *rest)

        return app(environ, start)

    server: Any = create_server(counting, host="127.0.0.1", port=0, threads=_THREADS)
    threading.Thread(target=server.run, daemon=True).start()
    return int(server.effective_port)


# --- slowapi, a moving window that tells its limit


def slowapi(rate: str) -> int:
    from fastapi import FastAPI, Request, Response
    from slowapi import Limiter, _rate_limit_exceeded_handler
    from slowapi.errors import RateLimitExceeded
    from slowapi.util import get_remote_address

    app = FastAPI()
    limiter = Limiter(
        key_func=get_remote_address,
        key_style="endpoint",  # one limit for all ids
        strategy="moving-window",
        headers_enabled=True,
    )
    app.state.limiter = limiter
    app.exception_handler(RateLimitExceeded)(_rate_limit_exceeded_handler)

    async def execution(request: Request, id: str) -> Response:
        await asyncio.sleep(seconds_of_work())
        return Response(document(id), media_type="application/json")

    # Its annotations are read here, where the names are known.
    execution.__annotations__.update(request=Request, id=str, **{"return": Response})
    app.get(_PATH + "{id}")(limiter.limit(rate)(execution))

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        async def count(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            await send(message)

        await app(scope, receive, count)

    return on_a_loop(counting)


# --- nginx's limit_req in front of a server without a limit

_NGINX = """
daemon off; master_process off; pid {dir}/pid; error_log {dir}/errors;
events {{ worker_connections 1024; }}
http {{
    log_format status '$status'; access_log {dir}/statuses status;
    client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
    limit_req_zone $binary_remote_addr zone=all:1m rate={rate};
    limit_req_status {status};
    upstream behind {{ server 127.0.0.1:{behind}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            limit_req zone=all {burst};
            proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection "";
        }}
    }}
}}
"""


def nginx(rate: str, burst: str, status: str, dir: Path) -> subprocess.Popen[bytes]:
    """Start it and print its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    (dir / "conf").write_text(
        _NGINX.format(
            dir=dir, rate=rate, burst=burst, status=status, behind=on_a_loop(behind), port=port
        )
    )
    process = subprocess.Popen(["nginx", "-e", str(dir / "errors"), "-c", str(dir / "conf")])
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.01)
        else:
            break
    print(port, flush=True)
    return process


async def behind(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application that answers everything with an execution."""
    await asyncio.sleep(seconds_of_work())
    body = document(scope["path"].rpartition("/")[2])
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def on_a_loop(app: Any) -> int:
    """Serve an ASGI application with uvicorn in a thread, and give the port."""
    import uvicorn

    sock = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, args=([sock],), daemon=True).start()
    return int(sock.getsockname()[1])


def main() -> None:
    logging.disable()
    kind, *options = sys.argv[1:-1]
    if kind == "nginx":
        rate, burst, status = options
        with tempfile.TemporaryDirectory() as dir:
            process = nginx(rate, burst, status, Path(dir))
            sys.stdin.read()
            process.terminate()
            process.wait()
            statuses.extend(map(int, (Path(dir) / "statuses").read_text().split()))
    else:
        kinds: dict[str, Callable[..., int]] = {"drf": drf, "flask": flask, "slowapi": slowapi}
        print(kinds[kind](*options), flush=True)
        sys.stdin.read()
    print(json.dumps(Counter(statuses)), flush=True)
    os._exit(0)  # whatever its threads are doing


if __name__ == "__main__":
    main()
