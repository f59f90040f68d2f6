"""Peak memory of an extraction that has ten times as many utterances.

The same extraction (`python -m extract`) runs over short files, 500 of them and 5,000, each in a
process of its own. Its peak is the most resident memory of the process plus that of its largest
worker, as the kernel counts it (a worker counts at least what its parent had when it started).
The goal: 5,000 utterances take at most 10 % more than 500. Sizes take turns; medians.

A second table says what grows: bytes an utterance that Python and numpy hold, by tracemalloc, in a
run of its own for each size: (bytes at 5,000 - bytes at 500) / 4,500, so that what does not grow
falls out. What pyarrow holds (text columns of pandas) is not seen by tracemalloc.

The exit code is 1 where an extraction fails or a store lacks utterances; a missed goal is printed
and decides nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: this folder would hide the package `extract`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import soundfile as sf

from benchmarks.common import fresh, goal_verdict, machine, peak_bytes, say, say_short, speechlike
from extract.audio import SAMPLING_RATE_HZ
from features.stores.key import store_path
from features.stores.read import Store

SIZES, SMALL_SIZES = (500, 5_000), (120, 360)
"""Several batches each: a single one is decoded without workers."""
MODELS = ("mfcc", "wav2vec2-tiny")
MOST = 1.1
SHORTEST_S, LONGEST_S = 0.2, 0.4
N_SPEAKERS = 10
STAGES = ("read_corpus", "survey", "plan_work", "run")
"""What `python -m extract` calls, in its order."""
N_SITES = 8
RECIPE = """
models = ["mfcc"]
target = "kind"
[corpora.made]
reader = "manifest"
root = {root!r}
file = "{n}.csv"
[split]
outer = "leave-one-speaker-out"
inner = "speaker-k-fold"
[head]
kind = "linear-svc"
select = "uar"
[head.grid]
C = [1.0]
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the models that are asked for, and what grows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("models", nargs="*", default=MODELS, help=f"default {' '.join(MODELS)}")
    parser.add_argument("--repeats", type=int, default=1, help="default 1")
    parser.add_argument(
        "--small", action="store_true", help=f"{SMALL_SIZES[0]} and {SMALL_SIZES[1]} utterances"
    )
    args = parser.parse_args(argv)
    few, many = sizes = SMALL_SIZES if args.small else SIZES
    print(f"{machine('torch', 'transformers', 'numpy', 'pandas')} Device: cpu.")
    complete = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fresh(make_corpus, folder, sizes)
        print(
            f"{SHORTEST_S} to {LONGEST_S} s each; MB, process + largest worker.\n\n| model "
            f"| {few:,} utterances | {many:,} utterances | ratio | goal |\n|---|---|---|---|---|",
            flush=True,
        )
        for model in args.models:
            peaks: dict[int, list[tuple[int, int]]] = {n: [] for n in sizes}
            for repeat in range(args.repeats):
                for n in sizes:
                    stores = folder / f"stores-{model}-{n}-{repeat}"
                    rows, *peak = fresh(extract, folder, model, n, stores)
                    peaks[n].append((peak[0], peak[1]))
                    complete &= rows == n
                    say(f"{model}, {n:,}: {rows:,} rows, {sum(peak) / 1e6:.0f} MB")
            total = {n: statistics.median(map(sum, one)) for n, one in peaks.items()}
            ratio = total[many] / total[few]
            cells = [
                f"{total[n] / 1e6:.1f} = {' + '.join(f'{x / 1e6:.1f}' for x in peaks[n][0])}"
                for n in sizes
            ]
            met = goal_verdict(ratio <= MOST, args.small)
            print(f"| {model} | {' | '.join(cells)} | {ratio:.3f} | {MOST:g}: {met} |", flush=True)
        complete &= grow(folder, args.models[0], sizes)
    say_short(args.small)
    print(f"\n{'Every store is complete.' if complete else 'STORES LACK UTTERANCES.'}")
    return 0 if complete else 1


def make_corpus(folder: Path, sizes: Sequence[int]) -> None:
    """Write the files, and a manifest and a recipe for each size."""
    rng = np.random.default_rng(0)
    lines = ["path,speaker,kind"]
    for number in range(max(sizes)):
        length = round(rng.uniform(SHORTEST_S, LONGEST_S) * SAMPLING_RATE_HZ)
        samples = speechlike(rng, length, SAMPLING_RATE_HZ)
        name = f"{number:06}.wav"
        sf.write(folder / name, samples, SAMPLING_RATE_HZ, subtype="PCM_16")
        lines.append(f"{name},s{number % N_SPEAKERS},{'ab'[number % 2]}")
    for n in sizes:
        (folder / f"{n}.csv").write_text("\n".join(lines[: n + 1]) + "\n", encoding="utf-8")
        (folder / f"{n}.toml").write_text(RECIPE.format(root=str(folder), n=n), encoding="utf-8")


def extract(folder: Path, model: str, n: int, stores: Path) -> tuple[int, int, int]:
    """Run the command in this process: rows of the store, peak bytes of process and worker."""
    from extract import __main__ as extraction

    with contextlib.redirect_stdout(sys.stderr):
        argv = [str(folder / f"{n}.toml"), "--stores", str(stores), "--model", model]
        extraction.main(extraction.parser().parse_args([*argv, "--device", "cpu"]))
    own, worker = peak_bytes(), peak_bytes(of_children=True)
    with Store(store_path(stores, "made", model)) as store:
        return len(store.index), own, worker


def grow(folder: Path, model: str, sizes: tuple[int, int]) -> bool:
    """Print bytes an utterance, stage by stage and line by line; whether stores are complete."""
    few, many = sizes
    traced = {n: fresh(trace, folder, model, n, folder / f"stores-traced-{n}") for n in sizes}

    def each(before: int, after: int) -> float:
        return (after - before) / (many - few)

    print(
        f"\n| stage ({model}) | stays, bytes an utterance | at most, above the start of the stage "
        f"|\n|---|---|---|"
    )
    for stage in STAGES:
        pairs = zip(traced[few]["stages"][stage], traced[many]["stages"][stage], strict=True)
        stays, most = (each(before, after) for before, after in pairs)
        print(f"| {stage} | {stays:,.0f} | {most:,.0f} |")
    before = traced[few]["sites"]
    sites = {site: each(before.get(site, 0), n) for site, n in traced[many]["sites"].items()}
    largest = sorted(sites, key=lambda site: -sites[site])[:N_SITES]
    print("\n| held when the computing starts: line | bytes an utterance |\n|---|---|")
    for site in largest:
        print(f"| {site} | {sites[site]:,.0f} |")
    rest = sum(sites.values()) - sum(sites[site] for site in largest)
    print(f"| all other lines | {rest:,.0f} |", flush=True)
    return all(traced[n]["rows"] == n for n in sizes)


def trace(folder: Path, model: str, n: int, stores: Path) -> dict[str, Any]:
    """Run the command under tracemalloc.

    Returns
    -------
    dict
        `stages`: stage -> (bytes that stay, most bytes above its start); `sites`: file:line ->
        bytes that it holds when the last stage begins; `rows` of the store.
    """
    from extract import __main__ as extraction

    stages: dict[str, tuple[int, int]] = {}
    sites: dict[str, int] = {}

    def watched(stage: str) -> Callable[..., Any]:
        function = getattr(extraction, stage)

        def call(*args: Any, **more: Any) -> Any:
            if stage == STAGES[-1]:
                sites.update(held())
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            result = function(*args, **more)
            after, peak = tracemalloc.get_traced_memory()
            stages[stage] = (after - before, peak - before)
            return result

        return call

    for stage in STAGES:
        setattr(extraction, stage, watched(stage))
    tracemalloc.start()
    rows, *_ = extract(folder, model, n, stores)
    return {"stages": stages, "sites": sites, "rows": rows}


def held() -> dict[str, int]:
    """Bytes by the line that asked for them; of a file's path the last three parts are named."""
    found: dict[str, int] = {}
    for one in tracemalloc.take_snapshot().statistics("lineno"):
        frame = one.traceback[0]
        site = f"{'/'.join(Path(frame.filename).parts[-3:])}:{frame.lineno}"
        found[site] = found.get(site, 0) + one.size
    return found


if __name__ == "__main__":
    raise SystemExit(main())
