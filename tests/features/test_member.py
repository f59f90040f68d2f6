"""The name of a run: one reader, one writer."""

from __future__ import annotations

from itertools import product

import pytest

from features.recipe.member import Member, why_no_head

LAYERS = ("last", 0, 12, "mean", "weighted", "best", "6+12")


@pytest.mark.parametrize("model", ["mfcc", "a+b", "wav2vec2-xls-r", "12", "last", "s3"])
def test_names_are_read_as_they_are_written(model: str) -> None:
    for layer, head, seed in product(LAYERS, ("", "svm", "s", "s3x", "tests", "1nn"), (None, 0, 7)):
        member = Member(model, layer, head, seed)
        assert Member.parse(str(member)) == member


def test_what_is_left_out_leaves_no_gap() -> None:
    assert str(Member.parse("mfcc@last@svm@s3")) == "mfcc@svm@s3"
    assert str(Member.parse("mfcc@012")) == "mfcc@12"
    assert Member.parse("mfcc@s3") == Member("mfcc", seed=3)
    assert Member.parse("mfcc@best") == Member("mfcc", "best")
    assert Member.parse("mfcc@svm") == Member("mfcc", head="svm")


@pytest.mark.parametrize(
    "name",
    ["", "@svm", "mfcc@", "mfcc@svm@12", "mfcc@s3@svm", "mfcc@svm@lda", "mfcc@12@6", "mfcc@test",
     "mfcc@a+b", "mfcc@06+12", "mfcc@..", "mfcc@a/b", "mfcc@s3@s4"],
)  # fmt: skip
def test_what_is_no_member(name: str) -> None:
    with pytest.raises(ValueError, match=r"is no member; expected model\[@layer\]\[@head\]"):
        Member.parse(name)


def test_what_cannot_name_a_head() -> None:
    for name in ("last", "mean", "weighted", "best", "7", "6+12"):
        assert why_no_head(name) == "is a layer"
    assert why_no_head("s3") == "is how seeds are named"
    assert "test rows" in why_no_head("test")
    for name in ("", ".", "..", "a@b", "a+b", "a/b", "a\\b"):
        assert "cannot name a folder" in why_no_head(name)
    for name in ("svm", "s", "s3b", "linear-svc", "testing"):
        assert not why_no_head(name)
