"""Two rules for the wrapper's final subset: its best unless another is clearly ahead, or the cheapest near the best.

``python -m benchmarks.features.judging [SEEDS]``: heart disease (Cleveland), logistic regression, 250 fits, AUC on the
half of the patients left out, both ways for each seed, at the budgets of the clinical part. Both rules compare the same
subsets on the same new folds.
"""

from __future__ import annotations

import sys
from itertools import product
from unittest.mock import patch

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from benchmarks.features import data
from benchmarks.features.logistic import model
from benchmarks.features.ours import FITS, prices
from benchmarks.report import table
from cggd_features import BudgetedSelector, wrapper


def thrifty(rows, scores, order):
    """The cheapest subset within a standard error of the best mean."""
    means, n = scores.mean(axis=1), scores.shape[1]
    top = int(means.argmax())
    least = means[top] - scores[top].std(ddof=1) / np.sqrt(n)
    return min(np.flatnonzero(means >= least).tolist(), key=lambda i: order(rows[i])[1:])


def main(seeds: int) -> None:
    patients, lines = data.clinical("heart_cleveland"), []
    for budget in patients.budgets:
        auc: dict[str, list[float]] = {"its best": [], "cheapest": []}
        for seed, fold in product(range(seeds), range(2)):
            folds = StratifiedKFold(2, shuffle=True, random_state=seed)
            train, test = list(folds.split(patients.X, patients.y))[fold]
            X, X_test = (data.standardised(patients.X[rows], patients.X[train]) for rows in (train, test))
            for name, found in auc.items():
                selector = BudgetedSelector(
                    model(),
                    **prices(patients.costs),
                    budget=budget,
                    scoring="roc_auc",
                    max_fits=FITS,
                    path=(),
                    random_state=seed,
                )
                rule = wrapper._chosen if name == "its best" else thrifty
                with patch.object(wrapper, "_chosen", rule):
                    support = selector.fit(X, patients.y[train]).support_
                score = 0.5
                if support.any():
                    fitted = model().fit(X[:, support], patients.y[train])
                    score = float(roc_auc_score(patients.y[test], fitted.decision_function(X_test[:, support])))
                found.append(score)
        best, cheapest = (np.array(found) for found in auc.values())
        lines.append(
            [f"{budget:g}", f"{best.mean():.3f}", f"{cheapest.mean():.3f}", f"{(best - cheapest).mean():+.3f}"]
        )
    print(table(["budget", "its best unless another is clearly ahead", "cheapest within one", "difference"], lines))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
