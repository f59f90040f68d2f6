"""A recipe: its sections, checked and with every default filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from features.common.sections import Section
from features.recipe.evaluate import EvaluateSpec
from features.recipe.extract import (
    CorpusSpec,
    ExtractSpec,
    ModelSpec,
    model_parts,
)
from features.recipe.fusion import (
    FusionSpec,
    SubsetsSpec,
)
from features.recipe.head import (
    HeadSpec,
)
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
        return list(dict.fromkeys(part for name in self.models for part in model_parts(name)))

    def weights_of(self, model: str) -> list[float] | str | None:
        """The weights of the parts of `a+b`, "size", or None, as of any single model."""
        return self.models.get(model, ModelSpec()).weights

    def members(self) -> list[Member]:
        """The runs of its heads: every model at every layer."""
        return [Member(model, layer) for model in self.models for layer in self.head.layers]

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
        """What a corpus's reader is told; one that asks hears which columns the recipe wants.

        Parameters
        ----------
        corpus : str
            One of the recipe's.

        Returns
        -------
        dict
            `[corpora.NAME]`'s own, with the recipe's label column or targets where it names none.
        """
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
