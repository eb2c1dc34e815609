"""The one door: every session that CI runs; `bench` measures, `lock` renews the pins."""

import shlex
import shutil
import tarfile
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "typing", "tests", "pythons", "lowest", "docs", "build"]

LOCK = "requirements/dev.txt"
LOWEST = "requirements/lowest.txt"
PEERS = "requirements/bench.txt"
PYPROJECT = nox.project.load_toml("pyproject.toml")
BENCHMARKS = ["pacing", "import_time", "speed", "levers", "telemetry", "answers"]
EXTRAS = ",".join(PYPROJECT["project"]["optional-dependencies"])
# Half of the suite waits for processes, browsers and timers: two at once take little more than half the
# time. A file's tests stay together, for the sake of what they share.
SIDE_BY_SIDE = ["--numprocesses=2", "--dist=loadfile"]


def install(session: nox.Session, group: str, *packages: str) -> None:
    # Read here, not with pip's --group: the pip that comes with Python 3.11 has none.
    requirements = nox.project.dependency_groups(PYPROJECT, group)
    session.install("--constraint", LOCK, *requirements, *packages)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the suite on the locked, newest versions and hold the coverage gate."""
    install(session, "tests", "--editable", f".[{EXTRAS}]")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *(session.posargs or SIDE_BY_SIDE))
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report", *(["--fail-under=0"] if session.posargs else []))


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the suite on the lowest versions that pyproject.toml admits, but for what depends on none."""
    # A built wheel, not the work tree: what users install is tested too.
    install(session, "lowest", f".[{EXTRAS}]")
    session.install("--requirement", LOWEST)
    session.run("python", "-m", "pip", "check", silent=True)
    versionless = ["docs", "benchmarks", "site", "reference_tables", "pages", "list_models"]
    versionless += ["pacing*", "learning*", "reckoning*", "slots", "state_file", "gate"]
    versionless += ["machine_pacer", "fake_lists"]
    session.run(
        "pytest",
        "--ignore=tests/limiters",
        "--ignore=tests/campaign_board",
        *(f"--ignore-glob=tests/test_{name}.py" for name in versionless),
        *(session.posargs or SIDE_BY_SIDE),
    )


@nox.session(python=["3.12", "3.13"])
def pythons(session: nox.Session) -> None:
    """Run the suite on the newer Pythons that are supported; one that is not installed is skipped."""
    install(session, "tests", f".[{EXTRAS}]")
    # How real limiters are met is no matter of the Python, and takes minutes.
    session.run("pytest", "--ignore=tests/limiters", *(session.posargs or SIDE_BY_SIDE))


@nox.session
def lint(session: nox.Session) -> None:
    """Check format and style."""
    install(session, "lint")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")


@nox.session
def typing(session: nox.Session) -> None:
    """Check the types with mypy and with pyright, those of the examples on the pages too."""
    install(session, "typing", "--editable", f".[{EXTRAS}]")
    written = Path(session.create_tmp(), "pages")
    session.run("python", "-m", "tests.written_blocks", str(written))
    session.run("mypy")
    session.run("mypy", str(written))
    session.run("pyright", "--warnings")
    session.run("pyright", "--warnings", "--project", str(written))


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site into site/, warnings as errors."""
    install(session, "docs")
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def build(session: nox.Session) -> None:
    """Build sdist and wheel into dist/, and try both as a user would, each in an empty environment.

    From the sdist, only the tests run that read its files; `nox -s build -- tests` runs all of them.
    """
    install(session, "build")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", "dist")
    [wheel], [sdist] = Path("dist").glob("*.whl"), Path("dist").glob("*.tar.gz")
    session.run("twine", "check", "--strict", str(wheel), str(sdist))
    with tempfile.TemporaryDirectory() as elsewhere:  # away from this folder and its settings
        with tarfile.open(sdist) as archive:
            archive.extractall(elsewhere, filter="data")
        source = Path(elsewhere, sdist.name.removesuffix(".tar.gz"))
        if Path(".git").exists():
            tracked = str(session.run("git", "ls-files", external=True, silent=True)).splitlines()
            missing = [name for name in tracked if not (source / name).is_file()]
            if missing:
                session.error(f"the sdist is not whole: {missing}")
        wheel = wheel.resolve()
        with session.chdir(elsewhere):
            _try_the_wheel(session, wheel)
        with session.chdir(source):
            _try_the_readme(session)


def _try_the_wheel(session: nox.Session, wheel: Path) -> None:
    """Install it without extras; import it, and run the demonstration."""
    session.run("python", "-m", "venv", "fresh")
    python = "fresh/bin/python"
    session.run(python, "-m", "pip", "install", "--quiet", str(wheel), external=True)
    session.run(python, "-m", "pip", "check", external=True)
    imports = "import hilos_async, hilos_async.export, hilos_async.testing"
    session.run(python, "-W", "error", "-c", imports, external=True)
    session.run("fresh/bin/hilos", "demo", external=True)


def _try_the_readme(session: nox.Session) -> None:
    """Run its commands as they stand there, but of the suite only a part."""
    lines = Path("README.md").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line.startswith("python3 -m venv .venv && ")]
    part = session.posargs or [
        "tests/test_docs.py",
        "-k",
        "readme or repository or navigation or room",
    ]
    for command in commands:
        argument = f" -- {shlex.join(part)}" if command.endswith("nox -s tests") else ""
        session.run("bash", "-euo", "pipefail", "-c", command + argument, external=True)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Run the benchmarks, or the one that is named: `nox -s bench -- pacing --quick`.

    `nox -s bench -- --quick` is the guard of the library's speed, and so are other options alone.
    """
    install(session, "tests", "--editable", f".[{EXTRAS}]")
    session.install("--requirement", PEERS)
    names, options = BENCHMARKS, session.posargs
    if options and options[0].startswith("-"):
        names = ["speed"]
    elif options:
        names, options = options[:1], options[1:]
    for name in names:
        session.run("python", "-m", f"benchmarks.{name}", *options)


@nox.session(default=False)
def lock(session: nox.Session) -> None:
    """Renew both files of pins from pyproject.toml, and that of the benchmarks' peers."""
    session.install("uv")
    compile_any = (
        *("uv", "pip", "compile", "--universal", "--upgrade", "--python-version", "3.11"),
        *("--strip-extras", "--no-annotate", "--quiet", "--custom-compile-command", "nox -s lock"),
    )
    compile_pins = (*compile_any, "pyproject.toml", "--all-extras")
    compile_dev = (*compile_pins, "--group", "dev", "--constraint", "requirements/bench.in")
    session.run(*compile_dev, "--output-file", LOCK)
    session.run(*compile_pins, "--resolution", "lowest-direct", "--no-deps", "-o", LOWEST)
    session.run(*compile_any, "requirements/bench.in", "--constraint", LOCK, "-o", PEERS)
