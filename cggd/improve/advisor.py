"""Choice of the selections to measure, by models of each costly metric and of validity.

The first selections use the options about equally often. Then each costly metric, and whether a selection is valid, is
modelled by a Gaussian process (`cggd.improve.gaussian`). The next selection has the greatest expected improvement over
the best one, times the probability that it is valid and satisfies the bounds (Schonlau, Welch and Jones, 1998).
Candidates are random selections, selections one or two switches from the best ones, mixtures of good ones, and
solutions of linear models of the problem by this library's exact solver.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from cggd.budget import Budget
from cggd.constraints import Constraint
from cggd.improve.exact import Exact
from cggd.improve.gaussian import FITTED, Bagged, Encoding, Gaussian, Kernel, best_kernel, choices
from cggd.improve.measured import Measured, Rows, keys
from cggd.improve.multipliers import Multipliers
from cggd.improve.switches import Switches
from cggd.incumbent import Finding, Incumbent
from cggd.metrics import Additive, Metric, one_hot, values_of
from cggd.problem import Problem, nothing

# Spaces of at most this many selections are enumerated, without the selections that cheap bounds rule out.
LISTED = 50_000

# Numbers of candidates: random selections, best selections whose switches are tried, mixtures, and candidates whose
# covariances are computed.
RANDOM = 500
CENTRES = 4
MIXED = 300
SHORT = 150

# Kernels are fitted again when the number of measurements has grown by this factor. Different kernels are compared up
# to COMPARED measurements.
GROWTH = 1.25
COMPARED = 130

# Share of the measurements for which the parameters of the models are drawn at random around the fitted ones.
DRAWS = 1 / 3

# Variance of a valid selection's score, so that a few measurements do not make validity certain.
DOUBT = 0.02

# A pair of options of which n selections failed and none was valid divides the improvement by (1 + n)^CAUTION. The
# model of validity alone learns rules between decisions too slowly where the expected improvement is great.
CAUTION = 2.0

# Largest number of measurements in a model; time and memory grow with its cube and square. A log may have more.
MODELLED = 1500

# Strengths of ridge regression, and the largest number of options for which it is used.
STRENGTHS = np.array([1e-6, 1e-2, 0.1, 1.0, 10.0])
LINEAR = 1000

# The batch grows by one selection for each QUICK measurements times metrics. If candidates times measurements times
# metrics exceed WORK, variances are computed only for a few candidates.
QUICK = 250
WORK = 300_000

# Number of the best candidates whose switches are tried.
CLIMBED = 3

# Nodes of the exact solver, and findings of the local search, for linear models of the problem.
NODES = 20
FINDINGS = 2000

# Share of the time left in which the exact solver may prove that no selection satisfies the cheap bounds.
REFUTING = 0.3


@dataclass(eq=False)
class Modelled:
    """A costly metric and its model; `posterior` is None as long as there are too few measurements."""

    metric: Metric
    kernel: Kernel | None = None
    posterior: Any = None
    fitted_with: int = 0


class Advisor:
    """Chooses selections to measure from those measured before.

    Parameters
    ----------
    problem : Problem
    rng : numpy.random.Generator
    design, batch : int
    regressor : object with ``fit`` and ``predict``, optional
        See `cggd.Model`.
    """

    problem: Problem
    rng: np.random.Generator
    design: int
    least_batch: int
    regressor: Any
    encoding: Encoding
    outputs: list[Modelled]
    validity: Modelled
    measured: Measured
    cheap: list[Constraint]
    everything: Rows | None

    def __init__(
        self, problem: Problem, rng: np.random.Generator, *, design: int = 8, batch: int = 1, regressor: Any = None
    ) -> None:
        self.problem, self.rng = problem, rng
        self.design, self.least_batch, self.regressor = design, batch, regressor
        self.encoding = Encoding.of(problem.space)
        metrics = list({id(metric): metric for metric in problem.metrics if metric.costly}.values())
        self.outputs = [Modelled(metric) for metric in metrics]
        self.validity = Modelled(nothing(problem.space))
        self.measured = Measured(metrics, problem.space.n_decisions)
        self.cheap = [c for c in problem.constraints if not c.metric.costly]
        self.contradiction: str | None = None  # why no selection satisfies the cheap bounds
        self.everything = self._listed()
        self.measured.learn()

    def _listed(self) -> Rows | None:
        if not self.problem.space.has_at_most(LISTED):
            return None
        return self._admitted(self.problem.space.enumerate())

    def _admitted(self, rows: Rows) -> Rows:
        """The selections of allowed options that cheap bounds do not rule out."""
        rows = rows[self.problem.permits(rows)]
        for c in self.cheap:
            if len(rows):
                rows = rows[c.holds(rows)]
        return rows

    @property
    def provable(self) -> bool:
        """Whether a contradiction between the cheap bounds would be a proof: a noisy value proves nothing."""
        return not any(c.metric.noisy for c in self.cheap)

    def evaluate(self, row: Rows) -> None:
        """Evaluate every costly metric for a selection; the metrics remember their values."""
        for output in self.outputs:
            values_of(output.metric, row[None])

    def output(self, metric: Metric) -> int | None:
        """Number of the model of a metric, None for a cheap one."""
        return next((k for k, output in enumerate(self.outputs) if output.metric is metric), None)

    def best_known(self) -> Rows:
        """The best measured selection that satisfies the constraints, if any."""
        rows = self._admitted(self.measured.rows[self.measured.complete])
        rows = rows[~self.problem.ruled_out(rows)] if len(rows) else rows
        if len(rows) == 0:
            return rows
        costs = self.problem.sign * values_of(self.problem.objective, rows)
        return rows[[np.argmin(costs)]]

    def exhausted(self, incumbent: Incumbent, budget: Budget) -> Iterator[Finding]:
        """A bound or a proof, if all selections of the space were measured or ruled out."""
        self.measured.learn()
        if self.everything is None and len(self.measured.rows) == 0 and len(self._random(1)) == 0:
            self._refute(budget)
        if self.contradiction is not None:
            yield Finding(proof=self.contradiction)
            return
        if self.everything is None or any(metric.noisy for metric in self.problem.metrics):
            return
        judged = keys(self.measured.rows[self.measured.judged])
        rest = [row for row in self.everything if row.tobytes() not in judged]
        if rest and not self.problem.ruled_out(np.stack(rest), incumbent.cost).all():
            return
        if incumbent.value is None:
            yield Finding(proof=f"all {len(self.everything)} selections were measured or ruled out")
        else:
            yield Finding(bound=incumbent.value)

    def _refute(self, budget: Budget) -> None:
        """Try to prove that no selection satisfies the cheap bounds; nothing is measured."""
        problem = Problem(nothing(self.problem.space), self.cheap, allowed=self.problem.allowed)
        if self.contradiction is None and Exact().suits(problem) and self.provable:
            found = Exact(share=REFUTING).improve(problem, Incumbent(problem), budget, self.rng)
            self.contradiction = next((one.proof for one in found if one is not None and one.proof is not None), None)

    # -- asking -------------------------------------------------------------------------------------------------------

    def ask(self, n: int, cost: float, *, first: Rows | None = None) -> Rows:
        """Selections to measure next, at most `n`; none if there are no more.

        Parameters
        ----------
        n : int
        cost : float
            ``sign * objective`` of the best selection known.
        first : ndarray of int, shape (n_decisions,), optional
            A selection to ask for before all others.
        """
        self.measured.learn()
        picked: list[Rows] = []
        closed = self.measured.closed
        if first is not None and first.tobytes() not in closed and len(self._admitted(first[None])):
            picked.append(first)
        missing = min(self.design - len(closed), n) - len(picked)
        if missing > 0:
            picked.extend(self._spread(missing))
        elif len(picked) < n:
            picked.extend(self._promising(n - len(picked), cost))
        rows = np.stack(picked) if picked else self.measured.rows[:0]
        self.measured.ask(rows)
        return rows

    @property
    def batch(self) -> int:
        """Number of selections to ask for at once: more where the models take longer."""
        return max(self.least_batch, 1 + len(self.measured.rows) * len(self.outputs) // QUICK)

    def _fresh(self, rows: Rows) -> Rows:
        """Selections without repetitions, those asked for before, and those that known values rule out."""
        rows, closed = np.unique(rows, axis=0), self.measured.closed
        rows = rows[np.array([row.tobytes() not in closed for row in rows], dtype=bool)]
        # For these selections, some costly metrics are known and others are not.
        partly = np.array([row in self.measured for row in rows], dtype=bool)
        if partly.any():
            partly[partly] = self.problem.ruled_out(rows[partly])
        return rows[~partly]

    def _partly(self) -> Rows:
        """Selections of which some costly metrics are known and others are not."""
        return self.measured.rows[~self.measured.judged]

    def _random(self, n: int) -> Rows:
        """Random selections that cheap bounds allow."""
        if self.everything is not None:
            return self.everything[self.rng.permutation(len(self.everything))[:n]]
        space, allowed, rng = self.problem.space, self.problem.allowed, self.rng
        found, drawn = [], 0
        while sum(map(len, found)) < n and drawn < 50 * n:
            if allowed is None:
                rows = space.sample(n, rng)
            else:
                rows = np.stack(
                    [space.layout.argmax(np.where(allowed, rng.random(space.n_options), -1)) for _ in range(n)]
                )
            found.append(self._admitted(rows))
            drawn += n
            if drawn >= 4 * n and not sum(map(len, found)):
                break
        rows = np.concatenate(found)[:n]
        return rows if len(rows) else self._solved_rules(min(n, 8))

    def _solved_rules(self, n: int) -> Rows:
        """Selections within the cheap bounds, found by the solver if random ones violate them."""
        space = self.problem.space
        rows = []
        for _ in range(n):
            goal = Additive(space, self.rng.standard_normal(space.n_options))
            problem = Problem(goal, self.cheap, allowed=self.problem.allowed)
            incumbent = self._search(problem, provable=self.provable)
            if incumbent.proof is not None:
                self.contradiction = incumbent.proof
                break
            if (row := incumbent.start) is not None:
                rows.append(row)
        return self._admitted(np.stack(rows)) if rows else np.zeros((0, space.n_decisions), dtype=np.int64)

    def _search(self, problem: Problem, *, provable: bool = False) -> Incumbent:
        """Solve a problem without costly metrics by the exact solver, or else by a short local search.

        With `provable`, the search ends with a proof that no selection satisfies the constraints.
        """
        incumbent, budget = Incumbent(problem), Budget()
        for improver in (Multipliers(), Exact(nodes=NODES), Switches(feasible=True)):
            if improver.suits(problem) and incumbent.selection is None and incumbent.proof is None:
                for _, finding in zip(
                    range(FINDINGS), improver.improve(problem, incumbent, budget, self.rng), strict=False
                ):
                    if finding is not None:
                        incumbent.take(replace(finding, bound=None, proof=finding.proof if provable else None))
        return incumbent

    def _spread(self, n: int) -> list[Rows]:
        """Selections of options that were measured least often, as in a Latin hypercube.

        If a decision has more options than the design has selections, neighbouring options count as one.
        """
        space, parts = self.problem.space, np.minimum(self.problem.space.sizes, max(self.design, n))
        pool = self._fresh(np.concatenate([self._random(RANDOM), self._admitted(self._partly())]))
        pool = pool[self.rng.permutation(len(pool))]
        used, decisions = np.zeros((space.n_decisions, int(parts.max()))), np.arange(space.n_decisions)
        np.add.at(used, (decisions, self.measured.rows * parts // space.sizes), 1)
        picked: list[Rows] = []
        while len(pool) and len(picked) < n:
            at = int(np.argmin(used[decisions, pool * parts // space.sizes].sum(axis=1)))
            picked.append(pool[at])
            used[decisions, pool[at] * parts // space.sizes] += 1
            pool = np.delete(pool, at, axis=0)
        return picked

    # -- models -------------------------------------------------------------------------------------------------------

    def _fit(self) -> None:
        known = self.measured
        for k, output in enumerate(self.outputs):
            finite = known.finite(k)
            self._fit_output(output, known.rows[finite], known.values[finite, k])
        valid = known.complete[known.judged]
        if valid.all():
            self.validity.posterior = None
        else:
            self._fit_output(self.validity, known.rows[known.judged], valid.astype(float))

    def _fit_output(self, output: Modelled, rows: Rows, values: NDArray[np.float64]) -> None:
        if len(rows) < 3 or np.ptp(values) == 0:
            output.posterior = None
            return
        if len(rows) > MODELLED:
            part = self._part(len(rows), values, MODELLED)
            rows, values = rows[part], values[part]
        if self.regressor is not None:
            output.posterior = Bagged(self.regressor, self.encoding, rows, values, self.rng)
            return
        kernel, score = output.kernel, output is not self.validity
        if kernel is None or len(rows) >= GROWTH * output.fitted_with:
            part = self._part(len(rows), values)
            names = ["linear" if kernel is None else kernel.transform]
            if score and (kernel is None or len(rows) <= COMPARED):
                names = choices(-int(self.problem.sign) if output.metric is self.problem.objective else 0)
            kernel = output.kernel = best_kernel(self.encoding, rows[part], values[part], kernel, names)
            output.fitted_with = len(rows)
        if score and self.rng.random() < DRAWS:
            kernel = kernel.drawn(self.rng)
        output.posterior = Gaussian(kernel, rows, values)

    def _part(self, n: int, values: NDArray[np.float64], most: int = FITTED) -> NDArray[np.int64]:
        """The measurements to which the parameters are fitted: the best third, and random others."""
        if n <= most:
            return np.arange(n)
        order = np.argsort(values * self.problem.sign)
        rest = self.rng.permutation(order[most // 3 :])[: most - most // 3]
        return np.concatenate([order[: most // 3], rest])

    # -- candidates ---------------------------------------------------------------------------------------------------

    def _promising(self, n: int, cost: float) -> list[Rows]:
        self._fit()
        best = self._ranked()
        centres = best[:CENTRES]
        if (solved := self._linear()) is not None:
            centres = np.concatenate([centres, solved[None]])
        pool = [self._random(RANDOM), self._mixed(best[:20]), self._around(centres), self._partly()]
        rows = self._fresh(self._admitted(np.concatenate(pool)))
        if len(rows) == 0:
            return self._spread(n)
        score = self._score(rows, cost)
        more = self._fresh(self._admitted(self._around(rows[np.argsort(-score)[:CLIMBED]])))
        if len(more):
            rows, first = np.unique(np.concatenate([rows, more]), axis=0, return_index=True)
            score = np.concatenate([score, self._score(more, cost)])[first]
        return self._diverse(rows[np.argsort(-score)[: 1 if n == 1 else SHORT]], n, cost)

    def _ranked(self) -> Rows:
        """Measured selections, best first: feasible ones by cost, then others by violation."""
        problem, complete = self.problem, self.measured.complete
        rows, values = self.measured.rows[complete], self.measured.values[complete]
        wrong = np.zeros(len(rows))
        for c in problem.constraints:
            if (k := self.output(c.metric)) is not None:
                wrong += np.minimum(c.violation(values[:, k]) / (abs(c.bound) or 1.0), 1e3)
        k = self.output(problem.objective)
        costs = problem.sign * (values[:, k] if k is not None else values_of(problem.objective, rows))
        return rows[np.lexsort((costs, wrong))]

    def _mixed(self, good: Rows) -> Rows:
        """Mixtures of two good selections, and good selections with two or three decisions drawn again."""
        space, rng = self.problem.space, self.rng
        if len(good) == 0:
            return good
        one, other = (good[np.minimum(rng.geometric(0.2, MIXED) - 1, len(good) - 1)] for _ in range(2))
        rows = np.where(rng.random(one.shape) < 0.5, one, other)
        drawn = space.sample(MIXED, rng)
        rate = rng.uniform(0.5, 3.0, (MIXED, 1)) / space.n_decisions
        return np.where(rng.random(one.shape) < rate, drawn, np.where(rng.random((MIXED, 1)) < 0.5, rows, one))

    def _around(self, centres: Rows) -> Rows:
        space = self.problem.space
        if len(centres) == 0:
            return centres
        if space.n_options <= 600:
            return np.concatenate([centres, *(space.switches(row) for row in centres)])
        some = [self.rng.choice(space.n_options, 600, replace=False) for _ in centres]
        return np.concatenate([centres, *(space.switches(r, o) for r, o in zip(centres, some, strict=True))])

    def _linear(self) -> Rows | None:
        """The best selection by linear models of all metrics, with bounds shifted by a random confidence."""
        space, problem, known = self.problem.space, self.problem, self.measured
        complete = known.complete
        if space.n_options > LINEAR or complete.sum() < 3:
            return None
        shift = float(self.rng.normal(0.0, 0.7))
        lines = linear_models(one_hot(space, known.rows[complete]), known.values[complete])
        models = [Additive(space, weights, constant) for weights, constant, _ in lines]
        constraints: list[Constraint] = []
        for c in problem.constraints:
            if (k := self.output(c.metric)) is not None:
                bound = c.bound - c.sign * shift * lines[k][2]
                constraints.append(replace(c, metric=models[k], bound=bound, confidence=None))
            elif c.metric.sum_table() is not None:
                constraints.append(c)
        judged = known.judged
        if not complete[judged].all():
            ((weights, constant, _),) = linear_models(
                one_hot(space, known.rows[judged]), complete[judged].astype(float)[:, None]
            )
            constraints.append(Additive(space, weights, constant, name="validity") >= 0.5)
        k = self.output(problem.objective)
        objective = problem.objective if k is None else models[k]
        if objective.sum_table() is None:
            return None
        return self._search(Problem(objective, constraints, problem.sense, problem.allowed)).start

    # -- acquisition --------------------------------------------------------------------------------------------------

    def _score(self, rows: Rows, cost: float) -> NDArray[np.float64]:
        """Logarithm of the expected improvement times the probability that all bounds hold, shape (n,).

        Variances are computed only for selections with promising means.
        """
        models = self._posteriors()
        means = {key: output.posterior.mean(rows) for key, output in models.items()}
        order = np.arange(len(rows))
        if len(rows) * len(self.measured.rows) * len(models) > WORK:
            some = rows[self.rng.integers(0, len(rows), 30)]
            typical = {key: np.full(len(rows), np.median(m.posterior.variance(some))) for key, m in models.items()}
            first = self._acquisition(rows, {key: (means[key], typical[key]) for key in models}, cost)
            order = np.argsort(-first)[:SHORT]
        score = np.full(len(rows), -np.inf)
        stats = {key: (means[key][order], output.posterior.variance(rows[order])) for key, output in models.items()}
        score[order] = self._acquisition(rows[order], stats, cost)
        return score

    def _posteriors(self) -> dict[int | None, Modelled]:
        """The models, by number of the metric; None stands for validity."""
        every = {None: self.validity, **dict(enumerate(self.outputs))}
        return {key: output for key, output in every.items() if output.posterior is not None}

    def _acquisition(
        self, rows: Rows, stats: dict[int | None, tuple[NDArray[np.float64], NDArray[np.float64]]], cost: float
    ) -> NDArray[np.float64]:
        problem, score = self.problem, np.zeros(len(rows))
        for c in problem.constraints:
            key = self.output(c.metric)
            if key is not None and key in stats and np.isfinite(c.bound):
                mean, variance = stats[key]
                bound = self.outputs[key].posterior.transform.of(np.array([c.bound]))[0]
                score += log_ndtr(c.sign * (bound - mean) / np.sqrt(variance))
        if None in stats:
            mean, variance = stats[None]
            middle, unit = self.validity.posterior.transform.of(np.array([0.5, 0.5 + np.sqrt(DOUBT)]))
            score += log_ndtr((mean - middle) / np.sqrt(variance + (unit - middle) ** 2))
            score -= CAUTION * np.log1p(self.measured.failures(rows, problem.space.sizes))
        if not np.isfinite(cost):
            return score
        key = self.output(problem.objective)
        if key is not None and key in stats:
            mean, variance = stats[key]
            best = self.outputs[key].posterior.transform.of(np.array([problem.sign * cost]))[0]
            deviation = np.sqrt(variance)
            return score + np.log(deviation) + log_improvement(problem.sign * (best - mean) / deviation)
        if key is None:
            gain = cost - problem.sign * values_of(problem.objective, rows)
            score = score + np.log(np.maximum(gain, 1e-12 * max(1.0, abs(cost))))
        return score

    def _diverse(self, rows: Rows, n: int, cost: float) -> list[Rows]:
        """The best candidates, each chosen as if those before it had been measured."""
        if n == 1 or len(rows) <= 1:
            return list(rows[:1])
        models = self._posteriors()
        means = {key: output.posterior.mean(rows) for key, output in models.items()}
        spread = {key: output.posterior.covariance(rows) for key, output in models.items()}
        left, picked = np.ones(len(rows), dtype=bool), []
        while left.any() and len(picked) < n:
            stats = {key: (means[key], np.maximum(np.diag(spread[key]), 1e-12)) for key in models}
            score = self._acquisition(rows, stats, cost)
            at = int(np.argmax(np.where(left, score, -np.inf)))
            picked.append(rows[at])
            left[at] = False
            for key, covariance in spread.items():
                column = covariance[:, at]
                spread[key] = covariance - np.outer(column, column) / (column[at] + 1e-6)
        return picked


def linear_models(X: NDArray[np.float64], Y: NDArray[np.float64]) -> list[tuple[NDArray[np.float64], float, float]]:
    """Ridge regression of each column of Y: weights, constant, and root mean square error (leave-one-out).

    The strength is the best of a few by that error.
    """
    centre = X.mean(axis=0)
    # The eigenvectors of the small matrix X'X; the singular value decomposition of X may not converge.
    squares, V = np.linalg.eigh((X - centre).T @ (X - centre))
    kept = squares > 1e-9 * max(squares[-1], 1e-9)
    s, Vt = np.sqrt(squares[kept]), V[:, kept].T
    U = (X - centre) @ Vt.T / s
    out = []
    shrunk = s[:, None] ** 2 / (s[:, None] ** 2 + STRENGTHS)
    left = np.maximum(1.0 - (U**2) @ shrunk - 1 / len(X), 1e-9)
    for y in Y.T:
        mean = y.mean()
        projected = U.T @ (y - mean)
        residuals = ((y - mean)[:, None] - U @ (shrunk * projected[:, None])) / left
        errors = np.sqrt(np.mean(residuals**2, axis=0))
        best = int(np.argmin(errors))
        weights = Vt.T @ (s / (s**2 + STRENGTHS[best]) * projected)
        out.append((weights, float(mean - centre @ weights), float(errors[best])))
    return out


def log_improvement(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the expected improvement of a standard normal variable: log(phi(z) + z Phi(z))."""
    z = np.asarray(z, dtype=float)
    near = np.maximum(z, -5.0)
    density = np.exp(-0.5 * near**2) / np.sqrt(2 * np.pi)
    with np.errstate(divide="ignore"):
        exact = np.log(np.maximum(density + near * np.exp(log_ndtr(near)), 1e-300))
    far = np.minimum(z, -5.0)
    # Asymptotic series, to a relative error below 1 % at -5.
    tail = -0.5 * far**2 - 0.5 * np.log(2 * np.pi) - 2 * np.log(-far) + np.log1p(-3 / far**2 + 15 / far**4)
    return np.where(z > -5.0, exact, tail)
