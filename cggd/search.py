"""Ask and tell: searches whose measurements are made elsewhere, on a test bench or by the jobs of a cluster."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from cggd.budget import Budget
from cggd.checks import whole
from cggd.improve.model import Model
from cggd.incumbent import Finding, Incumbent
from cggd.metrics import Invalid, Metric
from cggd.problem import Problem
from cggd.result import Result
from cggd.solve import solve


class Search:
    """A search that asks for selections to measure, and is told their numbers.

    Parameters
    ----------
    objective : Metric
        The objective or a constraint has a costly metric, such as those of a `cggd.Measurement` whose `run` is None.
    constraints : list of Constraint and rules
    sense : {"minimize", "maximize"}
    seed : int
    forbid : mapping of decision to options, or bool array of shape (n_options,), optional
    model : Model, optional
        How selections are chosen.

    Examples
    --------
    >>> import cggd
    >>> space = cggd.ChoiceSpace({"block": [32, 64, 128], "tile": [1, 2, 4]})
    >>> bench = cggd.Measurement(space, None, {"time": "ms", "memory": "kB"})
    >>> search = Search(bench["time"], [bench["memory"] <= 300])
    >>> while asked := search.ask(2):
    ...     for selection in asked:
    ...         size = selection["block"] * selection["tile"]
    ...         search.tell(selection, {"time": 1000 / size, "memory": size})
    >>> result = search.result()
    >>> result.value, result.status.name, len(bench)
    (3.90625, 'OPTIMAL', 9)
    """

    def __init__(
        self,
        objective: Metric,
        constraints: Any = (),
        *,
        sense: Literal["minimize", "maximize"] = "minimize",
        seed: int = 0,
        forbid: Mapping[Hashable, Iterable[Hashable]] | ArrayLike | None = None,
        model: Model | None = None,
    ) -> None:
        problem = Problem(objective, constraints, sense)
        if not problem.costly:
            raise ValueError(
                f"a search by ask and tell needs a costly metric, such as one of a Measurement; got {objective!r}"
            )
        self.problem: Problem = replace(problem, allowed=problem.space.allowed(forbid))
        rng = np.random.default_rng(whole(seed, "seed", least=0))
        self._advisor = (model or Model()).advisor(self.problem, rng)

    def ask(self, n: int = 1) -> list[dict[Hashable, Hashable]]:
        """Selections to measure next, at most `n`; none if every selection was asked for or is ruled out.

        A selection is asked for once. To ask for those again that were never told, make a new search with the same log.
        """
        advisor = self._advisor
        advisor.measured.learn()
        best = advisor.best_known()
        cost = self.problem.cost(best[0]) if len(best) else np.inf
        return [self.problem.space.labels(row) for row in advisor.ask(whole(n, "n", least=1), cost)]

    def tell(
        self, selection: Mapping[Hashable, Hashable] | ArrayLike, values: Mapping[str, float] | Invalid | None
    ) -> None:
        """Remember the numbers of a selection; None or an `Invalid` if it cannot be measured.

        The selection need not have been asked for. Known numbers are kept, so telling twice changes nothing. With
        ``repeats``, measure each selection so many times, and tell each time.
        """
        row = self.problem.space.indices(selection)
        why = str(values) if isinstance(values, Exception) else ""
        numbers = values if isinstance(values, Mapping) else None
        if numbers is None and values is not None and not isinstance(values, Invalid):
            raise TypeError(f"values must be a mapping of names to numbers, Invalid or None, got {values!r}")
        for memory in self.problem.memories:
            memory.record(row, numbers, why)
        self._advisor.measured.ask(row[None])

    def result(self) -> Result:
        """The best selection told so far, as a result; nothing is measured."""
        return solve(self.problem, improvers=[_Known()])


class _Known:
    """Yields the best selection of those measured."""

    def suits(self, problem: Problem) -> bool:
        return True

    def improve(
        self, problem: Problem, incumbent: Incumbent, budget: Budget, rng: np.random.Generator
    ) -> Iterator[Finding]:
        advisor = Model().advisor(problem, rng)
        yield from map(Finding, advisor.best_known())
        yield from advisor.exhausted(incumbent, budget)
