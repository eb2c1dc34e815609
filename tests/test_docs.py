"""What the README and the pages say is true: their examples run, and print what the page shows."""

from __future__ import annotations

import ast
import contextlib
import io
import itertools
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest

from hilos_async.testing import FakeHilos
from tests.markdown_blocks import PAGES, ROOT, Block, blocks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

TUTORIAL = [block for block in blocks("python", "console") if block.path.name == "tutorial.md"]
PYTHON = [block for block in blocks("python") if block not in TUTORIAL]
CONSOLE = [block for block in blocks("console") if block not in TUTORIAL]
PATIENCE = 60.0
PACKAGE = ROOT / "hilos_async"
REFERENCE = ROOT / "docs" / "reference"


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[FakeHilos]:
    """The server that the environment points every example at, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    async with FakeHilos() as server:
        monkeypatch.setenv("HILOS_API_KEY", server.token)
        monkeypatch.setenv("HILOS_BASE_URL", server.base_url)
        monkeypatch.setenv("TZ", "UTC")
        scripts = Path(sys.executable).parent
        monkeypatch.setenv("PATH", f"{scripts}{os.pathsep}{os.environ['PATH']}")
        yield server


def settled(text: str) -> list[str]:
    """The lines, without what differs from run to run: seconds, rates and ports."""
    text = re.sub(r"\b\d+(\.\d+)? ?(s|min|h)\b", "# s", text)
    text = re.sub(r"\b\d+ per second", "# per second", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:#", text)
    return [line.rstrip() for line in text.strip().splitlines()]


def shows(block: Block, text: str, printed: str) -> None:
    """Every line that a page shows was printed, in that order."""
    lines = iter(settled(printed))
    for line in settled(text):
        assert line in lines, f"{block} shows {line!r}, but what was printed is:\n{printed}"


def is_pytest(block: Block) -> bool:
    return "def test_" in block.text


def conftests(page: Path) -> list[str]:
    return [b.text for b in PYTHON if b.path == page and b.title == "conftest.py"]


async def shell(command: str) -> str:
    """What a command prints, on either output."""
    with anyio.fail_after(PATIENCE):
        ran = await anyio.run_process(["bash", "-c", f"{command} 2>&1"], check=False)
    return ran.stdout.decode()


# --- examples


@pytest.mark.parametrize("block", [b for b in PYTHON if not is_pytest(b)], ids=str)
async def test_an_example_runs_and_prints_what_the_page_shows(
    block: Block, fake: FakeHilos
) -> None:
    code = compile(block.source, str(block.path), "exec", dont_inherit=True)
    if not block.is_run:
        return  # it is Python at least
    printed = io.StringIO()
    with anyio.fail_after(PATIENCE), contextlib.redirect_stdout(printed):
        # In a thread, as it brings its own event loop: the server needs this one.
        await anyio.to_thread.run_sync(exec, code, {"__name__": "__main__"})
    if block.output is not None:
        assert settled(printed.getvalue()) == settled(block.output)


@pytest.mark.parametrize("block", [b for b in PYTHON if is_pytest(b)], ids=str)
async def test_an_example_of_tests_passes(block: Block, fake: FakeHilos) -> None:
    await anyio.Path("conftest.py").write_text("".join(conftests(block.path)), encoding="utf-8")
    await anyio.Path("test_example.py").write_text(block.text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    command += ["-o", "asyncio_default_fixture_loop_scope=function"]  # pytest-asyncio asks for it
    with anyio.fail_after(PATIENCE):
        ran = await anyio.run_process([*command, "test_example.py"], check=False)
    count = len(re.findall(r"^(?:async )?def test_", block.text, re.M))
    assert f"{count} passed" in ran.stdout.decode(), f"{block}:\n{ran.stdout.decode()}"


# --- the command line


def commands(block: Block) -> list[tuple[str, str]]:
    """Each command of a console block and the output below it."""
    return re.findall(r"^\$ ([^\n]*)\n((?:(?!\$ )[^\n]*\n)*)", block.text, re.M)


@pytest.mark.parametrize("block", [b for b in CONSOLE if b.is_run], ids=str)
async def test_a_command_runs_and_prints_what_the_page_shows(block: Block, fake: FakeHilos) -> None:
    ran_any = False
    for command, output in commands(block):
        # Of the commands in between, only what writes a file: exported variables are the fake's here.
        if "hilos " not in command and " > " not in command:
            continue
        ran_any |= "hilos " in command
        printed = await shell(command)
        assert "Traceback" not in printed
        assert "usage: hilos" not in printed or "--help" in command, printed
        shows(block, output, printed)
    assert ran_any, f"{block} holds no hilos command: mark it up as sh"


async def test_the_tutorial_works_from_top_to_bottom_in_one_directory(fake: FakeHilos) -> None:
    for block in TUTORIAL:
        if not block.is_run:
            continue
        if block.language == "python":
            name = block.title
            assert name, f"{block} has no title: where is a reader to save it?"
            await anyio.Path(name).write_text(block.text, encoding="utf-8")
            continue
        for command, output in commands(block):
            printed = await shell(command)
            assert "Traceback" not in printed, f"{block}: {command}\n{printed}"
            shows(block, output, printed)


# --- what has to be complete


def public_names() -> list[str]:
    """What `__all__` says is public, in the package and its edges; of `cli`, the command is."""
    sources = [
        *PACKAGE.glob("[!_]*.py"),
        *PACKAGE.glob("*/[!_]*.py"),
        *PACKAGE.glob("**/__init__.py"),
    ]
    names: list[str] = []
    for path in sources:
        if path.parent.name == "cli" or path.name in ("models.py", "enums.py"):
            continue  # those two hand on names that the package itself has as well, but for a few
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        module = ".".join(part for part in parts if part != "__init__")
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                names += [f"{module}.{name}" for name in ast.literal_eval(node.value)]
    return [name for name in names if not name.endswith(".__version__")]


def described(page: Path) -> list[str]:
    """The names that a page of the reference describes."""
    return re.findall(r"^::: (hilos_async\.[\w.]+)$", page.read_text(encoding="utf-8"), re.M)


def test_the_reference_has_every_public_name_once() -> None:
    names = [name for page in REFERENCE.glob("*.md") for name in described(page)]
    assert sorted(names) == sorted(public_names())


def test_the_list_of_all_names_leads_to_the_page_of_each() -> None:
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[[^]]+\]\(reference/([\w-]+\.md)\) \| (.*) \|$", page, re.M)
    listed = {name: re.findall(r"`(\w+)`", names) for name, names in rows}
    there = {path.name: described(path) for path in REFERENCE.glob("*.md")}
    assert listed == {
        page: [name.rpartition(".")[2] for name in names] for page, names in there.items()
    }


def test_the_readme_holds_both_commands_on_one_line_each() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for rest in (
        ".venv/bin/pip install -q . && .venv/bin/hilos demo",
        ".venv/bin/pip install -q nox && .venv/bin/nox -s tests",
    ):
        assert f"\npython3 -m venv .venv && {rest}\n" in readme


@pytest.mark.parametrize("path", [*ROOT.glob("*.md")], ids=str)
def test_a_link_into_the_repository_leads_somewhere(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page):
        assert (ROOT / target).exists(), f"{path.name} links to {target}"


def test_what_the_readme_links_to_can_be_read_without_the_site() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = {ROOT / name for name in re.findall(r"\]\(([\w/-]+\.md)\)", readme)}
    assert len(linked) > 10
    for path in linked:
        lines = path.read_text(encoding="utf-8").splitlines()
        said = [
            line for line in lines if not re.match(r"(:::|--8<--|    options:|---)", line.strip())
        ]
        assert len("".join(said)) > 500, f"{path.name} is only made by the site"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_page_has_no_markup_that_only_the_site_understands(path: Path) -> None:
    """Notes are paragraphs, tabs headings, folded text is `<details>`: a forge shows these too."""
    page = path.read_text(encoding="utf-8")
    assert re.findall(r"^(?:!!!|\?\?\?|===) .*$", page, re.M) == []
    assert re.findall(r"\]\([^)]*\)\{.*$|#only-(?:light|dark)", page, re.M) == []


def test_every_page_is_in_the_navigation() -> None:
    # mkdocs warns of a page that is missing there; this says so without building the site.
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in PAGES[1:]}
    assert pages == set(re.findall(r"[\w/-]+\.md", nav))


# --- the rooms, as CONTRIBUTING.md lists them


def rooms() -> list[list[str]]:
    """The modules and packages of the table, row by row from the ground up; the last are the edges."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]+) \|", page, re.M)  # a folder's own line is bold: it is no row
    return [re.findall(r"`([\w/.]+)`", row) for row in rows]


def test_contributing_lists_every_room() -> None:
    edges = {f"{path.parent.name}/" for path in PACKAGE.glob("[!_]*/__init__.py")}
    there = {path.name for path in PACKAGE.glob("*.py")} - {"__main__.py", "_version.py"} | edges
    there |= {f"{path.parent.name}/{path.name}" for path in PACKAGE.glob("_[!_]*/*.py")}
    listed = {room for row in rooms() for room in row}
    assert {room for room in there if not room.endswith("/__init__.py")} == listed


def test_an_import_points_up_the_list_of_rooms() -> None:
    *inner, edges = rooms()
    names = [room.removesuffix(".py").replace("/", ".") for row in inner for room in row]
    for place, name in enumerate(names):
        allowed = {"_version", *names[:place]}
        imported = _imported(PACKAGE / f"{name.replace('.', '/')}.py")
        assert imported <= allowed, f"{name} imports {imported - allowed}, which is below it"
    assert {"testing/", "cli/"} <= set(edges)


def _imported(path: Path) -> set[str]:
    """The rooms that a module imports, for type checkers too; an import in a function is lazy."""
    names: set[str] = set()
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for_checkers = [node.body for node in body if isinstance(node, ast.If)]
    for node in itertools.chain(body, *for_checkers):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hilos_async"):
            module = (node.module or "").removeprefix("hilos_async").removeprefix(".")
            # Out of a package comes a module, out of a module a value.
            is_package = not module or (PACKAGE / module).is_dir()
            prefix = f"{module}." if module else ""
            names |= {prefix + alias.name for alias in node.names} if is_package else {module}
    return names
