"""A dictionary of records, and those of a task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

CLASSIFICATION, REGRESSION = "classification", "regression"
TASKS = (REGRESSION, CLASSIFICATION)


class KnownRecord(Protocol):
    """What has a key and the tasks that it goes with."""

    @property
    def key(self) -> str:
        """What a recipe calls it."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Of `TASKS`."""


R = TypeVar("R", bound=KnownRecord)


def by_key(records: Iterable[R]) -> Mapping[str, R]:
    """Records by their keys, in their order.

    Parameters
    ----------
    records : iterable
        Each with `key` and `tasks`.

    Returns
    -------
    mapping
        Cannot be changed.

    Raises
    ------
    ValueError
        Two have one key, or one has a task that is none.
    """
    found: dict[str, R] = {}
    for record in records:
        if record.key in found:
            raise ValueError(f"two records have the key {record.key!r}")
        if not record.tasks or not set(record.tasks) <= set(TASKS):
            raise ValueError(f"{record.key}: got the tasks {record.tasks}, expected of {TASKS}")
        found[record.key] = record
    return MappingProxyType(found)


def of_task(records: Mapping[str, R], task: str) -> tuple[str, ...]:
    """The keys of the records that go with a task, in their order."""
    return tuple(key for key, record in records.items() if task in record.tasks)


def task_of(top: Mapping[str, Any]) -> str:
    """The task by the keys at the top of a recipe; empty where they do not say it.

    Examples
    --------
    >>> task_of({"target": "emotion"}), task_of({"targets": ["joy"]}), task_of({})
    ('classification', 'regression', '')
    """
    if ("target" in top) == ("targets" in top):
        return ""
    return CLASSIFICATION if "target" in top else REGRESSION
