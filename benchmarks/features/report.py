"""Tables and pictures of the comparison of feature selectors.

``python -m benchmarks.features.report out/features/features.csv --out docs`` writes pictures into the folder and the
tables into its ``features.md`` between two marks; the rest of that file is kept. ``--results`` names the folder of the
summary, of which ``--keep`` keeps the parts that the files lack.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.features import pictures
from benchmarks.features.methods import BOOSTED, BOOSTING, BUNDLED, CLINICAL, DESIGN, ENTRANTS, NESTED, OPTIMA
from benchmarks.markdown import insert
from benchmarks.report import table

MARK = "features"
OURS = "cggd"
# Proved optima are given to 6 digits.
ROUNDED = 1.5e-6


def read(*paths: Path) -> pd.DataFrame:
    """The rows of one or several comparisons."""
    blank = {column: [""] for column in ("test", "reference")}
    rows = pd.concat([pd.read_csv(path, keep_default_na=False, na_values=blank) for path in paths], ignore_index=True)
    rows["support"] = [frozenset(map(int, str(text).split())) for text in rows["support"]]
    rows["method"] = pd.Categorical(
        rows["method"], [name for name in ENTRANTS | BOOSTED if name in set(rows["method"])]
    )
    return rows


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One line for each part, data, budget and method: means over seeds and folds.

    ``better`` is the mean lead of cggd on the same held-out data, ``error`` is its standard error, and ``stability`` is
    the mean Jaccard index of the selections of two runs.
    """
    keys = ["part", "data", "budget"]
    ours = rows[rows["method"] == OURS].set_index([*keys, "seed", "fold"])["test"]
    lines = []
    for (*place, method), group in rows.groupby([*keys, "method"], sort=False, observed=True):
        paired = group.set_index([*keys, "seed", "fold"])["test"]
        better = (ours.reindex(paired.index) - paired).to_numpy()
        lines.append(
            dict(zip(keys, place, strict=True))
            | {"method": method, "runs": len(group)}
            | group[["cost", "features", "train", "test", "seconds"]].mean().to_dict()
            | {"better": better.mean(), "error": standard_error(better, place[0])}
            | {"wins": int((better > 1e-9).sum()), "losses": int((better < -1e-9).sum())}
            | {"stability": jaccard(group["support"])}
        )
    out = pd.DataFrame(lines)
    out["method"] = pd.Categorical(out["method"], rows["method"].cat.categories)
    return out


def standard_error(differences: np.ndarray, part: str) -> float:
    """Standard error of a mean over runs.

    For runs that share patients, the factor 1/n of the variance grows by the ratio of scored to fitted samples, which
    is 1 here (Nadeau & Bengio, "Inference for the generalization error", Machine Learning 2003).
    """
    n = len(differences)
    if n < 2:
        return np.nan
    overlap = 1.0 if part in NESTED else 0.0
    return float(np.sqrt((1 / n + overlap) * differences.var(ddof=1)))


def jaccard(supports: Iterable[frozenset[int]]) -> float:
    """Mean Jaccard index over pairs of selections."""
    pairs = [len(a & b) / len(a | b) if a | b else 1.0 for a, b in combinations(supports, 2)]
    return float(np.mean(pairs)) if pairs else np.nan


def optima_table(rows: pd.DataFrame) -> str:
    """How often, and how nearly, each method finds the proved optimum."""
    rows = rows.assign(short=rows["reference"] - rows["train"], hard=rows["data"].str.endswith("hard"))
    lines = []
    for method, group in rows.groupby("method", observed=True):
        found = group["short"] <= ROUNDED
        hard = found[group["hard"]]
        counts = [f"{found.sum()} of {len(group)}", f"{hard.sum()} of {len(hard)}"]
        distances = [f"{max(0.0, value):.4f}" for value in (group["short"].mean(), group["short"].max())]
        lines.append(
            [str(method), *counts, *distances, f"{group['seconds'].mean():.3f}", f"{group['seconds'].max():.2f}"]
        )
    header = ["method", "optimum found", "at hard budgets", "mean distance", "largest", "mean seconds", "longest"]
    return table(header, lines)


def held_out_table(lines: pd.DataFrame, value: str, *, paired: bool) -> str:
    """A table of methods by budgets; with `paired`, other methods are shown relative to cggd."""
    budgets = lines["budget"].unique()
    out = []
    for method, group in lines.groupby("method", observed=True):
        cells = []
        for _, line in group.set_index("budget").reindex(budgets).iterrows():
            if paired and method != OURS and line["wins"] == line["losses"] == 0:
                cells.append("equal")
            elif paired and method != OURS:
                error = f" ± {line['error']:.3f}" if line["error"] == line["error"] else ""
                cells.append(f"{-line['better']:+.3f}{error} ({line['losses']:.0f}:{line['wins']:.0f})")
            else:
                cells.append(f"{line[value]:.3f}")
        out.append([str(method), *cells, f"{group['seconds'].mean():.2f}", f"{group['stability'].mean():.2f}"])
    return table(["method", *(f"{budget:.4g}" for budget in budgets), "seconds", "stability"], out)


def ranks_table(lines: pd.DataFrame) -> str:
    """Mean rank on held-out data, and number of best results, of each method that ran on all problems."""
    means = lines.pivot(index=["part", "data", "budget"], columns="method", values="test").dropna(axis=1)
    ranks = means.rank(axis=1, ascending=False)
    best = means.ge(means.max(axis=1) - 5e-5, axis=0)
    rows = [
        [str(method), f"{ranks[method].mean():.2f}", f"{best[method].sum()} of {len(means)}"]
        for method in ranks.mean().sort_values().index
    ]
    return table(["method", "mean rank", "best or equal"], rows)


def losses_table(lines: pd.DataFrame) -> str:
    """Every budget at which a baseline has a better mean on held-out data than cggd."""
    better = lines[(lines["better"] < -5e-5) & ~lines["method"].str.startswith(OURS)]
    out = []
    for _, line in better.sort_values(["part", "data", "budget", "better"]).iterrows():
        sure = "yes" if -line["better"] > 2 * line["error"] else "no"
        amount = f"{-line['better']:.4f} ± {line['error']:.4f}"
        out.append([line["data"], f"{line['budget']:.4g}", str(line["method"]), amount, sure])
    header = ["data", "budget", "method", "better than cggd by", "more than two standard errors"]
    return table(header, out) if out else "None."


def markdown(rows: pd.DataFrame, lines: pd.DataFrame) -> str:
    """All tables, from the rows of proved optima and the summary of all parts."""
    parts = []
    if len(proved := rows[rows["part"] == OPTIMA]):
        parts += [
            "### Budgets with a proved optimum",
            "In-sample R^2 under prices of single tests and under prices shared by groups; *hard* budgets were chosen "
            "because both simple greedy rules miss them.",
            optima_table(proved),
        ]
    for data, group in lines[lines["part"] == DESIGN].groupby("data", sort=False):
        parts += [f"### A design of 2,000 columns, {data}", "R^2 on the data themselves, which all maximise:"]
        parts += [held_out_table(group, "train", paired=False), "R^2 on 5,000 new samples:"]
        parts += [held_out_table(group, "test", paired=False)]
    for data, group in lines[lines["part"] == CLINICAL].groupby("data", sort=False):
        parts += [
            f"### {data}",
            "AUC on patients left out, and of the others the mean difference to cggd with its standard error (in how "
            "many of the runs they were better : worse); above 0 they are better. Then the cross-validated AUC on "
            "the patients seen, which all but `cggd`, mRMR, RFE, lasso and abess maximise.",
            held_out_table(group, "test", paired=True),
            held_out_table(group, "train", paired=False),
        ]
    for data, group in lines[lines["part"] == BUNDLED].groupby("data", sort=False):
        parts += [
            f"### {data}, each feature at 1",
            f"AUC (R^2 of diabetes) on samples left out, {group['runs'].iloc[0]} runs of each method, and differences "
            "to cggd, as above.",
            held_out_table(group, "test", paired=True),
        ]
    for data, group in lines[lines["part"] == BOOSTING].groupby("data", sort=False):
        parts += [
            f"### {data}, gradient boosting",
            f"R^2 (AUC of breast_cancer) on samples left out, {group['runs'].iloc[0]} runs of each method, and "
            "differences to cggd, as above. SFS, RFE and importances use the same model.",
            held_out_table(group, "test", paired=True),
        ]
    for part, name in (
        (CLINICAL, "the clinical tables"),
        (BUNDLED, "the tables of scikit-learn"),
        (BOOSTING, "the tables with gradient boosting"),
    ):
        if len(nested := lines[lines["part"] == part]):
            parts += [f"### Ranks over {name}", ranks_table(nested)]
    held = lines[lines["part"] != OPTIMA]
    if len(held):
        parts += ["### Where a baseline does better on data held out", losses_table(held)]
    return "\n\n".join(parts)


def write(paths: Sequence[Path], folder: Path, results: Path | None = None, *, keep: bool = False) -> Path:
    """Write pictures and tables, and a summary as CSV in `results` (or `folder`); return the page.

    With `keep`, parts that the comparisons lack keep their lines of an earlier summary there.
    """
    rows, page, out = read(*paths), folder / "features.md", (results or folder) / "features_summary.csv"
    folder.mkdir(parents=True, exist_ok=True)
    lines = summary(rows)
    if keep:
        before = pd.read_csv(out)
        lines = pd.concat([before[~before["part"].isin(set(lines["part"]))], lines], ignore_index=True)
        lines["method"] = pd.Categorical(lines["method"], list(ENTRANTS | BOOSTED))
    lines.to_csv(out, index=False, float_format="%.5g", quoting=csv.QUOTE_MINIMAL)
    images = "\n".join(f"![{drawn.stem}]({drawn.name})" for drawn in pictures.draw(lines, folder))
    insert(f"{markdown(rows, lines)}\n\n{images}", page, MARK)
    return page


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="of the CSV file; by default --out")
    parser.add_argument("--keep", action="store_true", help="parts that the files lack keep their earlier summary")
    asked = parser.parse_args(arguments)
    print(f"wrote {write(asked.csv, asked.out, asked.results, keep=asked.keep)}")


if __name__ == "__main__":
    main()
