"""The one form of texts, worked out by hand from code points."""

from __future__ import annotations

import unicodedata

import pytest

from features.common.text import (
    DROPPED,
    alike,
    clean,
    clean_all,
    merged,
    one_letter_apart,
    told_apart,
)

COMPOSED, DECOMPOSED = "Zo\u00eb", "Zoe\u0308"
BLANKS = "\u00a0\u1680\u2000\u2002\u2007\u2009\u202f\u205f\u3000\t\n\r\v\f\u0085\u2028\u2029"


@pytest.mark.parametrize("blank", BLANKS, ids=lambda one: f"U+{ord(one):04X}")
def test_every_blank_is_one_blank(blank: str) -> None:
    assert clean(f"{blank}a{blank}{blank}b{blank}") == "a b"
    assert alike(f"a{blank}b") == "ab"


@pytest.mark.parametrize("code", DROPPED, ids=lambda one: f"U+{one:04X}")
def test_what_shows_nowhere_is_gone(code: int) -> None:
    invisible = chr(code)
    assert unicodedata.category(invisible) == "Cf"
    assert clean(f"{invisible}a{invisible}b") == "ab"
    # Two accents' halves that it stood between become one letter.
    assert clean(f"Zoe{invisible}\u0308") == COMPOSED


def test_accents_are_composed_and_case_stays() -> None:
    assert clean(DECOMPOSED) == COMPOSED
    # Three marks in the wrong order; a Hangul syllable of its letters; a sign that is a letter.
    assert clean("o\u0323\u0302") == "\u1ed9"
    assert clean("o\u0302\u0323") == "\u1ed9"
    assert clean("\u1112\u1161\u11ab") == "\ud55c"
    assert clean("\u212a") == "K"
    assert clean("Anger") == "Anger"
    assert clean("") == clean(" \u200b\u00a0") == ""


def test_joiners_and_overrides_stay_and_are_alike() -> None:
    persian = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    assert clean(persian) == persian
    assert alike(persian) == alike(persian.replace("\u200c", ""))
    assert alike("a\u202eb") == alike("ab")
    assert clean("a\u202eb") == "a\u202eb"


def test_clean_is_clean(rng) -> None:
    letters = [*"aA e\u0308\u00a0\u200b\u0301\u1100\u1161\u11a8", "\u2028", "\u00e9", "\u0323"]
    for _ in range(500):
        text = "".join(rng.choice(letters, 8))
        once = clean(text)
        assert clean(once) == once
        assert unicodedata.is_normalized("NFC", once)
        assert clean(unicodedata.normalize("NFD", text)) == once


def test_names_are_shown_so_that_they_differ() -> None:
    assert told_apart(["a", "b", "a"]) == ["a", "b", "a"]
    assert told_apart([COMPOSED, DECOMPOSED]) == ["'Zo\\xeb'", "'Zoe\\u0308'"]


def test_what_became_one_is_counted() -> None:
    texts = [COMPOSED, DECOMPOSED, "Bo", DECOMPOSED, "Bo", "x  y", "x y"]
    assert merged("speaker", texts) == [
        "speaker 'Zoe\\u0308' (2 rows) = 'Zo\\xeb' (1 row)",
        "speaker 'x  y' (1 row) = 'x y' (1 row)",
    ]
    assert merged("speaker", ["", "\u200b", "a"]) == []


def test_tables_are_cleaned_and_paths_are_not() -> None:
    twice: list[str] = []
    raw = {f"{DECOMPOSED} ": [" a  b ", {"root": DECOMPOSED, "x": DECOMPOSED}], "n": 1.5}
    found = clean_all(raw, twice, ("root",))
    assert found == {COMPOSED: ["a b", {"root": DECOMPOSED, "x": COMPOSED}], "n": 1.5}
    assert clean_all({COMPOSED: "a", DECOMPOSED: "a "}, twice) == {COMPOSED: "a"}
    assert twice == []
    clean_all({"m": {COMPOSED: "a", DECOMPOSED: "b"}}, twice)
    assert twice == [COMPOSED]


def optimal_alignment(one: str, other: str) -> int:
    """Edits of two texts, neighbours swapped being one, by the textbook's matrix."""
    rows = [[max(i, j) if not i or not j else 0 for j in range(len(other) + 1)]
            for i in range(len(one) + 1)]  # fmt: skip
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            differ = one[i - 1] != other[j - 1]
            rows[i][j] = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + differ)
            if i > 1 and j > 1 and one[i - 1] == other[j - 2] and one[i - 2] == other[j - 1]:
                rows[i][j] = min(rows[i][j], rows[i - 2][j - 2] + 1)
    return rows[-1][-1]


def test_one_letter_apart_is_an_edit_distance_of_one(rng) -> None:
    near = 0
    for _ in range(3000):
        one = "".join(rng.choice(list("ab"), rng.integers(0, 5)))
        other = "".join(rng.choice(list("ab"), rng.integers(0, 5)))
        near += optimal_alignment(one, other) == 1
        assert one_letter_apart(one, other) == (optimal_alignment(one, other) == 1), (one, other)
    assert near > 300
