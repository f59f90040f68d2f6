"""`[head]`: what is fitted, on which layer, and by which score it is chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from features.common.errors import nearest
from features.common.sections import Among, Section
from features.recipe.known.frame_kinds import FRAMES, SEGMENTS
from features.recipe.known.heads import HEADS
from features.recipe.known.metrics import selections
from features.recipe.known.personalisation import OWN_ROWS, SHIFTS, SPEAKERS, SPEAKERS_OF, UNSEEN
from features.recipe.known.records import CLASSIFICATION, TASKS, of_task, task_of
from features.recipe.known.training import NETWORK_SETTINGS, ON_FRAMES, SHAPE_SETTINGS
from features.recipe.member import BEST, LAST, NAMED_LAYERS, SIDE_BY_SIDE, side_by_side
from features.recipe.training import TrainingSpec

SELECTIONS = tuple(select for task in TASKS for select in selections(task))

FRAME_SCALERS = ("standard", "none")
"""Of heads on frames: over all frames of the rows that are fitted."""

GridValue = bool | int | float | str | dict[str, float]


class HeadSpec(Section):
    """`[head]`: scaler and estimator, their grid, and the score that chooses a cell.

    `grid` holds what is searched, `fixed` what is not; both use scikit-learn's parameter names.
    Without a `grid` the head's own default is taken (`models/heads.py`). `engine` says whether fits
    may share work where that gives the same predictions (`models/exact/linear_fits.py`,
    `models/exact/kernel_grid.py`): "auto" does wherever it can, "exact-path" refuses a grid where
    it cannot, "sklearn" never does. `standardise` centres and scales the columns a speaker, or a
    corpus, over all its rows, those that are held out, too: it uses their features, not their
    truths, and is said wherever a score is shown. `speaker` adds a vector of the speaker to the
    embedding of an `mlp`; `unseen` says what one without a fitted row gets. `shift` gives the
    predictions of a held-out speaker mean and deviation of the truths of fitted ones. `training` is
    of networks alone; `models` are those of the recipe's that it is fitted on; `segments` gives a
    head on frames the means of equal parts of every utterance in their place. What came later is at
    its default left out of what a run records.
    """

    left_out: ClassVar[tuple[str, ...]] = (
        "training",
        "models",
        "segments",
        "speaker",
        "unseen",
        "shift",
        "shift_k",
        "shift_similarity",
    )

    kind: Annotated[str, Among(tuple(HEADS))]
    scalers: Annotated[
        list[Literal["standard", "minmax", "robust", "none"]], Field(min_length=1)
    ] = ["standard"]
    grid: dict[str, Annotated[list[GridValue], Field(min_length=1)]] = {}
    fixed: dict[str, GridValue] = {}
    select: Annotated[str, Among(SELECTIONS)]
    per_target: bool = False
    layer: int | str | list[int | str] = LAST
    statistics: Annotated[list[str], Field(min_length=1)] | None = None
    standardise: Literal["speaker", "corpus"] | None = None
    random_state: Annotated[int, Field(ge=0)] = 42
    engine: Literal["auto", "exact-path", "sklearn"] = "auto"
    training: TrainingSpec | None = None
    models: Annotated[list[str], Field(min_length=1)] | None = None
    segments: bool = False
    speaker: Annotated[str, Among(SPEAKERS)] | None = None
    unseen: Annotated[str, Among(UNSEEN)] | None = None
    shift: Annotated[str, Among(SHIFTS)] | None = None
    shift_k: Annotated[int, Field(ge=1)] = 15
    shift_similarity: Annotated[float, Field(ge=-1, le=1, strict=False)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _scalers_of_its_kind(cls, given: Any) -> Any:
        kind = HEADS.get(str(given.get("kind"))) if isinstance(given, dict) else None
        if kind is None or "scalers" in given:
            return given
        return {**given, "scalers": list(kind.scalers)}

    @field_validator("layer")
    @classmethod
    def _known_layer(cls, value: Any) -> Any:
        for layer in value if isinstance(value, list) and value else [value]:
            index = isinstance(layer, int) and layer >= 0
            if not index and layer not in NAMED_LAYERS and not SIDE_BY_SIDE.fullmatch(str(layer)):
                raise ValueError(
                    f"an index from 0, {', '.join(map(repr, NAMED_LAYERS))}, '6+12' (these layers "
                    "side by side), or a list of these"
                )
            indices = side_by_side(layer)
            if len(set(indices)) != len(indices):
                raise ValueError("'6+12' (each layer once)")
        return value

    @property
    def on_frames(self) -> bool:
        """Whether it is fitted on frames, not on pooled rows."""
        return HEADS[self.kind].frames

    @property
    def in_time(self) -> str | None:
        """What it reads in time, "frames" or "segments"; None where pooled rows."""
        if not self.on_frames:
            return None
        return SEGMENTS if self.segments else FRAMES

    def takes(self, model: str) -> bool:
        """Whether it is fitted on a model of the recipe."""
        return self.models is None or model in self.models

    @property
    def layers(self) -> list[int | str]:
        """The layers to train on, one run each."""
        return list(self.layer) if isinstance(self.layer, list) else [self.layer]

    @property
    def shares(self) -> dict[str, str] | None:
        """Class -> the column that has its votes, where it is fitted to such."""
        return self.training.shares if self.training else None

    @property
    def default_layer(self) -> int | str | None:
        """The layer of its run that goes into fusions; None where none of several is the last."""
        if LAST in self.layers:
            return LAST
        return self.layers[0] if len(self.layers) == 1 else None

    @property
    def uses_random_state(self) -> bool:
        """Whether predictions depend on `random_state`.

        A network begins and is fed by it. Every other head has one minimum; the state moves only
        where a solver of scikit-learn's that draws rows stops on its way there: liblinear's dual
        one, sag and saga, where their work is not done by an exact path.

        Returns
        -------
        bool
        """

        def given(name: str) -> list[GridValue]:
            return [*self.grid.get(name, []), *([self.fixed[name]] if name in self.fixed else [])]

        head = HEADS[self.kind]
        if head.neural:
            return True
        if head.draws_rows:
            return self.engine == "sklearn" and given("dual") != [False]
        solvers = {"sag", "saga", "liblinear"} & set(map(str, given("solver")))
        return bool(solvers) and (not head.exact or self.engine == "sklearn")


def head_choices(top: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """What `[head]` may hold by the recipe's task, where it says which."""
    task = task_of(top)
    return {"kind": of_task(HEADS, task), "select": selections(task)} if task else {}


def head_faults(
    head: HeadSpec, task: str, stored: Sequence[int] | None, table: str = "head"
) -> list[str]:
    """Settings of a head that do not go together or with the task.

    Parameters
    ----------
    head : HeadSpec
    task : {"classification", "regression"}
    stored : sequence of int or None
        `[extract] layers` where they are a list.
    table : str
        What its table is called.

    Returns
    -------
    list of str
        Faults for people, a line each; empty where there are none.
    """
    faults = []
    kinds, scores = of_task(HEADS, task), selections(task)
    if head.kind not in kinds:
        faults.append(f"kind: got '{head.kind}', for {task}: {', '.join(kinds)}")
    if head.select not in scores:
        faults.append(f"select: got '{head.select}', for {task}: {', '.join(scores)}")
    if head.per_target and task == CLASSIFICATION:
        faults.append("per_target: goes with targets (regression)")
    both = sorted(set(head.grid) & set(head.fixed))
    if both:
        faults.append(f"{', '.join(both)}: in grid and in fixed; give it once")
    faults += [*_training_faults(head), *_speaker_faults(head), *_shares_faults(head, task)]
    faults += _shift_faults(head, task)
    if head.segments and not head.on_frames:
        networks = ", ".join(ON_FRAMES)
        faults.append(f"segments: '{head.kind}' takes pooled features; on frames: {networks}")
    if len(set(map(str, head.layers))) != len(head.layers):
        faults.append(f"layer: got {head.layers}, a layer is named twice")
    if stored is not None and head.in_time != FRAMES:  # frames have layers of their own
        named = [index for layer in head.layers for index in side_by_side(layer)]
        lacking = [index for index in named if index not in stored]
        if lacking:
            faults.append(f"layer: {lacking} not among [extract] layers = {stored}")
    return [f"[{table}] {fault}" for fault in faults]


def _speaker_faults(head: HeadSpec) -> list[str]:
    """What is said of speakers and does not go together."""
    said = {*head.grid, *(head.training.given() if head.training else {})}
    faults = []
    if head.speaker is None:
        if head.unseen is not None:
            faults.append(f"unseen: goes with speaker = {' or '.join(map(repr, SPEAKERS))}")
    elif head.kind != "mlp":
        faults.append(f"speaker: goes with 'mlp'; kind is '{head.kind}'")
    elif head.speaker == "embedding" and head.unseen == OWN_ROWS:
        faults.append(
            "unseen: 'own' goes with speaker = 'mean-mfcc'; a table has no row of an unseen "
            "speaker; 'mean' gives the mean row"
        )
    if head.speaker != "embedding" and "speaker_width" in said:
        faults.append("speaker_width: goes with speaker = 'embedding'")
    return faults


def _shift_faults(head: HeadSpec, task: str) -> list[str]:
    """What is said of a shift and does not go together."""
    if head.shift is None:
        given = sorted({"shift_k", "shift_similarity"} & head.model_fields_set)
        return [f"{', '.join(given)}: goes with shift = 'pldc'"] if given else []
    faults = []
    if task == CLASSIFICATION:
        faults.append("shift: goes with targets (regression)")
    if head.standardise == "speaker":
        faults.append("shift: standardise = 'speaker' leaves no speaker more alike than another")
    if head.on_frames:
        faults.append(f"shift: compares speakers by pooled features; '{head.kind}' is on frames")
    return faults


def speaker_model(head: HeadSpec) -> str | None:
    """The model whose stores a head takes its speakers' means of; None of most."""
    return SPEAKERS_OF if head.speaker == "mean-mfcc" else None


def uses_test_features(head: Mapping[str, Any]) -> bool:
    """Whether unlabelled features of held-out rows enter predictions.

    Parameters
    ----------
    head : mapping
        `[head]` as a run records it.
    """
    return bool(head.get("standardise") or head.get("shift")) or head.get("unseen") == OWN_ROWS


def _shares_faults(head: HeadSpec, task: str) -> list[str]:
    """Columns of votes that cannot be meant."""
    columns = head.shares
    if columns is None:
        return []
    if task != CLASSIFICATION:
        return ["training.shares: goes with target (classification)"]
    twice = [name for name, n in Counter(columns.values()).items() if n > 1]
    return [f"training.shares: '{name}' stands for several classes" for name in twice]


def _training_faults(head: HeadSpec) -> list[str]:
    """Settings that are of networks alone, or of other heads alone."""
    record = HEADS.get(head.kind)
    if record is None or not record.neural:
        neural = ", ".join(key for key, each in HEADS.items() if each.neural)
        return [f"training: goes with {neural}; kind is '{head.kind}'"] if head.training else []
    faults = []
    if head.fixed:
        faults.append(f"fixed: settings of a network stand in training (kind is '{head.kind}')")
    if head.per_target:
        faults.append(f"per_target: '{head.kind}' gives all targets at once")
    if head.engine != "auto":
        faults.append(f"engine: got '{head.engine}', which is not for '{head.kind}'")
    said = head.training.given() if head.training else {}
    both = sorted(set(head.grid) & set(said))
    if both:
        faults.append(f"{', '.join(both)}: in grid and in training; give it once")
    if not record.all_layers and "weighted" in head.layers:
        faults.append(f"layer: '{head.kind}' learns no weighting of layers; 'superb' does")
    if {"epochs", "steps"} <= {*said, *head.grid}:
        faults.append("epochs, steps: give one of both")
    if "hidden" in head.grid:
        faults.append("grid.hidden: widths are not searched; give each its own [heads.NAME]")
    if record.all_layers and head.layers != [LAST]:
        faults.append(f"layer: '{head.kind}' weighs all stored layers itself; leave it out")
    own = NETWORK_SETTINGS[head.kind]
    for key in [*said, *head.grid]:
        if key in SHAPE_SETTINGS and key not in own:
            faults.append(f"{key}: '{head.kind}' has none; it has {', '.join(own)}")
    return [*faults, *(_frame_faults(head) if record.frames else [])]


def _frame_faults(head: HeadSpec) -> list[str]:
    """Settings that frames do not have."""
    faults = []
    scalers = [scaler for scaler in head.scalers if scaler not in FRAME_SCALERS]
    if scalers:
        allowed = ", ".join(FRAME_SCALERS)
        faults.append(f"scalers: got {scalers}, on frames allowed: {allowed}")
    if head.statistics is not None:
        faults.append(f"statistics: '{head.kind}' takes frames, which have none")
    if head.standardise is not None:
        faults.append(f"standardise: '{head.kind}' takes frames, which are not standardised")
    other = [layer for layer in head.layers if not isinstance(layer, int)]
    other = [layer for layer in other if layer not in (LAST, BEST)]
    if other:
        faults.append(f"layer: got {other}, on frames allowed: an index, 'last', 'best'")
    return faults


def model_faults(
    heads: Mapping[str, HeadSpec],
    frames: Mapping[str, Sequence[int | str]],
    segments: Mapping[str, int | None],
) -> list[str]:
    """Faults of the models that heads are fitted on.

    Parameters
    ----------
    heads : mapping
        Name of its table -> head.
    frames : mapping
        Model of the recipe -> layers whose frames are stored; none of `a+b`.
    segments : mapping
        Model of the recipe -> parts of an utterance whose means are stored, or None.

    Returns
    -------
    list of str
        Faults for people, a line each.
    """
    faults = []
    for table, head in heads.items():
        lacking = [name for name in head.models or () if name not in frames]
        faults += [
            f"[{table}] models: '{name}' is none of the recipe's{nearest(name, frames)}"
            for name in lacking
        ]
        kind = head.in_time
        if kind is None:
            continue
        taken = [model for model in frames if head.takes(model)]
        stored = segments if kind == SEGMENTS else frames
        without = [model for model in taken if not stored[model]]
        if without:
            cut = kind == FRAMES and any(segments[model] for model in without)
            more = f"; or segments = true in [{table}]" if cut else ""
            faults.append(
                f"[{table}] kind: '{head.kind}' takes {kind}, and none are stored of "
                f"{', '.join(without)}: set [extract] {kind}, or [models.NAME] {kind}; or name "
                f"the models that have them in [{table}] models (openSMILE's functionals and "
                f"imported features have none){more}"
            )
        for model in taken if kind == FRAMES else []:
            indices = [layer for layer in head.layers if isinstance(layer, int)]
            known = frames[model]
            other = [layer for layer in indices if known and layer not in known]
            if other and LAST not in known:
                faults.append(f"[{table}] layer: {other} not among the frames of {model}: {known}")
    return faults
