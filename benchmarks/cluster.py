"""`CLUSTER=local:N` beside one process, in one run on one machine, and the size of its messages.

Both are whole `python -m extract` commands over the same WAV files, on the same cores: one process
with all of them as threads, then N workers with a share each. Weights and audio are those of
`benchmarks/extract.py`. `all` is the whole command, start and merge included; `inside` is what the
command says of itself, to a second: from the lock to the merged store, loading of weights counted,
without the start of Python and of the workers.

On one CPU the workers share what one process has already; the figures show what a cluster costs,
not what more devices give. The exit code is 1 where the two stores differ by more than a relative
1e-4 in any layer's mean.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

if not __package__:  # run as a file: this folder would hide the package `extract`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from benchmarks.common import fresh
from benchmarks.extract import (
    MODELS,
    TOLERANCE,
    On,
    describe_checkpoint,
    make_audio,
    make_checkpoint,
)
from extract.audio import Clip, seconds
from extract.job.cluster import cut
from extract.job.device import BATCH_SECONDS
from extract.job.parts import Slab
from extract.plan.batches import BatchPlan, Pending, make_batches
from extract.plan.work import Item, make_target
from features.stores.read import Store

MODEL = "wav2vec2-base"
SMALL_SECONDS = 40.0
RECIPE = """
target = "label"
[models.{model}]
path = "{checkpoint}"
[corpora.noise]
reader = "manifest"
[head]
kind = "linear-svc"
select = "uar"
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run both ways in turn, and print medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=120.0, help="audio to embed")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--small", action="store_true", help=f"one repeat on {SMALL_SECONDS:g} s of audio"
    )
    args = parser.parse_args(argv)
    if args.small:
        args.seconds, args.repeats = SMALL_SECONDS, 1
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "distributed"))
    print(f"cpu of {os.cpu_count()} cores; Python {platform.python_version()}, {packages}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = prepare(folder, args.seconds)
        audio_s = sum(seconds(clip) for clip in clips)
        print(f"{MODEL}, random weights; {len(clips)} files, {audio_s:.1f} s of audio")
        report_messages(folder, clips, args.workers)
        ways = ("", f"local:{args.workers}")
        took: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for repeat in range(args.repeats):
            for way in ways[:: 1 if repeat % 2 == 0 else -1]:
                took[way].append(extract(folder, way))
        print(f"medians of {args.repeats} interleaved repeats, seconds")
        print("way             all   inside   audio s/s inside")
        for way in ways:
            whole, inside = (statistics.median(one) for one in zip(*took[way], strict=True))
            print(
                f"{way or 'one process':12} {whole:6.1f}   {inside:6.1f}   {audio_s / inside:8.2f}"
            )
        error = difference(folder, *ways)
    print(f"largest relative difference of a layer's mean: {error:.1e}")
    return 0 if error <= TOLERANCE["float32"] else 1


def prepare(folder: Path, total_s: float) -> list[Clip]:
    """Write audio, manifest, weights and recipe."""
    (folder / "data").mkdir()
    corpus = folder / "data/noise"
    clips = make_audio(corpus, total_s, BATCH_SECONDS["cpu"], 500)
    rows = [f"{Path(clip.path).name},{'ab'[i % 2]}" for i, clip in enumerate(clips)]
    (corpus / "manifest.csv").write_text("\n".join(["path,label", *rows]) + "\n", encoding="utf-8")
    fresh(make_checkpoint, MODEL, On("cpu", "float32", folder / MODEL))
    text = RECIPE.format(model=MODEL, checkpoint=folder / MODEL)
    (folder / "noise.toml").write_text(text, encoding="utf-8")
    return clips


def report_messages(folder: Path, clips: Sequence[Clip], n_workers: int) -> None:
    """Say how large the slabs are that the scheduler passes on."""
    from distributed.protocol import dumps, to_serialize

    def sent(slab: Slab) -> int:
        return sum(len(frame) for frame in dumps({"task": to_serialize(slab)}))

    target = make_target(
        MODELS[MODEL], describe_checkpoint(MODEL, On("cpu", "float32", folder / MODEL))
    )
    clip_of = {clip.utterance: clip for clip in clips}
    jobs = [Pending(clip.utterance, "0" * 32, seconds(clip)) for clip in clips]
    plan = BatchPlan(target.key, make_batches(jobs, BATCH_SECONDS["cpu"]))

    def items(batch: Sequence[Pending]) -> list[Item]:
        return [Item(job, clip_of[job.utterance], 10**5, 10**18) for job in batch]

    whole = Slab(target, folder / "stores", plan.name, [])
    empty = sent(whole)
    sizes = [sent(slab) for slab in cut(whole, plan, range(len(plan.batches)), items, n_workers)]
    each = (sum(sizes) - empty * len(sizes)) / len(clips)
    print(
        f"messages: {len(sizes)} slabs of {min(sizes):,} to {max(sizes):,} bytes: {empty:,} each "
        f"and {each:.0f} an utterance; a row of the store has {target.row_bytes:,}"
    )


def extract(folder: Path, cluster: str) -> tuple[float, float]:
    """Seconds of a whole command, and those that it says itself."""
    stores = folder / f"stores-{cluster}"
    command = [sys.executable, "-m", "extract", str(folder / "noise.toml"), "--force"]
    command += ["--data", str(folder / "data"), "--stores", str(stores), "--device", "cpu"]
    command += ["--cluster", cluster] if cluster else []
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    environment.pop("OMP_NUM_THREADS", None)
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    took_s = time.perf_counter() - began
    found = re.search(r", in (?:(\d+):)?(\d+)(?: s)? \(", done.stdout)
    if done.returncode or not found:
        raise RuntimeError(done.stdout + done.stderr)
    with Store(stores / f"noise/{MODEL}.h5") as store:
        n = len(store.index)
    print(f"  {cluster or 'one process':12} {took_s:6.1f} s, {n} utterances", flush=True)
    return took_s, 60.0 * int(found[1] or 0) + int(found[2])


def difference(folder: Path, one: str, other: str) -> float:
    """Largest relative difference of a layer's mean of an utterance."""
    worst = 0.0
    with (
        Store(folder / f"stores-{one}/noise/{MODEL}.h5") as a,
        Store(folder / f"stores-{other}/noise/{MODEL}.h5") as b,
    ):
        rows = np.arange(len(a.index))
        for position in range(len(a.key["layers"])):
            first, second = (s.read_rows(position, "mean", rows) for s in (a, b))
            norm = np.linalg.norm(first, axis=1)
            worst = max(worst, float((np.linalg.norm(first - second, axis=1) / norm).max()))
    return worst


if __name__ == "__main__":
    raise SystemExit(main())
