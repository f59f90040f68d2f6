"""Which of a store's layers a recipe's word stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from features.common.errors import StoreError
from features.recipe.member import side_by_side


@dataclass(frozen=True)
class LayerAxis:
    """The first axis of a store's matrices.

    Attributes
    ----------
    path : Path
    stored : list of int
        Layer index of each position.
    last : int or None
        The model's last layer, where the key says it.
    setting : str
        Of `[extract]`, that says which layers are stored.
    """

    path: Path
    stored: list[int]
    last: int | None
    setting: str = "layers"

    def positions(self, layer: int | str) -> list[int]:
        """Positions of `"last"`, `"mean"` (1..L) or an index.

        Parameters
        ----------
        layer : int, "last" or "mean"

        Returns
        -------
        list of int
            Whose mean is meant where there are several.

        Raises
        ------
        StoreError
            For a layer that is not stored, naming those that are.

        Examples
        --------
        >>> axis = LayerAxis(Path("a.h5"), [0, 4, 8], 8)
        >>> axis.positions("last"), axis.positions(4)
        ([2], [1])
        """
        if len(self.stored) == 1 and layer in ("last", "mean"):
            return [0]
        last = max(self.stored) if self.last is None else self.last
        wanted = {"last": [last], "mean": list(range(1, last + 1))}.get(str(layer))
        if wanted is None:
            wanted = [int(layer)]
        lacking = [index for index in wanted if index not in self.stored]
        if lacking:
            more = f", or extract with other [extract] {self.setting}"
            if lacking[0] > last and self.last is not None:
                more = f": {last} is the model's last"
            raise StoreError(
                f"{self.path}: layer {layer!r} needs layer {lacking[0]}, stored are "
                f"{ranges(self.stored)}; choose one of these{more}"
            )
        return [self.stored.index(index) for index in wanted]

    def columns(self, layer: int | str) -> list[int | str]:
        """The layers, to be read one by one, whose columns a recipe's layer has side by side.

        Raises
        ------
        StoreError
            For a layer that is not stored, naming those that are.

        Examples
        --------
        >>> LayerAxis(Path("a.h5"), [0, 4, 8], 8).columns("best")
        [0, 4, 8]
        """
        if layer in ("weighted", "best"):
            return list(self.stored)
        layers: list[int | str] = [*side_by_side(layer)] or [layer]
        for part in layers:
            self.positions(part)
        return layers


def ranges(values: Sequence[int]) -> str:
    """Sorted numbers for people, neighbours as ranges.

    Parameters
    ----------
    values : sequence of int, not empty
        Ascending.

    Returns
    -------
    str

    Examples
    --------
    >>> ranges([0, 1, 2, 5])
    '0-2, 5'
    """
    parts: list[str] = []
    start = previous = values[0]
    for value in [*values[1:], None]:
        if value is not None and value == previous + 1:
            previous = value
            continue
        parts.append(str(start) if start == previous else f"{start}-{previous}")
        if value is not None:
            start = previous = value
    return ", ".join(parts)
