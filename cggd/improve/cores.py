"""Cores: branch and bound on few options, up to a proof.

If the problem has a linear relaxation, *reduced cores* are solved exactly. An option whose reduced cost exceeds the gap
between the best selection and the bound is in no better selection. Options with a large reduced cost are in few good
ones. Branch and bound (HiGHS) therefore solves cores: the options with the smallest reduced costs. The cores grow until
one contains every option within the gap; its solution is a proof (Balas & Zemel, 1980; Pisinger, 1995, for knapsacks).

*Neighbourhoods* of the best selection are solved as well: all but a few of its decisions are fixed (Shaw, 1998).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd.budget import Budget
from cggd.improve.alongside import alongside
from cggd.incumbent import Finding, Improver, Incumbent, seed_of
from cggd.problem import Problem
from cggd.program.bounds import Relaxed, open_cost
from cggd.program.grid import proved
from cggd.program.highs import LinearProgram, Outcome
from cggd.program.settle import settle
from cggd.program.threads import POLL_SECONDS, background

# Options beyond one per decision in the first core. On MMKP I07 it gives the best known selection within 0.1 s.
FIRST_CORE = 20

# On c_21, the largest core that finishes within 1 s has 20 to 40 options and holds the best known value.
GROWTH = 1.5

# A core with more than 1 in SMALL of the options within the gap is skipped. The last core, which contains all of them
# and gives the proof, is solved instead.
SMALL = 3

# In cores of this many options HiGHS finds good selections of MMKP I04, I07, c_21 and c_24 within a second or two.
# The best size and order are unpredictable, so both are drawn at random.
CORES = (25, 200)

# A last core of more options than this beyond one per decision is not tried: with many constraints it does not finish
# within a minute. It is tried, however, if the solver's cuts have closed much of the gap (`Incumbent.cutting`), or if
# the relative gap of the relaxation is more than WEAK, so that its reduced costs are of little use. It never has more
# than LARGEST options.
PROVABLE = 400
WEAK = 0.05
LARGEST = 20_000

# Standard deviation of the logarithms of the random factors of perturbed reduced costs. On generalised assignment of
# types d and e (20 agents, 100 and 200 jobs), cores with 0.7 and neighbourhoods lead to selections 0.4 to 0.6 % better
# than other cores in the same time; on MMKP c_24 the others are better.
NOISE = 0.7

# Node limit of each core without a time limit, so that the same seed gives the same result. It takes up to a second.
NODES = 500

# The time for one core is a share of the time limit, drawn between SHARES; the lower end is at most SHORT_SECONDS.
# Short attempts suit some problems (MMKP I07, c_24) even with a long time limit; long ones suit others (I04). The last
# core of a chain, which gives the proof, gets PROOF_SHARE of the remaining time.
SHARES = (1 / 15, 1 / 4)
SHORT_SECONDS = 1.0
PROOF_SHARE = 0.95

# Share of the cores in which only selections better than the best known one are allowed. This prunes the search and
# leads it away from the known one. It helps on c_24 (gaps of -0.19 to 0.04 % instead of 0.09 to 0.48 %) and hurts on
# c_21. The bound of such a core is not used.
CUT = 0.5

# Share of the decisions that are free in the first neighbourhood, and share of the neighbourhoods whose decisions are
# drawn by the reduced costs of their options. The first share grows by WIDER after each neighbourhood that the
# solver finishes without a better selection, and shrinks by NARROWER after each one that it does not finish.
FREE = 0.3
LED = 0.5
WIDER, NARROWER = 1.1, 0.8

# Better selections with which each kind of core of `_Cores._restart` is credited at the beginning. On knapsacks the
# first kind finds most.
WINS = (3.0, 1.0, 1.0)

# Number of cores solved in parallel. The solver releases Python's global interpreter lock.
WORKERS = 2

# Seconds per option until the first check of the budget, measured with 1e7 options and rounded up.
CORES_SECONDS = 1e-7


@dataclass(frozen=True)
class Cores:
    """Reduced cores of a problem with a linear relaxation.

    With a time limit, two cores at a time are solved until optimality is proved or the time is used up. Without one,
    growing cores are solved one after another until one reaches its node limit; this is deterministic.

    Parameters
    ----------
    share : float
        Share of the time left.
    beside : Improver, optional
        An improver that runs in this thread while the solver runs in another. This needs a time limit, and only one
        core at a time is solved. The improver is restarted when a core gives a better selection.
    """

    share: float = 1.0
    beside: Improver | None = None

    def suits(self, problem: Problem) -> bool:
        """Always true: `improve` returns at once if no relaxation is known."""
        return True

    def improve(
        self, problem: Problem, incumbent: Incumbent, budget: Budget, rng: np.random.Generator
    ) -> Iterator[Finding | None]:
        """Yield selections and bounds, and None while there is nothing new."""
        if incumbent.relaxed is None or not budget.fits(CORES_SECONDS * problem.space.n_options):
            return
        mine, step = budget.part(share=self.share), incumbent.step(budget)
        shared = _Cores(incumbent, incumbent.relaxed, step, mine)
        # If much of the gap is closed, the solver's neighbourhoods are better than local search.
        if self.beside is None or not budget.limited or incumbent.closing:
            yield from shared.run(seed_of(rng), WORKERS, whole=incumbent.cutting)
            return
        run = shared.run(seed_of(rng), WORKERS - 1, wait=False)
        yield from alongside(run, self.beside, problem, incumbent, mine, rng)


class _Cores:
    """State shared by the threads that solve cores."""

    def __init__(self, incumbent: Incumbent, relaxed: Relaxed, step: float, budget: Budget) -> None:
        self.budget, self.incumbent, problem = budget, incumbent, incumbent.problem
        self.reduced, self.relaxed = relaxed.reduced(), problem.sign * relaxed.bound
        known = -np.inf if incumbent.bound is None else problem.sign * incumbent.bound
        self.bound, self.step = max(self.relaxed, known), step
        self.best, self.cost = incumbent.selection, incumbent.cost
        self.lock, self.left_behind = threading.Lock(), False
        space = problem.space
        last = min(space.n_decisions + max(PROVABLE, CORES[1]) + 1, space.n_options) - 1
        self.lowest = np.sort(np.partition(self.reduced, last)[: last + 1])
        self.findings: queue.SimpleQueue[Finding | BaseException] = queue.SimpleQueue()

    def run(self, seed: int, workers: int, *, whole: bool = False, wait: bool = True) -> Iterator[Finding | None]:
        """Solve cores until the budget is over; with `whole`, even a last core of many options is solved."""
        generators = [np.random.default_rng([seed, worker]) for worker in range(workers)]
        work = [lambda: self._grow(generators[0], whole=whole)]
        if self.budget.limited:
            work += [lambda rng=rng: self._restart(rng) for rng in generators[1:]]
        threads = [background.start(lambda job=job: self._guarded(job)) for job in work]
        try:
            while any(thread is not None and thread.is_alive() for thread in threads) or not self.findings.empty():
                with self.lock:
                    if self.incumbent.cost < self.cost:  # another improver found a better selection
                        self.best, self.cost = self.incumbent.selection, self.incumbent.cost
                try:
                    found = self.findings.get(wait, POLL_SECONDS)
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

    def _grow(self, rng: np.random.Generator, *, whole: bool) -> None:
        """Solve growing cores until one contains every option that a better selection may take."""
        weak = np.isfinite(self.cost) and self.cost - self.relaxed > WEAK * abs(self.cost)
        small = self.budget.limited and self.problem.space.n_options <= LARGEST
        whole = small and (whole or bool(weak))
        extra = self._within() if whole else FIRST_CORE
        while not self._over():
            last = extra >= self._within()
            if last and self._within() > PROVABLE and not whole:
                break
            # The last core gives the proof, and gets most of the remaining time.
            seconds = PROOF_SHARE * self.budget.left if last else self._seconds(SHARES[1])
            core = self._core(extra)
            finished = self._prove(core, seconds) if last else self._solve(core, seconds, None)
            if last and finished:
                return
            if not finished and (last or not self.budget.limited):
                break
            extra = int(extra * GROWTH) if finished and SMALL * GROWTH * extra <= self._within() else self._within()
        if self.budget.limited:
            self._restart(rng)

    def _restart(self, rng: np.random.Generator) -> None:
        """Solve cores of random sizes in random orders, by reduced costs and by perturbed ones, and neighbourhoods.

        Each of the three kinds gets time in proportion to the number of better selections that it has found.
        """
        shares = min(SHARES[0], SHORT_SECONDS / self.budget.time_limit), SHARES[1]
        spent, wins, free = np.zeros(3), np.array(WINS), FREE
        while not self._over():
            kind = int(np.argmin((spent / wins)[: 2 if self.best is None else 3]))
            began, cost = self.budget.seconds, self.cost
            if kind < 2:
                extra, share = (float(np.exp(rng.uniform(*np.log(ends)))) for ends in (CORES, shares))
                core = self._core(int(extra), rng if kind == 1 else None)
                self._solve(core, self._seconds(share), rng, cut=rng.random() < CUT)
            else:
                finished = self._solve(self._neighbourhood(free, rng), self._seconds(shares[0]), rng, cut=True)
                if self.cost == cost:
                    free = min(free * WIDER, 1.0) if finished else free * NARROWER
            spent[kind] += self.budget.seconds - began
            wins[kind] += self.cost < cost

    def _prove(self, core: NDArray[np.bool_], seconds: float) -> bool:
        """Solve the core of all options that a better selection may take; return whether its optimum is proved."""
        part = self.budget.part(seconds=seconds)
        settled = settle(
            self.problem,
            allowed=core,
            known=self.best,
            step=self.step,
            solve=lambda program: program.solve(**_limits(part), stop=self._over),
        )
        with self.lock:
            self._learn(core, settled.selection, settled.bound, settled.error or None)
        return settled.proved

    def _solve(
        self, core: NDArray[np.bool_], seconds: float, rng: np.random.Generator | None, *, cut: bool = False
    ) -> bool:
        """Solve one core; return whether the solver finished it.

        With `cut`, only selections better than the best known one are allowed.
        """
        problem, known = self.problem, self.best
        # The ceiling is halfway to the next better value, so that rounding does not matter.
        ceiling = self.cost - self.step / 2 if cut and np.isfinite(self.cost) else None
        program = LinearProgram.of(problem, allowed=core, ceiling=ceiling)
        solution = program.solve(**_limits(self.budget.part(seconds=seconds)), rng=rng, stop=self._over)
        selection = solution.selection
        if selection is not None and not problem.satisfied(selection):
            selection = None  # feasible only within the solver's tolerances
        # The solver's tolerance may hide a selection slightly below the ceiling, so a core with a cut gives no bound. A
        # core that contains a known selection is feasible, whatever the solver says.
        wrong = solution.outcome is Outcome.INFEASIBLE and known is not None
        with self.lock:
            self._learn(core, selection, -np.inf if cut or wrong else solution.bound)
        return solution.outcome is not Outcome.STOPPED

    def _learn(
        self, core: NDArray[np.bool_], selection: NDArray[np.int64] | None, inside: float, error: float | None = None
    ) -> None:
        """Keep a better selection, and update the bound: the lesser of the core's and that of the options outside."""
        problem = self.problem
        if selection is not None and (cost := problem.cost(selection)) < self.cost:
            self.best, self.cost = selection, cost
        # A selection with an option outside the core costs at least the relaxation's bound plus its reduced cost.
        outside = self.relaxed + float(self.reduced[~core].min(initial=np.inf))
        self.bound = max(self.bound, min(inside, outside))
        none = "proved by mixed-integer programming (HiGHS)" if self.bound == np.inf and self.best is None else None
        bound = problem.sign * self.bound if np.isfinite(self.bound) else None
        self.findings.put(Finding(selection, bound, none, error=error))

    # -- helpers ----------------------------------------------------------------------------------------------------

    @property
    def problem(self) -> Problem:
        return self.incumbent.problem

    def _most(self) -> float:
        return open_cost(self.cost, self.relaxed, self.step)

    def _within(self) -> int:
        """Options beyond one per decision that a better selection may take; more than PROVABLE are not counted."""
        return int(np.searchsorted(self.lowest, self._most(), side="right")) - self.problem.space.n_decisions

    def _core(self, extra: int, rng: np.random.Generator | None = None) -> NDArray[np.bool_]:
        """The options of least reduced cost that a better selection may take: `extra` beyond one per decision.

        With `rng`, the reduced costs are multiplied by random factors before they are compared.
        """
        core = (self.reduced <= self._most()) & np.isfinite(self.reduced)
        if extra < self._within():
            at = np.flatnonzero(core)
            ranked = self.reduced[at] * (1.0 if rng is None else np.exp(NOISE * rng.standard_normal(len(at))))
            last = min(self.problem.space.n_decisions + extra, len(at)) - 1
            core[at] = ranked <= np.partition(ranked, last)[last]
        if self.best is not None:
            core[self.problem.space.layout.flat(self.best)] = True
        return core

    def _neighbourhood(self, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
        """The best selection, and the options of a random share of its decisions that a better selection may take."""
        assert self.best is not None
        layout = self.problem.space.layout
        chosen = layout.flat(self.best)
        draws = rng.random(len(chosen))
        # In a share of the calls, decisions whose option has a large reduced cost come first.
        score = draws * self.reduced[chosen] if rng.random() < LED else draws
        free = np.zeros(len(chosen), dtype=bool)
        free[np.lexsort((draws, score))[-max(int(share * len(chosen)), 2) :]] = True
        core = free[layout.owner] & (self.reduced <= self._most()) & np.isfinite(self.reduced)
        core[chosen] = True
        return core

    def _seconds(self, share: float) -> float:
        return share * self.budget.time_limit

    def _over(self) -> bool:
        done = self.bound == np.inf or (self.best is not None and proved(self.cost, self.bound, self.step))
        return done or self.left_behind or background.closed or self.budget.over()


def _limits(budget: Budget) -> dict[str, Any]:
    """The limits of a solver: the time left, or a number of nodes if the time is not limited."""
    return {"time_limit": budget.left} if budget.limited else {"node_limit": NODES}
