"""Trains many networks at once: folds, seeds, points of a grid.

Conventions
-----------
- One loop over steps. Models of one shape are stacked; each has its own rows, seed and settings,
  and leaves the stack when it is done.
- All that is drawn (start, order of rows, dropout, mixup) is a function of (seed, fold, step). On a
  CPU a model has the same bits trained alone or among any others, unbroken or stopped and resumed
  at any step.
- An epoch goes once over the training rows, in its own order. What is left below a batch is a
  smaller batch; a rest of one row is left out, as it has no spread.
- The curve has a row at the end of each epoch (or every `evaluate_every` steps) and at the last
  step: the mean loss of the rows since the row before, as they were fitted, and the score on the
  inner rows.
- float32 on one torch thread. bfloat16 is for CUDA: forward passes alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.common.errors import RunError
from models.neural import losses, optimisers
from models.neural.draws import beta, order
from models.neural.files import read_tensors, write_tensors
from models.neural.nets import FittedNet, network_of, outputs_of
from models.neural.networks import Pass, initial, layout
from models.neural.on_frames import STACKED
from models.neural.scales import Affine
from models.neural.settings import CLASS_LOSSES, PRECISIONS, NeuralSettings
from models.neural.speakers import speaker_faults, speaker_statistics
from models.neural.stacks import aligned, padded
from models.neural.threads import one_thread
from models.neural.utterances import FrameBatch, FrameSource, drawn_batches, frame_batch

Positions = NDArray[np.int64]

STATE = "serfuse-training"
STATE_VERSION = 1
EVERY_S = 60.0
"""Time between two states on the disk."""
STACK_NUMBERS = 1 << 21
"""Parameters of a stack on a CPU, about: more fill the caches, and gain no more."""
STACK_LEAST, STACK_MOST = 4, 16
"""Models of a stack on a CPU: large ones share what a step costs beside their products, small ones
are little else (benchmarks/neural.py)."""


@dataclass(frozen=True)
class NeuralRows:
    """The rows that models are trained on, each on its own part.

    Attributes
    ----------
    X : float32, shape (n, n_columns), or FrameSource
        Pooled rows, or what gives the frames of n utterances.
    targets : float32, shape (n, n_outputs)
        Shares of the classes, or values.
    """

    X: NDArray[np.float32] | FrameSource
    targets: NDArray[np.float32]

    @property
    def n_columns(self) -> int:
        """Columns of a row, or of a frame."""
        return self.X.shape[1] if isinstance(self.X, np.ndarray) else self.X.n_columns

    def batches(self, fit: NeuralFit, epoch: int) -> list[Positions]:
        """The rows of each step of an epoch: those of a fit, in an order of their own."""
        key = (fit.seed, fit.fold, "order")
        if not isinstance(self.X, np.ndarray):
            lengths, size = self.X.lengths[fit.train], fit.settings.batch_size
            return [fit.train[batch] for batch in drawn_batches(lengths, size, epoch, *key)]
        drawn = fit.train[order(len(fit.train), *key, epoch)]
        steps = range(fit.steps_an_epoch)
        return [drawn[slice(*fit.batch(step))] for step in steps]


@dataclass(frozen=True)
class NeuralFit:
    """One training.

    Attributes
    ----------
    settings : NeuralSettings
    train : int64, shape (n_train,)
        Positions of the rows to fit; two or more.
    seed : int
    fold : str
        Beside the seed, what its draws are a function of.
    inner : int64, shape (n_inner,), or None
        Rows that the curve and patience score.
    class_weights : tuple of float or None
        One a class; None: all 1.
    inputs, targets : Affine or None
        What columns, and targets of a regression, are brought to first.
    """

    settings: NeuralSettings
    train: Positions
    seed: int = 0
    fold: str = ""
    inner: Positions | None = None
    class_weights: tuple[float, ...] | None = None
    inputs: Affine | None = None
    targets: Affine | None = None

    @property
    def title(self) -> str:
        """Its name in messages."""
        return f"fold {self.fold or '-'}, seed {self.seed}"

    @property
    def steps_an_epoch(self) -> int:
        """Batches of one pass over the training rows."""
        whole, rest = divmod(len(self.train), self.settings.batch_size)
        return max(whole + (rest > 1), 1)

    @property
    def n_steps(self) -> int:
        """How long it is at most."""
        return self.settings.steps or (self.settings.epochs or 1) * self.steps_an_epoch

    def batch(self, step: int) -> tuple[int, int]:
        """Where in the order of its epoch the batch of a step begins and ends; steps from 0."""
        size = self.settings.batch_size
        start = step % self.steps_an_epoch * size
        return start, min(start + size, len(self.train))


@dataclass(frozen=True)
class CurveRow:
    """One row of a learning curve.

    Attributes
    ----------
    step : int
        How many were made.
    epoch : float
        The same in passes over the training rows.
    loss : float
        Mean over the rows that were fitted since the row before.
    score : float
        On the inner rows; NaN where there are none.
    """

    step: int
    epoch: float
    loss: float
    score: float


@dataclass(frozen=True)
class Scoring:
    """How outputs on inner rows are scored.

    Attributes
    ----------
    name : str
    function : callable
        Outputs (float64, shape (n, n_outputs)) and positions of their rows -> a score, higher is
        better.
    """

    name: str
    function: Callable[[NDArray[np.float64], Positions], float]


@dataclass(frozen=True)
class NeuralResult:
    """What a training gave.

    Attributes
    ----------
    net : FittedNet
    curve : tuple of CurveRow
    step : int
        The one whose parameters were kept.
    failure : str
        Why it stopped before its end; empty where it did not.
    """

    net: FittedNet
    curve: tuple[CurveRow, ...]
    step: int
    failure: str = ""

    @property
    def epoch(self) -> float:
        """The step that was kept, in passes over the training rows."""
        return next((row.epoch for row in self.curve if row.step == self.step), 0.0)


@dataclass
class _Course:
    """How far a training is, but for its tensors."""

    fit: NeuralFit
    key: str
    step: int = 0
    curve: list[CurveRow] = field(default_factory=list)
    best: int | None = None
    """The row of the curve with the best score."""
    failure: str = ""
    done: bool = False
    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Of a training that is not in a stack."""

    @property
    def waited(self) -> int:
        """Rows of the curve since the best."""
        return len(self.curve) if self.best is None else len(self.curve) - 1 - self.best

    def note(self, loss: float, score: float) -> bool:
        """Add a row to the curve; whether its score is the best so far."""
        epoch = self.step / self.fit.steps_an_epoch
        self.curve.append(CurveRow(self.step, epoch, loss, score))
        patience = self.fit.settings.patience
        if not math.isfinite(loss):
            self.failure = (
                f"{self.fit.title}: the loss is {loss} at step {self.step}: lower learning_rate "
                f"(it is {self.fit.settings.learning_rate:g})"
            )
        better = patience is not None and (
            score > (-math.inf if self.best is None else self.curve[self.best].score)
        )
        if better:
            self.best = len(self.curve) - 1
        stop = patience is not None and self.waited >= patience
        self.done = bool(self.failure) or stop or self.step >= self.fit.n_steps
        if self.done and patience is not None and self.best is None and not self.failure:
            self.failure = f"{self.fit.title}: no score on the inner rows is a number"
        return better

    def record(self) -> dict[str, Any]:
        """What a state says beside its tensors."""
        return {
            "key": self.key,
            "seed": self.fit.seed,
            "fold": self.fit.fold,
            "step": self.step,
            "curve": [asdict(row) for row in self.curve],
            "best": self.best,
            "failure": self.failure,
            "done": self.done,
        }

    def restore(self, record: Mapping[str, Any], tensors: dict[str, NDArray[Any]]) -> None:
        """Go on from a state."""
        self.step, self.best = record["step"], record["best"]
        self.failure, self.done = record["failure"], record["done"]
        self.curve = [CurveRow(**row) for row in record["curve"]]
        self.tensors = tensors


class _Stack:
    """Models of one shape under way."""

    def __init__(
        self,
        rows: NeuralRows,
        courses: Sequence[_Course],
        scoring: Scoring | None,
        device: str,
        precision: str,
    ) -> None:
        self.rows, self.courses, self.scoring = rows, list(courses), scoring
        self.device, self.precision = torch.device(device), precision
        settings = courses[0].fit.settings
        self.network = network_of(settings)
        size = settings.batch_size
        self.size = size if settings.on_frames else padded(size)
        n_columns, n_outputs = rows.n_columns, rows.targets.shape[1]
        self.specs = self.network.parameters(n_columns, n_outputs)
        self.running_specs = self.network.running()
        self.layout = layout(self.specs)
        self.on_device = None
        if self.device.type != "cpu" and isinstance(rows.X, np.ndarray):
            self.on_device = [
                torch.tensor(array, device=device) for array in (rows.X, rows.targets)
            ]
        begun = [course.tensors or self._begin(course.fit) for course in courses]
        self._place(
            {name: torch.tensor(np.stack([each[name] for each in begun])) for name in begun[0]}
        )

    def _begin(self, fit: NeuralFit) -> dict[str, NDArray[Any]]:
        """The tensors of a training that has not begun."""
        flat = initial(self.specs, fit.seed, fit.fold)
        found: dict[str, NDArray[Any]] = {"flat": flat}
        for name in optimisers.moments(fit.settings.optimiser):
            found[f"moment.{name}"] = np.zeros_like(flat)
        for name, spec in self.running_specs.items():
            found[f"running.{name}"] = np.full(spec.shape, spec.middle, dtype=np.float32)
        if isinstance(self.rows.X, np.ndarray):
            of_speakers = speaker_statistics(fit.settings, self.rows.X, fit.train)
            found |= {f"running.{name}": array for name, array in of_speakers.items()}
        found["loss"] = np.zeros(2)  # the sum since the last row of the curve, and its rows
        if fit.settings.patience is not None:
            found |= {f"best.{name}": array for name, array in self._kept(found).items()}
        return found

    def _kept(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Of the tensors of a model, those that make its outputs."""
        return {n: t for n, t in tensors.items() if n == "flat" or n.startswith("running.")}

    def _place(self, tensors: dict[str, Tensor]) -> None:
        """Make these the stack's, and all that depends on which models are in it."""
        self.best = {n[5:]: t for n, t in tensors.items() if n.startswith("best.")}
        now = {n: t.to(self.device) for n, t in tensors.items() if not n.startswith("best.")}
        self.flat, self.loss = now["flat"], now["loss"]
        self.moments = {n[7:]: t for n, t in now.items() if n.startswith("moment.")}
        self.running = {n[8:]: t for n, t in now.items() if n.startswith("running.")}
        self.fits = [course.fit for course in self.courses]
        self.settings = [fit.settings for fit in self.fits]
        self.grad, self.spare = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        self.slots = self.layout.views(self.grad)
        views = self.layout.views(self.flat)
        self.leaves = {name: view.detach().requires_grad_() for name, view in views.items()}
        self.orders: list[tuple[int, list[Positions]]] = [(-1, [])] * len(self.fits)
        n, width = self.rows.n_columns, self.rows.targets.shape[1]
        like = self.flat
        self.x = aligned(len(self.fits), self.size, n, like)
        self.y = aligned(len(self.fits), self.size, width, like)
        self.inputs = self._affine([fit.inputs for fit in self.fits], n)
        self.targets = self._affine([fit.targets for fit in self.fits], width)
        weights = [fit.class_weights or (1.0,) * width for fit in self.fits]
        self.classes = torch.tensor(weights, dtype=like.dtype, device=self.device)
        gamma = [each.focal_gamma for each in self.settings]
        self.gamma = torch.tensor(gamma, dtype=like.dtype, device=self.device)
        rates = [each.dropout for each in self.settings]
        self.rates = torch.tensor(rates, device=self.device) if any(rates) else None

    def _affine(self, affines: Sequence[Affine | None], n: int) -> tuple[Tensor, Tensor] | None:
        """Centres and scales, shape (n_models, 1, n); None where no model has any."""
        if not any(affines):
            return None
        plain = Affine(np.zeros(n, np.float32), np.ones(n, np.float32))
        every = [affine or plain for affine in affines]
        centre, scale = ([getattr(a, part) for a in every] for part in ("centre", "scale"))
        return tuple(  # type: ignore[return-value]
            torch.tensor(np.stack(part), device=self.device).unsqueeze(1)
            for part in (centre, scale)
        )

    def tensors_of(self, k: int) -> dict[str, NDArray[Any]]:
        """The tensors of a model."""
        named = {"flat": self.flat, "loss": self.loss}
        named |= {f"moment.{name}": t for name, t in self.moments.items()}
        named |= {f"running.{name}": t for name, t in self.running.items()}
        named |= {f"best.{name}": t for name, t in self.best.items()}
        return {name: t[k].cpu().numpy().copy() for name, t in named.items()}

    def _gather(self) -> tuple[Tensor | FrameBatch, Tensor, list[int], Tensor]:
        """The batch of every model: rows, targets, how many count, and their weights."""
        chosen = []
        for k, course in enumerate(self.courses):
            epoch, step = divmod(course.step, course.fit.steps_an_epoch)
            if self.orders[k][0] != epoch:
                self.orders[k] = epoch, self.rows.batches(course.fit, epoch)
            chosen.append(self.orders[k][1][step])
        counts = [len(rows) for rows in chosen]
        positions = np.zeros((len(chosen), self.size), dtype=np.int64)
        for row, part in zip(positions, chosen, strict=True):
            row[: len(part)] = part
        x: Tensor | FrameBatch
        if self.on_device is not None:
            at = torch.tensor(positions, device=self.device)
            x, y = (part[at] for part in self.on_device)
        else:
            y = self._taken(self.rows.targets, positions, self.y)
            if isinstance(self.rows.X, np.ndarray):
                x = self._taken(self.rows.X, positions, self.x)
            else:
                inputs = [fit.inputs for fit in self.fits]
                x = frame_batch(self.rows.X, chosen, inputs, self.size, self.device)
        if self.inputs and isinstance(x, Tensor):
            x.sub_(self.inputs[0]).div_(self.inputs[1])
        if self.targets:
            y.sub_(self.targets[0]).div_(self.targets[1])
        weight = (np.arange(self.size) < np.array(counts)[:, None]).astype(np.float32)
        return x, y, counts, torch.tensor(weight, device=self.device)

    def _taken(self, array: NDArray[np.float32], positions: Positions, out: Tensor) -> Tensor:
        """Rows of an array, shape (n_models, size, n_columns): `out` where that is on the CPU."""
        if out.device.type != "cpu":
            return torch.from_numpy(array[positions]).to(out.device)
        for part, chosen in zip(out, positions, strict=True):
            np.take(array, chosen, axis=0, out=part.numpy(), mode="clip")
        return out

    def _mix(
        self, x: Tensor | FrameBatch, y: Tensor, counts: Sequence[int]
    ) -> tuple[Tensor | FrameBatch, Tensor]:
        """Mixup, where settings ask for it: of all models of a stack or of none."""
        if not self.settings[0].mixup_alpha or not isinstance(x, Tensor):
            return x, y
        partners, shares = [], []
        for course, n in zip(self.courses, counts, strict=True):
            key = (course.fit.seed, course.fit.fold, "mixup", course.step)
            partner = np.arange(self.size)
            partner[:n] = order(n, *key)
            partners.append(partner)
            shares.append(beta(course.fit.settings.mixup_alpha, *key, "share"))
        at = torch.tensor(np.stack(partners), device=self.device)
        share = torch.tensor(shares, dtype=x.dtype, device=self.device)
        return losses.mixed(x, at, share), losses.mixed(y, at, share)

    def _loss(self, outputs: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        name = self.settings[0].loss
        if name not in CLASS_LOSSES:
            return losses.VALUE_LOSSES[name](outputs, y, weight)
        more = (self.gamma,) if name == "focal" else ()
        return losses.CLASS_LOSSES[name](outputs, y, weight, self.classes, *more)

    def step(self) -> None:
        """One step of every model."""
        x, y, counts, weight = self._gather()
        x, y = self._mix(x, y, counts)
        keys = [(c.fit.seed, c.fit.fold, "dropout", c.step) for c in self.courses]
        run = Pass(self.running, weight, list(keys), self.rates)
        with self._cast():
            outputs = self.network.forward(self.leaves, x, run)  # type: ignore[arg-type]
        loss = self._loss(outputs.float(), y, weight)
        grads = torch.autograd.grad(loss.sum(), list(self.leaves.values()))
        with torch.no_grad():
            self.running = {name: value.detach() for name, value in run.running.items()}
            for slot, grad in zip(self.slots.values(), grads, strict=True):
                slot.copy_(grad)
            optimisers.clip(self.grad, self.spare, self.settings)
            steps = [course.step + 1 for course in self.courses]
            optimisers.update(self.flat, self.grad, self.moments, self.spare, self.settings, steps)
            n = torch.tensor(counts, dtype=torch.float64, device=self.device)
            self.loss[:, 0] += loss.double() * n
            self.loss[:, 1] += n
        for course in self.courses:
            course.step += 1

    def _cast(self) -> contextlib.AbstractContextManager[Any]:
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def look(self) -> list[_Course]:
        """Score the models that are at a row of their curve; let go of those that are done."""
        ended = []
        for k, course in enumerate(self.courses):
            every = course.fit.settings.evaluate_every or course.fit.steps_an_epoch
            if course.step % every and course.step < course.fit.n_steps:
                continue
            total, n = self.loss[k].tolist()
            self.loss[k] = 0
            if course.note(total / n, self._score(k)):
                for name, best in self.best.items():
                    now = self.flat if name == "flat" else self.running[name[8:]]
                    best[k] = now[k].cpu()
            if course.done:
                course.tensors = self.tensors_of(k)
                course.failure = course.failure or self._damage(k)
                ended.append(course)
        alive = [k for k, course in enumerate(self.courses) if not course.done]
        if len(alive) < len(self.courses):
            left = [self.tensors_of(k) for k in alive]
            self.courses = [self.courses[k] for k in alive]
            if left:
                self._place({name: torch.tensor(np.stack([each[name] for each in left]))
                             for name in left[0]})  # fmt: skip
        return ended

    def _damage(self, k: int) -> str:
        if bool(self.flat[k].isfinite().all()):
            return ""
        return f"{self.fits[k].title}: parameters are no numbers after the last step"

    def _score(self, k: int) -> float:
        """Of a model, as it is, on its inner rows."""
        fit = self.courses[k].fit
        if fit.inner is None or self.scoring is None:
            return math.nan
        p = {name: view[k : k + 1] for name, view in self.layout.views(self.flat).items()}
        running = {name: value[k : k + 1] for name, value in self.running.items()}
        outputs = outputs_of(self.network, p, running, self.rows.X, fit.inner, fit.inputs)
        if fit.targets is not None:
            outputs = fit.targets.undone(outputs)
        return float(self.scoring.function(outputs, fit.inner))


def result_of(course: _Course, n_columns: int, n_outputs: int) -> NeuralResult:
    """The result of a training that is done."""
    fit = course.fit
    network = network_of(fit.settings)
    tensors = course.tensors
    if course.best is not None:
        best = {name[5:]: t for name, t in tensors.items() if name.startswith("best.")}
        tensors = {**tensors, **best}
    specs = network.parameters(n_columns, n_outputs)
    views = layout(specs).views(torch.tensor(tensors["flat"]).unsqueeze(0))
    net = FittedNet(
        fit.settings,
        {name: view[0].numpy().copy() for name, view in views.items()},
        {name: tensors[f"running.{name}"] for name in network.running()},
        fit.inputs,
        fit.targets,
    )
    step = course.step if course.best is None else course.curve[course.best].step
    return NeuralResult(net, tuple(course.curve), step, course.failure)


def stacks(
    courses: Sequence[_Course], n_columns: int, n_outputs: int, device: str, most: int | None
) -> Iterator[list[_Course]]:
    """Divide trainings into stacks of one shape.

    Parameters
    ----------
    courses : sequence of _Course
    n_columns, n_outputs : int
    device : str
    most : int or None
        Models of a stack; None: on a CPU by `STACK_NUMBERS`, of frames one; elsewhere all, of
        frames where one scan goes over all models.

    Yields
    ------
    list of _Course
    """
    by_shape: dict[tuple[Any, ...], list[_Course]] = {}
    for course in courses:
        by_shape.setdefault(_shape(course.fit), []).append(course)
    for group in by_shape.values():
        settings = group[0].fit.settings
        size = most
        on_cpu = torch.device(device).type == "cpu"
        if size is None and settings.on_frames and (on_cpu or settings.network != STACKED):
            size = 1  # what is between lies in memory for every frame, and nothing is gained
        elif size is None and on_cpu:
            specs = network_of(settings).parameters(n_columns, n_outputs)
            size = min(max(STACK_NUMBERS // layout(specs).size, STACK_LEAST), STACK_MOST)
        size = size or len(group)
        yield from (group[start : start + size] for start in range(0, len(group), size))


def _shape(fit: NeuralFit) -> tuple[Any, ...]:
    return (*fit.settings.shape, fit.settings.patience is None)


def _faults(rows: NeuralRows, fits: Sequence[NeuralFit], device: str, precision: str) -> list[str]:
    """What is wrong with what is to be trained."""
    faults = []
    if precision not in PRECISIONS:
        faults.append(f"precision: got {precision!r}, allowed: {', '.join(PRECISIONS)}")
    elif precision != "float32" and torch.device(device).type != "cuda":
        faults.append(f"precision: {precision} is for CUDA, the device is {device}")
    for fit in fits:
        faults += [f"{fit.title}: {fault}" for fault in fit.settings.faults()]
        if isinstance(rows.X, np.ndarray):
            faults += [f"{fit.title}: {fault}" for fault in speaker_faults(fit.settings, rows.X)]
        if len(fit.train) < 2:
            faults.append(f"{fit.title}: n_samples = {len(fit.train)}: 2 training rows are needed")
        if fit.settings.patience is not None and (fit.inner is None or not len(fit.inner)):
            faults.append(f"{fit.title}: patience needs inner rows")
        if fit.settings.network == "superb" and rows.n_columns % fit.settings.n_layers:
            faults.append(
                f"{fit.title}: {rows.n_columns} columns are no {fit.settings.n_layers} layers"
            )
        if fit.settings.on_frames == isinstance(rows.X, np.ndarray):
            sort = "frames of utterances" if fit.settings.on_frames else "pooled rows"
            faults.append(f"{fit.title}: {fit.settings.network} takes {sort}")
    return list(dict.fromkeys(faults))


def _keys(
    rows: NeuralRows, fits: Sequence[NeuralFit], scoring: Scoring | None, *place: str
) -> list[str]:
    """What each training depends on, hashed."""
    shared = hashlib.blake2b(digest_size=16)
    for array in (rows.X, rows.targets):
        if isinstance(array, np.ndarray):
            shared.update(str(array.shape).encode())
            shared.update(np.ascontiguousarray(array).view(np.uint8).data)
        else:
            shared.update(array.fingerprint.encode())
    keys = []
    for fit in fits:
        key = shared.copy()
        named = [STATE_VERSION, fit.settings.text(), fit.seed, fit.fold, fit.class_weights, place,
                 scoring.name if scoring else "", torch.__version__]  # fmt: skip
        key.update(json.dumps(named).encode())
        parts: list[NDArray[Any] | None] = [fit.train, fit.inner]
        for affine in (fit.inputs, fit.targets):
            parts += [affine.centre, affine.scale] if affine else [None, None]
        for part in parts:
            key.update(b"-" if part is None else str(len(part)).encode() + part.tobytes())
        keys.append(key.hexdigest())
    return keys


def state_path(folder: Path, key: str) -> Path:
    """Where the state of a training lies."""
    return folder / f"{key}.safetensors"


def train(
    rows: NeuralRows,
    fits: Sequence[NeuralFit],
    scoring: Scoring | None = None,
    *,
    device: str = "cpu",
    precision: str = "float32",
    most: int | None = None,
    folder: Path | None = None,
    every_s: float = EVERY_S,
) -> list[NeuralResult]:
    """Train networks, many at once.

    Parameters
    ----------
    rows : NeuralRows
    fits : sequence of NeuralFit
    scoring : Scoring, optional
        Of inner rows.
    device : str
        Of torch.
    precision : {"float32", "bfloat16"}
    most : int, optional
        Models of a stack; on a CPU no bit depends on it. None: what is fast.
    folder : Path, optional
        Where states are kept, one a training; one of the same key is gone on from, or taken as it
        is where it is done. They stay until `forget`.
    every_s : float
        Seconds between two states.

    Returns
    -------
    list of NeuralResult
        In the order of `fits`. One that failed says why; the others are not concerned.

    Raises
    ------
    ValueError
        Naming all that is wrong, before anything is trained.
    RunError
        A state cannot be written, or is damaged.
    """
    faults = _faults(rows, fits, device, precision)
    if faults:
        raise ValueError("; ".join(faults))
    place = (device.split(":")[0], precision)
    keys = _keys(rows, fits, scoring, *place) if folder else [""] * len(fits)
    courses = [_Course(fit, key) for fit, key in zip(fits, keys, strict=True)]
    if folder is not None:
        for course in courses:
            path = state_path(folder, course.key)
            if path.exists():
                tensors, record = read_tensors(path, STATE, STATE_VERSION)
                course.restore(record, tensors)
    todo = [course for course in courses if not course.done]
    n_columns, n_outputs = rows.n_columns, rows.targets.shape[1]
    with one_thread(), _exact_products(device):
        for group in stacks(todo, n_columns, n_outputs, device, most):
            _run(_Stack(rows, group, scoring, device, precision), folder, every_s)
    return [result_of(course, n_columns, n_outputs) for course in courses]


def _exact_products(device: str) -> contextlib.AbstractContextManager[Any]:
    """Convolutions and recurrent layers on CUDA in whole float32, by the same algorithm each time.

    Matrix products are so by torch's own default.
    """
    if torch.device(device).type != "cuda":
        return contextlib.nullcontext()
    found: contextlib.AbstractContextManager[Any] = torch.backends.cudnn.flags(
        enabled=True, deterministic=True, allow_tf32=False
    )
    return found


def _run(stack: _Stack, folder: Path | None, every_s: float) -> None:
    """Train a stack to its end, with a state now and then and at the end of each model."""
    saved = time.monotonic()
    while stack.courses:
        stack.step()
        ended = stack.look()
        if folder is None:
            continue
        for course in ended:
            _save(folder, course, course.tensors)
        if time.monotonic() - saved >= every_s:
            for k, course in enumerate(stack.courses):
                _save(folder, course, stack.tensors_of(k))
            saved = time.monotonic()


def _save(folder: Path, course: _Course, tensors: dict[str, NDArray[Any]]) -> None:
    path = state_path(folder, course.key)
    write_tensors(path, STATE, STATE_VERSION, tensors, course.record())


def forget(folder: Path) -> None:
    """Remove the states of a folder, and the folder where nothing else is in it.

    Raises
    ------
    RunError
        One cannot be removed.
    """
    try:
        for path in folder.glob("*.safetensors"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()
    except OSError as error:
        raise RunError(f"{folder}: cannot be removed: {error.strerror}") from None
