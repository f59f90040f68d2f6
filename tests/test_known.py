"""What a recipe may name is implemented, under that name, in the room that owns it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from sklearn.base import is_classifier, is_regressor

from evaluate.metrics import metrics
from evaluate.metrics.calibration import KINDS
from extract.encoders.families.table import FAMILIES
from features.recipe.fusion import FusionSpec
from features.recipe.head import HeadSpec
from features.recipe.known.encoder_families import ENCODER_FAMILIES, computed_by
from features.recipe.known.engines import ENGINES
from features.recipe.known.fusion_methods import FUSION_METHODS, SUBSET_METHODS
from features.recipe.known.heads import HEADS
from features.recipe.known.metrics import METRICS, of_subsets, selections
from features.recipe.known.precisions import PRECISIONS
from features.recipe.known.records import TASKS, by_key, of_task
from features.recipe.known.splits import INNER_SPLITS, OUTER_SPLITS
from features.recipe.split import SplitSpec
from features.splits.plan import OUTER, make_plan
from fusion.methods import METHODS, VALUE_METHODS, WITH_SETTINGS, fixed_method
from fusion.stacking import LEARNED
from models.heads import ESTIMATORS, cells, pipeline
from models.neural.settings import DEFAULTS
from models.search import SELECTION


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
    assert {key for key, head in HEADS.items() if not head.neural} == set(ESTIMATORS)
    assert {key for key, head in HEADS.items() if head.neural} == set(DEFAULTS)
    of_task = {"classification": (is_classifier, "uar"), "regression": (is_regressor, "nmse")}
    for key, head in HEADS.items():
        for is_one, select in (of_task[task] for task in head.tasks):
            spec = HeadSpec(kind=key, select=select)
            assert is_one(pipeline(spec, cells(spec)[0])["head"])


def test_every_metric_is_computed_of_its_task_and_no_other() -> None:
    fields = {task: [METRICS[key].field for key in of_task(METRICS, task)] for task in TASKS}
    assert set(fields["regression"]) == set(metrics.REGRESSION)
    assert set(fields["classification"]) == set(metrics.scores_of(np.eye(2)))


def test_a_metric_has_its_range_and_its_direction() -> None:
    rng = np.random.default_rng(0)
    truth, other = rng.normal(size=(2, 40))
    for key in of_task(METRICS, "regression"):
        metric, score = METRICS[key], metrics.REGRESSION[METRICS[key].field]
        best, middling, worst = score(truth, truth), score(truth, other), score(truth, -truth)
        assert (best > middling > worst) if metric.higher_is_better else (best < middling < worst)
        assert best == pytest.approx(metric.high if metric.higher_is_better else metric.low)
        assert metric.low <= middling <= metric.high
    right, wrong = np.array([[3, 0], [0, 1]]), np.array([[0, 2], [2, 0]])
    for key in of_task(METRICS, "classification"):
        metric = METRICS[key]
        assert metrics.scores_of(right)[metric.field] == metric.high
        assert metrics.scores_of(wrong)[metric.field] == metric.low


def test_metrics_over_classes_leave_out_one_that_does_not_occur() -> None:
    # The third class is neither true nor said; the first is right in one row of two.
    matrix = np.array([[1, 1, 0], [0, 2, 0], [0, 0, 0]])
    without = metrics.scores_of(matrix[:2, :2])
    for key in of_task(METRICS, "classification"):
        assert metrics.scores_of(matrix)[METRICS[key].field] == without[METRICS[key].field]
    over_classes = {metric.field for metric in METRICS.values() if metric.over_classes}
    assert over_classes == {"uar", "macro_f1"}


@pytest.mark.parametrize("task", TASKS)
def test_every_selection_is_made_and_prefers_what_is_right(task: str) -> None:
    assert set(selections(task)) <= set(SELECTION)
    assert len(SELECTION) == sum(len(selections(task)) for task in TASKS)
    for select in selections(task):
        score = SELECTION[select]
        if task == "regression":
            truth = np.array([0.0, 1.0, 3.0])
            assert score(truth, truth) > score(truth, np.array([1.0, 0.0, 3.0]))
        else:
            labels = ("a", "b")
            assert score(["a", "b"], ["a", "b"], labels) > score(["a", "b"], ["b", "b"], labels)
        assert HeadSpec(kind=of_task(HEADS, task)[0], select=select).select == select


def test_every_fusion_method_is_implemented_for_its_tasks() -> None:
    of_classes = set(METHODS) | set(WITH_SETTINGS) | set(LEARNED)
    assert set(of_task(FUSION_METHODS, "classification")) == of_classes
    for key, method in FUSION_METHODS.items():
        spec = FusionSpec(method=key, members=["a", "b"])
        learned = [t for t in method.tasks if fixed_method(spec, t == "classification") is None]
        assert method.learns == bool(learned)
        assert not learned or key in LEARNED
    assert set(VALUE_METHODS) <= set(of_task(FUSION_METHODS, "regression"))


def test_what_a_fusion_method_gives_is_of_a_kind_that_is_calibrated() -> None:
    assert {method.gives for method in FUSION_METHODS.values()} == set(KINDS)


def test_subsets_are_searched_by_methods_that_learn_nothing() -> None:
    assert set(SUBSET_METHODS) <= set(METHODS)
    for task in TASKS:
        assert of_subsets(task)


def test_every_outer_split_is_implemented() -> None:
    assert set(OUTER_SPLITS) == set(OUTER)


def test_settings_that_a_split_has_alone_are_keys_of_the_recipe() -> None:
    alone = [key for split in OUTER_SPLITS.values() for key in split.settings]
    assert len(set(alone)) == len(alone)
    assert set(alone) <= set(SplitSpec.model_fields)


@pytest.mark.parametrize("inner", INNER_SPLITS)
def test_every_inner_split_divides(inner: str) -> None:
    rows = pd.DataFrame(
        {
            "corpus": "made",
            "utterance": [f"{i:02}" for i in range(12)],
            "speaker": [str(i % 6) for i in range(12)],
            "gender": "",
            "partition": ["train"] * 6 + ["devel"] * 3 + ["test"] * 3,
        }
    )
    y = np.array(["a", "b"] * 6)
    split = SplitSpec(inner=inner, inner_folds=2)
    plan = make_plan(rows, y, np.ones(12, dtype=bool), split)
    for fold, inside in zip(plan.folds, plan.inner, strict=True):
        for part in inside:
            assert not set(part.train) & set(part.test)
            assert not set(part.test) & set(fold.test)


def test_every_family_is_implemented_for_its_engines() -> None:
    assert tuple(FAMILIES) == computed_by("exact")
    assert {"auto", *(e for family in ENCODER_FAMILIES.values() for e in family.engines)} == set(
        ENGINES
    )
    for key, family in ENCODER_FAMILIES.items():
        assert "reference" in family.engines
        assert bool(family.module) == ("exact" in family.engines)
        if family.module:
            assert FAMILIES[key].name == key
            assert type(FAMILIES[key]).__module__.endswith(f".{family.module}")


def test_every_family_is_one_of_transformers() -> None:
    auto = pytest.importorskip("transformers.models.auto.configuration_auto")
    assert set(ENCODER_FAMILIES) <= set(auto.CONFIG_MAPPING)


def test_families_by_reference_alone_are_those_that_are_tested_so() -> None:
    pytest.importorskip("transformers")
    from tests.extract.test_reference import FORMS

    assert set(FORMS) == set(computed_by("reference")) - set(computed_by("exact"))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_is_a_type_of_torch(precision: str) -> None:
    torch = pytest.importorskip("torch")
    assert getattr(torch, precision).is_floating_point
