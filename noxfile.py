"""The one door: tests, lowest, lint, typing, docs; `bench` measures, `lock` renews the pins."""

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "typing", "tests", "lowest", "docs"]

LOCK = "requirements/dev.txt"
LOWEST = "requirements/lowest.txt"
PEERS = "requirements/bench.txt"
PYPROJECT = nox.project.load_toml("pyproject.toml")
BENCHMARKS = ["pacing", "import_time", "speed", "levers", "telemetry", "answers"]
EXTRAS = ",".join(PYPROJECT["project"]["optional-dependencies"])


def install(session: nox.Session, group: str, *packages: str) -> None:
    # Read here, not with pip's --group: the pip that comes with Python 3.11 has none.
    requirements = nox.project.dependency_groups(PYPROJECT, group)
    session.install("--constraint", LOCK, *requirements, *packages)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the suite on the locked, newest versions and hold the coverage gate."""
    install(session, "tests", "--editable", f".[{EXTRAS}]")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report", *(["--fail-under=0"] if session.posargs else []))


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the suite on the lowest versions that pyproject.toml admits, but for what depends on none."""
    # A built wheel, not the work tree: what users install is tested too.
    install(session, "lowest", f".[{EXTRAS}]")
    session.install("--requirement", LOWEST)
    session.run("python", "-m", "pip", "check", silent=True)
    versionless = ("docs", "benchmarks", "pacing_simulation")
    session.run(
        "pytest",
        "--ignore=tests/limiters",
        *(f"--ignore=tests/test_{name}.py" for name in versionless),
        *session.posargs,
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Check format and style."""
    install(session, "lint")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")


@nox.session
def typing(session: nox.Session) -> None:
    """Check the types with mypy and with pyright."""
    install(session, "typing", "--editable", f".[{EXTRAS}]")
    session.run("mypy")
    session.run("pyright", "--warnings")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site into site/, warnings as errors."""
    install(session, "docs")
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})


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
