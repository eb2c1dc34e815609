"""The benchmarks can be started, and what they compare with is what they say; nothing is measured."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("resource", reason="the benchmarks need Unix")

from benchmarks import levers, speed, speed_guard, static_server
from benchmarks.speed_chart import _PANEL, draw
from benchmarks.speed_clients import CLIENTS
from benchmarks.speed_clients.contract import contract
from benchmarks.speed_clients.levers import LEVERS
from benchmarks.speed_clients.pending import WAYS
from benchmarks.speed_measure import PENDING
from benchmarks.speed_report import Results, aims, report
from hilos_async import FlowExecution
from tests.markdown_blocks import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping


@pytest.mark.parametrize(
    "arguments",
    [["--accept"], ["--rounds", "0"], ["--count", "many"], ["--peers", "naive,curl"], ["now"]],
    ids=str,
)
def test_arguments_that_make_no_sense_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        speed.main(arguments)
    assert stopped.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_without_nginx_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.static_server.shutil.which", lambda name: None)
    assert speed.main(["--quick"]) == 2
    assert "apt-get install nginx-light" in capsys.readouterr().err


@pytest.mark.parametrize("varied", [False, True])
def test_replies_are_executions_of_forty_campaigns_and_three_kilobytes(varied: bool) -> None:
    answers = [
        [
            FlowExecution.from_json(body.replace("${id}", str(id)).replace("${digits}", digits))
            for body in static_server.bodies(varied=varied)
        ]
        for id, digits in (
            ("00000000-0000-4000-8000-000000123456", "123456"),
            ("00000000-0000-4000-8000-000000000007", "000007"),
        )
    ]
    flows = {execution.flow.id for answer in answers for execution in answer}
    assert len(flows) == 40 * (1 + varied)
    for execution in answers[0]:
        assert execution.flow == execution.flow_version.flow
    sizes = [len(body.encode()) for body in static_server.bodies(varied=varied)]
    assert 2_900 < sum(sizes) / len(sizes) < 3_400


def test_the_contract_for_generators_fits_the_replies() -> None:
    schemas = contract()["components"]["schemas"]

    def check(document: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
        properties = schema["properties"]
        assert set(schema["required"]) <= document.keys() <= properties.keys()
        for name, value in document.items():
            if value is None:
                assert properties[name].get("nullable"), name
            elif isinstance(value, dict) and "allOf" in properties[name]:
                check(value, schemas[properties[name]["allOf"][0]["$ref"].rpartition("/")[2]])

    for document in static_server.documents():
        check(document, schemas["FlowExecution"])


def test_every_client_can_be_told_from_the_others() -> None:
    assert len({client.title for client in CLIENTS.values()}) == len(CLIENTS)
    for name in ("naive", "floor", "lean", "hilos"):
        assert CLIENTS[name].missing() == []
        assert callable(CLIENTS[name].function())


def test_the_guard_sees_what_became_worse(capsys: pytest.CaptureFixture[str]) -> None:
    accepted = dict.fromkeys(speed_guard.TOLERANCE, 100.0)
    assert not speed_guard.compare(accepted, accepted)
    assert not speed_guard.compare(accepted, dict.fromkeys(accepted, 50.0))
    assert speed_guard.compare(accepted, accepted | {"instructions, × naive": 103.0})
    assert not speed_guard.compare(accepted, {"CPU, × naive": 105.0})
    assert "not compared" in capsys.readouterr().out


def test_what_was_accepted_is_what_the_guard_compares() -> None:
    accepted = json.loads(speed_guard.ACCEPTED.read_text(encoding="utf-8"))
    assert accepted["figures"].keys() == speed_guard.TOLERANCE.keys()


_WITHOUT = """
import asyncio, sys
from uuid import UUID
from benchmarks.speed_clients.levers import LEVERS
from hilos_async.testing import FakeHilos
LEVERS[sys.argv[1]][1]()
async def main():
    async with FakeHilos() as fake, fake.session(pace="off") as hilos:
        batch = await hilos.gather_executions([UUID(int=number) for number in range(20)])
        assert batch and len(batch) == 20, batch
asyncio.run(main())
"""


def test_every_lever_can_be_switched_off_alone() -> None:
    runs = {
        name: subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _WITHOUT, name],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in LEVERS
    }
    assert {name: run.communicate()[1] for name, run in runs.items()} == dict.fromkeys(runs, "")


def test_tables_and_picture_show_every_client() -> None:
    speeds = ("cpu", "kernel", "wall", "peak", "single", "server")
    results = Results(
        count=1,
        rounds=[{name: dict.fromkeys(speeds, 1e-4) for name in CLIENTS}],
        kept={name: {"same": 2_048.0, "varied": 4_096.0} for name in CLIENTS},
        decoded={"body bytes": 3_000.0, "hilos_async, in a session": 5e-6},
        pending={way: [{"bytes": 10.0, "cpu": 0.0} for _ in PENDING] for way in WAYS.values()},
        scale={"hilos": (1e-4, 1e-4, 1.0)},
        imports={"hilos_async": 0.1},
        skipped={},
    )
    text, picture = report(results), draw(results)
    for client in CLIENTS.values():
        assert client.title in text
    assert "| memory kept, 40 campaigns" in aims(results)
    assert picture.count('class="bar') == 2 * len(CLIENTS)
    for end in re.findall(r'<rect class="(?:bar|more)[^>]* width="([\d.]+)"', picture):
        assert float(end) <= _PANEL, "a bar runs beyond its axis"


def test_the_page_includes_what_the_benchmark_writes() -> None:
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    for written in (
        speed.TABLES.relative_to(ROOT),
        speed.PICTURE.relative_to(ROOT / "docs"),
        levers.TABLE.relative_to(ROOT),
    ):
        assert str(written) in page
