"""A recipe: its sections, checked and with every default filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from features.common.errors import RecipeError, nearest
from features.common.sections import Section
from features.recipe.evaluate import EvaluateSpec
from features.recipe.extract import (
    CorpusSpec,
    ExtractSpec,
    ModelSpec,
    model_parts,
    stored_frames,
    stored_segments,
)
from features.recipe.fusion import (
    FusionSpec,
    SubsetsSpec,
)
from features.recipe.head import HeadSpec, speaker_model
from features.recipe.heads import ONE
from features.recipe.known.frame_kinds import FRAME_KINDS, FRAMES, SEGMENTS
from features.recipe.member import Member
from features.recipe.published import PublishedTable
from features.recipe.split import (
    SplitSpec,
    seed_protocol,
)


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
    head : HeadSpec or None
        None where there are several; `head_of` gives either.
    heads : dict
        Those of `[heads.NAME]`, or the ones named by `HEAD=`, with what they take from `[head]`.
    fusion : dict
        Combinations; members default to all models with all heads, whatever `MODEL=` says.
    subsets : SubsetsSpec or None
        `[fusion.subsets]`, with members and metrics filled in.
    published : list of PublishedTable
        Tables of the paper; no number depends on them, and the resolved form goes without.
    notes : list of str
        What was left out of the file when it was read, a line each; not of the resolved form.
    """

    left_out: ClassVar[tuple[str, ...]] = ("heads",)

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
    head: HeadSpec | None = None
    heads: dict[str, HeadSpec] = {}
    fusion: dict[str, FusionSpec]
    subsets: SubsetsSpec | None = None
    evaluate: EvaluateSpec
    published: Annotated[list[PublishedTable], Field(exclude=True)] = []
    notes: Annotated[list[str], Field(exclude=True)] = []

    @property
    def single_models(self) -> list[str]:
        """The models that stores are needed of.

        Those of the recipe, what `a+b` is made of, and what heads take of speakers.
        """
        parts = [part for name in self.models for part in model_parts(name)]
        of_speakers = [model for head in self.by_head.values() if (model := speaker_model(head))]
        return list(dict.fromkeys([*parts, *of_speakers]))

    def frames_of(self, model: str) -> list[int | str]:
        """The layers of a model whose frames are stored; none of `a+b`."""
        return stored_frames(model, self.models.get(model, ModelSpec()), self.extract)

    def segments_of(self, model: str) -> int | None:
        """Parts of every utterance whose means are stored of a model; None: none, as of `a+b`."""
        return stored_segments(model, self.models.get(model, ModelSpec()), self.extract)

    def framewise_of(self, model: str) -> tuple[str, ...]:
        """What of a model is stored in time: of "frames" and "segments" those that are."""
        stored = {FRAMES: self.frames_of(model), SEGMENTS: self.segments_of(model)}
        return tuple(kind for kind in FRAME_KINDS if stored[kind])

    def weights_of(self, model: str) -> list[float] | str | None:
        """The weights of the parts of `a+b`, "size", or None, as of any single model."""
        return self.models.get(model, ModelSpec()).weights

    @property
    def by_head(self) -> dict[str, HeadSpec]:
        """Its heads by their names; that of `[head]` alone has none."""
        return self.heads or ({} if self.head is None else {ONE: self.head})

    def head_of(self, name: str = ONE) -> HeadSpec:
        """One of its heads.

        Parameters
        ----------
        name : str
            Empty for the only one.

        Raises
        ------
        RecipeError
            There is none of this name.
        """
        if name not in self.by_head:
            what = f"no head '{name}'" if name else "several heads, and none is named"
            raise RecipeError(
                f"{self.path}: {what}; it has: {', '.join(self.heads) or '[head] alone'}"
                f"{nearest(name, self.heads)}"
            )
        return self.by_head[name]

    def of_head(self, name: str) -> Recipe:
        """The recipe with one of its heads as `[head]`: what a run of it depends on, and records.

        Raises
        ------
        RecipeError
            There is none of this name.
        """
        return self.model_copy(update={"head": self.head_of(name), "heads": {}})

    def members(self) -> list[Member]:
        """The runs of its heads: every model with every head that takes it, at every layer."""
        return [
            Member(model, layer, name)
            for model in self.models
            for name, head in self.by_head.items()
            if head.takes(model)
            for layer in head.layers
        ]

    @property
    def task(self) -> str:
        """`"classification"` with a `target`, `"regression"` with `targets`."""
        return "classification" if self.target else "regression"

    @property
    def shown(self) -> tuple[str, ...]:
        """The metrics that are shown, by their fields; the first is the main one."""
        return self.evaluate.shown(self.task)

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
        """A recipe a seed of `[split] seeds`, with the fusions.

        Returns
        -------
        dict
            Seed -> recipe; it draws folds and heads by its seed, and repeats nothing itself.
        """
        return {
            seed: self._protocol(
                seed_protocol(seed),
                {
                    "split": self.split.model_copy(
                        update={"seed": seed, "shuffle": True, "also": [], "seeds": []}
                    ),
                    "head": self.head and self.head.model_copy(update={"random_state": seed}),
                    "heads": {
                        name: head.model_copy(update={"random_state": seed})
                        for name, head in self.heads.items()
                    },
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
        """What a corpus's reader is told; one that asks hears which columns the recipe wants.

        Parameters
        ----------
        corpus : str
            One of the recipe's.

        Returns
        -------
        dict
            `[corpora.NAME]`'s own, with the recipe's label column or targets where it names none,
            columns of votes among these.
        """
        spec = self.corpora[corpus]
        options = spec.options
        if (spec.reader or corpus) in ("manifest", "audformat"):
            if self.target and "labels" not in options:
                options["labels"] = [self.target]
            numbers = self.targets or self._votes
            if numbers and "targets" not in options:
                options["targets"] = list(numbers)
        return options

    @property
    def _votes(self) -> list[str]:
        """The columns that any of its heads is fitted to beside labels."""
        named = [name for head in self.by_head.values() for name in (head.shares or {}).values()]
        return list(dict.fromkeys(named))

    def resolved(self) -> dict[str, Any]:
        """The recipe as JSON-able values, command line merged in."""
        return self.model_dump(mode="json")
