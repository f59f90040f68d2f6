"""Neural heads against the loop that one writes with torch: seconds of both sides in one run.

`mlp`: ten models 1024-256-64-6 on 4,465 rows, batches of 150. The other side is torch's own modules
with a `DataLoader`, model by model, and the same loop with rows picked by an index instead.
`superb`: 25 layers of 1,024 columns, batches of 32; a few hundred steps are timed, and what 30,000
would take is a product, said as such.
`hgfm`: ten folds on frames, 512 columns, batches of 32 whose lengths are those of acted speech at
50 frames a second, sorted in pools of 64 batches. The other side is torch's own module, packed
sequences, fold by fold.

    python -m benchmarks.neural
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import fresh, goal_verdict, machine, say, say_short, spread

N_TEST, N_CLASSES = 1_000, 6
STEPS, FOLDS, CORES = 30_000, 5, 2
MLP_GOAL = 2.0
SUPERB_GOAL_S = 600.0
HGFM_GOAL = 5.0
HGFM_BATCH, HGFM_POOL = 32, 64
HGFM_RATE = 2e-4
HGFM_FRAMES = (130, 25)
"""The mean length of an utterance, and the least."""


@dataclass(frozen=True)
class Sizes:
    """How much is timed."""

    rows: int = 4_465
    columns: int = 1_024
    models: int = 10
    epochs: int = 2
    superb_rows: int = 4_400
    layers: int = 25
    steps: int = 300
    folds: int = 10
    frame_columns: int = 512
    frame_steps: int = 4
    repeats: int = 3


SMALL = Sizes(
    rows=400, columns=64, models=3, superb_rows=300, layers=4, steps=20, folds=2, frame_columns=16,
    frame_steps=2, repeats=1,
)  # fmt: skip


def made(n: int, columns: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Rows of classes that a linear model tells apart in part."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, N_CLASSES, n)
    X = 0.15 * rng.normal(size=(N_CLASSES, columns))[label] + rng.normal(size=(n, columns))
    return X.astype(np.float32), label


def timed(function: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds of the processor and on the clock, and the result."""
    cpu, clock = time.process_time(), time.perf_counter()
    result = function()
    return time.process_time() - cpu, time.perf_counter() - clock, result


def loop(sizes: Sizes, loading: bool) -> list[float]:
    """Torch's own modules, model by model; the accuracy of each on new rows."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    X, label = (torch.from_numpy(one) for one in made(sizes.rows + N_TEST, sizes.columns))
    train_x, train_y = X[: sizes.rows], label[: sizes.rows]
    found = []
    for seed in range(sizes.models):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Linear(sizes.columns, 256), nn.ReLU(), nn.Dropout(0.2), nn.BatchNorm1d(256),
            nn.Linear(256, 64), nn.ReLU(), nn.Dropout(0.2), nn.BatchNorm1d(64),
            nn.Linear(64, N_CLASSES),
        )  # fmt: skip
        adam = torch.optim.Adam(net.parameters(), lr=1.1e-3)
        loader = DataLoader(TensorDataset(train_x, train_y), 150, shuffle=True)

        def picked() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            for chosen in torch.randperm(sizes.rows).split(150):
                yield train_x[chosen], train_y[chosen]

        for _ in range(sizes.epochs):
            for x, y in loader if loading else picked():
                loss = nn.functional.cross_entropy(net(x), y)
                adam.zero_grad()
                loss.backward()
                adam.step()
        net.eval()
        with torch.no_grad():
            right = net(X[sizes.rows :]).argmax(1) == label[sizes.rows :]
        found.append(right.double().mean().item())
    return found


def engine(sizes: Sizes, most: int | None) -> list[float]:
    """The same by the engine."""
    from models.neural.engine import NeuralFit, NeuralRows, train
    from models.neural.settings import settings_for

    X, label = made(sizes.rows + N_TEST, sizes.columns)
    rows = NeuralRows(X, np.eye(N_CLASSES, dtype=np.float32)[label])
    settings = settings_for("mlp", "cross-entropy", epochs=sizes.epochs)
    fits = [NeuralFit(settings, np.arange(sizes.rows), seed) for seed in range(sizes.models)]
    done = train(rows, fits, most=most)
    test = X[sizes.rows :]
    return [float((one.net.outputs(test).argmax(1) == label[sizes.rows :]).mean()) for one in done]


MLP_SIDES: dict[str, Callable[[Sizes], list[float]]] = {
    "torch, DataLoader": lambda sizes: loop(sizes, True),
    "torch, rows by an index": lambda sizes: loop(sizes, False),
    "engine, one after the other": lambda sizes: engine(sizes, 1),
    "engine, stacked": lambda sizes: engine(sizes, None),
}


def mlp_times(sizes: Sizes) -> dict[str, list[tuple[float, float, float]]]:
    """Processor seconds, clock seconds and mean accuracy of each side, interleaved."""
    import torch

    torch.set_num_threads(1)
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in MLP_SIDES}
    for name, side in MLP_SIDES.items():
        side(SMALL)  # what a first call costs
        say(f"mlp: {name} is warm")
    for repeat in range(sizes.repeats):
        for name, side in MLP_SIDES.items():
            cpu, clock, right = timed(lambda side=side: side(sizes))  # type: ignore[misc]
            found[name].append((cpu, clock, statistics.mean(right)))
            say(f"mlp, {repeat + 1} of {sizes.repeats}: {name}: {cpu:.2f} s")
    return found


def superb_times(sizes: Sizes) -> dict[str, tuple[float, float]]:
    """Seconds a step of the processor, and the loss at the end, of each side."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    from models.neural.engine import NeuralFit, NeuralRows, train
    from models.neural.settings import settings_for

    torch.set_num_threads(1)
    width = sizes.columns
    X, label = made(sizes.superb_rows, sizes.layers * width)

    def plain(n_steps: int) -> float:
        torch.manual_seed(0)
        layers = nn.Parameter(torch.zeros(sizes.layers))
        projection, out = nn.Linear(width, 256), nn.Linear(256, N_CLASSES)
        every = [layers, *projection.parameters(), *out.parameters()]
        adam = torch.optim.Adam(every, lr=1e-4)
        data = TensorDataset(torch.from_numpy(X), torch.from_numpy(label))
        done, total = 0, 0.0
        while True:
            for x, y in DataLoader(data, 32, shuffle=True):
                states = x.view(len(x), sizes.layers, width)
                mixed = (states * layers.softmax(0).view(1, -1, 1)).sum(1)
                loss = nn.functional.cross_entropy(out(projection(mixed)), y)
                adam.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(every, 1.0)
                adam.step()
                done, total = done + 1, total + loss.item()
                if done == n_steps:
                    return total / done

    def ours(n_steps: int) -> float:
        settings = settings_for(
            "superb", "cross-entropy", n_layers=sizes.layers, steps=n_steps, evaluate_every=n_steps
        )
        rows = NeuralRows(X, np.eye(N_CLASSES, dtype=np.float32)[label])
        (done,) = train(rows, [NeuralFit(settings, np.arange(len(X)))])
        return done.curve[-1].loss

    sides = {"torch, DataLoader": plain, "engine": ours}
    found = {}
    for name, side in sides.items():
        side(2)  # what a first call costs
        cpu, _, loss = timed(lambda side=side: side(sizes.steps))  # type: ignore[misc]
        found[name] = (cpu / sizes.steps, loss)
        say(f"superb: {name}: {1e3 * found[name][0]:.2f} ms a step")
    return found


def superb_clock(sizes: Sizes) -> float:
    """Seconds a step on the clock, of the engine, while as many processes as cores do the same."""
    with ProcessPoolExecutor(CORES, mp_context=get_context("spawn")) as pool:
        return max(pool.map(_superb_alone, [sizes] * CORES))


def _superb_alone(sizes: Sizes) -> float:
    from models.neural.engine import NeuralFit, NeuralRows, train
    from models.neural.settings import settings_for

    X, label = made(sizes.superb_rows, sizes.layers * sizes.columns)
    rows = NeuralRows(X, np.eye(N_CLASSES, dtype=np.float32)[label])
    common = {"n_layers": sizes.layers, "evaluate_every": sizes.steps}
    warm = settings_for("superb", "cross-entropy", steps=2, **common)
    train(rows, [NeuralFit(warm, np.arange(len(X)))])
    settings = settings_for("superb", "cross-entropy", steps=sizes.steps, **common)
    _, clock, _ = timed(lambda: train(rows, [NeuralFit(settings, np.arange(len(X)))]))
    return clock / sizes.steps


FrameStep = tuple[Any, Any, Any]
"""Frames, lengths and labels."""


def frame_steps(sizes: Sizes, fold: int) -> list[FrameStep]:
    """The batches of a fold."""
    import torch

    rng = np.random.default_rng(fold)
    mean, least = HGFM_FRAMES
    drawn = rng.gamma(4.0, mean / 4, HGFM_POOL * HGFM_BATCH).round().astype(np.int64)
    pool = np.sort(np.maximum(drawn, least)).reshape(HGFM_POOL, HGFM_BATCH)
    found = []
    for lengths in pool[rng.permutation(HGFM_POOL)[: sizes.frame_steps]]:
        label = rng.integers(0, N_CLASSES, HGFM_BATCH)
        x = rng.normal(size=(HGFM_BATCH, lengths[-1], sizes.frame_columns))
        x += 0.1 * label[:, None, None]
        x *= (np.arange(lengths[-1]) < lengths[:, None])[:, :, None]
        arrays = (x.astype(np.float32), lengths, label)
        found.append(tuple(torch.from_numpy(array) for array in arrays))
    return found  # type: ignore[return-value]


def hgfm_of(sizes: Sizes, fold: int) -> Any:
    """The module as it starts."""
    import torch

    from benchmarks.packed_hgfm import PackedHgfm

    torch.manual_seed(fold)
    return PackedHgfm(sizes.frame_columns, N_CLASSES)


def hgfm_loop(sizes: Sizes, folds: dict[int, list[FrameStep]]) -> list[float]:
    """Torch's own module, fold by fold; the mean loss of each."""
    import torch

    found = []
    for fold, steps in folds.items():
        net = hgfm_of(sizes, fold)
        adam = torch.optim.AdamW(net.parameters(), lr=HGFM_RATE)
        losses = []
        for x, lengths, label in steps:
            loss = torch.nn.functional.cross_entropy(net(x, lengths), label)
            adam.zero_grad()
            loss.backward()
            adam.step()
            losses.append(loss.item())
        found.append(statistics.mean(losses))
    return found


def hgfm_stack(sizes: Sizes, folds: dict[int, list[FrameStep]]) -> list[float]:
    """All folds step by step."""
    import torch

    from models.neural.recurrent import hgfm_outputs

    named = [dict(hgfm_of(sizes, fold).named_parameters()) for fold in folds]
    p = {
        name: torch.stack([own[name].detach() for own in named]).requires_grad_()
        for name in named[0]
    }
    adam = torch.optim.AdamW(list(p.values()), lr=HGFM_RATE)
    losses = []
    for step in zip(*folds.values(), strict=True):
        xs, lengths, labels = zip(*step, strict=True)
        outputs, label = hgfm_outputs(p, xs, lengths), torch.stack(labels)
        every = torch.nn.functional.cross_entropy(outputs.mT, label, reduction="none").mean(1)
        adam.zero_grad()
        every.sum().backward()
        adam.step()
        losses.append(every.tolist())
    return [statistics.mean(own) for own in zip(*losses, strict=True)]


def hgfm_alone(sizes: Sizes, folds: dict[int, list[FrameStep]]) -> list[float]:
    """Fold by fold, each a stack of one."""
    return [hgfm_stack(sizes, {fold: steps})[0] for fold, steps in folds.items()]


HGFM_SIDES: dict[str, Callable[[Sizes, dict[int, list[FrameStep]]], list[float]]] = {
    "torch, packed sequences": hgfm_loop,
    "ours, fold by fold": hgfm_alone,
    "ours, stacked": hgfm_stack,
}


def hgfm_times(sizes: Sizes, first: int) -> dict[str, list[tuple[float, float, float]]]:
    """Processor seconds, clock seconds and mean loss of each side, interleaved."""
    import torch

    torch.set_num_threads(1)
    folds = {fold: frame_steps(sizes, fold) for fold in range(first, first + sizes.folds)}
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in HGFM_SIDES}
    for side in HGFM_SIDES.values():
        side(sizes, {first: folds[first][:1]})  # what a first call costs
    for repeat in range(sizes.repeats):
        for name, side in HGFM_SIDES.items():
            cpu, clock, losses = timed(lambda side=side: side(sizes, folds))  # type: ignore[misc]
            found[name].append((cpu, clock, statistics.mean(losses)))
            say(f"hgfm, {repeat + 1} of {sizes.repeats}: {name}: {cpu:.2f} s")
    return found


def hgfm_at_once(sizes: Sizes) -> dict[str, list[float]]:
    """Clock seconds of each side, its folds shared out over as many processes as cores."""
    own = replace(sizes, folds=sizes.folds // CORES)
    firsts = [own.folds * core for core in range(CORES)]
    with ProcessPoolExecutor(CORES, mp_context=get_context("spawn")) as pool:
        done = list(pool.map(hgfm_times, [own] * CORES, firsts))
    return {
        name: [
            max(clock for _, clock, _ in runs)
            for runs in zip(*(d[name] for d in done), strict=True)
        ]
        for name in HGFM_SIDES
    }


def print_hgfm(sizes: Sizes, small: bool) -> None:
    """Both tables in one."""
    times = fresh(hgfm_times, sizes, 0)
    at_once = hgfm_at_once(sizes)
    first = "torch, packed sequences"
    base = statistics.median(cpu for cpu, _, _ in times[first])
    base_at_once = statistics.median(at_once[first])
    print(f"\nhgfm, {sizes.folds} folds, {sizes.frame_columns} columns, {sizes.frame_steps} steps "
          f"of {HGFM_BATCH} utterances, one thread\n")  # fmt: skip
    print(f"| way | processor s | clock s | x | {CORES} processes, clock s | x | mean loss |")
    print("|---|---|---|---|---|---|---|")
    for name, runs in times.items():
        cpu, clock, loss = zip(*runs, strict=True)
        ratio = base / statistics.median(cpu)
        beside = base_at_once / statistics.median(at_once[name])
        print(f"| {name} | {spread(cpu)} | {spread(clock)} | {ratio:.2f} | "
              f"{spread(at_once[name])} | {beside:.2f} | {loss[0]:.5f} |")  # fmt: skip
    met = base / statistics.median(cpu for cpu, _, _ in times["ours, stacked"]) >= HGFM_GOAL
    print(f"\nGoal {HGFM_GOAL:g} x torch's module: {goal_verdict(met, small)}.")


def main(argv: list[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a short form without verdicts")
    parser.add_argument("--only", choices=("mlp", "superb", "hgfm"), help="one of the tables")
    args = parser.parse_args(argv)
    sizes = SMALL if args.small else Sizes()
    print(machine("torch", "numpy", "scikit-learn"))
    for name in ("skorch", "lightning"):
        there = (
            "is installed, but not compared"
            if importlib.util.find_spec(name)
            else "is not installed"
        )
        print(f"{name} {there}.")
    if args.only in (None, "mlp"):
        times = fresh(mlp_times, sizes)
        base = statistics.median(cpu for cpu, _, _ in times["torch, DataLoader"])
        print(f"\n{sizes.models} models {sizes.columns}-256-64-{N_CLASSES}, {sizes.rows:,} rows, "
              f"{sizes.epochs} epochs, one thread\n")  # fmt: skip
        print(
            "| way | processor s | clock s | x DataLoader | mean accuracy |\n|---|---|---|---|---|"
        )
        for name, runs in times.items():
            cpu, clock, right = zip(*runs, strict=True)
            ratio = base / statistics.median(cpu)
            print(f"| {name} | {spread(cpu)} | {spread(clock)} | {ratio:.2f} | {right[0]:.3f} |")
        met = base / statistics.median(cpu for cpu, _, _ in times["engine, stacked"]) >= MLP_GOAL
        print(f"\nGoal {MLP_GOAL:g} x DataLoader: {goal_verdict(met, args.small)}.")
    if args.only in (None, "superb"):
        steps = fresh(superb_times, sizes)
        base = steps["torch, DataLoader"][0]
        print(f"\nsuperb, {sizes.layers} layers of {sizes.columns}, {sizes.superb_rows:,} rows, "
              f"{sizes.steps} steps timed\n")  # fmt: skip
        print(
            "| way | processor ms a step | x DataLoader | mean loss | 30,000 steps, s (a product) |"
        )
        print("|---|---|---|---|---|")
        for name, (seconds, loss) in steps.items():
            print(f"| {name} | {1e3 * seconds:.2f} | {base / seconds:.2f} | {loss:.4f} | "
                  f"{STEPS * seconds:.0f} |")  # fmt: skip
        on_clock = superb_clock(sizes)
        rounds = -(-FOLDS // CORES)
        total = rounds * STEPS * on_clock
        verdict = goal_verdict(total <= SUPERB_GOAL_S, args.small)
        print(f"\n{CORES} processes at once: {1e3 * on_clock:.2f} ms a step on the clock; {FOLDS} "
              f"folds of 30,000 steps are {rounds} rounds, {total:.0f} s (a product).")  # fmt: skip
        print(f"Goal {SUPERB_GOAL_S:.0f} s: {verdict}.")
    if args.only in (None, "hgfm"):
        print_hgfm(sizes, args.small)
    say_short(args.small)
    return 0


if __name__ == "__main__":
    sys.exit(main())
