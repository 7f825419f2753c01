"""What a search is told: its starts, its limits, and what it reports."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cggd.checks import as_amount, as_number, check_choice, check_time_limit, own, whole
from cggd.guide import Balance
from cggd.guide.directions import Weights
from cggd.metrics import Executor


@dataclass(frozen=True)
class Start:
    """How one start of a search descends.

    Parameters
    ----------
    weights, balance : str
        See `cggd.Guide`.
    learning_rate : float
        Size of the first step, where the task gradient is scaled to a root mean square of 1 per option.
    temperature : (float, float)
        Of the relaxed distribution at the start and after two thirds of the steps.
    """

    weights: Weights = "unit"
    balance: Balance = "equal"
    learning_rate: float = 0.1
    temperature: tuple[float, float] = (10.0, 0.1)

    def __post_init__(self) -> None:
        check_choice(self.weights, Weights, "weights")
        check_choice(self.balance, Balance, "balance")
        if as_number(self.learning_rate, "learning_rate") <= 0:
            raise ValueError(f"learning_rate must be greater than 0, got {self.learning_rate}")
        ends = tuple(self.temperature) if isinstance(self.temperature, Sequence) else ()
        if len(ends) != 2 or not all(as_number(end, "temperature") > 0 for end in ends):
            raise ValueError(f"temperature must be two numbers greater than 0, got {self.temperature!r}")
        own(self, temperature=ends)


# The paper's rule suits small spaces whose decisions interact, the other one large additive spaces. Neither is always
# best (MMKP I01 and I02 need the paper's), so starts mix them, the likelier one more often.
PAPER = Start()
ADDITIVE = Start(weights="difference", balance="violation")
SEPARABLE = (ADDITIVE, PAPER, ADDITIVE)
INTERACTING = (PAPER, ADDITIVE, PAPER)


@dataclass(frozen=True, eq=False)
class Progress:
    """What a callback sees after each step.

    Attributes
    ----------
    phase : {"descent", "polish"}
    start, step, starts, steps : int
    selection : ndarray of int, shape (n_decisions,), or None
        The current selection; while polishing the best feasible one, if there is one.
    violations : ndarray of shape (n_constraints,)
    best : float or None
        Best feasible objective so far.
    incumbent : ndarray of int, shape (n_decisions,), or None
        The selection that has it.
    bound : float or None
        What no feasible objective can beat, as far as it is known.
    evaluations : int
    seconds : float
    """

    phase: Literal["descent", "polish"]
    start: int
    step: int
    starts: int
    steps: int
    selection: NDArray[np.int64] | None
    violations: NDArray[np.float64]
    best: float | None
    incumbent: NDArray[np.int64] | None
    bound: float | None
    evaluations: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Options:
    """The options of `cggd.minimize`, checked."""

    seed: int
    steps: int
    starts: int | Sequence[Start]
    time_limit: float | None
    max_evaluations: int | None
    no_improvement: int | None
    initial: Any
    forbid: Any
    rescale: float
    patience: int
    polish: bool
    gap: float
    callback: Callable[[Progress], Any] | None
    executor: Executor | None
    checkpoint: str | os.PathLike | None
    resume: bool

    def __post_init__(self) -> None:
        for name, least in (("seed", 0), ("steps", 1), ("patience", 0)):
            own(self, **{name: whole(getattr(self, name), name, least=least)})
        for name in ("max_evaluations", "no_improvement"):
            if getattr(self, name) is not None:
                own(self, **{name: whole(getattr(self, name), name, least=1)})
        if isinstance(self.starts, Iterable) and not isinstance(self.starts, str):
            own(self, starts=list(self.starts))
            if not self.starts:
                raise ValueError("starts is empty; give a number, or at least one Start")
            if not all(isinstance(start, Start) for start in self.starts):
                raise TypeError(f"starts must be a number, or a list of Start, got {self.starts!r}")
        else:
            own(self, starts=whole(self.starts, "starts", least=1))
        check_time_limit(self.time_limit)
        if self.time_limit is not None and np.isinf(self.time_limit):
            own(self, time_limit=None)
        if as_number(self.rescale, "rescale") <= 1:
            raise ValueError(f"rescale must be greater than 1, got {self.rescale}")
        if not isinstance(self.polish, bool):
            raise TypeError(f"polish must be True or False, got {self.polish!r}")
        as_amount(self.gap, "gap")
        if self.callback is not None and not callable(self.callback):
            raise TypeError(f"callback must be callable, got {self.callback!r}")
        if self.executor is not None and not hasattr(self.executor, "submit"):
            raise TypeError(f"executor must have a submit method as in concurrent.futures, got {self.executor!r}")
        if self.checkpoint is not None:
            if not isinstance(self.checkpoint, str | os.PathLike):
                raise TypeError(f"checkpoint must be a path, got {self.checkpoint!r}")
            own(self, checkpoint=Path(self.checkpoint))
        elif self.resume:
            raise ValueError("resume=True needs checkpoint, the file to continue from")

    def several_starts(self, *, separable: bool) -> list[Start]:
        """The starts one by one; a number of them mixes two kinds, the likelier one more often."""
        if isinstance(self.starts, int):
            return list(islice(cycle(SEPARABLE if separable else INTERACTING), self.starts))
        return list(self.starts)
