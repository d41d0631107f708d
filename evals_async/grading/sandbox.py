"""The commands that start a worker: in a bubblewrap sandbox, or as a child process without a sandbox."""

import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path

from evals_async.grading.seccomp import filter_program
from evals_async.grading.similarity import Unavailable


PACKAGES = (
    *("numpy", "scipy", "sympy", "pandas", "scikit-learn", "rapidfuzz", "rouge-score", "nltk"),
    *("deepdiff", "jsonschema", "pydantic", "pyyaml", "python-dateutil"),
)
"""The packages that a sandboxed grader may import, with their dependencies, if they are installed."""

SYSTEM_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
TMP_BYTES = 64 * 2**20
NOBODY = "65534"


def environment() -> dict[str, str]:
    """Return the environment of a worker. It contains no variable of the parent process, and so no keys."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",  # noqa: S108  # inside the sandbox
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",  # equal rows get equal grades
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def bubblewrap() -> str:
    """Return the path of bwrap. Raises `Unavailable`."""
    found = shutil.which("bwrap")
    if found is None:
        raise Unavailable(
            "the sandbox of python graders needs bubblewrap (Debian: apt-get install bubblewrap)",
            code="python_grader_server_error",
        )
    return found


@contextmanager
def filter_file() -> Generator[int]:
    """Return a file descriptor of the filter of system calls for bwrap. Raises `Unavailable`."""
    program = filter_program()
    with tempfile.TemporaryFile() as file:
        file.write(program)
        file.seek(0)
        yield file.fileno()


def sandboxed(program: str, packages: Iterable[str], rules: int) -> list[str]:
    """Return the command for a worker without network, which has only the files of the interpreter and the
    packages.

    `rules` is the descriptor of a `filter_file`. Raises `Unavailable` if bubblewrap is missing.
    """
    interpreter = os.path.realpath(sys.executable)
    library = sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix, "base": sys.base_prefix})
    command = [bubblewrap(), "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    command += ["--uid", NOBODY, "--gid", NOBODY, "--hostname", "sandbox", "--clearenv"]
    command += ["--seccomp", str(rules)]
    for name, value in environment().items():
        command += ["--setenv", name, value]
    shared = [path for path in SYSTEM_LIBRARIES if Path(path).exists()]
    for path in [*shared, *own_libraries(library, shared), interpreter]:
        command += ["--ro-bind", path, path]
    for site in ("site-packages", "dist-packages"):  # installed packages are hidden, except the allowed ones
        for place in (Path(library) / site, Path("/usr/lib/python3") / site):
            if place.is_dir():
                command += ["--tmpfs", str(place)]
    for source, name in package_files(tuple(packages)):
        command += ["--ro-bind", source, f"/packages/{name}"]
    command += ["--dev", "/dev", "--size", str(TMP_BYTES), "--tmpfs", "/tmp", "--remount-ro", "/"]  # noqa: S108
    return [*command, "--chdir", "/tmp", interpreter, "-I", "-S", "-c", program]  # noqa: S108


def own_libraries(library: str, shared: list[str]) -> Iterator[str]:
    """Return the interpreter's files outside the libraries of the system."""
    inside = tuple(f"{path}/" for path in shared)
    if not library.startswith(inside):
        yield library
        for path in sorted(Path(library).parent.glob("libpython*.so*")):
            yield str(path)


def trusted(program: str) -> list[str]:
    """Return the command for a worker with the permissions of this process, and with resource limits."""
    return [sys.executable, "-I", "-c", program]


# --- packages ---------------------------------------------------------------------------------------------------------


@cache
def package_files(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return the files and directories of the installed packages and their dependencies, with their names."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = normal(waiting.pop())
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        for top in {path.parts[0] for path in distribution.files or () if ".." not in path.parts}:
            place = Path(str(distribution.locate_file(top)))
            if place.exists() and place.suffix != ".pth" and top != "__pycache__":
                found[top] = str(place)
        waiting += [requirement_name(text) for text in distribution.requires or () if "extra ==" not in text]
    return tuple((source, top) for top, source in sorted(found.items()))


def normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def requirement_name(text: str) -> str:
    """Return the name at the start of a requirement such as `numpy>=2; python_version >= "3.11"`."""
    end = next((index for index, letter in enumerate(text) if not (letter.isalnum() or letter in "._-")), len(text))
    return text[:end]
