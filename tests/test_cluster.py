"""Workers by Dask: real schedulers and worker processes on the loopback."""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from features.stores.read import Store
from tests.conftest import write_recipe, write_tones
from tests.test_processes import WITHOUT, environment, finish, is_zombie, start, wait_for_parts

pytestmark = pytest.mark.process

N = 24
COMMAND = """
import sys
from {room} import __main__ as command
from extract.job import cluster
cluster.SLABS_A_WORKER = {slabs}
from features.common.command import run_command
sys.exit(run_command(command.main, command.parser()))
"""
SLOWLY = """
import os, time
from extract.job import compute, parts
parts.SEAL_AFTER_S = 0.0
if compute.begin_batch.__name__ == "begin_batch":  # a preload is imported and then reloaded
    embed = compute.begin_batch

def slowly(extractor, batch, *more):
    time.sleep({delay})
    if os.path.exists({deadly!r}):
        os._exit(1)
    with open({log!r}, "a") as log:
        log.write(batch[0].job.utterance + chr(10))
    return embed(extractor, batch, *more)

compute.begin_batch = slowly
"""
SBATCH = """#!/bin/bash
cp "$1" {folder}/job-$$.sh
setsid bash {folder}/job-$$.sh > {folder}/job-$$.log 2>&1 &
echo $! > {folder}/$$.pid
echo "Submitted batch job $$"
"""
REFUSING = """#!/bin/bash
echo "sbatch: error: invalid partition specified: gpux" >&2
exit 1
"""
QUEUEING = """#!/bin/bash
echo "Submitted batch job $$"
"""
SLURM = """
[cluster]
workers = 2
cores = 1
memory = "1GB"
walltime = "00:10:00"
interface = "lo"
"""
SCANCEL = """#!/bin/bash
echo $1 >> {folder}/cancelled
kill -- -$(cat {folder}/$1.pid)
"""


class Place:
    """A corpus, recipes over it, and what one process makes of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "batches.log"
        self.deadly = folder / "no-worker-lives"
        write_tones(folder / "data/tones", np.random.default_rng(20240229), N)
        for name, models in (("mfcc", '["mfcc"]'), ("both", '["mfcc", "wav2vec2-tiny"]')):
            write_recipe(folder / f"{name}.toml", models, "[extract]\nbatch_seconds = 2.0")
        code, text = finish(self.extract("both", "one"))
        assert code == 0, text

    def extract(
        self, recipe: str, stores: str, cluster: str = "", slow: float | None = None, slabs: int = 8
    ) -> subprocess.Popen[str]:
        """Start an extraction; with `slow` its own workers wait before every batch, and seal it."""
        argv = [f"{recipe}.toml", "--data", "data", "--stores", stores]
        argv += ["--cluster", cluster] if cluster else []
        env = {} if slow is None else self.slow(slow)
        code = COMMAND.format(room="extract", slabs=slabs)
        return start(code, *argv, cwd=self.folder, env=env)

    def slow(self, delay: float) -> dict[str, str]:
        """What makes workers slow."""
        self.log.unlink(missing_ok=True)
        module = self.folder / "slowly.py"
        settings = {"delay": delay, "log": str(self.log), "deadly": str(self.deadly)}
        module.write_text(SLOWLY.format(**settings))
        return {"DASK_DISTRIBUTED__WORKER__PRELOAD": json.dumps([str(module)])}

    def parts(self, stores: str) -> Path:
        return self.folder / stores / "tones/mfcc.parts"

    def same(self, stores: str, *models: str) -> bool:
        return all(
            (self.folder / stores / f"tones/{model}.h5").read_bytes()
            == (self.folder / f"one/tones/{model}.h5").read_bytes()
            for model in models
        )

    def n_sealed(self, stores: str) -> int:
        n = 0
        for path in self.parts(stores).glob("part-*.h5"):
            with Store(path) as part:
                n += len(part.index)
        return n


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("cluster"))


@pytest.fixture
def background(place: Place) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `dask` commands, and end them."""
    started = []

    def begin(*argv: str, **env: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "distributed.cli." + argv[0], *argv[1:]]
        process = subprocess.Popen(
            command, cwd=place.folder, env={**environment(), **env}, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        process.terminate()
    for process in started:
        process.communicate(timeout=60)


def descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        threads = [p for p in Path(f"/proc/{pid}/task").iterdir() if p.name != str(pid)]
        for thread in threads:  # Dask starts its workers in a thread
            children += (thread / "children").read_text().split()
    except FileNotFoundError:
        return []
    return [one for child in map(int, children) for one in (child, *descendants(child))]


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The process's own worker processes, without what those have started."""
    own = set(descendants(process.pid))
    for pid in list(own):
        own -= set(descendants(pid))
    return [one for one in own if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}/stat").exists() and not is_zombie(pid) for pid in pids):
        assert time.monotonic() < deadline, "a worker lives on"
        time.sleep(0.05)


def test_two_workers_make_the_store_of_one_process_bit_for_bit(place: Place) -> None:
    code, text = finish(place.extract("both", "two", "local:2"))
    assert code == 0, text
    assert "CLUSTER=local:2: 2 workers, threads of each: 1" in text
    assert f"mfcc: {N} computed, 0 cached" in text
    assert place.same("two", "mfcc", "wav2vec2-tiny")
    left = {path.name for path in (place.folder / "two/tones").iterdir()}
    assert left == {
        "mfcc.h5", "wav2vec2-tiny.h5", "utterances.csv", "utterances.json", "files.json",
    }  # fmt: skip
    code, text = finish(place.extract("both", "two", "local:2"))
    assert code == 0
    assert "nothing to do" in text
    assert "CLUSTER" not in text  # no worker is started for nothing


def test_a_killed_worker_costs_the_batch_under_way_and_no_other(place: Place) -> None:
    process = place.extract("mfcc", "killed", "local:2", slow=0.4, slabs=1)
    wait_for_parts(place.parts("killed"), 4, process)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    code, text = finish(process)
    assert code == 0, text
    assert "warning: 1 worker was lost" in text
    assert f"mfcc: {N} computed, 0 cached" in text
    assert place.same("killed", "mfcc")
    begun = place.log.read_text().split()
    assert len(begun) - len(set(begun)) <= 1  # sealed batches are not computed again


def test_batches_that_kill_every_worker_are_named(place: Place) -> None:
    place.deadly.touch()
    try:
        code, text = finish(place.extract("mfcc", "deadly", "local:1", slow=0.5, slabs=1))
    finally:
        place.deadly.unlink()
    assert code == 1, text
    assert "mfcc: batches 0 to 15 of " in text
    assert "4 workers died that had it" in text
    assert "Traceback" not in text


def test_no_worker_outlives_a_killed_client_and_another_goes_on(place: Place) -> None:
    process = place.extract("mfcc", "orphans", "local:2", slow=0.4)
    wait_for_parts(place.parts("orphans"), 2, process)
    pids = descendants(process.pid)
    assert len(workers_of(process)) == 2
    process.kill()
    process.communicate()
    wait_until_gone(pids)
    n = place.n_sealed("orphans")
    code, text = finish(place.extract("mfcc", "orphans", "local:1"))
    assert code == 0, text
    assert f"{N - n} computed, 0 cached, {n} sealed before" in text
    assert place.same("orphans", "mfcc")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_client_lets_workers_seal_and_leaves_none(
    place: Place, number: int, code: int
) -> None:
    stores = f"stopped-{code}"
    process = place.extract("mfcc", stores, "local:2", slow=0.4)
    wait_for_parts(place.parts(stores), 2, process)
    pids = descendants(process.pid)
    if number == signal.SIGINT:  # as a terminal does, to all at once
        for pid in pids:
            os.kill(pid, number)
    process.send_signal(number)
    exit_code, text = finish(process)
    assert exit_code == code, text
    assert "The same command goes on from here" in text
    assert "Traceback" not in text
    wait_until_gone(pids)
    assert not (place.folder / stores / "tones/mfcc.lock").exists()
    # Each worker has finished the batch that was under way: what was begun is sealed.
    assert len(place.log.read_text().split()) == len(list(place.parts(stores).glob("part-*.h5")))


def test_workers_of_a_running_scheduler_stop_for_a_dead_client(place: Place, background) -> None:
    file = place.folder / "scheduler.json"
    background("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", ":0",
               "--scheduler-file", str(file))  # fmt: skip
    # As users start them: more threads than one, and daemonic.
    background("dask_worker", "--scheduler-file", str(file), "--nthreads", "2", "--no-dashboard",
               **place.slow(0.3))  # fmt: skip
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    address = json.loads(file.read_text())["address"]
    process = place.extract("mfcc", "far", address, slabs=1)
    wait_for_parts(place.parts("far"), 2, process)
    process.kill()
    process.communicate()
    n = -1
    while n != (n := len(place.log.read_text().split())):
        time.sleep(3)
    n_batches = len(json.loads((place.parts("far") / "plan.json").read_text())["batches"])
    assert n < n_batches  # the slab under way is given up
    code, text = finish(place.extract("mfcc", "far", address, slabs=1))
    assert code == 0, text
    assert "sealed before" in text
    assert place.same("far", "mfcc")


with_jobqueue = pytest.mark.skipif(
    importlib.util.find_spec("dask_jobqueue") is None, reason="needs dask-jobqueue"
)


def extract_by_slurm(place: Place, name: str, sbatch: str, scancel: str) -> subprocess.Popen[str]:
    """Start an extraction into the stores `name`, with a pretended SLURM in a folder of its own."""
    tools = place.folder / name
    tools.mkdir()
    for tool, text in (("sbatch", sbatch), ("scancel", scancel)):
        (tools / tool).write_text(text.format(folder=tools))
        (tools / tool).chmod(0o755)
    (place.folder / "cluster.toml").write_text(SLURM)
    argv = ["mfcc.toml", "--data", "data", "--stores", f"{name}-stores", "--cluster", "slurm"]
    env = {"PATH": f"{tools}:{os.environ['PATH']}"}
    return start(COMMAND.format(room="extract", slabs=8), *argv, cwd=place.folder, env=env)


@with_jobqueue
def test_slurm_jobs_are_submitted_compute_and_are_cancelled(place: Place) -> None:
    exit_code, text = finish(extract_by_slurm(place, "slurm", SBATCH, SCANCEL))
    tools = place.folder / "slurm"
    logs = "".join(path.read_text() for path in tools.glob("*.log"))
    assert exit_code == 0, text + logs
    assert place.same("slurm-stores", "mfcc")
    assert len((tools / "cancelled").read_text().split()) == 2
    wait_until_gone([int(path.read_text()) for path in tools.glob("*.pid")])


@with_jobqueue
def test_a_refused_job_ends_the_command_in_a_line(place: Place) -> None:
    exit_code, text = finish(extract_by_slurm(place, "refusing", REFUSING, SCANCEL))
    assert exit_code == 1, text
    end = "no job was accepted: sbatch: error: invalid partition specified: gpux"
    assert text.endswith(f"CLUSTER=slurm: {end}\n")
    assert "Traceback" not in text


@with_jobqueue
def test_a_command_is_stopped_while_its_jobs_are_in_the_queue(place: Place) -> None:
    cancel = "#!/bin/bash\necho $1 >> {folder}/cancelled\n"
    process = extract_by_slurm(place, "queueing", QUEUEING, cancel)
    assert process.stdout is not None
    while "waiting for a worker" not in (line := process.stdout.readline()):
        assert line, "the command has ended"
    time.sleep(1)  # the jobs are submitted meanwhile
    process.terminate()
    exit_code, text = finish(process)
    assert exit_code == 143, text
    assert "Traceback" not in text
    assert len((place.folder / "queueing/cancelled").read_text().split()) == 2


def test_workers_fit_the_heads_of_one_process(place: Place) -> None:
    for argv in (["--runs", "here"], ["--runs", "there", "--cluster", "local:2"]):
        code, text = finish(
            start(
                "import runpy; runpy.run_module('models', run_name='__main__', alter_sys=True)",
                "both.toml", "--data", "data", "--stores", "one", *argv, cwd=place.folder,
            )
        )  # fmt: skip
        assert code == 0, text
        assert "mfcc: standard, C " in text
        assert "wav2vec2-tiny (untrained): standard, C " in text
    for model in ("mfcc", "wav2vec2-tiny"):
        for name in ("predictions.csv", "inner.csv", "search.csv"):
            one, other = (
                place.folder / runs / f"both/{model}/{name}" for runs in ("here", "there")
            )
            assert one.read_bytes() == other.read_bytes()


def test_without_distributed_the_extra_is_named(place: Place) -> None:
    code = WITHOUT.format(blocked=("distributed",))
    argv = ["extract", "mfcc.toml", "--data", "data", "--stores", "none", "--cluster", "local:2"]
    exit_code, text = finish(start(code, *argv, cwd=place.folder))
    assert exit_code == 1
    assert "CLUSTER=local:2: needs distributed; install the extra `cluster`" in text
    assert not (place.folder / "none").exists()


def listening(pid: int) -> set[str]:
    """Addresses that a process listens on, as the kernel has them."""
    sockets = set()
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            sockets.add(os.readlink(one))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in sockets:
                raw = bytes.fromhex(local.split(":")[0])
                words = [raw[i : i + 4][::-1] for i in range(0, len(raw), 4)]
                found.add(str(ipaddress.ip_address(b"".join(words))))
    return found


@pytest.mark.skipif(sys.byteorder == "big", reason="reads the kernel's words")
def test_nothing_of_a_local_cluster_can_be_reached_from_outside(place: Place) -> None:
    process = place.extract("mfcc", "alone", "local:2", slow=0.4)
    wait_for_parts(place.parts("alone"), 1, process)
    pids = [process.pid, *descendants(process.pid)]
    found = {pid: listening(pid) for pid in pids}
    process.kill()
    process.communicate()
    assert sum(map(bool, found.values())) == 3  # the scheduler with the nannies, and each worker
    assert set().union(*found.values()) == {"127.0.0.1"}
    wait_until_gone(pids)
