"""Records as files: what is written is read back, and what is none of ours is refused in a line."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from evaluate.runs.files import read_json, write_json
from evaluate.scores import score
from evaluate.scores.records import OPTIMISTIC, Estimate, Gap, ProtocolGaps, marked
from evaluate.scores.stored import Kind
from features.common.errors import RunError
from tests.evaluate import made

FILE = Kind("gaps", ProtocolGaps, dict)
GAPS = ProtocolGaps(
    {"other": {"one": Gap(9, 2, {"uar": Estimate(0.1, 0.0, 0.2, 3)}, {"uar": (0.6, 0.5)})}}
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "gaps.json"
    assert FILE.open(path) is None
    assert FILE.write(path, GAPS, {"seed": 1}) == GAPS
    found = FILE.open(path)
    assert found is not None
    assert (found.record, found.inputs) == (GAPS, {"seed": 1})
    nan = Estimate(float("nan"), float("nan"), float("nan"))
    odd = ProtocolGaps({"other": {"one": Gap(0, None, {"uar": nan}, {}, why="none")}})
    assert FILE.write(path, odd).gaps["other"]["one"].metrics["uar"] == Estimate(None)


def test_what_is_of_these_inputs_is_not_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "gaps.json"
    made_so_often = []

    def make() -> ProtocolGaps:
        made_so_often.append(1)
        return GAPS

    for inputs, force, times in (((1, 2), False, 1), ([1, 2], False, 1), ([1, 2], True, 2),
                                 ([1, 3], False, 3)):  # fmt: skip
        assert FILE.made(path, {"seeds": inputs}, make, force=force) == GAPS
        assert len(made_so_often) == times


def test_what_an_older_program_wrote_is_outdated_and_not_damaged(tmp_path: Path) -> None:
    path = tmp_path / "gaps.json"
    write_json(path, {"something": "else", "inputs": {"numerics": 1}})
    assert FILE.made(path, {"numerics": 2}, lambda: GAPS) == GAPS


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "serfuse-scores"}, "holds serfuse-scores, not serfuse-gaps"),
        ({"version": 7}, "version 7 of serfuse-gaps, and this program reads versions up to 1"),
        ({"version": "1"}, "version 1 of serfuse-gaps, and this program reads"),
        ({"gaps": {"a": {"one": {"n": 3}}}}, "version 1 holds: gaps.a.one.n_speakers: Field req"),
        ({"more": 1}, "version 1 holds: more: Unexpected keyword argument"),
        ({"gaps": None}, "version 1 holds: gaps: Input should be an object"),
    ],
)
def test_a_foreign_file_is_refused_in_a_line(tmp_path: Path, change: dict, says: str) -> None:
    path = tmp_path / "gaps.json"
    FILE.write(path, GAPS, {})
    write_json(path, {**(read_json(path) or {}), **change})
    found = FILE.open(path)
    assert found is not None
    with pytest.raises(RunError, match=re.escape(says)) as error:
        _ = found.record
    assert str(error.value).startswith(f"{path}: ")
    assert "remove it and run make score again" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_changed_file_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "gaps.json"
    FILE.write(path, GAPS, {})
    path.write_text(path.read_text(encoding="utf-8").replace("0.2", "0.3"), encoding="utf-8")
    with pytest.raises(RunError, match="damaged: not as it was written; remove it"):
        FILE.open(path)


def test_marks_reach_every_estimate(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, "classification")
    folder = made.finish(recipe, tmp_path / "runs", "one", made.classification())
    whole = score.score_run(folder, recipe)
    chosen = marked(whole, [OPTIMISTIC])
    plain, found = (json.dumps(dataclasses.asdict(one)) for one in (whole, chosen))
    assert whole != chosen
    assert plain.count(OPTIMISTIC) + plain.count('"marks": []') == found.count(OPTIMISTIC)
    assert '"marks": []' not in found
    assert marked(chosen, [OPTIMISTIC]) == chosen
