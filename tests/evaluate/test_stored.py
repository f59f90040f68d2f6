"""Records as files: what is written is read back, and what is none of ours is refused in a line."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest

from benchmarks import same_numbers
from evaluate.runs.files import read_json, write_json
from evaluate.scores import records, score
from evaluate.scores.kinds import KINDS
from evaluate.scores.records import OPTIMISTIC, Estimate, Gap, ProtocolGaps, Statistics, marked
from evaluate.scores.stored import FileKind, simplified
from features.common.errors import RunError
from tests.evaluate import made

FILE = FileKind("gaps", ProtocolGaps, dict)
GAPS = ProtocolGaps(
    {"other": {"one": Gap(9, 2, {"uar": Estimate(0.1, 0.0, 0.2, 3)}, {"uar": (0.6, 0.5)})}}
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "gaps.json"
    assert FILE.at(path) is None
    assert FILE.write(path, GAPS, {"seed": 1}) == GAPS
    found = FILE.at(path)
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
    found = FILE.at(path)
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
        FILE.at(path)


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


RECORDS = Path(__file__).parents[1] / "data" / "records"
FILES = sorted(RECORDS.glob("*.json"))


def plainly(content: object, whole: bool) -> object:
    """A record as it is written, with or without the counts of undefined resamples."""
    content = simplified(content) if dataclasses.is_dataclass(content) else content
    if isinstance(content, dict):
        return {k: plainly(v, whole) for k, v in content.items() if whole or k != "undefined"}
    return [plainly(one, whole) for one in content] if isinstance(content, list) else content


def kind_of(path: Path) -> FileKind:
    return KINDS[f"{re.split('-', path.stem)[0]}.json"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_version_is_read(path: Path) -> None:
    found = kind_of(path).at(path)
    assert found is not None
    assert found.content.get("version", 0) == int(path.stem[-1])
    assert found.record == found.kind.marks(found.record)  # marks are in


@pytest.mark.parametrize("old", sorted(RECORDS.glob("*-v0.json")), ids=lambda path: path.stem)
def test_version_0_holds_what_version_1_holds(old: Path) -> None:
    """Made of the same predictions by 0.1 and by the program that first wrote version 1."""
    new = old.with_name(old.name.replace("-v0", "-v1"))
    kind = kind_of(old)
    before, after = kind.at(old), kind.at(new)
    assert before is not None
    assert after is not None
    record = before.record
    if isinstance(record, Statistics):  # version 0 does not say why a partition is optimistic
        whys = {name: part.optimistic for name, part in after.record.partitions.items()}
        parts = {
            name: dataclasses.replace(part, optimistic=whys[name])
            for name, part in record.partitions.items()
        }
        record = kind.marks(Statistics(parts))
    whole = kind is score.FILE  # the others did not count what an interval goes without
    assert plainly(record, whole) == plainly(after.record, whole)


def test_a_number_that_is_missing_is_named(tmp_path: Path) -> None:
    for side in ("old", "new"):
        (tmp_path / side).mkdir()
    old, new = (tmp_path / side / "spread.json" for side in ("old", "new"))
    shutil.copy(RECORDS / "spread-v0.json", old)
    shutil.copy(RECORDS / "spread-v1.json", new)
    n_found, missing = same_numbers.compare(old, new)
    assert (n_found > 50, missing) == (True, "")
    content = read_json(new) or {}
    values = content["partitions"]["test"]["metrics"]["uar"]["by_system"]
    values["one"] += 1e-12
    write_json(new, content)
    _, missing = same_numbers.compare(old, new)
    assert missing.startswith("partitions.test.uar.values.one: 0.")
    assert repr(values["one"]) in missing


def members(record: type, found: set[str]) -> set[str]:
    """The members of a record and of all records in it."""
    for field in dataclasses.fields(record):
        found.add(field.name)
        for name in re.findall(r"[A-Z]\w+", str(field.type)):
            inside = getattr(records, name, None)
            if isinstance(inside, type) and issubclass(inside, records.Record):
                members(inside, found)
    return found


@pytest.mark.parametrize("name", KINDS)
def test_the_specification_names_every_member(name: str) -> None:
    text = Path(records.__file__).with_name("FORMAT.md").read_text(encoding="utf-8")
    assert f"`{KINDS[name].format}`" in text
    lacking = {one for one in members(KINDS[name].record, set()) if f"`{one}`" not in text}
    assert lacking == set()
