"""What a recipe may name is implemented, under that name, in the room that owns it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from sklearn.base import is_classifier, is_regressor

from features.recipe.known.heads import HEADS
from features.recipe.known.records import by_key, of_task
from models.heads import ESTIMATORS


@dataclass(frozen=True)
class Made:
    """A record of a test."""

    key: str
    tasks: tuple[str, ...] = ("classification",)


def test_records_are_found_by_key_and_by_task() -> None:
    both = Made("b", ("regression", "classification"))
    records = by_key([Made("a"), both, Made("c", ("regression",))])
    assert records["b"] is both
    assert of_task(records, "regression") == ("b", "c")


@pytest.mark.parametrize(
    ("records", "fault"),
    [
        ([Made("a"), Made("a", ("regression",))], "two records have the key 'a'"),
        ([Made("a", ())], "a: got the tasks"),
        ([Made("a", ("ranking",))], "a: got the tasks"),
    ],
)
def test_a_record_that_is_there_twice_or_has_no_task_is_refused(
    records: list[Made], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        by_key(records)


def test_every_head_has_an_estimator_that_takes_its_parameters() -> None:
    assert set(HEADS) == set(ESTIMATORS)
    for key, head in HEADS.items():
        estimator = ESTIMATORS[key](**{**head.fixed, **{k: v[0] for k, v in head.grid.items()}})
        assert {"classification": is_classifier, "regression": is_regressor}[head.task](estimator)
