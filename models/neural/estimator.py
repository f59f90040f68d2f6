"""Networks as scikit-learn estimators: they clone, live in a Pipeline and in a grid search.

Conventions
-----------
- X is rows by columns; `superb` takes `n_layers` layers side by side in the columns, and with a
  `speaker` the last columns are of speakers (`models.neural.speakers`). Networks on frames take a
  sequence of arrays, each (n_frames, n_columns), or `features.sequences.Sequences`.
- `decision_function` gives one logit a class, of two classes, too: (n, 2), where scikit-learn's own
  estimators give (n,). Scores made of logits need both.
- A fitted estimator is saved as safetensors with JSON, and gives the same bits when it is loaded.
- Imports torch where it fits, predicts or loads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import balanced_accuracy_score
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from features.common.errors import RunError
from models.neural.files import read_tensors, write_tensors
from models.neural.settings import CLASS_LOSSES, VALUE_LOSSES, NeuralSettings, settings_for

if TYPE_CHECKING:
    from models.neural.engine import NeuralFit, NeuralResult, NeuralRows, Scoring
    from models.neural.nets import FittedNet
    from models.neural.utterances import FrameSource

HEAD = "serfuse-neural-head"
HEAD_VERSION = 1
SETTINGS = tuple(
    each.name
    for each in dataclasses.fields(NeuralSettings)
    if each.name not in ("network", "loss", "hidden")
)
"""Parameters of an estimator that are settings of a training under the same name."""
_CLASS_KINDS = "biufUO"


class _NeuralHead(BaseEstimator):
    """What both estimators share; the parameters are those of `NeuralRegressor`."""

    _allowed: tuple[str, ...]

    def __init__(
        self,
        network: str = "mlp",
        loss: str = "mse",
        *,
        hidden: tuple[int, ...] | None = None,
        batch_norm: bool = True,
        n_layers: int = 1,
        projection: int | None = None,
        dropout: float | None = None,
        optimiser: str | None = None,
        learning_rate: float | None = None,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        batch_size: int | None = None,
        epochs: int | None = None,
        steps: int | None = None,
        evaluate_every: int | None = None,
        patience: int | None = None,
        clip_norm: float | None = None,
        mixup_alpha: float = 0.0,
        speaker: str | None = None,
        speaker_width: int = 32,
        n_speakers: int = 1,
        unseen: str | None = None,
        random_state: Any = 42,
        fold: str = "",
        device: str = "cpu",
        precision: str = "float32",
        checkpoint: str | Path | None = None,
        checkpoint_every_s: float = 60.0,
    ) -> None:
        self.network = network
        self.loss = loss
        self.hidden = hidden
        self.batch_norm = batch_norm
        self.n_layers = n_layers
        self.projection = projection
        self.dropout = dropout
        self.optimiser = optimiser
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.momentum = momentum
        self.batch_size = batch_size
        self.epochs = epochs
        self.steps = steps
        self.evaluate_every = evaluate_every
        self.patience = patience
        self.clip_norm = clip_norm
        self.mixup_alpha = mixup_alpha
        self.speaker = speaker
        self.speaker_width = speaker_width
        self.n_speakers = n_speakers
        self.unseen = unseen
        self.random_state = random_state
        self.fold = fold
        self.device = device
        self.precision = precision
        self.checkpoint = checkpoint
        self.checkpoint_every_s = checkpoint_every_s

    def settings(self) -> NeuralSettings:
        """The network and its training, defaults of the network where nothing is said.

        Raises
        ------
        ValueError
            Naming every fault in one line.
        """
        if self.loss not in self._allowed:
            raise ValueError(f"loss: got {self.loss!r}, allowed: {', '.join(self._allowed)}")
        given = {name: getattr(self, name) for name in SETTINGS if hasattr(self, name)}
        hidden = None if self.hidden is None else tuple(self.hidden)
        return settings_for(self.network, self.loss, hidden=hidden, **given)

    def _split(self, inner: Any, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Positions of the rows to fit, and of the inner ones."""
        if inner is None:
            return np.arange(n), None
        mask = np.asarray(inner)
        if mask.shape != (n,) or mask.dtype != bool:
            raise ValueError(
                f"inner: got {mask.dtype} of shape {mask.shape}, expected one bool a row, ({n},)"
            )
        return np.flatnonzero(~mask), np.flatnonzero(mask)

    def _train(self, rows: NeuralRows, fit: NeuralFit, scoring: Scoring) -> None:
        """Run the engine and keep what it gives."""
        from models.neural.engine import forget, train

        folder = None if self.checkpoint is None else Path(self.checkpoint)
        (result,) = train(
            rows,
            [fit],
            scoring,
            device=self.device,
            precision=self.precision,
            folder=folder,
            every_s=self.checkpoint_every_s,
        )
        if result.failure:
            raise ValueError(result.failure)
        self._keep(result)
        if folder is not None:
            forget(folder)

    def _keep(self, result: NeuralResult) -> None:
        self.net_ = result.net
        self.curve_ = [dataclasses.asdict(row) for row in result.curve]
        self.n_steps_ = result.step
        self.n_epochs_ = result.epoch

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31))

    def _outputs(self, X: Any) -> NDArray[np.float64]:
        check_is_fitted(self)
        if not self.net_.settings.on_frames:
            X = validate_data(self, X, dtype=np.float32, reset=False)
            return self.net_.outputs(X)
        frames = _frames(X)
        if frames.n_columns != self.n_features_in_:
            raise ValueError(
                f"X has frames of {frames.n_columns} columns, fitted were {self.n_features_in_}"
            )
        return self.net_.outputs(frames)

    def _checked(self, settings: NeuralSettings, X: Any, y: Any, **how: Any) -> tuple[Any, Any]:
        """Rows and truths as they are fitted; frames as a source of them."""
        if not settings.on_frames:
            return validate_data(self, X, y, dtype=np.float32, **how)
        frames = _frames(X)
        y = check_array(y, ensure_2d=False, dtype=np.float64) if how else column_or_1d(y)
        check_consistent_length(frames.lengths, y)
        self.n_features_in_ = frames.n_columns
        return frames, y

    net_: FittedNet


class NeuralClassifier(ClassifierMixin, _NeuralHead):
    """A network that is fitted to classes.

    Parameters
    ----------
    network : {"mlp", "superb", "emobox", "attention", "fcn", "cnn-attention", "hgfm", "cnn-lstm"}
        The last six take frames of utterances.
    loss : {"cross-entropy", "focal", "kl"}
    hidden, batch_norm, n_layers, projection, dropout, focal_gamma, optimiser, learning_rate, \
weight_decay, momentum, batch_size, epochs, steps, evaluate_every, patience, clip_norm, \
mixup_alpha, speaker, speaker_width, n_speakers, unseen
        As of `models.neural.settings.NeuralSettings`; None is the network's default.
    class_weight : {"balanced"}, dict or None
        As of scikit-learn's estimators.
    random_state : int, RandomState or None
        The seed.
    fold : str
        Beside the seed, what draws are a function of.
    device : str
        Of torch.
    precision : {"float32", "bfloat16"}
        bfloat16 on CUDA alone.
    checkpoint : path or None
        A folder for the state of a fit under way, so that the same fit goes on from there.
    checkpoint_every_s : float

    Attributes
    ----------
    classes_ : shape (n_classes,), ascending
    net_ : FittedNet
    curve_ : list of dict
        `step`, `epoch`, `loss` and, on inner rows, `score` (UAR).
    n_steps_, n_epochs_ : int, float
        Of the parameters that were kept.

    Examples
    --------
    >>> X = [[0.0, 1.0], [0.2, 1.1], [2.0, 0.1], [2.2, 0.0]] * 5
    >>> head = NeuralClassifier(hidden=(8,), epochs=30).fit(X, ["sad", "sad", "glad", "glad"] * 5)
    >>> head.predict([[0.1, 0.9], [2.1, 0.2]]).tolist()
    ['sad', 'glad']
    """

    _allowed = CLASS_LOSSES

    def __init__(
        self,
        network: str = "mlp",
        loss: str = "cross-entropy",
        *,
        hidden: tuple[int, ...] | None = None,
        batch_norm: bool = True,
        n_layers: int = 1,
        projection: int | None = None,
        dropout: float | None = None,
        focal_gamma: float = 2.0,
        class_weight: str | Mapping[Any, float] | None = None,
        optimiser: str | None = None,
        learning_rate: float | None = None,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        batch_size: int | None = None,
        epochs: int | None = None,
        steps: int | None = None,
        evaluate_every: int | None = None,
        patience: int | None = None,
        clip_norm: float | None = None,
        mixup_alpha: float = 0.0,
        speaker: str | None = None,
        speaker_width: int = 32,
        n_speakers: int = 1,
        unseen: str | None = None,
        random_state: Any = 42,
        fold: str = "",
        device: str = "cpu",
        precision: str = "float32",
        checkpoint: str | Path | None = None,
        checkpoint_every_s: float = 60.0,
    ) -> None:
        super().__init__(
            network,
            loss,
            hidden=hidden,
            batch_norm=batch_norm,
            n_layers=n_layers,
            projection=projection,
            dropout=dropout,
            optimiser=optimiser,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            momentum=momentum,
            batch_size=batch_size,
            epochs=epochs,
            steps=steps,
            evaluate_every=evaluate_every,
            patience=patience,
            clip_norm=clip_norm,
            mixup_alpha=mixup_alpha,
            speaker=speaker,
            speaker_width=speaker_width,
            n_speakers=n_speakers,
            unseen=unseen,
            random_state=random_state,
            fold=fold,
            device=device,
            precision=precision,
            checkpoint=checkpoint,
            checkpoint_every_s=checkpoint_every_s,
        )
        self.focal_gamma = focal_gamma
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, inner: Any = None, shares: Any = None) -> Self:
        """Train on rows.

        Parameters
        ----------
        X : float, shape (n, n_columns); or n arrays, each of shape (n_frames, n_columns)
        y : shape (n,)
            Classes.
        inner : bool, shape (n,), or None
            Rows that are not fitted: they score the curve, and choose its end where there is
            `patience`.
        shares : float, shape (n, n_classes), or None
            Votes or shares by class, in ascending order of the classes; each row is divided by its
            sum. A row without any (0 or NaN throughout) uses its label.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            In one line: what is wrong with settings or rows, or that the training diverged.
        """
        settings = self.settings()
        X, y = self._checked(settings, X, y)
        check_classification_targets(y)
        train, held = self._split(inner, len(y))
        classes, member = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y has one class ({classes[0]}), 2 or more are needed")
        targets = np.eye(len(classes))[member]
        if shares is not None:
            targets = shares_or_labels(shares, targets)
        weights = None
        if self.class_weight is not None:
            missing = [str(name) for name in np.delete(classes, np.unique(member[train]))]
            if missing:
                raise ValueError(f"class_weight: no training row of {', '.join(missing)}")
            found = compute_class_weight(self.class_weight, classes=classes, y=y[train])
            weights = tuple(float(weight) for weight in found)
        from models.neural.engine import NeuralFit, NeuralRows, Scoring

        def uar(outputs: NDArray[np.float64], positions: NDArray[np.int64]) -> float:
            return float(balanced_accuracy_score(member[positions], outputs.argmax(1)))

        fit = NeuralFit(settings, train, self._seed(), self.fold, held, weights)
        rows = NeuralRows(X, targets.astype(np.float32))
        self.classes_ = classes
        self._train(rows, fit, Scoring("uar", _quiet(uar)))
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Logits, shape (n, n_classes), of two classes, too."""
        return self._outputs(X)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The softmax of the logits; shape (n, n_classes)."""
        logits = self._outputs(X)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def predict(self, X: Any) -> NDArray[Any]:
        """The class of the highest logit; shape (n,)."""
        best = self._outputs(X).argmax(axis=1)
        return np.asarray(self.classes_[best])


class NeuralRegressor(RegressorMixin, _NeuralHead):
    """A network that is fitted to one or several values.

    Targets are centred and scaled by the mean and deviation of the training rows, and outputs
    brought back: of several targets, each counts the same.

    Parameters
    ----------
    network : str
        As of `NeuralClassifier`.
    loss : {"mse", "ccc"}
        `ccc` is that of a batch.
    hidden, batch_norm, n_layers, projection, dropout, optimiser, learning_rate, weight_decay, \
momentum, batch_size, epochs, steps, evaluate_every, patience, clip_norm, mixup_alpha, speaker, \
speaker_width, n_speakers, unseen
        As of `models.neural.settings.NeuralSettings`; None is the network's default.
    random_state, fold, device, precision, checkpoint, checkpoint_every_s
        As of `NeuralClassifier`.

    Attributes
    ----------
    net_, curve_, n_steps_, n_epochs_
        As of `NeuralClassifier`; the score of the curve is the loss on the inner rows, negated.
    """

    _allowed = VALUE_LOSSES

    def fit(self, X: Any, y: Any, inner: Any = None) -> Self:
        """Train on rows.

        Parameters
        ----------
        X : float, shape (n, n_columns); or n arrays, each of shape (n_frames, n_columns)
        y : float, shape (n,) or (n, n_targets)
        inner : bool, shape (n,), or None
            As of `NeuralClassifier.fit`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As of `NeuralClassifier.fit`.
        """
        settings = self.settings()
        X, y = self._checked(settings, X, y, multi_output=True, y_numeric=True)
        train, held = self._split(inner, len(y))
        self.one_target_ = np.ndim(y) == 1
        values = np.asarray(y, dtype=np.float64).reshape(len(y), -1)
        from models.neural.engine import NeuralFit, NeuralRows, Scoring
        from models.neural.scales import Affine

        scale = Affine.of(values[train]) if len(train) else None
        fit = NeuralFit(settings, train, self._seed(), self.fold, held, targets=scale)
        rows = NeuralRows(X, values.astype(np.float32))

        def negated(outputs: NDArray[np.float64], positions: NDArray[np.int64]) -> float:
            return -_value_loss(settings.loss, values[positions], outputs, scale)

        self._train(rows, fit, Scoring(settings.loss, negated))
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Values; shape (n,) or (n, n_targets), as of the targets that were fitted."""
        values = self._outputs(X)
        return values[:, 0] if self.one_target_ else values


def _frames(X: Any) -> FrameSource:
    """What gives the frames of X."""
    from models.neural.utterances import FrameSource, HeldFrames

    return X if isinstance(X, FrameSource) else HeldFrames(X)


def _value_loss(
    loss: str, truth: NDArray[np.float64], values: NDArray[np.float64], scale: Any
) -> float:
    """The loss over all inner rows, on the scale that it was fitted on."""
    x, y = ((part - scale.centre) / scale.scale for part in (values, truth))
    if loss == "mse":
        return float(np.square(x - y).mean())
    covariance = ((x - x.mean(0)) * (y - y.mean(0))).mean(0)
    below = x.var(0) + y.var(0) + np.square(x.mean(0) - y.mean(0))
    concordance = np.divide(2 * covariance, below, out=np.zeros_like(below), where=below > 0)
    return float(1 - concordance.mean())


def _quiet(score: Callable[..., float]) -> Callable[..., float]:
    """The score without scikit-learn's warning of a class that the inner rows lack."""

    def quiet(outputs: NDArray[np.float64], positions: NDArray[np.int64]) -> float:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return score(outputs, positions)

    return quiet


def shares_or_labels(shares: Any, labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Votes as shares that sum to 1 over each row; that of the label where there are none.

    Parameters
    ----------
    shares : float, shape (n, n_classes)
        0 or NaN throughout where a row has none.
    labels : float64, shape (n, n_classes)
        1 for the class of a row; a row without any and without votes stays 0.

    Returns
    -------
    float64, shape (n, n_classes)

    Raises
    ------
    ValueError
        They are of another shape, or a row has no votes to fit to: negative, infinite, some NaN.
    """
    found = np.asarray(shares, dtype=np.float64)
    if found.shape != labels.shape:
        raise ValueError(
            f"shares: got shape {found.shape}, expected one column a class, {labels.shape}"
        )
    without = np.isnan(found).all(axis=1) | (found == 0).all(axis=1)
    found = np.where(without[:, None], labels, found)
    wrong = np.flatnonzero(~np.isfinite(found).all(axis=1) | (found < 0).any(axis=1))
    if len(wrong):
        raise ValueError(
            f"shares: row {wrong[0]} has {found[wrong[0]].tolist()}, expected 0 or more in every "
            "column, or NaN in all"
        )
    total = found.sum(axis=1, keepdims=True)
    return np.divide(found, total, out=np.zeros_like(found), where=total > 0)


def save_neural(path: str | Path, head: NeuralClassifier | NeuralRegressor) -> None:
    """Write a fitted estimator: safetensors with JSON (models/neural/FORMAT.md).

    Parameters
    ----------
    path : path
    head : NeuralClassifier or NeuralRegressor

    Raises
    ------
    RunError
        It cannot be written.
    ValueError
        It is not fitted, or its classes are no texts and no numbers.
    """
    check_is_fitted(head)
    net = head.net_
    tensors = {f"parameter.{name}": array for name, array in net.parameters.items()}
    tensors |= {f"running.{name}": array for name, array in net.running.items()}
    for name, affine in (("inputs", net.inputs), ("targets", net.targets)):
        if affine is not None:
            tensors |= {f"{name}.centre": affine.centre, f"{name}.scale": affine.scale}
    record: dict[str, Any] = {
        "estimator": type(head).__name__,
        "settings": net.settings.record(),
        "columns": head.n_features_in_,
        "curve": head.curve_,
        "steps": head.n_steps_,
        "epochs": head.n_epochs_,
    }
    if isinstance(head, NeuralClassifier):
        classes = head.classes_
        texts = classes.dtype.kind == "O" and all(isinstance(name, str) for name in classes)
        if classes.dtype.kind not in _CLASS_KINDS or (classes.dtype.kind == "O" and not texts):
            raise ValueError(f"classes of type {classes.dtype}: texts or numbers can be saved")
        record["classes"] = {"dtype": classes.dtype.str, "values": classes.tolist()}
    else:
        record["one_target"] = bool(head.one_target_)
    if hasattr(head, "speakers_"):
        record["speakers"] = list(head.speakers_)
    if hasattr(head, "feature_names_in_"):
        record["names"] = head.feature_names_in_.tolist()
    write_tensors(Path(path), HEAD, HEAD_VERSION, tensors, record)


def load_neural(path: str | Path) -> NeuralClassifier | NeuralRegressor:
    """Read what `save_neural` wrote: it predicts the same bits.

    Parameters
    ----------
    path : path

    Returns
    -------
    NeuralClassifier or NeuralRegressor
        On the CPU.

    Raises
    ------
    RunError
        It is missing, damaged, of another kind or version, or its parts do not fit.
    """
    tensors, record = read_tensors(Path(path), HEAD, HEAD_VERSION)
    try:
        return _restored(tensors, record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path}: its parts do not fit: {error}; fit it again") from None


def _restored(
    tensors: dict[str, NDArray[Any]], record: dict[str, Any]
) -> NeuralClassifier | NeuralRegressor:
    from models.neural.nets import FittedNet, network_of
    from models.neural.on_frames import last_bias
    from models.neural.scales import Affine

    values = {**record["settings"], "hidden": tuple(record["settings"]["hidden"])}
    settings = NeuralSettings(**values)
    faults = settings.faults()
    if faults:
        raise ValueError("; ".join(faults))

    def part(name: str) -> dict[str, NDArray[np.float32]]:
        prefix = f"{name}."
        found = {n: array for n, array in tensors.items() if n.startswith(prefix)}
        return {n.removeprefix(prefix): array for n, array in found.items()}

    affines = {name: Affine(**part(name)) if part(name) else None for name in ("inputs", "targets")}
    net = FittedNet(settings, part("parameter"), part("running"), **affines)
    kinds = {"NeuralClassifier": NeuralClassifier, "NeuralRegressor": NeuralRegressor}
    kind = kinds[record["estimator"]]
    own = {name: getattr(settings, name) for name in kind._get_param_names() if name in values}
    head = kind(**own)
    head.n_features_in_ = int(record["columns"])
    if "names" in record:
        head.feature_names_in_ = np.array(record["names"], dtype=object)
    if "speakers" in record:
        head.speakers_ = tuple(map(str, record["speakers"]))
    head.curve_, head.n_steps_ = record["curve"], int(record["steps"])
    head.n_epochs_ = float(record["epochs"])
    if isinstance(head, NeuralClassifier):
        classes = record["classes"]
        if np.dtype(classes["dtype"]).kind not in _CLASS_KINDS:
            raise ValueError(f"classes of type {classes['dtype']}")
        head.classes_ = np.array(classes["values"], dtype=classes["dtype"])
        n_outputs = len(head.classes_)
    else:
        head.one_target_ = bool(record["one_target"])
        n_outputs = len(last_bias(net.parameters))
    network = network_of(settings)
    own_specs = network.parameters(head.n_features_in_, n_outputs)
    for expected, found in ((own_specs, net.parameters), (network.running(), net.running)):
        specs = {name: spec.shape for name, spec in expected.items()}
        shapes = {name: array.shape for name, array in found.items()}
        if shapes != specs:
            odd = sorted(set(shapes.items()) ^ set(specs.items()))[0]
            raise ValueError(f"{odd[0]} of shape {odd[1]}")
    head.net_ = net
    return head
