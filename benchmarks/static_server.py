"""nginx on loopback with prepared replies: a server that is not the bottleneck.

Knows two accounts under one server: `same`, where 40 campaigns repeat, and `varied`, where the flow
of every execution is another. Any id of the form `{campaign:02x}000000-0000-4000-8000-{n:012}` is
answered with that id. Refuses to know what is measured. Linux only.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from benchmarks.speed_clients import CAMPAIGNS, execution_id
from hilos_async.testing import FakeHilos

if TYPE_CHECKING:
    from collections.abc import Iterator

# The order in which nginx is looked for: Debian keeps it out of a plain user's PATH.
_PLACES = ("nginx", "/usr/sbin/nginx", "/usr/local/sbin/nginx")
_DESCRIPTION = (
    "Versión revisada con el equipo de soporte: se acortó el saludo, se añadió la opción de hablar "
    "con una persona después del segundo intento y se corrigió la fecha de la promoción. La rama de "
    "quienes no contestan en veinticuatro horas envía un solo recordatorio y termina. Pendiente para "
    "la próxima versión: separar a los clientes con compra en los últimos noventa días y medir "
    "cuántos piden que ya no se les escriba."
)
# Stand for what nginx puts in; the number stands where JSON wants one.
_ID, _DIGITS, _COUNT = "@id@", "@digits@", 987_654_321_987
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class NoServerError(RuntimeError):
    """There is no nginx here, or it did not start."""


def documents() -> list[dict[str, object]]:
    """One execution of each of the 40 campaigns, about 3 KB each as JSON."""
    fake = FakeHilos()
    found: dict[object, dict[str, object]] = {}
    number = 0
    while len(found) < CAMPAIGNS:
        document = fake.document(UUID(int=number))
        flow, version = document["flow"], document["flow_version"]
        assert isinstance(flow, dict)
        assert isinstance(version, dict)
        # The strict peers refuse a null that the contract does not promise.
        if document["last_run_on"] and document["status_last_change_on"]:
            version["version_description"] = _DESCRIPTION
            found.setdefault(flow["id"], document)
        number += 1
    return list(found.values())


def bodies(*, varied: bool) -> list[str]:
    """The replies as nginx writes them, with its variables where the id goes."""
    return [_body(document, varied=varied) for document in documents()]


def _body(document: dict[str, object], *, varied: bool) -> str:
    document["id"] = _ID
    version = document["flow_version"]
    assert isinstance(version, dict)
    if varied:
        for part in (document["flow"], version["flow"], version):
            assert isinstance(part, dict)
            part["id"] = part["id"][:-6] + _DIGITS
            part["created_on"] = part["created_on"].replace(
                part["created_on"][-12:-6], _DIGITS
            )  # the microseconds
        for part in (document["flow"], version["flow"]):
            assert isinstance(part, dict)
            part["name"] = f"{part['name']} {_DIGITS}"
        version["num_contacts"] = version["completed"] = _COUNT
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    assert not set(text) & set("$'\\"), "nginx would read that as its own"
    text = text.replace(_ID, "${id}").replace(_DIGITS, "${digits}")
    return text.replace(str(_COUNT), "1${digits}")


class StaticServer:
    """A running nginx: `same` and `varied` are the base URLs of its two accounts."""

    def __init__(self, port: int, worker: int) -> None:
        self.same = f"http://127.0.0.1:{port}/same"
        self.varied = f"http://127.0.0.1:{port}/varied"
        self._worker = worker

    def cpu(self) -> float:
        """The CPU time of the worker so far, in seconds."""
        return int(Path(f"/proc/{self._worker}/schedstat").read_text().split()[0]) / 1e9


@contextlib.contextmanager
def serve(core: int | None = None) -> Iterator[StaticServer]:
    """Run nginx with one worker, on that core if one is named.

    Raises ``NoServerError`` where nginx is missing or does not start.
    """
    program = next(filter(None, map(shutil.which, _PLACES)), None)
    if program is None:
        raise NoServerError(
            "these figures need nginx, which is not installed: apt-get install nginx-light "
            "(nothing has to run; the benchmark starts one of its own on loopback)"
        )
    with tempfile.TemporaryDirectory(prefix="hilos-speed-") as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        (Path(folder) / "nginx.conf").write_text(_configuration(Path(folder), port, core))
        command = [program, "-p", folder, "-c", "nginx.conf", "-e", "error.log"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as master:
            try:
                yield StaticServer(port, _worker(master, port))
            finally:
                master.terminate()


def _worker(master: subprocess.Popen[str], port: int) -> int:
    """Wait until it answers with the right ids; the process id of its worker."""
    for _ in range(200):
        if master.poll() is not None:
            assert master.stderr is not None
            raise NoServerError(f"nginx did not start: {master.stderr.read().strip()}")
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        time.sleep(0.02)
    for account in ("same", "varied"):
        for number in (7, 123_456):
            wanted = execution_id(number)
            url = f"http://127.0.0.1:{port}/{account}/flow-execution/{wanted}"
            with urllib.request.urlopen(url, timeout=5) as reply:
                answered = json.load(reply)["id"]
            if answered != str(wanted):
                raise NoServerError(f"nginx answered {wanted} with {answered}")
    children = Path(f"/proc/{master.pid}/task/{master.pid}/children")
    return int(children.read_text().split()[0])


def _configuration(folder: Path, port: int, core: int | None) -> str:
    affinity = "" if core is None else f"worker_cpu_affinity 1{'0' * core};"
    temporary = "\n".join(f"  {name}_temp_path {folder / name};" for name in _TEMPORARY)
    # A prefix finds its place in a tree: a regular expression each would be tried one by one.
    locations = "\n".join(
        f"    location ^~ /{account}/flow-execution/{campaign:02x} {{ return 200 '{body}'; }}"
        for account in ("same", "varied")
        for campaign, body in enumerate(bodies(varied=account == "varied"))
    )
    return f"""
daemon off;
worker_processes 1;
{affinity}
pid {folder / "pid"};
events {{ worker_connections 2048; }}
http {{
{temporary}
  access_log off;
  default_type application/json;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  map $uri $id {{ default ""; "~/(?<asked>[0-9a-f-]{{36}})$" $asked; }}
  map $uri $digits {{ default 000000; "~(?<last>[0-9]{{6}})$" $last; }}
  server {{
    listen 127.0.0.1:{port};
{locations}
  }}
}}
"""
