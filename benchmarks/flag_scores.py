"""How well flags find the results that are wrong: precision and recall, from a batch's report and its scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Results with a Dice below this are those that flags are to find.
BAD = 0.6


def flag_scores(report: Mapping[str, Any], scores: Mapping[str, Any]) -> dict[str, Any]:
    """Compare flags with Dice, class by class and case by case.

    A class counts as flagged by its own flags and by those of the whole scan; a case by any flag, and as bad by the
    mean over its classes.

    Args:
        report: content of a batch's report.json.
        scores: content of the report.json of `glmae evaluate`.

    Returns:
        `classes` and `cases`, each with `count`, `bad`, `flagged`, `hits` (flagged and bad), `precision` (null where
        nothing is flagged) and `recall` (null where nothing is bad); `kinds`: for each kind of flag, on classes,
        `flagged` and `hits`.
    """
    flags = {row["case"]: row["flags"] for row in report["cases"] if row["state"] == "done"}
    scored = [row for row in scores["cases"] if row["dice"] is not None and row["case"] in flags]
    kinds: dict[str, dict[str, int]] = {}
    pairs, by_case = [], {}
    for row in scored:
        own = {flag["kind"] for flag in flags[row["case"]] if flag["class"] in (None, row["class"])}
        bad = row["dice"] < BAD
        pairs.append((bool(own), bad))
        by_case.setdefault(row["case"], []).append(row["dice"])
        for kind in sorted(own):
            entry = kinds.setdefault(kind, {"flagged": 0, "hits": 0})
            entry["flagged"] += 1
            entry["hits"] += bad
    cases = [(bool(flags[case]), sum(dice) / len(dice) < BAD) for case, dice in by_case.items()]
    return {"classes": _summary(pairs), "cases": _summary(cases), "kinds": kinds}


def _summary(pairs: list[tuple[bool, bool]]) -> dict[str, Any]:
    bad, flagged = sum(wrong for _, wrong in pairs), sum(flag for flag, _ in pairs)
    hits = sum(flag and wrong for flag, wrong in pairs)
    return {
        "count": len(pairs),
        "bad": bad,
        "flagged": flagged,
        "hits": hits,
        "precision": round(hits / flagged, 4) if flagged else None,
        "recall": round(hits / bad, 4) if bad else None,
    }
