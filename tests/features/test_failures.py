"""The failures beside stores, in words."""

from __future__ import annotations

from pathlib import Path

from features.stores.failures import named_failures, write_failures


def fail(store: Path, *names: str) -> Path:
    write_failures(store, [("a", one, f"{one}.wav", f"{one} is bad", "") for one in names])
    return store


def test_a_file_that_failed_for_several_models_is_named_once(tmp_path: Path) -> None:
    stores = [fail(tmp_path / "x.h5", "u1"), fail(tmp_path / "y.h5", "u1", "u2")]
    stores.append(tmp_path / "none.h5")
    assert named_failures(stores) == ["u1.wav: u1 is bad", "u2.wav: u2 is bad"]


def test_of_many_failures_a_few_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    store = fail(tmp_path / "x.h5", *(f"u{i}" for i in range(8)))
    lines = named_failures([store, tmp_path / "none.h5"])
    assert lines[:5] == [f"u{i}.wav: u{i} is bad" for i in range(5)]
    assert lines[5:] == [f"and 3 more: see {tmp_path / 'x.failures.csv'}"]
