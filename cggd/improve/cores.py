"""Polish: improve a good selection and, where possible, prove that no better one exists.

Where objective and constraints are linear, *reduced cores* are solved exactly. An option whose reduced cost exceeds the
gap between the best selection and the bound is in no better selection. An option with a large reduced cost is in few.
Branch and bound (HiGHS) therefore solves cores of the options with the smallest reduced costs. The cores grow until one
holds every option within the gap, and its solution is a proof (Balas & Zemel, 1980; Pisinger, 1995, for knapsacks).
Other problems are improved by single switches and pairs of switches (`cggd.improve.switches`).
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from cggd.feasibility import enumerated
from cggd.improve.switches import swap
from cggd.incumbent import Finding
from cggd.metrics import values_of
from cggd.problem import Problem
from cggd.program.bounds import Relaxed
from cggd.program.grid import proved
from cggd.program.highs import LinearProgram, Outcome, Solution
from cggd.program.settle import settle
from cggd.program.threads import background

# Options beyond one per decision in the first core; on MMKP I07 it holds the best known selection within 0.1 s.
FIRST_CORE = 20

# On c_21, the largest core that finishes within 1 s has 20 to 40 options and holds the best known value.
GROWTH = 1.5

# A core that would hold more than 1 in SMALL of all options within the gap is skipped: the last core, which holds all
# of them and gives the proof, is solved instead.
SMALL = 3

# In cores of this many options HiGHS finds good selections of MMKP I04, I07, c_21 and c_24 within a second or two.
# Which size and order succeeds is unpredictable, so both are drawn at random.
CORES = (25, 200)

# With many constraints, a core of more options than this beyond one per decision does not finish within a minute.
PROVABLE = 400

# Branch-and-bound nodes a core gets without a time limit, so that the same seed gives the same result: up to a second.
NODES = 500

# The time for one core is a share of the time limit, drawn between SHARES; the lower end is at most SHORT_SECONDS.
# Short attempts suit some problems (MMKP I07, c_24) even with much time, and long ones suit others (I04). The last
# core of a chain, which gives the proof, gets PROOF_SHARE of the remaining time.
SHARES = (1 / 15, 1 / 4)
SHORT_SECONDS = 1.0
PROOF_SHARE = 0.9

# Share of the cores in which only selections better than the best known one are allowed. This prunes the search and
# leads it away from the known one. It helps on c_24 (gaps of -0.19 to 0.04 % instead of 0.09 to 0.48 %) and hurts on
# c_21. The outcome is no proof.
CUT = 0.5

# Number of cores solved in parallel: the solver releases Python's global interpreter lock.
WORKERS = 2

# Interval at which a wait for a core checks the clock.
POLL_SECONDS = 0.05

# Spaces of at most this many selections are enumerated before a solver is used.
FEW_SELECTIONS = 20_000


def polish(
    problem: Problem,
    relaxed: Relaxed | None,
    best: NDArray[np.int64] | None,
    allowed: NDArray[np.bool_] | None = None,
    *,
    step: float = 0.0,
    seed: int = 0,
    time_limit: float | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Finding | None]:
    """Improve the best selection known; yield what is found, and None while there is nothing new.

    Parameters
    ----------
    problem : Problem
    relaxed : Relaxed or None
        The relaxation of the problem, if it has one; then reduced cores are solved. Small spaces that need no calls of
        a black box are enumerated. In all other cases the best selection is improved by switches.
    best : ndarray of int, shape (n_decisions,), or None
    allowed : bool array of shape (n_options,), optional
    step, seed, time_limit, stop
        See `solve_cores`.
    """
    few = problem.space.n_selections <= FEW_SELECTIONS
    if (few or relaxed is None) and (every := enumerated(problem, allowed, stop=stop)) is not None:
        yield _best_of(problem, *every)
    elif relaxed is not None:
        how = {"step": step, "seed": seed, "time_limit": time_limit, "stop": stop}
        yield from solve_cores(problem, relaxed.reduced(), relaxed.bound, best, **how)
    elif best is not None:
        rng = np.random.default_rng([seed, WORKERS])
        yield from swap(problem, best, rng, allowed=allowed, again=time_limit is not None)


def _best_of(problem: Problem, selections: NDArray[np.int64], feasible: NDArray[np.int64]) -> Finding:
    if len(feasible) == 0:
        return Finding(None, proof=f"all {len(selections)} selections were evaluated")
    values = values_of(problem.objective, selections[feasible])
    at = int(np.argmin(problem.sign * values))
    return Finding(selections[feasible[at]], float(values[at]))


def solve_cores(
    problem: Problem,
    reduced: NDArray[np.float64],
    bound: float,
    best: NDArray[np.int64] | None,
    *,
    step: float = 0.0,
    seed: int = 0,
    time_limit: float | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Finding | None]:
    """Solve reduced cores of a linear problem; yield what is found, and None while there is nothing new.

    Parameters
    ----------
    problem : Problem
    reduced : ndarray of shape (n_options,)
        Reduced costs: a selection with option o has a ``sign * objective`` of at least ``sign * bound + reduced[o]``;
        infinite for forbidden options.
    bound : float
        No objective is better.
    best : ndarray of int, shape (n_decisions,), or None
        The best selection known.
    step : float
        What any two different objectives differ by at the least (`grid`).
    seed : int
        Of the orders and sizes of further cores.
    time_limit : float, optional
        Seconds. With one, all of it is used unless optimality is proved, two cores at a time; without one, growing
        cores are solved one after another until one takes too many nodes, the same ones each time.
    stop : callable
    """
    state = _Cores(problem, reduced, problem.sign * bound, best, step, time_limit, stop)
    return state.run(seed)


class _Cores:
    """What workers on cores share."""

    def __init__(
        self,
        problem: Problem,
        reduced: NDArray[np.float64],
        bound: float,
        best: NDArray[np.int64] | None,
        step: float,
        time_limit: float | None,
        stop: Callable[[], bool],
    ) -> None:
        self.problem, self.space = problem, problem.space
        self.reduced, self.relaxed = reduced, bound
        self.bound, self.step = bound, step
        self.best, self.cost = best, np.inf if best is None else problem.cost(best)
        self.time_limit = None if time_limit == np.inf else time_limit
        self.stop, self.lock = stop, threading.Lock()
        self.began, self.left_behind = time.perf_counter(), False
        last = min(self.space.n_decisions + max(PROVABLE, CORES[1]) + 1, self.space.n_options) - 1
        self.lowest = np.sort(np.partition(reduced, last)[: last + 1])
        self.findings: queue.SimpleQueue[Finding | BaseException] = queue.SimpleQueue()

    def run(self, seed: int) -> Iterator[Finding | None]:
        generators = [np.random.default_rng([seed, worker]) for worker in range(WORKERS)]
        work = [lambda: self._grow(generators[0])]
        if self.time_limit is not None:
            work += [lambda rng=rng: self._restart(rng) for rng in generators[1:]]
        threads = [background.start(lambda job=job: self._guarded(job)) for job in work]
        try:
            while any(thread is not None and thread.is_alive() for thread in threads) or not self.findings.empty():
                try:
                    found = self.findings.get(timeout=POLL_SECONDS)
                except queue.Empty:
                    yield None
                    continue
                if isinstance(found, BaseException):
                    raise found
                yield found
        finally:
            self.left_behind = True

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            self.findings.put(error)

    # -- workers ----------------------------------------------------------------------------------------------------

    def _grow(self, rng: np.random.Generator) -> None:
        """Solve growing cores until one holds every option that a better selection may take."""
        extra = FIRST_CORE
        while not self._over():
            last = extra >= self._within()
            if last and self._within() > PROVABLE:
                break
            # The last core gives the proof, and gets most of the remaining time.
            seconds = PROOF_SHARE * self._left() if last else self._seconds(SHARES[1])
            finished = self._solve(extra, seconds, None, last=last)
            if last and finished:
                return
            if not finished and (last or self.time_limit is None):
                break
            extra = int(extra * GROWTH) if finished and SMALL * GROWTH * extra <= self._within() else self._within()
        if self.time_limit is not None:
            self._restart(rng)

    def _restart(self, rng: np.random.Generator) -> None:
        """Solve cores of drawn sizes in drawn orders."""
        shares = min(SHARES[0], SHORT_SECONDS / (self.time_limit or np.inf)), SHARES[1]
        while not self._over():
            extra, share = (float(np.exp(rng.uniform(*np.log(ends)))) for ends in (CORES, shares))
            self._solve(int(extra), self._seconds(share), rng, cut=rng.random() < CUT)

    def _solve(
        self, extra: int, seconds: float, rng: np.random.Generator | None, *, cut: bool = False, last: bool = False
    ) -> bool:
        """Solve one core; return whether the solver finished it.

        With `cut`, only selections better than the best known one are allowed. The `last` core holds all options that a
        better selection may take, and is solved up to a proof.
        """
        core, problem, known = self._core(extra), self.problem, self.best
        late = time.perf_counter() + seconds
        nodes = NODES if self.time_limit is None else None

        def solve(program: LinearProgram) -> Solution:
            limit = None if np.isinf(late) else max(late - time.perf_counter(), 0.0)
            return program.solve(time_limit=limit, node_limit=nodes, rng=rng, stop=self._over)

        if last:
            settled = settle(problem, allowed=core, known=known, step=self.step, solve=solve)
            with self.lock:
                self._learn(core, settled.selection, settled.bound)
            return settled.proved
        # Halfway to the next better value, so that rounding does not matter.
        ceiling = self.cost - self.step / 2 if cut and np.isfinite(self.cost) else None
        how = {"sign": problem.sign, "allowed": core, "ceiling": ceiling}
        solution = solve(LinearProgram(self.space, problem.constraints, problem.objective, **how))
        selection = solution.selection
        if selection is not None and not problem.satisfied(selection):
            selection = None  # within the bounds only by the solver's tolerance
        # The solver's tolerance may hide a selection slightly below the ceiling. A verdict of infeasible is wrong for a
        # core that holds a known selection.
        wrong = solution.outcome is Outcome.INFEASIBLE and known is not None
        with self.lock:
            self._learn(core, selection, -np.inf if cut or wrong else solution.bound)
        return solution.outcome is not Outcome.STOPPED

    def _learn(self, core: NDArray[np.bool_], selection: NDArray[np.int64] | None, inside: float) -> None:
        """Keep a selection found in a core, and update the bound from the core and from the options outside it."""
        problem = self.problem
        if selection is not None and (cost := problem.cost(selection)) < self.cost:
            self.best, self.cost = selection, cost
        # A selection with an option outside the core costs at least the relaxation's bound plus its reduced cost.
        outside = self.relaxed + float(self.reduced[~core].min(initial=np.inf))
        self.bound = max(self.bound, min(inside, outside))
        none = "proved by mixed-integer programming (HiGHS)" if self.bound == np.inf and self.best is None else None
        self.findings.put(Finding(selection, problem.sign * self.bound if np.isfinite(self.bound) else None, none))

    # -- helpers ----------------------------------------------------------------------------------------------------

    def _most(self) -> float:
        """The largest reduced cost of an option in a better selection."""
        return self.cost - 0.999 * self.step - self.relaxed + 1e-9 * abs(self.cost) if self.best is not None else np.inf

    def _within(self) -> int:
        """Options beyond one per decision that a better selection may take; one more than PROVABLE stands for more."""
        return int(np.searchsorted(self.lowest, self._most(), side="right")) - self.space.n_decisions

    def _core(self, extra: int) -> NDArray[np.bool_]:
        """Of the options a better selection may take, those of least reduced cost: `extra` beyond one per decision."""
        at = min(self.space.n_decisions + extra, len(self.lowest)) - 1
        core = self.reduced <= min(self.lowest[at], self._most())
        if self.best is not None:
            core[self.space.layout.flat(self.best)] = True
        return core & np.isfinite(self.reduced)

    def _left(self) -> float:
        return np.inf if self.time_limit is None else max(self.began + self.time_limit - time.perf_counter(), 0.0)

    def _seconds(self, share: float) -> float:
        return np.inf if self.time_limit is None else min(self._left(), share * self.time_limit)

    def _over(self) -> bool:
        done = self.bound == np.inf or (self.best is not None and proved(self.cost, self.bound, self.step))
        return done or self.left_behind or background.closed or self._left() == 0 or self.stop()
