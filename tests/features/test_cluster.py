"""What users say about workers, and what a SLURM job gets."""

from __future__ import annotations

import importlib.util
import signal
import socket
from pathlib import Path

import pytest

from features.common import workers as cluster
from features.common.errors import ClusterError
from features.common.workers import gpus, load_table, parse, slurm_cluster

# Not imported to find out: its import changes what Ctrl-C does.
with_jobqueue = pytest.mark.skipif(
    importlib.util.find_spec("dask_jobqueue") is None, reason="needs dask-jobqueue"
)
TABLE = """
[cluster]
workers = 16
cores = 8
memory = "32GB"
walltime = "1-08:00:00"
partition = "gpu"
account = "ser"
gpus = 2
sbatch = ["--constraint=a100"]
prologue = ["module load cuda"]
python = "/shared/venv/bin/python"
logs = "{logs}"
"""


@pytest.mark.parametrize(
    "text", ["", "2", "local", "local:0", "local:-1", "local:two", "tcp://host", "host:1", "slurmx"]
)
def test_any_other_word_is_an_error_that_lists_the_three(text: str) -> None:
    with pytest.raises(ClusterError, match=r"expected local:N \(N is 1 or more\), tcp://host:po"):
        parse(text)


@with_jobqueue
def test_the_three_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse("local:3").n_local == 3
    with socket.create_server(("127.0.0.1", 0)) as scheduler:
        address = f"tcp://127.0.0.1:{scheduler.getsockname()[1]}"
        assert parse(address).text == address
    (tmp_path / "sbatch").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "cluster.toml").write_text(TABLE)
    monkeypatch.chdir(tmp_path)
    default, named = parse("slurm").slurm, parse(f"slurm:{tmp_path}/cluster.toml").slurm
    assert default is not None
    assert default == named
    assert (default.workers, default.gpus, default.partition) == (16, 2, "gpu")


@with_jobqueue
def test_without_sbatch_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.toml").write_text(TABLE)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="no `sbatch` here; start it where"):
        parse(f"slurm:{tmp_path}/c.toml")


@pytest.mark.parametrize("port", [9, 99999])
def test_a_scheduler_that_is_not_there_is_missed_at_once(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "REACH_S", 0.5)
    with pytest.raises(ClusterError, match=r"no scheduler answers.*`dask scheduler`, or check"):
        parse(f"tcp://127.0.0.1:{port}")


def test_all_faults_of_a_table_are_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(
        """
        [cluster]
        workers = 0
        cores = "8"
        memory = "plenty"
        sbatch = ["constraint=a100"]
        partitoin = "gpu"
        [slurm]
        """
    )
    with pytest.raises(ClusterError) as caught:
        load_table(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: 7 faults")
    for part in (
        "slurm: no such table",
        "workers: got 0",
        "cores: got '8'",
        "memory: got 'plenty'",
        "walltime: missing",
        "sbatch: got 'constraint=a100'",
        "partitoin: no such key; did you mean 'partition'?",
    ):
        assert part in text
    with pytest.raises(ClusterError, match="cannot be read: No such file"):
        load_table(tmp_path / "none.toml")
    path.write_text("[cluster")
    with pytest.raises(ClusterError, match="not valid TOML"):
        load_table(path)


@pytest.mark.process
@with_jobqueue
def test_a_job_asks_for_what_the_table_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt = signal.getsignal(signal.SIGINT)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "cluster.toml"
    path.write_text(TABLE.format(logs=tmp_path / "logs"))
    with slurm_cluster(load_table(path)) as cluster:
        script = cluster.job_script()
    assert signal.getsignal(signal.SIGINT) is interrupt
    head, _, command = script.rpartition("\n/shared/venv/bin/python ")
    for line in (
        "#SBATCH -p gpu",
        "#SBATCH -A ser",
        "#SBATCH --cpus-per-task=8",
        "#SBATCH --mem=30G",  # GiB, rounded up
        "#SBATCH -t 1-08:00:00",
        "#SBATCH --gres=gpu:2",
        "#SBATCH --constraint=a100",
        "export OMP_NUM_THREADS=8",
        "export DASK_DISTRIBUTED__WORKER__DAEMON=False",
        f"cd {tmp_path}",
        "module load cuda",
    ):
        assert line in head.splitlines()
    words = command.split()
    assert words[:2] == ["-m", "distributed.cli.dask_worker"]
    for option, value in (("--nthreads", "1"), ("--memory-limit", "0")):
        last = len(words) - 1 - words[::-1].index(option)
        assert words[last + 1] == value


def test_devices_are_those_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0, MIG-1")
    assert gpus() == ["0", "MIG-1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus() == []


def test_devices_are_counted_where_nothing_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf '0\\n1\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus() == ["0", "1"]
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert gpus() == []
