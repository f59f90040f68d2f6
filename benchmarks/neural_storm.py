"""Kills trainings of networks at any moment and resumes them: the same bits as an unbroken one.

Each training has an `mlp` with dropout, mixup and patience and a `superb`, two of each, in stacks,
with a state after as few milliseconds as asked for. A child is killed (SIGKILL) at a random time
after it began; the next goes on from what it left; one that comes to its end is compared with the
training that nobody killed.

    python -m benchmarks.neural_storm -n 50
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import say
from models.neural.engine import (
    STATE,
    STATE_VERSION,
    NeuralFit,
    NeuralRows,
    Scoring,
    forget,
    train,
)
from models.neural.files import read_tensors
from models.neural.settings import settings_for

N, N_CLASSES, N_LAYERS = 300, 4, 4


def job(n_epochs: int) -> tuple[NeuralRows, list[NeuralFit], Scoring]:
    """Rows, four trainings of two shapes, and their score."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 10 * N_LAYERS)).astype(np.float32)
    y = np.eye(N_CLASSES, dtype=np.float32)[rng.integers(0, N_CLASSES, N)]
    mlp = settings_for(
        "mlp", "focal", hidden=(24, 12), dropout=0.3, mixup_alpha=0.2, patience=n_epochs,
        epochs=n_epochs, batch_size=32,
    )  # fmt: skip
    superb = settings_for(
        "superb", "cross-entropy", n_layers=N_LAYERS, steps=6 * n_epochs, evaluate_every=37
    )
    inner = np.arange(250, N)
    fits = [NeuralFit(mlp, np.arange(200 + 7 * k), k, inner=inner) for k in range(2)]
    fits += [NeuralFit(superb, np.arange(50 * k, 250), k) for k in range(2)]
    return (
        NeuralRows(X, y),
        fits,
        Scoring("mse", lambda out, at: -float(((out - y[at]) ** 2).mean())),
    )


def trained(folder: Path | None, every_s: float, n_epochs: int) -> str:
    """A hash of all bits that the trainings gave."""
    rows, fits, scoring = job(n_epochs)
    hashed = hashlib.sha256()
    for done in train(rows, fits, scoring, folder=folder, every_s=every_s):
        for array in [*done.net.parameters.values(), *done.net.running.values()]:
            hashed.update(array.tobytes())
        hashed.update(repr((done.curve, done.step, done.failure)).encode())
    return hashed.hexdigest()


def child(sending: Connection, folder: Path, every_s: float, n_epochs: int) -> None:
    """Say that it begins, train, and send the hash."""
    sending.send("begun")
    sending.send(trained(folder, every_s, n_epochs))


def steps_of(folder: Path) -> int:
    """How many steps the states of a folder have made together."""
    return sum(
        read_tensors(path, STATE, STATE_VERSION)[1]["step"] for path in folder.glob("*.safetensors")
    )


def main(argv: list[str] | None = None) -> int:
    """Kill, resume, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=50, help="kills (default 50)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    parser.add_argument("--small", action="store_true", help="5 kills of short trainings")
    args = parser.parse_args(argv)
    kills, n_epochs = (5, 30) if args.small else (args.n, 60)
    start = time.monotonic()
    expected = trained(None, 0, n_epochs)
    unbroken_s = time.monotonic() - start
    rng = np.random.default_rng(args.seed)
    context = multiprocessing.get_context("fork")
    done = finished = wrong = resumed = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "state"
        while done < kills or finished == 0:
            went_on = folder.exists() and steps_of(folder) > 0
            receiving, sending = context.Pipe(duplex=False)
            process = context.Process(target=child, args=(sending, folder, 0.01, n_epochs))
            process.start()
            sending.close()
            receiving.recv()
            # Half of an unbroken training, so that many are killed several times.
            if done < kills:
                process.join(rng.uniform(0, unbroken_s / 2))
            else:
                process.join()
            if process.exitcode is None:
                process.kill()
                process.join()
                done += 1
                resumed += went_on
                continue
            finished += 1
            if not receiving.poll() or receiving.recv() != expected:
                wrong += 1
                say(f"OTHER BITS after {done} kills (exit code {process.exitcode})")
            forget(folder)
    print(
        f"kills {done}: {resumed} of trainings that had been resumed; trainings that ended "
        f"{finished}; with other bits than the unbroken one {wrong}; "
        f"{time.monotonic() - start:.0f} s, unbroken {unbroken_s:.1f} s"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
