"""Kill extractions, merges and trainings at random moments, and see that nothing is lost.

A small corpus is synthesised and extracted undisturbed. Then the same command is started and killed
with SIGKILL, over and over on the same store, until so many kills have hit; whenever a run ends
before its kill, what it made is compared with the undisturbed store, and a new store is begun. Two
more storms follow: one that starts each time from all parts sealed and the store not yet written,
and one over the heads: `models`, `fusion` and `evaluate score` on the stores.

What has to hold, or the exit code is 1:

- every sealed row equals that of the undisturbed store bit for bit, and so does every finished
  store, its failures file, every prediction, table, score and head;
- a sealed part is never touched again, and no row is sealed twice;
- a store is there whole or not at all, at every moment;
- the last line of a run that goes on counts what was sealed before;
- with `--frames`, which stores the states of every frame as well, and `--segments`, the means of
  four parts of every utterance: no part of the store is sealed without these beside it, and the
  finished ones equal the undisturbed ones;
- nothing is left over at the end: no temporary file, no lock, no part, no process;
- `python -m features verify` passes.

Every run is `python -m extract` (or `models`, ...), a whole command in a process group of its own.
Each tenth is started as a user starts it. The others are forked from this process, which has
imported their packages and started no thread: starting the interpreter and torch would take most
of the time, and most of the kills. Forked runs seal every batch, that there be something to
lose. Half of the kills hit the whole group, half the command alone; its workers then have to end by
themselves.

Where a kill has hit is read from what it left: `start` is everything up to the first batch (the
interpreter, the recipe, the table, the plan), `seal` left half a part, `merge` hit between the last
part and the end of the command.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import json
import os
import re
import runpy
import shutil
import signal
import statistics
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

if not __package__:  # run as a file: this folder would hide the package `extract`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import soundfile as sf

from features.common.progress import Progress

TOP = Path(__file__).resolve().parents[1]
STAGES = ("start", "compute", "seal", "merge", "train")
MODELS = ("mfcc", "wav2vec2-tiny")
SHARES = {"merge": 0.25, "train": 0.2}
"""Of the kills; the extractions get the others."""
PACKAGES = (
    "extract.job.run",
    "models.train",
    "fusion.combine",
    "evaluate.scores.score",
    "skops.io",
)
STARTED_EVERY = 10
ORPHANS_S = 60.0
RECIPE = """
models = {models}
target = "emotion"
[corpora.{corpus}]
reader = "manifest"
[extract]
batch_seconds = 1.5
workers = {workers}
{beside}
[split]
outer = "leave-one-speaker-out"
inner = "speaker-k-fold"
inner_folds = 3
[head]
kind = "linear-svc"
select = "uar"
scalers = ["standard", "minmax"]
[head.grid]
C = [0.001, 0.01, 0.1, 1.0]
[fusion.mean]
method = "mean"
"""
BESIDE = {"frames": 'frames = ["last"]', "segments": "segments = 4"}
"""What may be stored beside a store, and how a recipe asks for it."""
CORPORA = {"clean": [], "rough": ["no audio", "too short"]}
VARIANTS = (("clean", 0), ("rough", 0), ("clean", 1))
"""Corpus and decoding processes of one store after the other."""


class Violation(Exception):
    """Something was lost, computed twice, or left over."""


@dataclass
class Tally:
    """What the storm has done so far."""

    kills: Counter[str] = field(default_factory=Counter)
    rows_sealed: int = 0
    rows_recomputed: int = 0
    stores: int = 0
    trainings: int = 0
    started: int = 0
    runs: int = 0


@dataclass
class Run:
    """A command under way, or ended: its process group, and where its output goes."""

    pid: int
    log: Path

    @property
    def text(self) -> str:
        """What it has said."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def poll(self) -> int | None:
        """The exit code once it has ended."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def wait(self, limit_s: float) -> int | None:
        """The exit code, or None where it runs on after so many seconds."""
        end = time.monotonic() + limit_s
        while (code := self.poll()) is None and time.monotonic() < end:
            time.sleep(0.001)
        return code

    def kill(self, whole_group: bool) -> None:
        """SIGKILL; where the command alone is hit, its workers have to end by themselves."""
        os.kill(-self.pid if whole_group else self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        end = time.monotonic() + ORPHANS_S
        while members(self.pid):
            if time.monotonic() > end:
                raise Violation(f"workers live on after the kill of their command: {self.text}")
            time.sleep(0.005)


def members(group: int) -> list[int]:
    """Living processes of a process group."""
    found = []
    for one in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, number = one.read_text().rsplit(")", 1)[1].split()[:3]
            if int(number) == group and state not in "ZX":
                found.append(int(one.parent.name))
    return found


class Storm:
    """Starts and kills commands in one folder.

    Parameters
    ----------
    folder : Path
        Where everything lies; the commands' current directory.
    rng : numpy.random.Generator
    n : int
        Kills that there will be.
    """

    def __init__(self, folder: Path, rng: np.random.Generator, n: int) -> None:
        self.folder, self.rng = folder, rng
        self.tally = Tally()
        self.progress = Progress("kill storm", n, "kills")
        self._logs = itertools.count()

    def hit(self, stage: str) -> None:
        """Count a kill."""
        self.tally.kills[stage] += 1
        self.progress.add(1)

    def begin(self, argv: Sequence[str], *, as_a_user: bool = False) -> Run:
        """Start `python -m argv`."""
        log = self.folder / f"log-{next(self._logs)}"
        log.touch()  # a kill may come before the command has written any
        self.tally.runs += 1
        self.progress.add(0)  # there may be many runs between two kills
        self.tally.started += as_a_user
        pid = os.fork()
        if pid:
            with contextlib.suppress(OSError):  # the child does the same: whoever is first
                os.setpgid(pid, pid)
            return Run(pid, log)
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        output = os.open(log, os.O_WRONLY | os.O_APPEND)
        for one in (sys.stdout.fileno(), sys.stderr.fileno()):
            os.dup2(output, one)
        os.chdir(self.folder)
        if as_a_user:
            os.execv(sys.executable, [sys.executable, "-m", *argv])
        return _become(argv)

    def undisturbed(self, argv: Sequence[str], *, as_a_user: bool = False) -> tuple[str, float]:
        """Run a command to its end; return its output, and the seconds that it took."""
        began = time.monotonic()
        run = self.begin(argv, as_a_user=as_a_user)
        code = run.wait(600)
        if code != 0:
            raise Violation(f"python -m {' '.join(argv)}: exit code {code}: {run.text}")
        return run.text, time.monotonic() - began

    def disturbed(self, argv: Sequence[str], least_s: float, most_s: float, **how: bool) -> Run:
        """Run a command and kill it at a random moment; an ended `Run` was faster."""
        run = self.begin(argv, **how)
        code = run.wait(float(self.rng.uniform(least_s, most_s)))
        if code is None:
            run.kill(whole_group=bool(self.rng.integers(2)))
            raise Killed(run)
        if code != 0:
            raise Violation(f"python -m {' '.join(argv)}: exit code {code}: {run.text}")
        return run


class Killed(Exception):
    """The kill came first."""

    def __init__(self, run: Run) -> None:
        super().__init__(run.pid)
        self.run = run


def _become(argv: Sequence[str]) -> NoReturn:
    """Be `python -m argv` from here on."""
    code: Any = 1
    try:
        sys.argv = list(argv)
        runpy.run_module(argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def seal_every_batch() -> None:
    """Let extractions in this process, and in those forked from it, seal every batch.

    Raises
    ------
    RuntimeError
        The constant that says when to seal has another name now.
    """
    importlib.import_module("extract.job.run")
    sealing = [
        one
        for name, one in sys.modules.items()
        if name.startswith("extract.") and hasattr(one, "SEAL_AFTER_S")
    ]
    if not sealing:
        raise RuntimeError("no module of extract has a SEAL_AFTER_S")
    for one in sealing:
        vars(one)["SEAL_AFTER_S"] = 0.0


def import_packages(chosen: Sequence[str]) -> None:
    """Import what the commands import, so that forked ones need not; seal every batch in them.

    Raises
    ------
    RuntimeError
        A package has started a thread, which no fork would have.
    """
    for name in PACKAGES:
        importlib.import_module(name)
    if "wav2vec2-tiny" in chosen:
        import torch
        from transformers import Wav2Vec2Config, Wav2Vec2Model  # noqa: F401

        importlib.import_module("extract.encoders.encoder")
        torch.set_num_threads(1)
    seal_every_batch()
    threads = [(one / "comm").read_text().strip() for one in Path("/proc/self/task").iterdir()]
    others = [one for one in threads[1:] if one != "jemalloc_bg_thd"]  # pyarrow's; minds forks
    if others:
        raise RuntimeError(f"threads after the imports, which no fork would have: {others}")


# -- extraction ------------------------------------------------------------------------------


def make_corpora(folder: Path, n: int, rng: np.random.Generator, beside: Sequence[str]) -> None:
    """Write `n` tones with noise as each corpus; one has files that cannot be used beside them."""
    for corpus, bad in CORPORA.items():
        root = folder / "data" / corpus
        root.mkdir(parents=True)
        lines = ["path,speaker,emotion"]
        for i in range(n + len(bad)):
            length_s = 0.01 if i == n + 1 else rng.uniform(0.2, 1.2)
            times = np.arange(round(length_s * 16_000)) / 16_000
            samples = 0.3 * np.sin(2 * np.pi * (150 + 20 * i) * times)
            samples += 0.05 * rng.standard_normal(len(times))
            sf.write(root / f"u{i:03}.wav", samples, 16_000, subtype="PCM_16")
            if i == n:
                (root / f"u{i:03}.wav").write_bytes(b"no audio")
            lines.append(f"u{i:03}.wav,s{i % 4},{'high' if i >= n // 2 else 'low'}")
        (root / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for corpus, workers in {*VARIANTS}:
        text = RECIPE.format(
            models=json.dumps(MODELS),
            corpus=corpus,
            workers=workers,
            beside="\n".join(BESIDE[kind] for kind in beside),
        )
        (folder / f"{corpus}-{workers}.toml").write_text(text, encoding="utf-8")


@dataclass
class Job:
    """The extraction of one model for one corpus into one folder of stores."""

    storm: Storm
    model: str
    corpus: str
    workers: int
    stores: str

    @property
    def argv(self) -> list[str]:
        """The command."""
        recipe = f"{self.corpus}-{self.workers}.toml"
        allowed = str(len(CORPORA[self.corpus]))
        return [
            "extract", recipe, "--model", self.model, "--stores", self.stores, "--device", "cpu",
            "--allow-failures", allowed,
        ]  # fmt: skip

    @property
    def folder(self) -> Path:
        """Where the store goes."""
        return self.storm.folder / self.stores / self.corpus

    @property
    def store(self) -> Path:
        """The finished file."""
        return self.folder / f"{self.model}.h5"

    def beside(self, kind: str) -> Path:
        """The finished frames or segments, where they are asked for."""
        return self.folder / kind / f"{self.model}.h5"

    @property
    def parts(self) -> Path:
        """The folder of sealed parts."""
        return self.folder / f"{self.model}.parts"

    def finished(self) -> dict[str, bytes]:
        """Everything in the folder and below, by its name."""
        return {
            str(one.relative_to(self.folder)): one.read_bytes() if one.is_file() else b"a folder"
            for one in sorted(self.folder.rglob("*"))
        }


@dataclass
class Reference:
    """What an undisturbed extraction gives."""

    files: dict[str, bytes]
    rows: dict[tuple[str, str], bytes]
    seconds: dict[bool, float]
    """Of a whole run: started as a user does, or forked."""
    beside: dict[str, dict[str, bytes]]
    """Of frames and segments what is asked for: utterance -> its own."""


def frames_of(path: Path) -> dict[str, bytes]:
    """Utterance -> all its frames; checksums compared.

    Raises
    ------
    Violation
        The file is damaged, or not there.
    """
    from features.common.errors import StoreError
    from features.stores.frames import FrameStore

    try:
        with FrameStore(path) as store:
            if damaged := store.verify():
                raise Violation(f"{path}: {damaged[0]}")
            whole = store.mapped()
            bounds = zip(store.offsets[:-1], store.offsets[1:], strict=True)
            return {
                name: whole[:, first:last].tobytes()
                for name, (first, last) in zip(store.index["utterance"], bounds, strict=True)
            }
    except StoreError as error:
        raise Violation(f"half a file, or none: {error}") from None


def rows_of(path: Path) -> tuple[dict[tuple[str, str], bytes], set[tuple[str, str]]]:
    """(utterance, audio hash) -> all its values, and what failed; checksums compared.

    Raises
    ------
    Violation
        The file is damaged.
    """
    from features.common.errors import StoreError
    from features.stores.read import Store

    try:
        with Store(path) as store:
            if damaged := store.verify():
                raise Violation(f"{path}: {damaged[0]}")
            layers = [
                store.read_position(position, statistic)
                for statistic in store.statistics
                for position in range(len(store.layers))
            ]
            keys = zip(store.index["utterance"], store.index["audio_hash"], strict=True)
            values = {
                key: b"".join(layer[i].tobytes() for layer in layers) for i, key in enumerate(keys)
            }
            return values, {(utterance, hashed) for utterance, hashed, _ in store.failed}
    except StoreError as error:
        raise Violation(f"half a file: {error}") from None


def reference(storm: Storm, model: str, corpus: str) -> Reference:
    """Extract undisturbed, as a user does, and forked: both give the same bytes."""
    took = {}
    for as_a_user in (True, False):
        stores = "undisturbed" if as_a_user else "undisturbed-forked"
        job = Job(storm, model, corpus, 0, stores)
        _, took[as_a_user] = storm.undisturbed(job.argv, as_a_user=as_a_user)
    first, second = (Job(storm, model, corpus, 0, one) for one in ("undisturbed", stores))
    for path in (first, second):
        if path.store.read_bytes() != first.store.read_bytes():
            raise Violation(f"{model}, {corpus}: a forked run gives other bytes than one started")
    mine = {
        name: data
        for name, data in first.finished().items()
        if name.startswith((f"{model}.", "utterances.", "files."))
        or name in BESIDE
        or name.split("/")[-1].startswith(f"{model}.")
    }
    beside = {}
    for kind in BESIDE:
        if first.beside(kind).exists():
            if first.beside(kind).read_bytes() != second.beside(kind).read_bytes():
                raise Violation(f"{model}, {corpus}: a forked run gives other {kind}")
            beside[kind] = frames_of(first.beside(kind))
    return Reference(mine, rows_of(first.store)[0], took, beside)


class Watch:
    """What one store has sealed so far, and that nothing of it is lost.

    Parameters
    ----------
    job : Job
    expected : Reference
    """

    def __init__(self, job: Job, expected: Reference) -> None:
        self.job, self.expected = job, expected
        self.sealed: set[tuple[str, str]] = set()
        self._parts: dict[str, tuple[int, int, int]] = {}
        self.was_stored = False

    def look(self) -> None:
        """Compare what lies on the disk with what lay there before.

        Raises
        ------
        Violation
        """
        job, tally = self.job, self.job.storm.tally
        now = {one.name: one.stat() for one in job.parts.glob("part-*.h5")}
        marks = {name: (s.st_mtime_ns, s.st_ino, s.st_size) for name, s in now.items()}
        stored = job.store.exists()
        if stored and job.store.read_bytes() != self.expected.files[job.store.name]:
            raise Violation(f"{job.store}: differs from the undisturbed store")
        if self.was_stored and not stored:
            raise Violation(f"{job.store}: gone")
        for kind in self.expected.beside:
            finished = job.beside(kind)
            if finished.exists():
                if finished.read_bytes() != self.expected.files[f"{kind}/{finished.name}"]:
                    raise Violation(f"{finished}: differs from the undisturbed {kind}")
            elif stored:
                raise Violation(f"{finished}: not there, and the store is")
        for name, mark in self._parts.items():
            if marks.get(name, mark if stored else None) != mark:
                raise Violation(f"{job.parts / name}: a sealed part was touched or removed")
        for name in sorted(now.keys() - self._parts.keys()):
            rows, failed = rows_of(job.parts / name)
            for kind, of_all in self.expected.beside.items():
                beside = frames_of(job.parts / name.replace("part-", f"{kind}-", 1))
                if beside != {key[0]: of_all[key[0]] for key in rows}:
                    raise Violation(f"{job.parts / name}: its {kind} differ from the undisturbed")
            for key, values in rows.items():
                if self.expected.rows.get(key) != values:
                    raise Violation(f"{job.parts / name}: {key[0]} differs from the undisturbed")
            again = self.sealed & (rows.keys() | failed)
            tally.rows_recomputed += len(again)
            if again:
                raise Violation(f"{job.parts / name}: {sorted(again)[0][0]} was sealed before")
            self.sealed |= rows.keys() | failed
            tally.rows_sealed += len(rows)
        self._parts, self.was_stored = marks, stored

    def n_sealed(self) -> int:
        """Rows with values that parts hold."""
        return len(self.sealed & self.expected.rows.keys())

    def stage(self, run: Run) -> str:
        """Where a kill has hit, from what it has left."""
        job = self.job
        lock = job.store.with_suffix(".lock")
        ours = lock.exists() and re.search(rf'"pid": {run.pid}\b', lock.read_text())
        if not ours:
            return "start"
        if job.store.exists() or list(job.folder.rglob(f".{job.store.name}.*.tmp")):
            return "merge"
        if list(job.parts.glob(".*-*.tmp")):
            return "seal"
        if self.n_sealed() == len(self.expected.rows):
            return "merge"
        return "compute" if "batches on" in run.text else "start"

    def ended(self, run: Run, before: int, was_stored: bool) -> None:
        """Compare a run that went to its end with the undisturbed one.

        Raises
        ------
        Violation
        """
        job, n = self.job, len(self.expected.rows)
        counts = re.search(
            r"(\d+) computed, (\d+) cached(?:, \w+ of \d+ cached)*(?:, (\d+) sealed before)?",
            run.text,
        )
        found = tuple(int(one or 0) for one in counts.groups()) if counts else None
        nothing = re.search(rf"\b{n} of \d+ cached", run.text) is not None
        # After a kill between the store and the failures file, the failed ones are looked up anew.
        right = [(n - before, 0, before)] if not was_stored else [None, (0, n, 0)]
        if found not in right or not (found or nothing):
            raise Violation(f"{n} rows, {before} sealed before the last run, it says: {run.text}")
        if job.finished() != self.expected.files:
            left = sorted(job.finished().keys() ^ self.expected.files.keys())
            raise Violation(f"{job.folder}: left over or missing: {left or 'other bytes'}")
        text, _ = job.storm.undisturbed(["features", "verify", "--stores", job.stores])
        if text.count(f"{job.store.name}: ok") != 1 + len(self.expected.beside):
            raise Violation(f"verify: {text}")
        job.storm.tally.stores += 1


def storm_store(
    job: Job, expected: Reference, kills: int, least: float, seconds: dict[bool, float]
) -> int:
    """Storm one store until it is finished; return how many kills hit.

    Parameters
    ----------
    kills : int
        After so many the command is let alone.
    least : float
        Share of an undisturbed run's time before which nobody is killed.
    seconds : dict
        Of an undisturbed run, by whether a user starts it.
    """
    storm, watch, hit = job.storm, Watch(job, expected), 0
    watch.look()
    while True:
        before, was_stored = watch.n_sealed(), watch.was_stored
        try:
            if hit >= kills:
                run = storm.begin(job.argv)
                if (code := run.wait(600)) != 0:
                    raise Violation(f"exit code {code}: {run.text}")
            else:
                as_a_user = least == 0 and storm.tally.runs % STARTED_EVERY == 0
                most_s = 1.15 * seconds[as_a_user]
                run = storm.disturbed(
                    job.argv, least * seconds[as_a_user], most_s, as_a_user=as_a_user
                )
        except Killed as killed:
            hit += 1
            watch.look()
            storm.hit(watch.stage(killed.run))
            if "Traceback" in killed.run.text:
                raise Violation(killed.run.text) from None
            continue
        watch.ended(run, before, was_stored)
        return hit


def storm_extraction(storm: Storm, model: str, expected: dict[str, Reference], kills: int) -> None:
    """Kill extractions of a model until so many kills have hit."""
    hit = 0
    for number in itertools.count():
        if hit >= kills:
            return
        corpus, workers = VARIANTS[number % len(VARIANTS)]
        if workers and model == "wav2vec2-tiny":
            continue
        job = Job(storm, model, corpus, workers, f"stores/{model}-{number}")
        reference = expected[corpus]
        # Workers take a second to start, and more where the machine is busy.
        seconds = {how: took + 1.5 * workers for how, took in reference.seconds.items()}
        hit += storm_store(job, reference, kills - hit, 0.0, seconds)
        shutil.rmtree(job.folder.parent)


def storm_merge(storm: Storm, model: str, expected: dict[str, Reference], kills: int) -> None:
    """Kill merges: each store starts with all parts sealed and nothing merged."""
    kept = {corpus: complete_parts(storm, model, corpus, expected[corpus]) for corpus in CORPORA}
    took: dict[str, dict[bool, float]] = {}
    for corpus in kept:
        times = []
        for i in range(3):
            job = restored(storm, model, corpus, kept[corpus], f"stores/merge-{model}-time{i}")
            times.append(storm.undisturbed(job.argv)[1])
            shutil.rmtree(job.folder.parent)
        took[corpus] = {False: statistics.median(times)}
    hit = 0
    for number in itertools.count():
        if hit >= kills:
            return
        corpus = list(CORPORA)[number % 2]
        job = restored(storm, model, corpus, kept[corpus], f"stores/merge-{model}-{number}")
        hit += storm_store(job, expected[corpus], kills - hit, 0.4, took[corpus])
        shutil.rmtree(job.folder.parent)


def complete_parts(storm: Storm, model: str, corpus: str, expected: Reference) -> Path:
    """A folder of an extraction that was killed as its last part was sealed."""
    for attempt in range(50):
        job = Job(storm, model, corpus, 0, f"stores/complete-{model}-{corpus}-{attempt}")
        run = storm.begin(job.argv)
        n: int | None = None
        while run.poll() is None:
            with contextlib.suppress(OSError, ValueError):
                if n is None:
                    n = len(json.loads((job.parts / "plan.json").read_text())["batches"])
                if len(list(job.parts.glob("part-*.h5"))) == n:
                    run.kill(whole_group=True)
                    break
            time.sleep(0.001)
        if job.parts.is_dir() and not job.store.exists():
            return job.folder
    raise Violation(f"{model}: no kill hit between the last part and the store: {run.text}")


def restored(storm: Storm, model: str, corpus: str, kept: Path, stores: str) -> Job:
    """A job whose folder is a copy of a kept one."""
    job = Job(storm, model, corpus, 0, stores)
    shutil.copytree(kept, job.folder)
    return job


# -- heads -----------------------------------------------------------------------------------


def storm_training(storm: Storm, kills: int) -> None:
    """Kill `models`, `fusion` and `evaluate score` one after the other, and compare the runs."""

    def commands(runs: str) -> Iterator[list[str]]:
        recipe = ["clean-0.toml", "--runs", runs]
        yield ["models", *recipe, "--stores", "undisturbed", "--jobs", "2"]
        yield ["fusion", *recipe, "--stores", "undisturbed"]
        yield ["evaluate", "score", *recipe]

    took = []
    for argv in commands("undisturbed-runs"):
        took.append({True: storm.undisturbed(argv, as_a_user=True)[1]})
    for position, argv in enumerate(commands("undisturbed-forked-runs")):
        took[position][False] = storm.undisturbed(argv)[1]
    expected = contents(storm.folder / "undisturbed-runs")
    if (
        other := difference(expected, contents(storm.folder / "undisturbed-forked-runs"))
    ) is not None:
        raise Violation(f"two undisturbed trainings differ in {other}")
    hit = 0
    for number in itertools.count():
        if hit >= kills:
            return
        runs = f"runs-{number}"
        for position, argv in enumerate(commands(runs)):
            while True:
                as_a_user = storm.tally.runs % STARTED_EVERY == 0
                try:
                    if hit >= kills:
                        storm.undisturbed(argv)
                    else:
                        storm.disturbed(
                            argv, 0.0, 1.15 * took[position][as_a_user], as_a_user=as_a_user
                        )
                except Killed as killed:
                    hit += 1
                    storm.hit("train")
                    if "Traceback" in killed.run.text:
                        raise Violation(killed.run.text) from None
                    continue
                break
        if (other := difference(expected, contents(storm.folder / runs))) is not None:
            raise Violation(f"{runs}: {other} differs from that of the undisturbed training")
        storm.tally.trainings += 1
        shutil.rmtree(storm.folder / runs)


def contents(folder: Path) -> dict[str, Any]:
    """Every file below a folder of runs: its bytes, but records without times, heads as loaded."""
    from models.outputs import load_head

    readers: dict[str, Callable[[Path], Any]] = {
        "run.json": lambda path: {**json.loads(path.read_text()), "seconds": None, "digest": None},
        "head.skops": lambda path: parameters(load_head(path)),
    }
    return {
        str(path.relative_to(folder)): readers.get(path.name, Path.read_bytes)(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def parameters(value: Any) -> Any:
    """All that an estimator holds, to be compared with ==, arrays by their bytes."""
    if isinstance(value, np.ndarray):
        return parameters(value.tolist()) if value.dtype == object else (
            value.dtype.str, value.shape, value.tobytes()
        )  # fmt: skip
    if hasattr(value, "get_params"):
        return type(value).__name__, parameters(vars(value))
    if isinstance(value, dict):
        return {key: parameters(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [parameters(one) for one in value]
    return repr(value)


def difference(one: dict[str, Any], other: dict[str, Any]) -> str | None:
    """The first file that is not in both, or not the same."""
    names = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
    return names[0] if names else None


# -- the command -----------------------------------------------------------------------------


def main() -> int:
    """Run all storms and print what they have hit."""
    parser = argparse.ArgumentParser(description="Kill extractions and trainings; lose nothing.")
    parser.add_argument("-n", type=int, default=200, help="kills (%(default)s)")
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seed", type=int, default=0, help="of the moments (%(default)s)")
    parser.add_argument("--utterances", type=int, default=40, help="(%(default)s)")
    for kind in BESIDE:
        parser.add_argument(f"--{kind}", action="store_true", help=f"store {kind}, too")
    parser.add_argument("--small", action="store_true", help="12 kills on 16 utterances, mfcc")
    args = parser.parse_args()
    if args.small:
        args.n, args.utterances, args.model = 12, 16, ["mfcc"]
    began = time.monotonic()
    rng = np.random.default_rng(args.seed)
    folder = Path(tempfile.mkdtemp(prefix="kill-storm-"))
    storm = Storm(folder, rng, args.n)
    failures: list[str] = []
    try:
        beside = [kind for kind in BESIDE if getattr(args, kind)]
        make_corpora(folder, args.utterances, rng, beside)
        import_packages(args.model)
        merges, training = (max(2, round(args.n * share)) for share in SHARES.values())
        extractions = args.n - merges - training
        for i, model in enumerate(args.model):
            expected = {corpus: reference(storm, model, corpus) for corpus in CORPORA}
            share = len(range(i, extractions, len(args.model)))
            storm_extraction(storm, model, expected, share)
            storm_merge(storm, model, expected, len(range(i, merges, len(args.model))))
            say(storm, f"{model}: extractions and merges", began)
        for model in set(MODELS) - set(args.model):
            storm.undisturbed(Job(storm, model, "clean", 0, "undisturbed").argv)
        storm_training(storm, training)
        say(storm, "training", began)
    except Violation as violation:
        failures.append(str(violation))
    storm.progress.close()
    tally = storm.tally
    print(f"kills {tally.kills.total()}: " + ", ".join(f"{s} {tally.kills[s]}" for s in STAGES))
    print(f"runs {tally.runs}, of which {tally.started} with an interpreter of their own")
    print(f"rows sealed under kills {tally.rows_sealed}, recomputed {tally.rows_recomputed}")
    print(f"stores completed {tally.stores}, trainings completed {tally.trainings}")
    print(f"failures {len(failures)}, {time.monotonic() - began:.0f} s, seed {args.seed}")
    for one in failures:
        print(f"VIOLATION: {one}\n{folder} is kept", file=sys.stderr)
    if not failures:
        shutil.rmtree(folder)
    return bool(failures)


def say(storm: Storm, what: str, began: float) -> None:
    """Tell how far things are."""
    storm.progress.close()
    text = f"{what}: {storm.tally.kills.total()} kills so far, {time.monotonic() - began:.0f} s"
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    # A thread that numpy's or torch's libraries have started would not be in a fork. The variables
    # are read as they load: this program starts itself anew with them.
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    single["PYTHONPATH"] = str(TOP)
    if any(os.environ.get(name) != value for name, value in single.items()):
        os.environ.update(single)
        os.execv(sys.executable, [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:]])
    raise SystemExit(main())
