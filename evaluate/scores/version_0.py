"""Files of version 0, as 0.1 wrote them, to the content of version 1: what moved.

No number is touched, and nothing is written: a file of version 0 stays as it is.
"""

from __future__ import annotations

from typing import Any

Content = dict[str, Any]


def same(content: Content) -> Content:
    """Nothing has moved."""
    return content


def run_scores(content: Content) -> Content:
    """The number of a target's rows stood among its metrics.

    Parameters
    ----------
    content : dict
        Of version 0; it is changed.

    Returns
    -------
    dict
        Of version 1.
    """
    for partition in content["partitions"].values():
        for part in (partition, *partition["corpora"].values()):
            part["per_target"] = {
                target: {"n": found["n"], "metrics": _without(found, "n")}
                for target, found in part.get("per_target", {}).items()
            }
    return content


def statistics(content: Content) -> Content:
    """The bounds of a difference stood beside it."""
    for partition in content["partitions"].values():
        for metric in partition["metrics"].values():
            metric["pairs"] = [_with_bounds(pair, "difference") for pair in metric["pairs"]]
    return content


def seeds(content: Content) -> Content:
    """The bounds of a mean difference stood beside it; seeds had values.

    Parameters
    ----------
    content : dict
        Of version 0; it is changed.

    Returns
    -------
    dict
        Of version 1.
    """
    for partition in content["partitions"].values():
        partition["pairs"] = {
            metric: [_renamed(_with_bounds(pair, "mean"), "by_seed") for pair in pairs]
            for metric, pairs in partition["pairs"].items()
        }
        partition["systems"] = {
            system: {metric: _renamed(found, "by_seed") for metric, found in scores.items()}
            for system, scores in partition["systems"].items()
        }
    return content


def spread(content: Content) -> Content:
    """Systems had values."""
    for partition in content["partitions"].values():
        for part in (partition, *partition["corpora"].values()):
            part["metrics"] = {
                metric: _renamed(found, "by_system") for metric, found in part["metrics"].items()
            }
    return content


def subsets(content: Content) -> Content:
    """That the best is optimistic stood beside it."""
    for part in (content, *content.get("alone", {}).values()):
        part["choices"] = [_without(choice, "optimistic") for choice in part["choices"]]
    return content


def _with_bounds(pair: Content, name: str) -> Content:
    value = {"value": pair[name], "low": pair["low"], "high": pair["high"]}
    return {**_without(pair, "low", "high"), name: value}


def _renamed(found: Content, name: str) -> Content:
    return {**_without(found, "values"), name: found["values"]}


def _without(found: Content, *names: str) -> Content:
    return {key: value for key, value in found.items() if key not in names}
