"""The improver for costly metrics: it measures the selections that `cggd.improve.advisor` chooses."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

import numpy as np

from cggd.budget import Budget
from cggd.checks import own, whole
from cggd.improve.advisor import Advisor
from cggd.improve.measured import Rows
from cggd.incumbent import Finding, Incumbent
from cggd.metrics import MetricError
from cggd.metrics.evaluation import OutOfCalls
from cggd.problem import Problem

# With an executor: interval of the checks whether a call has begun, and number of lost measurements in a row that end
# the search with the error.
STARTED_SECONDS = 1e-3
LOST = 5


@dataclass(frozen=True)
class Model:
    """Models of the costly metrics, which choose each measurement.

    Parameters
    ----------
    design : int
        Number of selections measured first; they use the options about equally often.
    batch : int, optional
        Number of selections chosen at once, and with an executor the number of calls in progress. Each selection of a
        batch is chosen as if those before it were measured, so that they differ. By default 1, or the number of workers
        of the executor if it is a pool of the standard library.
    evaluations : int
        Number of measurements after which the improver ends if the search has no limit of its own.
    regressor : object with ``fit`` and ``predict``, optional
        Your own model, such as a scikit-learn or LightGBM regressor, in place of the Gaussian process. Copies of it are
        fitted to one-hot columns of the options and the places of numeric labels.
    complete : bool
        Whether every costly metric is evaluated for each selection. By default, the remaining ones are not evaluated
        once a bound is known to be violated.

    Examples
    --------
    >>> import cggd
    >>> space = cggd.ChoiceSpace({"block": [32, 64, 128, 256], "tile": [1, 2, 4, 8], "unroll": [0, 1]})
    >>> def run(selection):
    ...     if selection["block"] * selection["tile"] > 1024:
    ...         raise cggd.Invalid("too many threads")
    ...     return {"time": abs(selection["block"] - 96) + 10 / selection["tile"] + selection["unroll"]}
    >>> bench = cggd.Measurement(space, run, {"time": "ms"})
    >>> result = cggd.minimize(bench["time"], max_evaluations=25)
    >>> result.value, len(bench)
    (33.25, 25)
    """

    design: int = 8
    batch: int | None = None
    evaluations: int = 300
    regressor: Any = None
    complete: bool = False

    def __post_init__(self) -> None:
        for name in ("design", "batch", "evaluations"):
            if name != "batch" or self.batch is not None:
                own(self, **{name: whole(getattr(self, name), name, least=1)})
        if self.regressor is not None and not (hasattr(self.regressor, "fit") and hasattr(self.regressor, "predict")):
            raise TypeError(f"regressor must have the methods fit and predict, got {self.regressor!r}")

    def suits(self, problem: Problem) -> bool:
        """Whether some metric is costly."""
        return problem.costly

    def advisor(self, problem: Problem, rng: np.random.Generator) -> Advisor:
        """The object that chooses the measurements of a problem."""
        return Advisor(problem, rng, design=self.design, batch=self.batch or 1, regressor=self.regressor)

    def improve(
        self, problem: Problem, incumbent: Incumbent, budget: Budget, rng: np.random.Generator
    ) -> Iterator[Finding | None]:
        """Yield selections to measure; see `cggd.incumbent.Improver`."""
        advisor = self.advisor(problem, rng)
        yield from map(Finding, advisor.best_known())
        first = incumbent.start
        limit = np.inf if budget.evaluation.most is not None else budget.evaluation.calls + self.evaluations
        if budget.evaluation.executor is not None:
            yield from self._in_flight(advisor, incumbent, budget, limit, first)
            return
        while not budget.over() and budget.evaluation.calls < limit:
            asked = advisor.ask(advisor.batch, incumbent.cost, first=first)
            first = None
            if len(asked) == 0:
                yield from advisor.exhausted(incumbent, budget)
                return
            for row in asked:
                if self.complete:
                    advisor.evaluate(row)
                yield Finding(row)
                if budget.over():
                    return

    def _in_flight(
        self, advisor: Advisor, incumbent: Incumbent, budget: Budget, limit: float, first: Rows | None
    ) -> Iterator[Finding]:
        """Keep several measurements in progress. If one raises an error, the search goes on without it."""
        batch = self.batch or getattr(budget.evaluation.executor, "number", 1)

        running: dict[Future[None], Rows] = {}
        pool, lost = ThreadPoolExecutor(batch), 0
        try:
            while True:
                evaluation = budget.evaluation
                while len(running) < batch and not budget.over() and evaluation.calls < limit:
                    asked = advisor.ask(1, incumbent.cost, first=first)
                    first = None
                    if len(asked) == 0:
                        break
                    before = evaluation.calls
                    running[pool.submit(copy_context().run, advisor.evaluate, asked[0])] = asked[0]
                    while evaluation.calls == before and not any(map(Future.done, running)):
                        budget.wait(STARTED_SECONDS)  # the call is counted when it begins
                if not running:
                    yield from advisor.exhausted(incumbent, budget)
                    return
                done, _ = wait(running, return_when=ALL_COMPLETED if budget.over() else FIRST_COMPLETED)
                for future in done:
                    row = running.pop(future)
                    try:
                        future.result()
                    except OutOfCalls:
                        continue
                    except MetricError as error:
                        lost += 1
                        if lost >= LOST:
                            raise
                        warnings.warn(f"a measurement is lost: {error}", RuntimeWarning, stacklevel=2)
                        continue
                    lost = 0
                    yield Finding(row)
        except GeneratorExit:
            if not budget.asked_to_stop:
                wait(running)  # their calls count, and the search uses their values
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
