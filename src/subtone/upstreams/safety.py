"""Keep code out of model folders: look into every pickle without running it, refuse what would run.

Weights are read from safetensors or by torch's restricted reader, so nothing here is ever executed; the look
is for the user's sake, who may open the other files of the folder with less careful tools.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path

from subtone.errors import UpstreamError

PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".th", ".joblib"})
_DANGEROUS_MODULES = frozenset(
    """
    os posix nt subprocess sys shutil socket runpy importlib pty commands popen2 platform
    ctypes code codeop bdb pdb timeit multiprocessing asyncio threading webbrowser urllib
    http ftplib smtplib requests httpx pickle _pickle cloudpickle dill marshal signal
    atexit pip venv distutils setuptools cProfile profile trace doctest
    """.split()  # noqa: SIM905
)
_DANGEROUS_BUILTINS = frozenset(
    "eval exec compile open __import__ globals locals breakpoint input apply".split()  # noqa: SIM905
)
_HEAD_BYTES = 64 * 2**20  # pickles of checkpoints hold names and shapes; more is storage


def refuse_code(folder: Path, name: str) -> None:
    """Refuse a folder that holds a pickle which would call the system when opened.

    Raises
    ------
    UpstreamError
        Naming the file and the call it would make.
    """
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in PICKLE_SUFFIXES and path.is_file():
            call = dangerous_call(path)
            if call is not None:
                raise UpstreamError(
                    f"upstream {name!r}: refused, {path.name} contains code: it calls {call} when it "
                    "is opened; delete the folder and report where it came from"
                )


def dangerous_call(path: Path) -> str | None:
    """Return the first system call that opening a pickle would make, e.g. ``"posix.system"``, or None.

    Knows plain pickles, torch's zip archives and torch's older files of several pickles in a row.
    """
    for document in _pickles(path):
        for module, attribute in _globals(document):
            root = module.partition(".")[0]
            builtin = (
                root in ("builtins", "__builtin__") and attribute.partition(".")[0] in _DANGEROUS_BUILTINS
            )
            if builtin or root in _DANGEROUS_MODULES:
                return f"{module}.{attribute}"
    return None


def _pickles(path: Path) -> Iterator[bytes]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.endswith(".pkl"):
                    with archive.open(member) as file:
                        yield file.read(_HEAD_BYTES)
        return
    with path.open("rb") as file:
        yield file.read(_HEAD_BYTES)


def _globals(document: bytes) -> Iterator[tuple[str, str]]:
    """Yield each (module, attribute) that a run of pickles would import, without importing it."""
    stream = io.BytesIO(document)
    while True:
        # The strings on the stack are all that names an import; None stands for whatever else was pushed
        # last.
        strings: list[str | None] = []
        memo: dict[int, str | None] = {}
        last: str | None = None
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                name = opcode.name
                if name in ("GLOBAL", "INST"):
                    module, _, attribute = str(argument).partition(" ")
                    yield module, attribute
                elif name == "STACK_GLOBAL" and len(strings) >= 2:
                    yield str(strings[-2]), str(strings[-1])
                elif name == "MEMOIZE":
                    memo[len(memo)] = last
                elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
                    memo[int(str(argument))] = last
                if name in ("GET", "BINGET", "LONG_BINGET"):
                    last = memo.get(int(str(argument)))
                elif "UNICODE" in name or name in ("STRING", "BINSTRING", "SHORT_BINSTRING"):
                    last = str(argument)
                elif name not in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "PROTO", "FRAME"):
                    last = None
                    continue
                else:
                    continue
                if last is not None:
                    strings.append(last)
        except Exception:  # the bytes after a torch file's pickles are storage, not opcodes
            return
