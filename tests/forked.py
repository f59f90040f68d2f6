"""Whole commands, forked from one process that has imported their packages.

A sweep of a hundred commands takes seconds so, not minutes. A forked command ends as any program
does, with all that the interpreter and C libraries do at the end. Run as a script it serves
requests, one JSON a line: `{"argv": [...], "cwd": ..., "limit": bytes or null}`.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import runpy
import subprocess
import sys
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.kill_storm import import_packages

TOP = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Ended:
    """What a command has left: its exit code (negative: a signal), stdout, stderr."""

    code: int
    out: str
    err: str


class Commands:
    """Runs `python -m ...`; a context manager. Extractions seal every batch."""

    def __enter__(self) -> Commands:
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forked"], cwd=TOP, text=True,
            env={**os.environ, **single, "PYTHONPATH": str(TOP)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()

    def __call__(self, *argv: str, cwd: Path, limit: int | None = None) -> Ended:
        """Run a command to its end, where no file may be larger than `limit` bytes."""
        assert self._process.stdin
        assert self._process.stdout
        request = {"argv": argv, "cwd": str(cwd), "limit": limit}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))


class WithoutTorch(PathFinder):
    """No command that is forked here needs it, and a process with it takes a second to end."""

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> Any:
        return None if name.split(".")[0] == "torch" else super().find_spec(name, path, target)


def serve() -> None:
    """Answer requests until stdin ends."""
    sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutTorch
    import_packages([])
    import matplotlib.backends.backend_svg  # noqa: F401
    import transformers.audio_utils  # noqa: F401

    import evaluate.report.write  # noqa: F401

    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        # Where the output goes has no limit: it is read here.
        reading, writing = zip(*(os.pipe() for _ in range(2)), strict=True)
        child = os.fork()
        if child == 0:
            for end, one in zip(writing, (1, 2), strict=True):
                os.dup2(end, one)
            os.chdir(request["cwd"])
            if request["limit"] is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit"],) * 2)
            sys.argv = request["argv"]
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
            sys.exit(0)
        for one in writing:
            os.close(one)
        out, err = (os.fdopen(one, encoding="utf-8") for one in reading)
        with out, err:
            said = [out.read(), err.read()]
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"code": code, "out": said[0], "err": said[1]}), flush=True)


if __name__ == "__main__":
    serve()
