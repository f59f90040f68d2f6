"""Pictures: what they show, on a page and in a file."""

from __future__ import annotations

import re

import pytest

from evaluate.report import plots
from evaluate.scores.records import Estimate
from tests.evaluate import made
from tests.evaluate.page import Page


def test_a_picture_of_scores_shows_every_defined_value() -> None:
    svg = plots.scores(
        [
            (made.UNLUCKY, {"devel": Estimate(0.4, 0.3, 0.5), "test": Estimate(0.3, 0.2, 0.4)}),
            (
                "$x^2$ 中文",
                {"devel": Estimate(None, None, None), "test": Estimate(0.6, None, None)},
            ),
            ("fused", {}),
        ],
        ["devel", "test"],
        "rho",
        'A "title" <b>',
        rule_after=2,
    ).inline()
    page = Page(svg)
    text = " ".join(page.texts)
    assert "<script>" in text
    assert "$x^2$ 中文" in text
    assert 'A "title" <b>' in text
    assert not page.all("script")
    assert svg.count("stroke: var(--second); stroke-width: 1.5") == 1
    assert svg.count("stroke: var(--accent); stroke-width: 1.5") == 1
    assert "#1234" not in svg
    assert "currentColor" in svg
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", svg)


def test_a_confusion_picture_has_counts_and_per_cent() -> None:
    svg = plots.confusion([[3, 1], [0, 0]], ["a", "b"], "x").inline()
    texts = [text.strip() for text in Page(svg).texts if text.strip()]
    assert texts.count("75") == texts.count("25") == 1
    assert texts.count("3") == texts.count("1") == 1
    assert texts.count("-") == 2  # no true b: a row without per cent
    assert "opacity: 0.375" in svg  # three quarters of the strongest shade


def test_pictures_of_one_page_share_no_ids_and_are_the_same_each_time() -> None:
    one, two = (plots.confusion([[1]], ["a"], title).inline() for title in ("x", "y"))
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert plots.confusion([[1]], ["a"], "x").inline() == one


def test_layers_are_points_and_combinations_of_layers_are_named_lines() -> None:
    points = [(str(i), Estimate(i / 20, i / 20 - 0.1, i / 20 + 0.1)) for i in range(25)]
    points.append(("25", Estimate(None, None, None)))
    lines = [("mean", Estimate(0.3, 0.2, 0.4)), ("best", Estimate(0.301, 0.2, 0.4))]
    svg = plots.by_layer(points, lines, "UAR", "x").inline()
    texts = [text.strip() for text in Page(svg).texts]
    assert {"0", "24", "mean", "best", "layer", "UAR"} <= set(texts)
    assert "1" not in texts  # every second layer is named
    assert svg.count("stroke: var(--accent); stroke-width: 1.5") == 25
    assert svg.count("stroke-dasharray") == 2
    heights = [float(re.search(rf'y="([\d.]+)"[^>]*>{name}<', svg)[1]) for name in ("mean", "best")]
    assert 8 < abs(heights[0] - heights[1]) < 40  # names of lines that meet stand apart


def test_a_scatter_names_its_ends() -> None:
    points = [(0.1, 0.2, "high <b>"), (0.5, 0.1, "second"), (0.2, 0.0, "plain"), (0.9, -0.3, "low")]
    page = Page(plots.scatter(points, "x axis", "y axis", "x").inline())
    texts = {text.strip() for text in page.texts}
    assert {"high <b>", "second", "low", "x axis", "y axis"} <= texts
    assert "plain" not in texts


def test_a_name_in_a_scatter_covers_no_point() -> None:
    around = [(0.5 + x, y / 10, "") for x in (0.05, 0.1, 0.15, 0.2) for y in range(-30, 31)]
    points = [(0.0, 3.2, "free"), *around, (0.5, 3.1, "covered"), (1.0, -3.1, "low")]
    texts = {text.strip() for text in Page(plots.scatter(points, "x", "y", "x").inline()).texts}
    assert {"free", "low"} <= texts
    assert "covered" not in texts


def test_a_bin_of_more_rows_has_a_larger_marker_and_none_is_cut() -> None:
    picture = plots.reliability({"as it is": [(0.2, 0.1, 1), (1.0, 1.0, 99)]}, "x")
    markers = picture.svg().split('id="PathCollection_1"')[1].split("</g>")[0]
    heights = []
    for path in re.findall(r' d="([^"]*)"', markers):
        places = [float(line.split()[-1]) for line in path.strip().splitlines() if " " in line]
        heights.append(max(places) - min(places))
    assert len(heights) == 2
    # Areas are 4 square points, and 160 more for all rows.
    assert (heights[1] / heights[0]) ** 2 == pytest.approx((4 + 158.4) / (4 + 1.6))
    assert "clip-path" not in markers


def test_chance_is_drawn_where_the_axis_comes_near_to_it() -> None:
    for value, drawn in ((0.3, True), (0.9, False)):
        scores = {k: Estimate(value, value - 0.05, value + 0.05) for k in (1, 2)}
        best = {1: value, 2: value + 0.1}
        pictures = [
            plots.by_size(best, scores, {}, "UAR", "x", chance=0.25),
            plots.scores([("one", {"test": scores[1]})], ["test"], "UAR", "x", chance=0.25),
            plots.by_layer([("0", scores[1]), ("1", scores[2])], [], "UAR", "x", chance=0.25),
        ]
        for picture in pictures:
            assert ("chance" in {one.strip() for one in Page(picture.inline()).texts}) is drawn


def test_files_are_for_paper_and_the_same_each_time() -> None:
    picture = plots.confusion([[1]], [made.UNLUCKY], "x")
    svg, pdf = picture.svg(), picture.pdf()
    assert svg.startswith("<?xml")
    assert "var(--" not in svg
    assert "currentColor" not in svg
    assert "#1234" not in svg
    assert "<script" not in svg
    assert pdf.startswith(b"%PDF-")
    assert (picture.svg(), picture.pdf()) == (svg, pdf)
