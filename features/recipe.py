"""The whole recipe: one TOML file an experiment, checked before any work is done.

Conventions
-----------
- `load_recipe` reports every fault of a recipe at once: file, key, what came, what is allowed.
- `corpora` and `models` are lists of keys, or tables of tables where one needs settings of its own:
  `[models.mine] path = "..."`. In a list a member may be an inline table with a `name`.
- Paths in a recipe are relative to the working directory, as those on the command line are.
- Defaults stand here and nowhere else.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from features.corpora import CORPORA
from features.errors import RecipeError, nearest

Precision = Literal["float32", "bfloat16", "float16"]
Selection = Literal["nmse", "nmae", "spearman", "uar", "wa"]

REGRESSION_HEADS = ("linear-svr", "svr", "ridge")
CLASSIFICATION_HEADS = ("linear-svc", "svc", "logistic")
REGRESSION_SELECTION = ("nmse", "nmae", "spearman")
CLASSIFICATION_SELECTION = ("uar", "wa")


class Section(BaseModel):
    """Base of every table of a recipe: no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


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


class ModelSpec(Section):
    """`[models.NAME]`: a model that the registry lacks, or other weights for one it has."""

    hub: str | None = None
    revision: str | None = None
    path: str | None = None


class ExtractSpec(Section):
    """`[extract]`: what is computed and stored. `batch_seconds` and `workers` change no number."""

    layers: Literal["all"] | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = (
        "all"
    )
    precision: Precision = "float32"
    max_seconds: Annotated[float, Field(ge=1, le=3600, strict=False)] = 60.0
    batch_seconds: Annotated[float, Field(gt=0, strict=False)] | None = None
    workers: Annotated[int, Field(ge=0)] | None = None


class SplitSpec(Section):
    """`[split]`: how rows are divided; outer folds score, inner folds choose."""

    outer: Literal[
        "predefined",
        "leave-one-speaker-out",
        "leave-one-session-out",
        "speaker-k-fold",
        "stratified-holdout",
    ] = "predefined"
    inner: Literal["devel", "speaker-k-fold", "stratified-k-fold"] = "speaker-k-fold"
    outer_folds: Annotated[int, Field(ge=2)] = 5
    inner_folds: Annotated[int, Field(ge=2)] = 5
    test_size: Annotated[float, Field(gt=0, lt=1)] = 0.2
    seed: Annotated[int, Field(ge=0)] = 0


GridValue = bool | int | float | str | dict[str, float]


class HeadSpec(Section):
    """`[head]`: scaler and estimator, their grid, and the score that chooses a cell.

    `grid` holds what is searched, `fixed` what is not; both use scikit-learn's parameter names.
    Without a `grid` the head's own default is taken (`models/heads.py`). `engine` says whether fits
    may share work where that gives the same predictions (`models/linear_fits.py`,
    `models/kernel_grid.py`): "auto" does wherever it can, "exact-path" refuses a grid where it
    cannot, "sklearn" never does.
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
    random_state: Annotated[int, Field(ge=0)] = 42
    engine: Literal["auto", "exact-path", "sklearn"] = "auto"

    @field_validator("layer")
    @classmethod
    def _known_layer(cls, value: Any) -> Any:
        for one in value if isinstance(value, list) and value else [value]:
            if one not in ("last", "mean") and not (isinstance(one, int) and one >= 0):
                raise ValueError("'last', 'mean', an index from 0, or a list of these")
        return value

    @property
    def layers(self) -> list[int | str]:
        """The layers to train on, one run each."""
        return list(self.layer) if isinstance(self.layer, list) else [self.layer]


class FusionSpec(Section):
    """`[fusion.NAME]`: how the predictions of several models become one."""

    method: Literal["mean", "logit-sum", "vote"]
    members: Annotated[list[str], Field(min_length=2)] = Field(default_factory=list)
    missing: Literal["error", "drop"] = "error"


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
    fusion : dict
        Combinations; members default to all models of the recipe, whatever `MODEL=` says.
    """

    name: str
    path: str
    corpora: dict[str, CorpusSpec]
    models: dict[str, ModelSpec]
    target: str | None = None
    targets: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None
    extract: ExtractSpec
    split: SplitSpec
    head: HeadSpec
    fusion: dict[str, FusionSpec]
    evaluate: EvaluateSpec

    @property
    def task(self) -> str:
        """`"classification"` with a `target`, `"regression"` with `targets`."""
        return "classification" if self.target else "regression"

    def reader_options(self, corpus: str) -> dict[str, Any]:
        """What a corpus's reader is told; a manifest hears which columns the recipe asks for."""
        spec = self.corpora[corpus]
        options = spec.options
        if (spec.reader or corpus) == "manifest":
            if self.target and "labels" not in options:
                options["labels"] = [self.target]
            if self.targets and "targets" not in options:
                options["targets"] = list(self.targets)
        return options

    def resolved(self) -> dict[str, Any]:
        """The recipe as JSON-able values, command line merged in."""
        return self.model_dump(mode="json")


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
_KEYS = ("corpora", "models", "fusion", *_Top.model_fields, *_SECTIONS)

S = TypeVar("S", bound=Section)


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
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        if _DEEP_KEY.search(text):
            raise RecursionError
        raw = tomllib.loads(text)
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
    except ValueError as error:  # no TOML, no UTF-8, a number beyond all measure
        raise RecipeError(f"{path}: not valid TOML: {error}") from None
    for section, values in (overrides or {}).items():
        if isinstance(raw.setdefault(section, {}), dict):
            raw[section].update(values)

    faults: list[str] = [
        f"{key}: no such key{nearest(key, _KEYS)}" for key in raw if key not in _KEYS
    ]
    top = _check(_Top, {k: raw[k] for k in _Top.model_fields if k in raw}, "", faults)
    sections = {
        name: _check(kind, raw.get(name, {}), f"[{name}] ", faults)
        for name, kind in _SECTIONS.items()
    }
    corpus_specs = _members(CorpusSpec, raw, "corpora", faults)
    model_specs = _members(ModelSpec, raw, "models", faults)
    fusions = _fusions(raw.get("fusion", {}), list(model_specs), sections["head"], faults)
    if top is not None:
        faults += _combinations(top, sections, corpus_specs, model_specs, fusions)
    for option, given, known in (("MODEL", models, model_specs), ("CORPUS", corpora, corpus_specs)):
        faults += [
            f"{option}={one}: not in the recipe's list ({', '.join(known)}){nearest(one, known)}"
            for one in given or ()
            if one not in known
        ]
    if faults or top is None:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise RecipeError("\n  ".join([f"{path}: {count}", *faults]))
    return Recipe.model_validate(
        {
            "name": path.stem,
            "path": str(path),
            "corpora": {k: v for k, v in corpus_specs.items() if not corpora or k in corpora},
            "models": {k: v for k, v in model_specs.items() if not models or k in models},
            "target": top.target,
            "targets": tuple(top.targets or ()),
            "labels": tuple(top.labels) if top.labels else None,
            "fusion": fusions,
            **sections,
        }
    )


def _check(kind: type[S], values: Any, where: str, faults: list[str]) -> S | None:
    """Validate one table; add a line to `faults` for each fault."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        found: dict[str, str] = {}
        for one in error.errors():
            depth = 2 if one["loc"] and one["loc"][0] in ("grid", "fixed") else 1
            key = ".".join(str(part) for part in one["loc"][:depth])
            text = _fault(kind, key, one)
            # A union reports a fault a member.
            found[key] = f"{found[key]}, or {_allowed(one)}" if key in found else text
        faults.extend(f"{where}{text}" for text in found.values())
        return None


def _allowed(error: Any) -> str:
    """What pydantic would have taken, in words."""
    context = error.get("ctx", {})
    if "expected" in context:
        return str(context["expected"])
    text = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    return text.removeprefix("a valid ")


def _fault(kind: type[Section], key: str, error: Any) -> str:
    """One fault: the key, what came, what is allowed, and the nearest known name."""
    if error["type"] == "extra_forbidden":
        return f"{key}: no such key{nearest(key, kind.model_fields)}"
    if error["type"] == "missing":
        allowed = _choices(kind, key)
        return f"{key}: missing" + (f"; allowed: {', '.join(allowed)}" if allowed else "")
    if error["type"] in ("model_type", "model_attributes_type"):
        return f"got {error['input']!r}, expected a table"
    near = ""
    if error["type"] == "literal_error" and isinstance(error["input"], str):
        near = nearest(error["input"], str(error["ctx"]["expected"]).replace("'", " ").split())
    return f"{key}: got {error['input']!r}, allowed: {_allowed(error)}{near}"


def _choices(kind: type[Section], key: str) -> list[str]:
    """The values of a field that is a choice among words."""
    field = kind.model_fields.get(key)
    return [str(one) for one in getattr(field.annotation, "__args__", ())] if field else []


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
        checked = _check(kind, values, f"[{key}.{name}] ", faults)
        if checked is not None:
            result[name] = checked
    return result


def _fusions(
    raw: Any, models: list[str], head: Section | None, faults: list[str]
) -> dict[str, FusionSpec]:
    """Read `[fusion.NAME]` tables; default members are the models at the recipe's one layer."""
    layers = _layers(head) or ["last"]
    sweep = "last" not in layers and len(layers) > 1
    if layers != ["last"] and len(layers) == 1:
        models = [f"{model}@{layers[0]}" for model in models]
    if not isinstance(raw, dict):
        faults.append(f"fusion: got {raw!r}, allowed: [fusion.NAME] tables")
        return {}
    result: dict[str, FusionSpec] = {}
    for name, values in raw.items():
        if not isinstance(values, dict):
            faults.append(f"[fusion] {name}: got {values!r}, allowed: a table [fusion.{name}]")
            continue
        if "members" not in values and len(models) < 2:
            faults.append(f"[fusion.{name}] members: a fusion needs two models, got {models}")
            continue
        if "members" not in values and sweep:
            faults.append(
                f"[fusion.{name}] members: missing; [head] layer is {layers} without 'last': "
                f'name them, as in ["{models[0]}@{layers[0]}", ...]'
            )
            continue
        spec = _check(FusionSpec, {"members": models, **values}, f"[fusion.{name}] ", faults)
        if spec is not None:
            result[name] = spec
    return result


def _combinations(
    top: _Top,
    sections: Mapping[str, Section | None],
    corpora: Mapping[str, CorpusSpec],
    models: Mapping[str, ModelSpec],
    fusions: Mapping[str, FusionSpec],
) -> list[str]:
    """Faults that no table shows alone. Tables that are themselves faulty are passed over."""
    faults: list[str] = []
    if (top.target is None) == (not top.targets):
        faults.append(
            'target, targets: give one of the two: target = "a label column" (classification) '
            'or targets = ["..."] (regression)'
        )
    classification = top.target is not None
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
            lacking = [
                one for one in head.layers if isinstance(one, int) and one not in extract.layers
            ]
            if lacking:
                faults.append(
                    f"[head] layer: {lacking} not among [extract] layers = {extract.layers}"
                )
    if isinstance(split, SplitSpec) and split.inner == "devel" and split.outer != "predefined":
        faults.append(f"[split] inner: 'devel' goes with outer = 'predefined', not '{split.outer}'")
    if isinstance(split, SplitSpec) and not classification:
        faults += [
            f"[split] {side}: '{kind}' needs classes (target); use 'speaker-k-fold'"
            for side, kind in (("outer", split.outer), ("inner", split.inner))
            if kind.startswith("stratified")
        ]
    for name, spec in fusions.items():
        known = set(models) | {f"{m}@{layer}" for m in models for layer in _layers(head)}
        unknown = [one for one in spec.members if one not in known]
        faults += [
            f"[fusion.{name}] members: '{one}' is no model of the recipe{nearest(one, known)}"
            for one in unknown
        ]
        if len(set(spec.members)) != len(spec.members):
            faults.append(f"[fusion.{name}] members: a model is named twice")
        if spec.method in ("logit-sum", "vote") and not classification:
            faults.append(f"[fusion.{name}] method: '{spec.method}' needs classes; use 'mean'")
    faults += _corpus_faults(top, corpora)
    return faults


def _layers(head: Section | None) -> list[int | str]:
    return head.layers if isinstance(head, HeadSpec) else []


def _corpus_faults(top: _Top, corpora: Mapping[str, CorpusSpec]) -> list[str]:
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
        elif top.target is not None and top.labels:
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
