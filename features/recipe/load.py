"""The whole recipe: one TOML file an experiment, checked before any work is done.

Conventions
-----------
- `load_recipe` reports every fault of a recipe at once: file, key, what came, what is allowed.
- `corpora` and `models` are lists of keys, or tables of tables where one needs settings of its own:
  `[models.mine] path = "..."`. In a list a member may be an inline table with a `name`.
- Paths in a recipe are relative to the working directory, as those on the command line are.
- Defaults stand here and nowhere else. Tables of papers (`[[published]]`) are in
  `features.recipe.published`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from features.common.errors import RecipeError, nearest
from features.common.files import TOML_BYTES, read_text
from features.common.sections import S, Section, check_section
from features.common.text import clean, clean_all, nfc
from features.common.walk import existing
from features.common.words import counted
from features.corpora import CORPORA
from features.recipe.published import Known, PublishedTable, read_published

Precision = Literal["float32", "bfloat16", "float16"]
Selection = Literal["nmse", "nmae", "spearman", "uar", "wa"]

REGRESSION_HEADS = ("linear-svr", "svr", "ridge")
CLASSIFICATION_HEADS = ("linear-svc", "svc", "logistic")
REGRESSION_SELECTION = ("nmse", "nmae", "spearman")
CLASSIFICATION_SELECTION = ("uar", "wa")


class CorpusSpec(Section):
    """`[corpora.NAME]`: where a corpus lies and who reads it; further keys go to the reader."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    root: str | None = None
    reader: str | None = None
    strict_counts: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Keys that the reader itself understands."""
        return dict(self.model_extra or {})


LEAST_WEIGHT, MOST_WEIGHT = 1e-6, 1e6
"""Of a part of `a+b`. Beyond them one part counts alone, and sums lose the digits of the others."""


class ModelSpec(Section):
    """`[models.NAME]`: a model that the registry lacks, or another checkpoint of one it has.

    Of `a+b`, `weights` are what the columns of each part are multiplied by behind the scaler: one a
    part, or "size", the square root of the mean number of columns of the parts over its own. Behind
    a standard scaler all parts then have the same variance, summed over their columns, and that of
    all columns together stays what it is: a grid fits as well as without weights.
    """

    hub: str | None = None
    revision: str | None = None
    path: str | None = None
    weights: Literal["size"] | list[Annotated[float, Field(strict=False)]] | None = None

    @field_validator("weights", mode="before")
    @classmethod
    def _known_weights(cls, value: Any) -> Any:
        numbers = isinstance(value, list) and all(type(one) in (int, float) for one in value)
        in_range = numbers and all(LEAST_WEIGHT <= one <= MOST_WEIGHT for one in value)
        if value is not None and value != "size" and not in_range:
            raise ValueError(
                f"'size', or one number from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g} for each part"
            )
        return value


def model_parts(model: str) -> list[str]:
    """The models whose columns stand side by side in `a+b`; a single one has itself.

    Examples
    --------
    >>> model_parts("xlsr-1b+hubert-large"), model_parts("mfcc")
    (['xlsr-1b', 'hubert-large'], ['mfcc'])
    """
    return model.split("+")


class ExtractSpec(Section):
    """`[extract]`: what is computed and stored. `batch_seconds` and `workers` change no number."""

    layers: Literal["all"] | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = (
        "all"
    )
    precision: Precision = "float32"
    max_seconds: Annotated[float, Field(ge=1, le=3600, strict=False)] = 60.0
    batch_seconds: Annotated[float, Field(gt=0, strict=False)] | None = None
    workers: Annotated[int, Field(ge=0)] | None = None


OverlapKind = Literal["speaker", "session", "sentence", "audio"]
OVERLAP_KINDS = ("speaker", "session", "sentence", "audio")
# What a protocol of `also` takes from [split] unless it says otherwise.
_INHERITED = ("inner", "inner_folds", "outer_folds", "test_size", "seed", "shuffle",
              "balance_gender", "expect_overlap")  # fmt: skip
# What belongs to one outer split alone.
_OWN = {
    "devel_size": "stratified-holdout",
    "emobox": "emobox",
    "emobox_names": "emobox",
    "train": "cross-corpus",
    "test": "cross-corpus",
    "pool": "cross-corpus",
    "within": "cross-corpus",
}


class SplitSpec(Section):
    """`[split]`: how rows are divided; outer folds score, inner folds choose.

    `four-to-one-in-five` is a name for settings (`stratified-holdout` with `test_size = 0.2`,
    `inner = "stratified-k-fold"` of five) and fills them in. Folds of speakers (sessions,
    sentences) take those first that are hardest to balance, so that the seed decides between equals
    alone; with `shuffle` it draws the order. `seeds` repeats the whole with each of them, in place
    of `seed` and of the head's `random_state`, and shuffled.
    """

    outer: Literal[
        "predefined",
        "leave-one-speaker-out",
        "leave-one-session-out",
        "speaker-k-fold",
        "session-k-fold",
        "sentence-disjoint",
        "stratified-holdout",
        "four-to-one-in-five",
        "emobox",
        "cross-corpus",
        "speaker-sentence-grid",
    ] = "predefined"
    inner: Literal["devel", "speaker-k-fold", "stratified-k-fold"] = "speaker-k-fold"
    outer_folds: Annotated[int, Field(ge=2)] = 5
    inner_folds: Annotated[int, Field(ge=2)] = 5
    test_size: Annotated[float, Field(gt=0, lt=1)] = 0.2
    devel_size: Annotated[float, Field(gt=0, lt=1)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    shuffle: bool = False
    balance_gender: bool = False
    expect_overlap: list[OverlapKind] = []
    emobox: str | None = None
    emobox_names: dict[str, str] = {}
    train: Annotated[list[str], Field(min_length=1)] | None = None
    test: Annotated[list[str], Field(min_length=1)] | None = None
    pool: bool = False
    within: Literal["speaker-k-fold", "leave-one-speaker-out"] | None = None
    also: list[str | dict[str, Any]] = []
    seeds: list[Annotated[int, Field(ge=0)]] = []

    @model_validator(mode="before")
    @classmethod
    def _four_to_one_in_five(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("outer") == "four-to-one-in-five":
            for key, value in FOUR_TO_ONE_IN_FIVE.items():
                if values.get(key, value) != value:
                    raise ValueError(
                        f"outer = 'four-to-one-in-five' has {key} = {value!r}, got {values[key]!r}"
                    )
            return {**values, **FOUR_TO_ONE_IN_FIVE}
        return values

    def settings(self) -> dict[str, Any]:
        """What the folds depend on, JSON-able: all but the protocols beside it."""
        found = self.model_dump(mode="json", exclude={"also", "seeds", "shuffle"})
        return {**found, "shuffle": True} if self.shuffle else found

    @property
    def uses_seed(self) -> bool:
        """Whether a fold depends on the seed: not with lists that are given and devel to choose."""
        return self.outer not in ("predefined", "emobox") or self.inner != "devel"


FOUR_TO_ONE_IN_FIVE = {"inner": "stratified-k-fold", "inner_folds": 5, "test_size": 0.2}
"""Four fifths train, in five parts of which each validates once; speakers are on both sides."""


RUN_FOLDERS = ("fusion", "predict", "protocols", "report", "submission")
"""What stands in `runs/<recipe>/` beside the models' runs."""
GridValue = bool | int | float | str | dict[str, float]
NAMED_LAYERS = ("last", "mean", "weighted", "best")
"""Of `[head] layer`: the last one, the plain mean of 1..L, a convex weighting of all stored ones,
learned by every fold on its training rows, and the one that every fold chooses on them."""
_SIDE_BY_SIDE = re.compile(r"(0|[1-9]\d*)(\+(0|[1-9]\d*))+")


def side_by_side(layer: int | str) -> list[int]:
    """The indices that a layer names: one, or those of `"6+12"`; none of a named layer.

    Examples
    --------
    >>> side_by_side("6+12"), side_by_side(3), side_by_side("mean")
    ([6, 12], [3], [])
    """
    return [] if layer in NAMED_LAYERS else [int(one) for one in str(layer).split("+")]


class HeadSpec(Section):
    """`[head]`: scaler and estimator, their grid, and the score that chooses a cell.

    `grid` holds what is searched, `fixed` what is not; both use scikit-learn's parameter names.
    Without a `grid` the head's own default is taken (`models/heads.py`). `engine` says whether fits
    may share work where that gives the same predictions (`models/exact/linear_fits.py`,
    `models/exact/kernel_grid.py`): "auto" does wherever it can, "exact-path" refuses a grid where
    it cannot, "sklearn" never does. `standardise` centres and scales the columns a speaker, or a
    corpus, over all its rows, those that are held out, too: it uses their features, not their
    truths, and is said wherever a score is shown.
    """

    kind: Literal["linear-svr", "svr", "ridge", "linear-svc", "svc", "logistic"]
    scalers: Annotated[
        list[Literal["standard", "minmax", "robust", "none"]], Field(min_length=1)
    ] = ["standard"]
    grid: dict[str, Annotated[list[GridValue], Field(min_length=1)]] = {}
    fixed: dict[str, GridValue] = {}
    select: Selection
    per_target: bool = False
    layer: int | str | list[int | str] = "last"
    statistics: Annotated[list[str], Field(min_length=1)] | None = None
    standardise: Literal["speaker", "corpus"] | None = None
    random_state: Annotated[int, Field(ge=0)] = 42
    engine: Literal["auto", "exact-path", "sklearn"] = "auto"

    @field_validator("layer")
    @classmethod
    def _known_layer(cls, value: Any) -> Any:
        for one in value if isinstance(value, list) and value else [value]:
            index = isinstance(one, int) and one >= 0
            if not index and one not in NAMED_LAYERS and not _SIDE_BY_SIDE.fullmatch(str(one)):
                raise ValueError(
                    f"an index from 0, {', '.join(map(repr, NAMED_LAYERS))}, '6+12' (these layers "
                    "side by side), or a list of these"
                )
            indices = side_by_side(one)
            if len(set(indices)) != len(indices):
                raise ValueError("'6+12' (each layer once)")
        return value

    @property
    def layers(self) -> list[int | str]:
        """The layers to train on, one run each."""
        return list(self.layer) if isinstance(self.layer, list) else [self.layer]

    @property
    def uses_random_state(self) -> bool:
        """Whether predictions depend on `random_state`.

        Every head has one minimum. The state moves only where a solver of scikit-learn's that
        draws rows stops on its way there: liblinear's dual one, sag and saga, where their work is
        not done by an exact path.
        """

        def given(name: str) -> list[GridValue]:
            return [*self.grid.get(name, []), *([self.fixed[name]] if name in self.fixed else [])]

        if self.kind in ("linear-svr", "linear-svc"):
            return self.engine == "sklearn" and given("dual") != [False]
        solvers = {"sag", "saga", "liblinear"} & set(map(str, given("solver")))
        return bool(solvers) and (self.kind == "logistic" or self.engine == "sklearn")


FUSION_METHODS = {
    "regression": ("mean", "weighted", "median", "trimmed", "rank-mean", "nnls", "ridge"),
    "classification": ("mean", "weighted", "median", "trimmed", "rank-mean", "product", "max",
                       "logit-sum", "vote", "nnls", "ridge", "logistic"),
}  # fmt: skip


class FusionSpec(Section):
    """`[fusion.NAME]`: how the predictions of several models become one.

    `weights` are those of "weighted", one a member; without them it takes the members' scores on
    the rows that a fusion may learn from. `trim` is how many members "trimmed" leaves out at each
    end. `calibrate` divides each member's class scores by a temperature first.
    """

    method: Literal[
        "mean", "weighted", "median", "trimmed", "rank-mean", "product", "max", "logit-sum", "vote",
        "nnls", "ridge", "logistic",
    ]  # fmt: skip
    members: Annotated[list[str], Field(min_length=2)] = Field(default_factory=list)
    missing: Literal["error", "drop"] = "error"
    weights: list[Annotated[float, Field(ge=0, strict=False)]] | None = None
    trim: Annotated[int, Field(ge=1)] | None = None
    calibrate: bool = False


def _fusion_faults(name: str, spec: FusionSpec, classification: bool) -> list[str]:
    """Settings of a fusion that do not go with its method or the task."""
    faults = []
    task = "classification" if classification else "regression"
    n_members, trim = len(spec.members), spec.trim or 1
    if spec.method not in FUSION_METHODS[task]:
        faults.append(
            f"method: '{spec.method}' needs classes; of a regression: "
            f"{', '.join(FUSION_METHODS[task])}"
        )
    if spec.weights is not None and spec.method != "weighted":
        faults.append(f"weights: go with method = 'weighted', not '{spec.method}'")
    elif spec.weights is not None and len(spec.weights) != n_members:
        faults.append(f"weights: got {len(spec.weights)}, one for each of {n_members} members")
    elif spec.weights is not None and not any(spec.weights):
        faults.append("weights: all are 0")
    if spec.trim is not None and spec.method != "trimmed":
        faults.append(f"trim: goes with method = 'trimmed', not '{spec.method}'")
    elif spec.method == "trimmed" and n_members <= 2 * trim:
        faults.append(
            f"method: 'trimmed' leaves out {trim} of {n_members} members at each end: none is left"
        )
    if spec.calibrate and (not classification or spec.method in ("vote", "rank-mean")):
        what = f"'{spec.method}'" if classification else "a regression"
        faults.append(f"calibrate: changes nothing of {what}; leave it out")
    return [f"[fusion.{name}] {fault}" for fault in faults]


class SubsetsSpec(Section):
    """`[fusion.subsets]`: the best k of n members, and what choosing them is worth.

    `k` holds sizes, or is `"all"` of them. Sizes with more than `limit` subsets are not searched
    through; a greedy path stands for them (with `greedy = true` beside the search, too). `random`
    subsets of each size give the quantiles. `alone` repeats all of it on the rows of each corpus.
    """

    k: Literal["all"] | Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)] = "all"
    methods: Annotated[list[Literal["mean", "logit-sum", "vote"]], Field(min_length=1)] = ["mean"]
    metrics: list[Literal["uar", "wa", "spearman"]] = []
    members: Annotated[list[str], Field(min_length=2, max_length=62)] = []
    missing: Literal["error", "drop"] = "error"
    random: Annotated[int, Field(ge=1)] = 1000
    seed: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=1)] = 40_000_000
    greedy: bool = False
    alone: bool = False

    @property
    def sizes(self) -> list[int]:
        """The sizes to look at, rising."""
        return list(range(1, len(self.members) + 1)) if self.k == "all" else sorted(set(self.k))

    def settings(self) -> dict[str, Any]:
        """What the choices depend on, JSON-able."""
        found = self.model_dump(mode="json", exclude={"alone"})
        return {**found, "alone": True} if self.alone else found


class LabelsSpec(Section):
    """`[labels]`: one class list for corpora that name their classes differently.

    `map` is the name of a map that every corpus's record has, or a table a corpus: the name of a
    map of its record, or its own labels with those of the common list. Labels that a map lacks are
    dropped and counted. `order` is the common list, or what is kept of it.
    """

    map: str | dict[str, str | Annotated[dict[str, str], Field(min_length=1)]]
    order: Annotated[list[str], Field(min_length=2)] | None = None


class EvaluateSpec(Section):
    """`[evaluate]`: bootstrap intervals."""

    bootstrap: Annotated[int, Field(ge=100)] = 1000
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    seed: Annotated[int, Field(ge=0)] = 0


class Recipe(Section):
    """A checked recipe with every default filled in.

    Attributes
    ----------
    name : str
        The file's stem: the name of the run folder.
    models : dict
        Models to work on: those of the recipe, or the ones named by `MODEL=`.
    labels : tuple of str or None
        The class list, where the recipe gives one or maps to one.
    label_maps : dict
        Corpus -> own label -> label of the list; empty where labels are taken as they are.
    also : dict
        Protocols beside the main one, by name (`[split] also`).
    fusion : dict
        Combinations; members default to all models of the recipe, whatever `MODEL=` says.
    subsets : SubsetsSpec or None
        `[fusion.subsets]`, with members and metrics filled in.
    published : list of PublishedTable
        Tables of the paper; no number depends on them, and the resolved form goes without.
    """

    name: str
    path: str
    corpora: dict[str, CorpusSpec]
    models: dict[str, ModelSpec]
    target: str | None = None
    targets: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None
    label_maps: dict[str, dict[str, str]] = {}
    extract: ExtractSpec
    split: SplitSpec
    also: dict[str, SplitSpec] = {}
    head: HeadSpec
    fusion: dict[str, FusionSpec]
    subsets: SubsetsSpec | None = None
    evaluate: EvaluateSpec
    published: Annotated[list[PublishedTable], Field(exclude=True)] = []

    @property
    def single_models(self) -> list[str]:
        """The models that stores are needed of: those of the recipe, and what `a+b` is made of."""
        return list(dict.fromkeys(part for one in self.models for part in model_parts(one)))

    def weights_of(self, model: str) -> list[float] | str | None:
        """The weights of the parts of `a+b`, "size", or None, as of any single model."""
        return self.models.get(model, ModelSpec()).weights

    @property
    def task(self) -> str:
        """`"classification"` with a `target`, `"regression"` with `targets`."""
        return "classification" if self.target else "regression"

    def protocols(self) -> list[Recipe]:
        """The recipe itself, its protocols beside it, and its repeats.

        Their runs lie in `runs/<recipe>/protocols/<protocol>/`, which is their name.
        """
        return [self, *self.beside().values(), *self.repeats().values()]

    def beside(self) -> dict[str, Recipe]:
        """A recipe a protocol of `[split] also`, by its name; without fusion."""
        return {
            name: self._protocol(name, {"split": split, "fusion": {}})
            for name, split in self.also.items()
        }

    def repeats(self) -> dict[int, Recipe]:
        """A recipe a seed of `[split] seeds`, with the fusions."""
        return {
            seed: self._protocol(
                seed_protocol(seed),
                {
                    "split": self.split.model_copy(
                        update={"seed": seed, "shuffle": True, "also": [], "seeds": []}
                    ),
                    "head": self.head.model_copy(update={"random_state": seed}),
                },
            )
            for seed in self.split.seeds
        }

    def _protocol(self, name: str, changes: Mapping[str, Any]) -> Recipe:
        own: dict[str, Any] = {
            "name": f"{self.name}/protocols/{name}",
            "also": {},
            "subsets": None,
            "published": [],
        }
        return self.model_copy(update={**own, **changes})

    def reader_options(self, corpus: str) -> dict[str, Any]:
        """What a corpus's reader is told; one that asks hears which columns the recipe wants."""
        spec = self.corpora[corpus]
        options = spec.options
        if (spec.reader or corpus) in ("manifest", "audformat"):
            if self.target and "labels" not in options:
                options["labels"] = [self.target]
            if self.targets and "targets" not in options:
                options["targets"] = list(self.targets)
        return options

    def resolved(self) -> dict[str, Any]:
        """The recipe as JSON-able values, command line merged in."""
        return self.model_dump(mode="json")


def seed_protocol(seed: int) -> str:
    """The name of a repeat.

    Examples
    --------
    >>> seed_protocol(3)
    'seed-3'
    """
    return f"seed-{seed}"


class _Top(Section):
    """The keys above the first table."""

    target: str | None = None
    targets: list[str] | None = None
    labels: Annotated[list[str], Field(min_length=2)] | None = None


_SECTIONS: dict[str, type[Section]] = {
    "extract": ExtractSpec,
    "split": SplitSpec,
    "head": HeadSpec,
    "evaluate": EvaluateSpec,
}
# A dotted key of so many parts: tomllib takes the square of their number in time and memory.
_DEEP_KEY = re.compile(r"""(?<![\w"'-])(?:[\w"'-]+[ \t]*\.[ \t]*){100}""")
_KEYS = ("corpora", "models", "fusion", "published", *_Top.model_fields, *_SECTIONS)


def load_recipe(
    path: str | Path,
    *,
    models: Sequence[str] | None = None,
    corpora: Sequence[str] | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Recipe:
    """Read and check a recipe.

    Parameters
    ----------
    path : path
        TOML file.
    models, corpora : sequence of str, optional
        Restriction to members of the recipe's own lists (`MODEL=`, `CORPUS=`).
    overrides : mapping of mapping, optional
        Values that win over the file's: `{"extract": {"precision": "bfloat16"}}`.

    Raises
    ------
    RecipeError
        Naming every fault of the file.
    """
    path = existing(path)
    twice: list[str] = []
    raw = _clean(_read_toml(path), twice)
    models, corpora = ([clean(one) for one in names or ()] for names in (models, corpora))
    for section, values in (overrides or {}).items():
        if isinstance(raw.setdefault(section, {}), dict):
            raw[section].update(values)

    faults: list[str] = [
        f"'{key}' stands twice, in spellings that differ in accents, blanks or what is invisible"
        for key in twice
    ]
    faults += [f"{key}: no such key{nearest(key, _KEYS)}" for key in raw if key not in _KEYS]
    flat = {k: raw[k] for k in _Top.model_fields if k in raw}
    mapped = None
    if isinstance(raw.get("labels"), dict):
        mapped = check_section(LabelsSpec, flat.pop("labels"), "[labels] ", faults)
    top = check_section(_Top, flat, "", faults)
    sections = {
        name: check_section(
            kind,
            raw.get(name, {}),
            f"[{name}] ",
            faults,
            _head_choices(flat) if name == "head" else {},
        )
        for name, kind in _SECTIONS.items()
    }
    also = _also(sections["split"], faults)
    corpus_specs = _members(CorpusSpec, raw, "corpora", faults)
    model_specs = _members(ModelSpec, raw, "models", faults)
    tables = raw.get("fusion", {})
    members = _default_members(list(model_specs), sections["head"])
    fusions = _fusions(tables, members, faults)
    subsets = _subsets(tables, members, flat, faults)
    maps: dict[str, dict[str, str]] = {}
    if top is not None and mapped is not None:
        maps = _label_maps(mapped, top, corpus_specs, faults)
        common = tuple(dict.fromkeys(one for table in maps.values() for one in table.values()))
        if len(common) > 1 or not maps:
            faults += [
                f"[labels] order: '{one}' is no label of the map ({', '.join(common)})"
                f"{nearest(one, common)}"
                for one in mapped.order or ()
                if maps and one not in common
            ]
        else:
            faults.append(f"[labels] map: its list has one label, {', '.join(common)}; two or more")
        top = top.model_copy(update={"labels": mapped.order or list(common)})
    if top is not None:
        faults += _combinations(
            top, sections, corpus_specs, model_specs, fusions, subsets, maps, also
        )
    settings = {
        "corpora": corpus_specs,
        "models": model_specs,
        **flat,
        "labels": top.labels if top else None,
        "label_maps": maps,
        "fusion": fusions,
        "subsets": subsets,
        **sections,
    }
    known_to_tables = Known(
        _run_names(model_specs, sections["head"], fusions),
        (top.targets if top else None) or (),
        corpus_specs,
        METRICS["classification" if "target" in flat else "regression"],
        subsets.sizes if subsets else None,
        len(corpus_specs) == 1 or bool(subsets and subsets.alone),
        None if top is None or None in sections.values() else settings,
    )
    published = read_published(_published(raw, path, faults), known_to_tables, faults)
    for option, given, known in (("MODEL", models, model_specs), ("CORPUS", corpora, corpus_specs)):
        faults += [
            f"{option}={one}: not in the recipe's list ({', '.join(known)}){nearest(one, known)}"
            for one in given or ()
            if one not in known
        ]
    if faults or top is None:
        count = counted(len(faults), "fault")
        raise RecipeError("\n  ".join([f"{path}: {count}", *faults]))
    return Recipe.model_validate(
        {
            "name": nfc(path.stem),
            "path": str(path),
            "corpora": {k: v for k, v in corpus_specs.items() if not corpora or k in corpora},
            "models": {k: v for k, v in model_specs.items() if not models or k in models},
            "target": top.target,
            "targets": tuple(top.targets or ()),
            "labels": tuple(top.labels) if top.labels else None,
            "label_maps": {k: v for k, v in maps.items() if not corpora or k in corpora},
            "fusion": fusions,
            "subsets": subsets,
            "also": also,
            "published": published,
            **sections,
        }
    )


_PATHS = {"corpora": ("root", "file"), "models": ("path",), "split": ("emobox",)}
"""What names files in each section."""


def _clean(raw: Mapping[str, Any], twice: list[str]) -> dict[str, Any]:
    """All texts in the one form but paths, which are looked up in either."""
    found: dict[str, Any] = {}
    for key, one in raw.items():
        name = clean(key)
        twice += [name] if name in found else []
        found[name] = clean_all(one, twice, _PATHS.get(name, ()))
    return found


def _lists_and_tables(text: str) -> list[str]:
    """What TOML refuses where `corpora` or `models` is a list and has tables, too."""
    faults = []
    for key in ("corpora", "models"):
        is_list = re.search(rf"^[ \t]*{key}[ \t]*=[ \t]*\[", text, re.MULTILINE)
        table = re.search(rf"^[ \t]*\[[ \t]*{key}[ \t]*\.[ \t]*([^\]\n.]+)", text, re.MULTILINE)
        if is_list and table:
            name = table[1].strip(" \t\"'")
            faults.append(
                f"{key} is a list and has [{key}.{name}] beside it; it is one or the other: leave "
                f"the list out and give every member a table of its own (empty where it needs no "
                f"settings), or write {{name = '{name}', ...}} into the list"
            )
    return faults


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        text = read_text(path, "utf-8-sig", TOML_BYTES)
        if _DEEP_KEY.search(text):
            raise RecursionError
        return tomllib.loads(text)
    except FileNotFoundError:
        near = nearest(path.name, [one.name for one in path.parent.glob("*.toml")])
        raise RecipeError(
            f"{path}: no such recipe{near}; shipped ones are in recipes/, and "
            f"RECIPE=path names another"
        ) from None
    except IsADirectoryError:
        raise RecipeError(f"{path}: is a folder; RECIPE names a TOML file") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise RecipeError(f"{path}: not valid TOML: nested too deeply") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not valid TOML: {error}") from None
    except ValueError as error:  # no TOML, a number beyond all measure
        refused = _lists_and_tables(text) or [f"not valid TOML: {error}"]
        raise RecipeError("\n  ".join(f"{path}: {one}" for one in refused)) from None


def _head_choices(top: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """What `[head]` may hold by the recipe's task, where it says which."""
    if ("target" in top) == ("targets" in top):
        return {}
    if "target" in top:
        return {"kind": CLASSIFICATION_HEADS, "select": CLASSIFICATION_SELECTION}
    return {"kind": REGRESSION_HEADS, "select": REGRESSION_SELECTION}


def names_folder(name: str) -> bool:
    """Whether a corpus or model of this name can have a folder or file of its own."""
    return bool(name) and name not in (".", "..") and not set(name) & set("/\\@\0")


def _members(kind: type[S], raw: Mapping[str, Any], key: str, faults: list[str]) -> dict[str, S]:
    """Read `corpora` or `models`: a list of keys and inline tables, or a table of tables."""
    given = raw.get(key)
    if not given:
        faults.append(f'{key}: missing; give a list: {key} = ["..."]')
        return {}
    pairs: list[tuple[str, Any]] = []
    if isinstance(given, dict):
        pairs = list(given.items())
    elif isinstance(given, list):
        for one in given:
            if isinstance(one, str):
                pairs.append((one, {}))
            elif isinstance(one, dict) and isinstance(one.get("name"), str):
                pairs.append((one["name"], {k: v for k, v in one.items() if k != "name"}))
            else:
                faults.append(f"{key}: got {one!r}, allowed: a key, or a table with a name")
    else:
        faults.append(f"{key}: got {given!r}, allowed: a list of keys, or [{key}.NAME] tables")
    result: dict[str, S] = {}
    for name, values in pairs:
        if name in result:
            faults.append(f"{key}: {name} is named twice")
        if not names_folder(name):
            faults.append(f"{key}: {name!r} cannot name a folder; no / \\ @ in a name")
        if key == "models" and name in RUN_FOLDERS:
            faults.append(f"models: '{name}' is a folder beside the runs; choose another name")
        checked = check_section(kind, values, f"[{key}.{name}] ", faults)
        if checked is not None:
            result[name] = checked
    return result


SUBSETS = "subsets"
"""The one table of [fusion] that is no combination."""
METRICS = {"classification": ("uar", "wa"), "regression": ("spearman",)}
"""By which subsets are chosen, and the default: all of them."""


def _run_names(
    models: Collection[str], head: Section | None, fusions: Collection[str]
) -> list[str]:
    """The folders that runs can have below `runs/<recipe>`."""
    layers = _layers(head) or ["last"]
    tagged = [m if layer == "last" else f"{m}@{layer}" for m in models for layer in layers]
    return [*tagged, *(f"fusion/{name}" for name in fusions)]


def _published(raw: Mapping[str, Any], path: Path, faults: list[str]) -> Any:
    """The tables of the paper: the recipe's own, or those of the recipe beside it that it names."""
    given = raw.get("published", [])
    if not isinstance(given, str):
        return given
    if not names_folder(given):
        faults.append(f"published: {given!r} cannot name a recipe")
        return []
    try:
        theirs = _clean(_read_toml(existing(path.with_name(f"{given}.toml"))), []).get(
            "published", []
        )
    except RecipeError as error:
        faults.append(f"published: {error}")
        return []
    if not isinstance(theirs, list):
        faults.append(f"published: {given}.toml has none of its own; name the recipe that has them")
        return []
    return theirs


def _default_members(models: list[str], head: Section | None) -> list[str] | str:
    """The models at the recipe's one layer, or why they cannot be the members."""
    layers = _layers(head) or ["last"]
    if len(models) < 2:
        return f"a fusion needs two models, got {models}"
    if "last" not in layers and len(layers) > 1:
        return (
            f"missing; [head] layer is {layers} without 'last': "
            f'name them, as in ["{models[0]}@{layers[0]}", ...]'
        )
    if layers != ["last"] and len(layers) == 1:
        return [f"{model}@{layers[0]}" for model in models]
    return models


def _fusions(raw: Any, members: list[str] | str, faults: list[str]) -> dict[str, FusionSpec]:
    """Read the `[fusion.NAME]` tables that are combinations."""
    if not isinstance(raw, dict):
        faults.append(f"fusion: got {raw!r}, allowed: [fusion.NAME] tables")
        return {}
    faults += [
        f"fusion: {name!r} cannot name a folder; no / \\ @ in a name"
        for name in raw
        if not names_folder(name)
    ]
    found = {
        name: _fusion(FusionSpec, name, values, members, faults)
        for name, values in raw.items()
        if name != SUBSETS
    }
    return {name: spec for name, spec in found.items() if spec is not None}


def _subsets(
    raw: Any, members: list[str] | str, flat: Mapping[str, Any], faults: list[str]
) -> SubsetsSpec | None:
    """Read `[fusion.subsets]`."""
    if not isinstance(raw, dict) or SUBSETS not in raw:
        return None
    spec = _fusion(SubsetsSpec, SUBSETS, raw[SUBSETS], members, faults)
    if spec is None or spec.metrics:
        return spec
    task = "classification" if "target" in flat else "regression"
    return spec.model_copy(update={"metrics": list(METRICS[task])})


def _fusion(
    kind: type[S], name: str, values: Any, members: list[str] | str, faults: list[str]
) -> S | None:
    """Read one table of [fusion], with the default members where it has none."""
    if not isinstance(values, dict):
        faults.append(f"[fusion] {name}: got {values!r}, allowed: a table [fusion.{name}]")
        return None
    if "members" not in values and isinstance(members, str):
        faults.append(f"[fusion.{name}] members: {members}")
        return None
    return check_section(kind, {"members": members, **values}, f"[fusion.{name}] ", faults)


def _combinations(
    top: _Top,
    sections: Mapping[str, Section | None],
    corpora: Mapping[str, CorpusSpec],
    models: Mapping[str, ModelSpec],
    fusions: Mapping[str, FusionSpec],
    subsets: SubsetsSpec | None,
    maps: Mapping[str, Mapping[str, str]],
    also: Mapping[str, SplitSpec],
) -> list[str]:
    """Faults that no table shows alone. Tables that are themselves faulty are passed over."""
    faults: list[str] = []
    if (top.target is None) == (not top.targets):
        faults.append(
            'target, targets: give one of the two: target = "a label column" (classification) '
            'or targets = ["..."] (regression)'
        )
    classification = top.target is not None
    for key, names in (("labels", top.labels), ("targets", top.targets)):
        again = sorted({one for one in names or () if (names or []).count(one) > 1})
        faults += [f"{key}: '{one}' is named twice" for one in again]
    if top.labels and not classification:
        faults.append("labels: goes with target (classification), not with targets")
    head, split, extract = sections["head"], sections["split"], sections["extract"]
    if isinstance(head, HeadSpec):
        kinds = CLASSIFICATION_HEADS if classification else REGRESSION_HEADS
        scores = CLASSIFICATION_SELECTION if classification else REGRESSION_SELECTION
        task = "classification" if classification else "regression"
        if head.kind not in kinds:
            faults.append(f"[head] kind: got '{head.kind}', for {task}: {', '.join(kinds)}")
        if head.select not in scores:
            faults.append(f"[head] select: got '{head.select}', for {task}: {', '.join(scores)}")
        if head.per_target and classification:
            faults.append("[head] per_target: goes with targets (regression)")
        both = sorted(set(head.grid) & set(head.fixed))
        if both:
            faults.append(f"[head] {', '.join(both)}: in grid and in fixed; give it once")
        if len(set(map(str, head.layers))) != len(head.layers):
            faults.append(f"[head] layer: got {head.layers}, a layer is named twice")
        if isinstance(extract, ExtractSpec) and isinstance(extract.layers, list):
            named = [index for one in head.layers for index in side_by_side(one)]
            lacking = [index for index in named if index not in extract.layers]
            if lacking:
                faults.append(
                    f"[head] layer: {lacking} not among [extract] layers = {extract.layers}"
                )
    if isinstance(split, SplitSpec):
        faults += _split_faults(split, classification, list(corpora))
        for name, one in also.items():
            found = _split_faults(one, classification, list(corpora))
            faults += [fault.replace("[split]", f"[split] also, {name}:", 1) for fault in found]
        faults += _seed_faults(split, head, also)
        faults += _same_folds(split, also)
    faults += _concatenation_faults(models, head)
    known = set(models) | {f"{m}@{layer}" for m in models for layer in _layers(head)}
    for name, spec in fusions.items():
        faults += _member_faults(name, spec.members, known)
        faults += _fusion_faults(name, spec, classification)
    if subsets is not None:
        faults += _member_faults(SUBSETS, subsets.members, known)
        faults += _subset_faults(subsets, classification)
    faults += _corpus_faults(top, corpora, maps)
    return faults


def _concatenation_faults(models: Mapping[str, ModelSpec], head: Section | None) -> list[str]:
    """Faults of models `a+b`."""
    faults = []
    for name, spec in models.items():
        parts = model_parts(name)
        if len(parts) == 1:
            if spec.weights is not None:
                faults.append(f"[models.{name}] weights: go with models side by side, as in a+b")
            continue
        if not all(parts) or len(set(parts)) < len(parts):
            faults.append(f"models: '{name}': between + stand names of models, each once")
        if spec.model_copy(update={"weights": None}) != ModelSpec():
            faults.append(f"[models.{name}] it is made of others; give {parts[0]} and the like")
        if isinstance(spec.weights, list) and len(spec.weights) != len(parts):
            faults.append(
                f"[models.{name}] weights: got {len(spec.weights)}, one for each of {len(parts)} "
                "parts"
            )
        own = [layer for layer in ("weighted", "best") if layer in _layers(head)]
        if own:
            faults.append(f"[head] layer: {own} are of a single model; models has '{name}'")
    return faults


def _member_faults(name: str, members: Sequence[str], known: Collection[str]) -> list[str]:
    """Members that are no model of the recipe, or are named twice."""
    faults = [
        f"[fusion.{name}] members: '{one}' is no model of the recipe{nearest(one, known)}"
        for one in members
        if one not in known
    ]
    if len(set(members)) != len(members):
        faults.append(f"[fusion.{name}] members: a model is named twice")
    return faults


def _subset_faults(spec: SubsetsSpec, classification: bool) -> list[str]:
    """Sizes, methods and metrics that do not go with the members or the task."""
    where, n = f"[fusion.{SUBSETS}]", len(spec.members)
    task = "classification" if classification else "regression"
    faults = [f"{where} k: got {one}, there are {n} members" for one in spec.sizes if one > n]
    faults += [
        f"{where} metrics: got '{one}', for {task}: {', '.join(METRICS[task])}"
        for one in spec.metrics
        if one not in METRICS[task]
    ]
    if not classification:
        faults += [
            f"{where} methods: '{one}' needs classes; use 'mean'"
            for one in spec.methods
            if one != "mean"
        ]
    for key, given in (("methods", spec.methods), ("metrics", spec.metrics)):
        if len(set(given)) != len(given):
            faults.append(f"{where} {key}: got {given}, one is named twice")
    return faults


def _split_faults(split: SplitSpec, classification: bool, corpora: Sequence[str]) -> list[str]:
    """Faults of settings that do not go together."""
    faults = [
        f"[split] {key}: goes with outer = '{outer}', not '{split.outer}'"
        for key, outer in _OWN.items()
        if split.outer != outer and getattr(split, key) not in (None, False, {})
    ]
    may_have_devel = split.outer in ("predefined", "emobox") or split.devel_size is not None
    if split.inner == "devel" and not may_have_devel:
        faults.append(
            "[split] inner: 'devel' goes with outer = 'predefined', 'emobox' or "
            f"'stratified-holdout' with a devel_size, not '{split.outer}'"
        )
    if split.devel_size is not None and split.devel_size + split.test_size >= 1:
        faults.append("[split] devel_size, test_size: together 1 or more; nothing is left to train")
    if not classification:
        faults += [
            f"[split] {side}: '{kind}' needs classes (target); use 'speaker-k-fold'"
            for side, kind in (("outer", split.outer), ("inner", split.inner))
            if kind.startswith("stratified") or kind == "four-to-one-in-five"
        ]
    grouped = ("speaker-k-fold", "session-k-fold", "sentence-disjoint", "speaker-sentence-grid")
    if split.shuffle and not {split.outer, split.inner, split.within} & set(grouped):
        faults.append(f"[split] shuffle: goes with folds of groups: {', '.join(grouped)}")
    if split.outer == "emobox" and split.emobox is None:
        faults.append('[split] emobox: missing; the folder of a copy of EmoBox: emobox = "..."')
    if split.pool and split.within:
        faults.append("[split] within: goes with single corpora that train, not with pool = true")
    named = (("train", split.train or ()), ("test", split.test or ()),
             ("emobox_names", split.emobox_names))  # fmt: skip
    faults += [
        f"[split] {key}: '{one}' is no corpus of the recipe{nearest(one, corpora)}"
        for key, names in named
        for one in names
        if one not in corpora
    ]
    if split.outer == "cross-corpus" and len(corpora) < 2:
        faults.append(f"corpora: outer = 'cross-corpus' needs two or more, got {list(corpora)}")
    return faults


def _seed_faults(
    split: SplitSpec, head: Section | None, also: Mapping[str, SplitSpec]
) -> list[str]:
    """Seeds that repeat nothing, or whose runs would lie where others do."""
    faults = []
    if len(split.seeds) == 1 or len(set(split.seeds)) != len(split.seeds):
        faults.append(f"[split] seeds: got {split.seeds}, allowed: two or more, each once")
    idle = isinstance(head, HeadSpec) and not (split.uses_seed or head.uses_random_state)
    if split.seeds and idle:
        faults.append(
            f"[split] seeds: they change nothing: outer = '{split.outer}' with inner = 'devel' has "
            f"the same folds with every seed, and the head one solution on them; choose "
            "inner = 'speaker-k-fold', or leave the seeds out"
        )
    faults += [
        f"[split] also: {seed_protocol(seed)} is the name of a repeat; give it another name"
        for seed in split.seeds
        if seed_protocol(seed) in also
    ]
    return faults


def _same_folds(split: SplitSpec, also: Mapping[str, SplitSpec]) -> list[str]:
    """Protocols that are the main one, or another, by a second name."""
    faults = []
    seen = [("the main protocol", _folds_of(split))]
    for name, one in also.items():
        same = next((other for other, folds in seen if folds == _folds_of(one)), None)
        if same:
            faults.append(
                f"[split] also: {name} is {same} again; leave it out, or change its settings"
            )
        seen.append((name, _folds_of(one)))
    return faults


def _folds_of(split: SplitSpec) -> dict[str, Any]:
    """The settings, without what is only allowed."""
    return {key: one for key, one in split.settings().items() if key != "expect_overlap"}


def _layers(head: Section | None) -> list[int | str]:
    return head.layers if isinstance(head, HeadSpec) else []


def _also(split: Section | None, faults: list[str]) -> dict[str, SplitSpec]:
    """Read `[split] also`: names of outer splits, or tables with settings and maybe a name."""
    protocols: dict[str, SplitSpec] = {}
    if not isinstance(split, SplitSpec):
        return protocols
    inherited = {key: getattr(split, key) for key in _INHERITED if key in split.model_fields_set}
    for given in split.also:
        values = {"outer": given} if isinstance(given, str) else dict(given)
        name = values.pop("name", values.get("outer"))
        if not isinstance(name, str) or not names_folder(name):
            faults.append(
                f"[split] also: {given!r}: a table needs an outer, and a name for a folder"
            )
            continue
        if name in protocols:
            faults.append(f'[split] also: {name} is named twice; give one of them a name = "..."')
        if "also" in values or "seeds" in values:
            what = "protocols beside it" if "also" in values else "seeds"
            faults.append(f"[split] also, {name}: has {what}; list them all in [split]")
            continue
        fixed = FOUR_TO_ONE_IN_FIVE if values.get("outer") == "four-to-one-in-five" else {}
        base = {key: value for key, value in inherited.items() if key not in fixed}
        spec = check_section(SplitSpec, {**base, **values}, f"[split] also, {name}: ", faults)
        if spec is not None:
            protocols[name] = spec
    return protocols


def _label_maps(
    spec: LabelsSpec, top: _Top, corpora: Mapping[str, CorpusSpec], faults: list[str]
) -> dict[str, dict[str, str]]:
    """The map of each corpus, by name or as it is given; faults are added."""
    maps: dict[str, dict[str, str]] = {}
    given = spec.map if isinstance(spec.map, dict) else dict.fromkeys(corpora, spec.map)
    faults += [
        f"[labels.map] {name}: no corpus of the recipe{nearest(name, corpora)}"
        for name in given
        if name not in corpora
    ]
    for name, corpus in corpora.items():
        record = CORPORA.get(corpus.reader or name)
        if record is None:
            continue  # reported with the corpora
        one = given.get(name)
        if one is None:
            faults.append(f"[labels.map] {name}: missing; every corpus of the recipe needs a map")
        elif isinstance(one, str):
            if one not in record.label_maps:
                faults.append(
                    f"[labels] map: {name} has no map '{one}'; it has: "
                    f"{', '.join(record.label_maps) or 'none'}{nearest(one, record.label_maps)}; "
                    f"[labels.map.{name}] gives one of your own"
                )
            else:
                maps[name] = dict(record.label_maps[one])
        else:
            maps[name] = dict(one)
        classes = record.labels.get(top.target or "", ())
        faults += [
            f"[labels.map.{name}] '{label}' is no {top.target} of {name} ({', '.join(classes)})"
            f"{nearest(label, classes)}"
            for label in maps.get(name, ())
            if classes and label not in classes
        ]
    return maps


def _corpus_faults(
    top: _Top, corpora: Mapping[str, CorpusSpec], maps: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Unknown corpora, and targets or labels that a corpus does not have."""
    faults = []
    for name, spec in corpora.items():
        key = spec.reader or name
        if key not in CORPORA:
            what = "reader" if spec.reader else "corpora"
            faults.append(
                f"{what}: '{key}' is no known corpus ({', '.join(CORPORA)}){nearest(key, CORPORA)}"
                + ("" if spec.reader else f"; [corpora.{name}] reader = 'manifest' names your own")
            )
            continue
        record = CORPORA[key]
        if not record.labels and not record.targets:
            continue  # a manifest brings its own
        if top.target is not None and top.target not in record.labels:
            faults.append(
                f"target: {name} has no label set '{top.target}'; it has: "
                f"{', '.join(record.labels) or 'none'}{nearest(top.target, record.labels)}"
            )
        elif top.target is not None and top.labels and not maps:
            classes = record.labels[top.target]
            faults += [
                f"labels: '{one}' is no {top.target} of {name} ({', '.join(classes)})"
                f"{nearest(one, classes)}"
                for one in top.labels
                if one not in classes
            ]
        faults += [
            f"targets: {name} has no '{one}'; it has: "
            f"{', '.join(record.targets) or 'none'}{nearest(one, record.targets)}"
            for one in top.targets or ()
            if one not in record.targets
        ]
    return faults
