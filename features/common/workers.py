"""Workers on other devices and machines, by Dask: where they are, and how they are started.

Conventions
-----------
- `local:N` starts N worker processes here and ends them with the command; `tcp://host:port` takes
  the workers of a running scheduler; `slurm:FILE` submits one job a worker, as `[cluster]` says.
- A worker computes one task at a time on its cores and at most its own devices, and sees the same
  folders under the same names as the client.
- Every worker computes with the same number of threads: it is part of what makes numbers equal bit
  for bit.
- `distributed` pickles what it sends, and whoever reaches a scheduler's port may run code as its
  user; nothing of ours is pickled to a file.
- distributed and dask_jobqueue are imported here when they are needed, not before.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from pydantic import Field

from features.common.ending import in_full
from features.common.errors import ClusterError, first_line
from features.common.files import TOML_BYTES, read_text
from features.common.sections import Section, check_section
from features.common.telling import Tell, aloud, aside
from features.common.words import counted

DEFAULT_TABLE = Path("cluster.toml")
GRACE_S = 60.0
"""How long a stopped command waits for the batches under way, which may then be sealed."""
SAY_AFTER_S = 2.0
NO_WORKERS_S = 300
LOOPBACK = "127.0.0.1"
"""Where all of `local:N` listens, and the dashboard of a scheduler that is started for SLURM."""
DASHBOARD_PORT = 8787
"""Dask's own; where it is taken, Dask takes another."""
REACH_S = 10.0
"""How long a scheduler that was just started may take to listen."""
LOOK_EVERY_S = 1.0
EXPECTED = "local:N (N is 1 or more), tcp://host:port, slurm or slurm:FILE"
_UNSEEN = ("distributed.worker", "distributed.nanny", "distributed.core", "distributed.scheduler")


class SlurmSpec(Section):
    """`[cluster]`: one SLURM job a worker.

    `gpus` is a worker's; the encoder uses one. `memory` and `walltime` are written as sbatch takes
    them. `sbatch` holds further options, `prologue` shell lines before the worker starts.
    """

    workers: Annotated[int, Field(ge=1)]
    cores: Annotated[int, Field(ge=1)]
    memory: Annotated[str, Field(pattern=r"^\d+(\.\d+)? ?[KMGT]i?B$")]
    walltime: Annotated[str, Field(pattern=r"^(\d+-)?\d+(:\d+){0,2}$")]
    gpus: Annotated[int, Field(ge=0)] = 1
    partition: str | None = None
    account: str | None = None
    sbatch: list[Annotated[str, Field(pattern=r"^-")]] = []
    prologue: list[str] = []
    python: str | None = None
    interface: str | None = None
    logs: str | None = None


@dataclass(frozen=True)
class Where:
    """What `CLUSTER` says.

    Attributes
    ----------
    text : str
        As the user typed it.
    n_local : int
        Processes to start here; 0 elsewhere.
    slurm : SlurmSpec or None
    """

    text: str
    n_local: int = 0
    slurm: SlurmSpec | None = None


@dataclass
class Workers:
    """A connection to workers.

    Attributes
    ----------
    client : distributed.Client
    where : Where
    n : int
        Workers that are expected.
    threads : int
        Threads that each computes with.
    warn : callable
        Hears of workers that were lost, and what is waited for.
    """

    client: Any
    where: Where
    n: int
    threads: int
    warn: Tell = aside
    _seen: set[str] = field(default_factory=set)

    def count(self) -> int:
        """Workers there are now; says so when some were lost.

        Returns
        -------
        int

        Raises
        ------
        ClusterError
            The scheduler is gone.
        """
        try:
            now = set(self.client.nthreads())
        except (OSError, RuntimeError, TypeError):
            raise self._gone() from None
        lost = self._seen - now
        if lost:
            self.warn(
                f"warning: {counted(len(lost), 'worker was', 'workers were')} lost, {len(now)} "
                "left; what they had goes to others"
            )
        self._seen = now
        return len(now)

    def result(self, future: Any, title: str) -> Any:
        """The result of a finished task, or what it raised on its worker.

        Parameters
        ----------
        future : dask.distributed.Future
        title : str
            What the task is called in an error.

        Returns
        -------
        any
            What the task has returned.

        Raises
        ------
        ClusterError
            Its workers died, one after the other, none is left, or the scheduler is gone.
        """
        from distributed import CancelledError, KilledWorker
        from distributed.scheduler import NoWorkerError

        try:
            return future.result()
        except KilledWorker as error:
            raise ClusterError(
                f"{title}: {counted(error.allowed_failures + 1, 'worker')} died that had it, one "
                f"after the other (out of memory?); what is finished is kept: use fewer workers or "
                f"give them more memory, and run the same command again"
            ) from None
        except NoWorkerError:
            raise ClusterError(
                f"CLUSTER={self.where.text}: no worker is left; what is finished is kept: run the "
                f"same command again"
            ) from None
        except CancelledError:
            raise self._gone() from None

    def _gone(self) -> ClusterError:
        return ClusterError(
            f"CLUSTER={self.where.text}: the scheduler is gone; what is finished is kept: run the "
            f"same command again"
        )

    def stop(self, futures: Sequence[Any], key: str) -> None:
        """Cancel tasks, and wait for those under way to leave at their next check.

        Parameters
        ----------
        futures : sequence of dask.distributed.Future
        key : str
            Under which `task` counts them on their workers.
        """
        with contextlib.suppress(Exception), in_full():
            self.client.cancel(futures)
            began = time.monotonic()
            said = False
            while time.monotonic() - began < GRACE_S:
                busy = self.client.run(n_under_way, key, on_error="ignore")
                if not any(busy.values()):
                    return
                if not said and time.monotonic() - began > SAY_AFTER_S:
                    self.warn("waiting for the batches under way")
                    said = True
                time.sleep(0.1)


def parse(text: str) -> Where:
    """Read what the user says about workers, and look whether they can be had.

    Parameters
    ----------
    text : str
        `local:N`, `tcp://host:port`, `slurm` or `slurm:FILE`.

    Returns
    -------
    Where

    Raises
    ------
    ClusterError
        It is none of the three, its file has faults (all are named), a package or `sbatch` is
        missing, or nothing listens where the scheduler should be.

    Examples
    --------
    >>> parse("local:2").n_local
    2
    """
    local = re.fullmatch(r"local:([1-9]\d*)", text)
    slurm = re.fullmatch(r"slurm(?::(.+))?", text)
    if not (local or slurm or re.fullmatch(r"(tcp|tls)://\S+:\d+", text)):
        raise ClusterError(f"CLUSTER={text}: expected {EXPECTED}")
    needed = ["distributed", *(["dask_jobqueue"] if slurm else [])]
    lacking = [package for package in needed if not _installed(package)]
    if lacking:
        raise ClusterError(
            f"CLUSTER={text}: needs {' and '.join(lacking)}; install the extra `cluster`: make "
            f"... EXTRAS=demo,opensmile,dev,cluster, or pip install 'serfuse[cluster]'"
        )
    if local:
        return Where(text, n_local=int(local[1]))
    if slurm:
        spec = load_table(Path(slurm[1] or DEFAULT_TABLE))
        if shutil.which("sbatch") is None:
            raise ClusterError(
                f"CLUSTER={text}: no `sbatch` here; start it where SLURM's commands are, such as a "
                f"login node, or use local:N or tcp://host:port"
            )
        return Where(text, slurm=spec)
    _reach(text)
    return Where(text)


def _reach(address: str) -> None:
    """Look whether anything listens at a scheduler's address.

    Raises
    ------
    ClusterError
        Nothing has answered in `REACH_S`.
    """
    url = urlsplit(address)
    began = time.monotonic()
    while True:
        try:
            socket.create_connection((url.hostname, url.port), timeout=REACH_S).close()
            return
        except (OSError, ValueError) as error:  # no port is above 65535
            if time.monotonic() - began > REACH_S - LOOK_EVERY_S or isinstance(error, ValueError):
                raise ClusterError(
                    f"CLUSTER={address}: no scheduler answers ({first_line(error)}); start one "
                    f"there with `dask scheduler`, or check host and port: it prints its address"
                ) from None
        time.sleep(LOOK_EVERY_S)


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:
        return False


def load_table(path: Path) -> SlurmSpec:
    """Read `[cluster]` of a TOML file.

    Parameters
    ----------
    path : Path
        A TOML file with a table `[cluster]`.

    Returns
    -------
    SlurmSpec

    Raises
    ------
    ClusterError
        Naming every fault of the file.
    """
    try:
        raw = tomllib.loads(read_text(path, "utf-8", TOML_BYTES))
    except OSError as error:
        raise ClusterError(
            f"{path}: cannot be read: {error.strerror}; CLUSTER=slurm reads [cluster] from "
            f"{DEFAULT_TABLE}, CLUSTER=slurm:FILE from another file"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ClusterError(f"{path}: not valid TOML: {error}") from None
    faults = [f"{key}: no such table; allowed: [cluster]" for key in raw if key != "cluster"]
    spec = check_section(SlurmSpec, raw.get("cluster", {}), "[cluster] ", faults)
    if spec is None or faults:
        count = counted(len(faults), "fault")
        raise ClusterError("\n  ".join([f"{path}: {count}", *faults]))
    return spec


@contextlib.contextmanager
def connect(where: Where, *, tell: Tell = aloud, warn: Tell = aside) -> Iterator[Workers]:
    """Start workers, or reach them; those that were started end with the body.

    Parameters
    ----------
    where : Where
        As `parse` gives it.
    tell, warn : callable
        Hear who computes, and what is wrong with workers.

    Yields
    ------
    Workers
        One worker at least is there.

    Raises
    ------
    ClusterError
        No scheduler answers, or no job was accepted.
    """
    import dask
    from distributed import Client

    settings = {
        # A worker may have children, which decode.
        "distributed.worker.daemon": False,
        "distributed.worker.profile.enabled": False,
        # What the user's environment says wins.
        "distributed.nanny.pre-spawn-environ": {
            "OMP_NUM_THREADS": _local_threads(where),
            "DASK_LOGGING__DISTRIBUTED": "critical",
        },
    }
    if where.n_local:
        # Of workers that did not come back; SLURM's may be in the queue for days.
        settings["distributed.scheduler.no-workers-timeout"] = NO_WORKERS_S
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        stack.enter_context(dask.config.set(settings))
        try:
            cluster: Any = where.text
            if where.n_local:
                cluster = stack.enter_context(_local(where.n_local))
            elif where.slurm:
                cluster = stack.enter_context(slurm_cluster(where.slurm))
                cluster.scale(jobs=where.slurm.workers)
            client = stack.enter_context(Client(cluster, set_as_default=False))
        except (OSError, RuntimeError, ValueError) as error:
            raise ClusterError(f"CLUSTER={where.text}: {first_line(error)}") from None
        if not client.nthreads():
            tell(f"CLUSTER={where.text}: waiting for a worker")
        _wait(client, where, getattr(cluster, "job_cls", None), warn)
        n = where.n_local or (where.slurm.workers if where.slurm else len(client.nthreads()))
        workers = Workers(client, where, n, _threads(where, client), warn)
        tell(
            f"CLUSTER={where.text}: {counted(workers.count(), 'worker')}, threads of each: "
            f"{workers.threads}{_dashboard(where, client)}"
        )
        yield workers


def _dashboard(where: Where, client: Any) -> str:
    """Where the dashboard is, for the line that names the workers; empty where there is none."""
    port = client.scheduler_info(n_workers=0)["services"].get("dashboard")
    if where.n_local or port is None:
        return ""
    if where.slurm:
        return f"; http://{LOOPBACK}:{port}/status, on this machine alone"
    return f"; {client.dashboard_link}"


def _wait(client: Any, where: Where, jobs: Any, warn: Tell) -> None:
    """Wait for the workers that are started here, or the first one of elsewhere.

    Raises
    ------
    ClusterError
        All of the jobs were refused.
    """
    while True:
        refused = jobs.refused if jobs else []
        if where.slurm and len(refused) == where.slurm.workers:
            raise ClusterError(f"CLUSTER={where.text}: no job was accepted: {refused[0]}")
        with contextlib.suppress(TimeoutError):
            client.wait_for_workers(where.n_local or 1, timeout=LOOK_EVERY_S)
            break
    if refused:
        n_refused = counted(len(refused), "job was", "jobs were")
        warn(f"warning: {n_refused} refused: {refused[0]}")


def _local_threads(where: Where) -> int:
    return max(1, _cores() // max(1, where.n_local))


def _threads(where: Where, client: Any) -> int:
    """Threads of every worker: OMP_NUM_THREADS, else the cores that the poorest of them has."""
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if said.isdigit() and int(said):
        return int(said)
    if where.n_local:
        return _local_threads(where)
    if where.slurm:
        return where.slurm.cores
    hosts = list(client.run(_host_and_cores).values())
    names = [name for name, _ in hosts]
    return max(1, min(cores // names.count(name) for name, cores in hosts))


def _host_and_cores() -> tuple[str, int]:
    return socket.gethostname(), _cores()


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _local(n: int) -> Any:
    """Worker processes of this machine, each with its own device where there are any."""
    import dask
    from distributed import Nanny, Scheduler, SpecCluster

    devices = gpus()
    host = LOOPBACK
    preload = [*dask.config.get("distributed.worker.preload"), "features.common.workers"]
    # Dask's own limit would stop workers at a share of the memory that it has guessed.
    options = {"nthreads": 1, "host": host, "memory_limit": 0, "preload": preload}
    workers = {}
    for i in range(n):
        env = {"CUDA_VISIBLE_DEVICES": devices[i % len(devices)]} if devices else {}
        workers[i] = {"cls": Nanny, "options": {**options, "env": env}}
    # Without a dashboard, what is left of its server (health, metrics) listens all the same.
    web = {"dashboard": False, "dashboard_address": f"{host}:0"}
    scheduler = {"cls": Scheduler, "options": {"host": host, "port": 0, **web}}
    return SpecCluster(workers=workers, scheduler=scheduler, silence_logs=logging.CRITICAL)


def gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name, one a GPU; empty where there is none.

    Returns
    -------
    list of str
        Indices or identifiers.
    """
    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    if said is not None:
        return [name.strip() for name in said.split(",") if name.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.split() if found.returncode == 0 else []


def slurm_cluster(spec: SlurmSpec) -> Any:
    """The scheduler here, and a way to submit workers; `job_script()` is what sbatch gets.

    Parameters
    ----------
    spec : SlurmSpec

    Returns
    -------
    dask_jobqueue.SLURMCluster
        Without a worker as yet.
    """
    interrupt = signal.getsignal(signal.SIGINT)
    import dask
    from dask_jobqueue import SLURMCluster

    signal.signal(signal.SIGINT, interrupt)  # its import makes Ctrl-C a plain exit
    logs = Path(spec.logs or "logs").absolute()
    environment = {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", spec.cores),
        "DASK_DISTRIBUTED__WORKER__DAEMON": "False",
        "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    }
    # The jobs must reach the scheduler, nobody its dashboard, unless the user's settings say so.
    options = dask.config.get("jobqueue.slurm.scheduler-options", {})
    return SLURMCluster(
        job_cls=_job_class(),
        scheduler_options={"dashboard_address": f"{LOOPBACK}:{DASHBOARD_PORT}", **options},
        queue=spec.partition,
        account=spec.account,
        walltime=spec.walltime,
        cores=spec.cores,
        memory=spec.memory,
        processes=1,
        job_name="serfuse",
        python=spec.python,
        interface=spec.interface,
        log_directory=str(logs),
        death_timeout=60,
        job_extra_directives=[*([f"--gres=gpu:{spec.gpus}"] if spec.gpus else []), *spec.sbatch],
        job_script_prologue=[
            *(f"export {name}={shlex.quote(str(value))}" for name, value in environment.items()),
            f"cd {shlex.quote(str(Path.cwd()))}",
            *spec.prologue,
        ],
        # One task at a time; the job's own limit ends a worker that takes too much.
        worker_extra_args=[
            *("--nthreads", "1", "--memory-limit", "0", "--preload", "features.common.workers")
        ],
        silence_logs=logging.CRITICAL,
    )


def _job_class() -> Any:
    """SLURM's jobs as dask_jobqueue has them, but what sbatch says against one is kept.

    Raised, it would be a traceback of the event loop, and nobody would stop waiting; a job that
    never ran would be one when the cluster is closed.
    """
    from dask_jobqueue.slurm import SLURMJob
    from distributed.core import Status

    class Job(SLURMJob):
        refused: ClassVar[list[str]] = []

        async def start(self) -> None:
            try:
                await super().start()
            except (OSError, RuntimeError, ValueError) as error:
                self.refused.append(_complaint(error))
                self.status = Status.running  # the cluster's own view: it was started

        async def close(self) -> None:
            await super().close()
            self.status = Status.closed

    return Job


def _complaint(error: Exception) -> str:
    """What sbatch has said, in a line; dask_jobqueue has it behind `stderr:`."""
    said = str(error).rpartition("stderr:\n")[2]
    return next((line.strip() for line in said.splitlines() if line.strip()), first_line(error))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave Dask's warnings and tracebacks out: what matters to the user is said by us."""
    loggers = [logging.getLogger(name) for name in _UNSEEN]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


# What follows runs in the workers.

_turn, _counting = threading.Lock(), threading.Lock()
_under_way: dict[str, int] = {}


def dask_setup(worker: Any) -> None:
    """Preload of a worker: Ctrl-C in the client's terminal is the client's."""
    with contextlib.suppress(ValueError):  # a worker in a thread of some other process
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def n_under_way(key: str) -> int:
    """How many tasks of a key this worker process has not left yet."""
    return _under_way.get(key, 0)


@contextlib.contextmanager
def task(key: str) -> Iterator[Callable[[], bool]]:
    """Be one task of a worker: alone in its process, and counted under `key`.

    Parameters
    ----------
    key : str
        What the worker does, as it is counted.

    Yields
    ------
    callable
        Whether the task was cancelled, or its client is gone.
    """
    from distributed import get_worker

    worker = get_worker()
    name = worker.get_current_task()

    def cancelled() -> bool:
        found = worker.state.tasks.get(name)
        return found is None or found.state == "cancelled"

    _count(key, 1)
    try:
        with _turn:
            yield cancelled
    finally:
        _count(key, -1)


def _count(key: str, by: int) -> None:
    with _counting:
        _under_way[key] = _under_way.get(key, 0) + by
