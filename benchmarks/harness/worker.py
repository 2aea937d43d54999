"""A contender's process, from the side of the one who gives the orders."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

#: An order that takes longer will never be done: the process is killed.
PATIENCE_S = 400.0
_PROGRAM = Path(__file__).resolve().parent.parent / "contenders" / "worker.py"


def environment() -> dict[str, str]:
    """Return the environment of every contender: offline, and with no thread settings of whoever runs this."""
    unset = {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}
    return {k: v for k, v in os.environ.items() if k not in unset} | {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


class Worker:
    """A process that stays up between rounds; driven by lines of JSON.

    Parameters
    ----------
    python
        Interpreter of the contender's environment.
    module
        Which contender, see ``contenders/worker.py``.
    log
        File that gets all that it prints.
    """

    def __init__(self, python: Path, module: str, log: Path) -> None:
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [str(python), str(_PROGRAM), module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=out,
                env=environment(),
                text=True,
            )
        self.pid = self._process.pid

    def ask(self, do: str, **order: Any) -> dict[str, Any]:
        """Give an order and wait for the answer; ``{"skipped": why}`` when it cannot be carried out."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        patience = threading.Timer(PATIENCE_S, self._process.kill)
        patience.start()
        try:
            self._process.stdin.write(json.dumps({"do": do, **order}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            patience.cancel()
        if not line:
            tail = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            return {"skipped": f"its process ended ({' '.join(tail)[:200] or 'and said nothing'})"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it; by force when it does not."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
