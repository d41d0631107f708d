"""What keeps the project honest, one session per question. `nox -l` lists them; `nox` runs what a change must pass.

Each installs the package as a user would get it, and tests that, not the checkout.
"""

import nox


nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "venv"
nox.options.sessions = ["tests", "types", "lint", "docs"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
PROJECT = PYPROJECT["project"]
VERSION = "Programming Language :: Python :: 3."
PYTHONS = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if line.startswith(VERSION)]
LEAST_COVERED = 95  # percent of lines and branches; what is left are other platforms and races


def tools(*groups: str) -> tuple[str, ...]:
    """The requirements of those groups; the pip of a new environment may be too old to know groups itself."""
    return nox.project.dependency_groups(PYPROJECT, *groups)


def install(session: nox.Session, *groups: str) -> None:
    """The package with every extra, and the tools of those groups."""
    session.install(".[all]", *tools(*groups))
    # The checkout must not stand in for what is installed.
    session.env["PYTHONSAFEPATH"] = "1"


@nox.session
def tests(session: nox.Session) -> None:
    """Does it work, and is every line looked at?"""
    install(session, "test", "types")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "report", f"--fail-under={LEAST_COVERED}", "--skip-covered", "--show-missing")


@nox.session(python=PYTHONS)
def pythons(session: nox.Session) -> None:
    """Does it work on every Python that it claims?"""
    install(session, "test")
    session.run("pytest", *session.posargs)


@nox.session
def lowest(session: nox.Session) -> None:
    """Does it work with the oldest dependencies that it claims?"""
    install(session, "test")
    requirements = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["cli"]]
    session.install(*(requirement.replace(">=", "==") for requirement in requirements))
    session.run("pytest", *session.posargs)


@nox.session
def types(session: nox.Session) -> None:
    """Do both type checkers, in their strict modes, agree with package, tests and examples?"""
    install(session, "dev")
    session.run("mypy", "evals_async", "tests", "docs/examples", "noxfile.py")
    session.run("basedpyright")


@nox.session
def lint(session: nox.Session) -> None:
    """Is it written the way the project writes, and does each layer import only what is below it?"""
    session.install(".", *tools("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("codespell")
    session.run("lint-imports")


@nox.session
def docs(session: nox.Session) -> None:
    """Does the documentation build without a warning?"""
    install(session, "docs")
    session.run("sphinx-build", "-n", "-W", "-b", "html", "docs", "docs/_build/html")


@nox.session
def soak(session: nox.Session) -> None:
    """Does it stay whole for ten minutes among all faults at once?"""
    install(session, "test")
    session.run("python", "tests/soak.py", *session.posargs)


@nox.session
def scale(session: nox.Session) -> None:
    """Does grading on a local Ray give the grades of the plain loop, also when a worker dies?"""
    session.install(".[all,ray]", *tools("test"))
    session.env["PYTHONSAFEPATH"] = "1"
    session.run("pytest", "tests/scale", "-m", "slow or not slow", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """How fast is it beside the official client, in one run?"""
    install(session, "test", "bench")
    session.run("python", "tests/benchmarks/run.py", *session.posargs)
