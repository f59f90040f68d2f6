"""Columns of votes of the utterance tables, a class each."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from features.common.errors import RecipeError, RunError
from features.shares import read_shares, votes_note
from tests.models.synthetic import rows

COLUMNS = {"sad": "votes_sad", "calm": "votes_calm"}


def table(sad: list[float], calm: list[float]) -> pd.DataFrame:
    return rows(len(sad), votes_sad=sad, votes_calm=calm, age=[30.0] * len(sad))


def test_votes_come_in_the_order_of_the_class_list() -> None:
    found = read_shares(table([3, np.nan, 0], [1, np.nan, 0]), ("calm", "sad"), COLUMNS)
    np.testing.assert_array_equal(found, [[1, 3], [np.nan, np.nan], [0, 0]])
    known = np.array([True, True, True])
    assert votes_note(found, known, COLUMNS) == (
        "shares: 1 row has votes (votes_sad, votes_calm); 2 rows have none and use their label"
    )
    assert "none" not in votes_note(found, np.array([True, False, False]), COLUMNS)


@pytest.mark.parametrize(
    ("labels", "columns", "fault"),
    [
        (("calm", "sad", "glad"), COLUMNS, "no column of glad; each class of the list needs one"),
        (("calm", "sad"), {**COLUMNS, "glad": "age"}, r"'glad' is no class \(calm, sad\)"),
        (
            ("calm", "sad"),
            {**COLUMNS, "calm": "vote_calm"},
            "calm = 'vote_calm': no column of numbers of the tables; they have votes_sad, "
            "votes_calm, age; did you mean 'votes_calm'",
        ),
        (("calm", "sad"), {**COLUMNS, "calm": "speaker"}, "calm = 'speaker': no column of numbers"),
        (("calm", "sad"), {**COLUMNS, "calm": "seconds"}, "calm = 'seconds': no column of numbers"),
    ],
)
def test_what_names_no_column_or_class_is_named(
    labels: tuple[str, ...], columns: dict[str, str], fault: str
) -> None:
    with pytest.raises(RecipeError, match=rf"\[heads.a.training\] shares: {fault}"):
        read_shares(table([1.0], [2.0]), labels, columns, "heads.a")


@pytest.mark.parametrize("odd", [-1.0, np.inf, np.nan])
def test_a_row_with_no_votes_to_fit_to_is_named(odd: float) -> None:
    with pytest.raises(RunError, match=r"1 row has no votes to fit to.*made/u001 \(2, "):
        read_shares(table([1.0, odd], [2.0, 2.0]), ("calm", "sad"), COLUMNS)
