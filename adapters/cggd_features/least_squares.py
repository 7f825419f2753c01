"""R^2 of least squares as a metric, and its change by every addition, removal and swap, in closed form.

The columns X are centred and of length 1, G is their Gram matrix, and c their products with the target. For a subset S,
let T be a matrix such that the columns of ``X_S T`` are orthonormal, ``V = T' G_S.`` and ``w = T' c_S``. The subset
explains ``w'w`` of the target's sum of squares. With the residuals ``r = c - V'w`` and ``D = G - V'V``:

- Adding a block j of columns explains ``r_j' inv(D_jj) r_j`` more, and adds rows to V and w.
- Removing a block i explains ``|E'w|^2`` less, where E is an orthonormal basis of the rows of T that belong to i.
- After removing i, ``r + V'E E'w`` and ``D + V'E E'V`` replace r and D. A reflection that maps E to the last
  coordinates then removes the rows from V and w.

So all additions, removals and swaps cost O(s^2 p) together, without a refit (Furnival & Wilson, 1974; Golub & Van Loan,
2013, section 6.5, on updates of a QR factor). A ridge penalty adds alpha to the diagonal of G before G is scaled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import get_lapack_funcs

from cggd import ChoiceSpace, Metric
from cggd.metrics import State, SumTable
from cggd.metrics.state import DEPTH, Switch
from cggd_features.gram import CLEAR, COLLINEAR, Gram, places_of

# Pairs per block when swaps are computed, so that a block fits the processor's cache.
BLOCK = 2**15

# Error of R^2 in bounds: sums of squares of a fit without nearly dependent columns have eleven digits.
ROUNDING = 1e-11

# With more columns in a fit, its eigenvalues take too long.
LARGEST = 200

# Updates after which a fit is recomputed, since rounding errors add up.
UPDATES = 50

# LAPACK's workspace for products with reflections, per row of the other factor; its blocks have at most 64 columns.
LANES = 64
geqrf, ormqr = get_lapack_funcs(("geqrf", "ormqr"), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Fit:
    """A least-squares fit on a subset, with closed forms for every addition, removal and swap.

    Attributes
    ----------
    selected : bool array of shape (n_variables,)
    inside, basis, effects, clear, sure, dependent, orthonormal
        See `Gram.factored`. If columns are dependent, `losses` and `swaps` may overstate the loss of another column.
    updated : ndarray of shape (s, n_columns), or None
        `rows`, if they were updated.
    """

    gram: Gram
    selected: NDArray[np.bool_]
    inside: NDArray[np.int64]
    basis: NDArray[np.float64]
    effects: NDArray[np.float64]
    clear: bool
    sure: bool
    dependent: bool
    orthonormal: NDArray[np.float64] | None = None
    updated: NDArray[np.float64] | None = None

    @classmethod
    def at(cls, gram: Gram, selected: NDArray[np.bool_]) -> Fit:
        """Compute the fit on the selected variables, shape (n_variables,)."""
        return cls(gram, selected.copy(), *gram.factored(selected))

    @cached_property
    def rows(self) -> NDArray[np.float64]:
        """V, products of the orthonormal columns with all columns, shape (s, n_columns)."""
        if self.gram.exact is not None and self.orthonormal is not None:
            return self.orthonormal.T @ self.gram.exact.matrix
        return self.basis.T @ self.gram.matrix[self.inside] if self.updated is None else self.updated

    @property
    def light(self) -> Fit:
        """The same fit without its rows, so that additions and removals take only O(s^2)."""
        return replace(self, updated=None)

    @property
    def _has_rows(self) -> bool:
        return self.updated is not None or "rows" in self.__dict__

    @cached_property
    def value(self) -> float:
        """R^2 of the subset."""
        return float((self.effects**2).sum())

    def plus(self, variable: int) -> Fit:
        """The fit with one more variable, in O(s p); recomputed if it is nearly a combination of the others."""
        own, gram = self.gram.columns[variable], self.gram
        if len(own) == 0 or not self.clear:
            return self.recomputed(variable)
        used = self.rows[:, own] if self._has_rows else self.basis.T @ gram.matrix[np.ix_(self.inside, own)]
        rest = gram.matrix[np.ix_(own, own)] - used.T @ used
        sizes, directions = np.linalg.eigh(rest) if len(own) > 1 else (rest[0], np.ones((1, 1)))
        if sizes.min() <= CLEAR:
            return self.recomputed(variable)
        turn, n, updated = directions / np.sqrt(sizes), len(used), None
        basis = np.zeros((n + len(own),) * 2)
        basis[:n, :n] = self.basis
        basis[:n, n:] = -self.basis @ (used @ turn)
        basis[n:, n:] = turn
        if self._has_rows:
            updated = np.concatenate([self.rows, turn.T @ (gram.matrix[own] - used.T @ self.rows)])
        effects = np.concatenate([self.effects, turn.T @ (gram.target[own] - used.T @ self.effects)])
        return self._with(variable, np.concatenate([self.inside, own]), basis, effects, updated)

    def minus(self, variable: int) -> Fit:
        """The fit without a variable, in O(s p); recomputed if it was nearly a combination of the others."""
        at = np.flatnonzero(self._owner == variable)
        if not self.clear or len(at) == 0 or (self.basis[at] ** 2).sum() >= 1 / CLEAR:
            return self.recomputed(variable)
        # Reflections map the directions that the other columns do not span to the first coordinates, which are dropped.
        reflections, scales, _, _ = geqrf(self.basis[at].T)

        others = np.ones(len(self.inside), dtype=bool)
        others[at] = False

        def kept(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
            """A matrix of shape (s, m) in the reflected coordinates."""
            return ormqr("R", "N", reflections, scales, matrix.T, LANES * matrix.shape[1])[0].T[len(at) :]

        updated = kept(self.rows) if self._has_rows else None
        return self._with(variable, self.inside[others], kept(self.basis.T).T[others], kept(self.effects), updated)

    def _with(self, variable: int, inside: NDArray, basis: NDArray, effects: NDArray, updated: NDArray | None) -> Fit:
        """An updated fit with a variable switched."""
        selected = switched(self.selected, variable)
        return Fit(self.gram, selected, inside, basis, effects, self.clear, self.sure, self.dependent, None, updated)

    def remainder(self, variables: NDArray[np.int64]) -> Fit:
        """A fit on none of some variables, with what this fit leaves of their columns and of the outputs."""
        gram = self.gram
        columns = [gram.columns[v] for v in variables.tolist()]
        at = np.concatenate([self.inside[:0], *columns])
        matrix = gram.matrix[np.ix_(at, at)] - self.rows[:, at].T @ self.rows[:, at]
        target, counts = self._residuals[1][at], np.array([len(own) for own in columns])
        return Fit.at(Gram(matrix, target, places_of(counts)), np.zeros(len(variables), dtype=bool))

    def switched(self, variable: int) -> Fit:
        """The fit with a variable added, or removed if it is selected."""
        return self.minus(variable) if self.selected[variable] else self.plus(variable)

    def recomputed(self, *variables: int) -> Fit:
        """The fit with some variables switched, computed from the Gram matrix."""
        return Fit.at(self.gram, switched(self.selected, *variables))

    @cached_property
    def _residuals(self) -> tuple[Sequence[NDArray[np.float64]], NDArray[np.float64]]:
        """The blocks D_jj, shape (n, k, k) for each class in `Gram.classes`, and r, shape (n_columns, n_outputs).

        For single columns of which little remains, both are computed from the stored columns, if there are any.
        """
        gram, exact = self.gram, self.gram.exact
        if exact is not None and self.orthonormal is not None:
            rest = exact.matrix - self.orthonormal @ self.rows
            rest -= self.orthonormal @ (self.orthonormal.T @ rest)
            left = [np.einsum("rvi,rvj->vij", rest[:, own], rest[:, own], optimize=True) for _, own in gram.classes]
            return left, rest.T @ exact.target
        residual, left = gram.target - self.rows.T @ self.effects, []
        for variables, own in gram.classes:
            if own.shape[1] > 1:
                part = self.rows[:, own]
                whole = gram.matrix[own[:, :, None], own[:, None, :]]
                left.append(whole - np.einsum("svi,svj->vij", part, part, optimize=True))
                continue
            at = own[:, 0]
            part = self.rows if len(at) == len(gram.matrix) else self.rows[:, at]
            sizes = gram.matrix[at, at] - np.einsum("sv,sv->v", part, part)
            if exact is not None and (small := ~self.selected[variables] & (sizes < CLEAR)).any():
                inside = exact.matrix[:, self.inside] @ self.basis
                rest = exact.matrix[:, at[small]] - inside @ self.rows[:, at[small]]
                rest -= inside @ (inside.T @ rest)
                sizes[small], residual[at[small]] = (rest**2).sum(axis=0), rest.T @ exact.target
            left.append(sizes[:, None, None])
        return left, residual

    @cached_property
    def gains(self) -> NDArray[np.float64]:
        """Gain of R^2 by adding each variable, shape (n_variables,); 0 for selected ones."""
        gains = np.zeros(len(self.gram.columns))
        blocks, residual = self._residuals
        for (variables, columns), left in zip(self.gram.classes, blocks, strict=True):
            gains[variables], clear = self._quadratic(left, residual[columns])
            for variable in variables[~clear & ~self.selected[variables]].tolist():
                gains[variable] = self.gram.explained(switched(self.selected, variable)) - self.value
        gains[self.selected] = 0.0
        return gains

    @cached_property
    def losses(self) -> NDArray[np.float64]:
        """Loss of R^2 by removing each variable, shape (n_variables,); 0 for those not selected."""
        losses = np.zeros(len(self.gram.columns))
        if all(columns.shape[1] == 1 for _, columns in self.gram.classes):
            losses[self._owner] = ((self.basis @ self.effects) ** 2).sum(axis=1) / (self.basis**2).sum(axis=1)
            return losses
        for variables, places in self._chosen:
            losses[variables] = ((np.swapaxes(self._across(places), 1, 2) @ self.effects) ** 2).sum(axis=(1, 2))
        return losses

    def _across(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Orthonormal directions that only the columns at given indices (i, k) span, shape (i, s, k)."""
        turns = np.swapaxes(self.basis[places], 1, 2)
        if places.shape[1] == 1:
            return turns / np.linalg.norm(turns, axis=1, keepdims=True)
        return np.linalg.qr(turns)[0]

    @cached_property
    def _chosen(self) -> Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """The selected variables by number of columns, and the indices of their columns in `inside`."""
        place = np.full(len(self.gram.matrix), -1, dtype=np.int64)
        place[self.inside] = np.arange(len(self.inside))
        out = []
        for variables, columns in self.gram.classes:
            at = np.flatnonzero(self.selected[variables])
            places = place[columns[at]]
            whole = (places >= 0).all(axis=1)
            if whole.any():
                out.append((variables[at[whole]], places[whole]))
            for variable, part in zip(variables[at[~whole]], places[~whole], strict=True):  # the rest is dependent
                if (part >= 0).any():
                    out.append((np.array([variable]), part[part >= 0][None]))
        return out

    def swaps(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Change of R^2 if one variable replaces another.

        Returns
        -------
        out : ndarray of int, shape (n_out,)
            The selected variables that have columns.
        change : ndarray of shape (n_out, n_variables)
            With the row's variable out and the column's variable in. If the latter is selected, minus the row's loss.
        """
        outs = [variables for variables, _ in self._chosen]
        out = np.concatenate(outs) if outs else np.zeros(0, dtype=np.int64)
        change = np.zeros((len(out), len(self.gram.columns)))
        first, most = 0, max(1, BLOCK // len(self.gram.columns))
        for _, places in self._chosen:
            for part in np.split(places, range(most, len(places), most)):
                self._explained_instead(part, change[first : first + len(part)])
                first += len(part)
        change[:, self.selected] = 0.0
        change -= self.losses[out][:, None]
        return out, change

    def _explained_instead(self, places: NDArray[np.int64], out: NDArray[np.float64]) -> None:
        """What each variable explains after removing the columns at indices (i, k), shape (i, n_variables)."""
        across = np.swapaxes(self._across(places), 1, 2)  # (i, k, s)
        step = across @ self.effects
        effects = (across.reshape(-1, across.shape[2]) @ self.rows).reshape(*places.shape, -1)
        blocks, products = self._residuals
        for (variables, columns), left in zip(self.gram.classes, blocks, strict=True):
            if columns.shape[1] == 1 and places.shape[1] == 1:
                effect = effects[:, 0, columns[:, 0]]  # (i, j)
                spread = left[:, 0, 0] + effect**2
                explained = np.zeros_like(effect)
                for output in range(products.shape[1]):
                    explained += (products[columns[:, 0], output] + step[:, :, output] * effect) ** 2
                out[:, variables] = explained / np.where(spread > self.gram.nothing, spread, np.inf)
                continue
            effect = effects[:, :, columns]  # (i, k, j, l)
            residual = products[columns][None] + np.einsum("ikjl,ikq->ijlq", effect, step)
            spread = left[None] + np.einsum("ikjl,ikjn->ijln", effect, effect, optimize=True)
            out[:, variables], clear = self._quadratic(spread, residual)
            for row, number in np.argwhere(~clear & ~self.selected[variables]).tolist():
                swapped = switched(self.selected, int(self._owner[places[row, 0]]), int(variables[number]))
                # The caller subtracts the loss.
                loss = float((step[row] ** 2).sum())
                out[row, variables[number]] = self.gram.explained(swapped) - self.value + loss

    @property
    def _owner(self) -> NDArray[np.int64]:
        """The variable of each column inside."""
        return self.gram.owner[self.inside]

    def _quadratic(
        self, matrices: NDArray[np.float64], vectors: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Sums over outputs of ``v' inv(M) v``, (..., k, k) and (..., k, n_outputs) to (...), and which are clear.

        Null directions count as 0. A value is not clear if the stored columns give a more accurate one.
        """
        nothing = self.gram.nothing
        if matrices.shape[-1] == 1:
            size = matrices[..., 0, 0]
            squares = (vectors**2).sum(axis=(-1, -2))
            out = np.divide(squares, size, out=np.zeros_like(size), where=size > nothing)
            return out, np.ones(size.shape, dtype=bool)
        sizes, directions = np.linalg.eigh(matrices)
        squares = ((np.swapaxes(directions, -1, -2) @ vectors) ** 2).sum(axis=-1)
        clear = sizes[..., 0] > CLEAR if self.gram.exact is not None else np.ones(sizes.shape[:-1], dtype=bool)
        out = np.divide(squares, sizes, out=np.zeros_like(squares), where=sizes > max(nothing, COLLINEAR)).sum(axis=-1)
        return out, clear


def switched(selected: NDArray[np.bool_], *variables: int) -> NDArray[np.bool_]:
    """A selection with some variables added, or removed if they are selected."""
    out = selected.copy()
    out[list(variables)] ^= True
    return out


@dataclass(frozen=True, eq=False, repr=False)
class LeastSquares(Metric):
    """R^2 of the least-squares fit on the selected variables, with a replacement table in closed form.

    Parameters
    ----------
    space : ChoiceSpace
        One decision per variable, with the options 0 (out) and 1 (in).
    gram : Gram
    """

    space: ChoiceSpace
    gram: Gram
    name: str = field(default="R^2", kw_only=True)
    unit: str = field(default="", kw_only=True)
    _last: dict[bytes, Fit] = field(init=False, default_factory=dict)

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([self.gram.explained(row.astype(bool)) for row in selections])

    def replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.table(Fit.at(self.gram, selection.astype(bool)))

    def table(self, fit: Fit) -> NDArray[np.float64]:
        """Replacement table at a fit."""
        if fit.dependent:
            return Metric.replacements(self, fit.selected.astype(np.int64))
        return np.column_stack([fit.value - fit.losses, fit.value + fit.gains]).ravel()

    def state(self, selection: NDArray[np.int64]) -> State:
        return _FitState(self, Fit.at(self.gram, selection.astype(bool)))

    def limits(self) -> tuple[float, float]:
        return 0.0, 1.0

    def _most(self, allowed: NDArray[np.bool_]) -> Fit:
        """The fit on all variables that may be in; no subset explains more (Furnival & Wilson, 1974)."""
        key = allowed[1::2].tobytes()
        if key not in self._last:
            self._last.clear()
            self._last[key] = Fit.at(self.gram, allowed[1::2])
        return self._last[key]

    def least_with(self, sign: float, allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Bounds by the fit on all other variables, or those of `Metric` if this fit is not sure."""
        fit = self._most(allowed) if sign < 0 else None
        if fit is None or not fit.sure:
            return Metric.least_with(self, sign, allowed)
        losses = np.zeros_like(fit.losses) if fit.dependent else fit.losses
        return np.column_stack([losses, np.zeros_like(losses)]).ravel() - fit.value - ROUNDING

    def minorant(self, sign: float, allowed: NDArray[np.bool_]) -> SumTable | None:
        """Leaving out variables loses at least the sum of the losses of each alone, divided by an eigenvalue.

        This is the largest eigenvalue of the inverse Gram matrix, scaled so that the block of each variable is the
        identity. The largest eigenvalue of the part left out is no larger.
        """
        fit = self._most(allowed) if sign < 0 else None
        if fit is None or fit.dependent or not fit.sure or len(fit.inside) > LARGEST:
            return None
        owner = fit.gram.owner[fit.inside]
        across = [np.linalg.qr(fit.basis[owner == v].T)[0] for v in np.unique(owner).tolist()]
        largest = np.linalg.norm(np.concatenate(across, axis=1), 2) ** 2 * (1 + 1e-9) if across else 1.0
        lost = np.column_stack([fit.losses / largest, np.zeros_like(fit.losses)]).ravel()
        return SumTable(lost, -fit.value - ROUNDING)

    def minimum(self) -> float:
        return 0.0

    def maximum(self) -> float:
        return self.gram.explained(np.ones(self.space.n_decisions, dtype=bool))


class _FitState:
    """State of a fit; adding or removing a variable takes O(s p), with s of p columns selected."""

    weights, sampled = None, False

    def __init__(self, metric: LeastSquares, fit: Fit) -> None:
        self.metric, self.fit, self.updates = metric, fit, 0
        self.past: deque[Fit] = deque(maxlen=DEPTH)
        self._table: NDArray[np.float64] | None = None

    @property
    def value(self) -> float:
        return self.fit.value

    def table(self) -> NDArray[np.float64]:
        if self._table is None:
            self._table = self.metric.table(self.fit)
        return self._table

    local_table = table

    def entries(self, options: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.table()[options]

    def exchanges(self, outgoing: Switch) -> NDArray[np.float64]:
        return self.metric.table(self._after([outgoing]))

    def move(self, switches: Sequence[Switch]) -> None:
        self.past.append(self.fit)
        self.updates += len(switches)
        self.fit, self._table = self._after(switches), None
        if self.updates >= UPDATES:  # rounding errors add up
            self.fit, self.updates = self.fit.recomputed(), 0

    def undo(self) -> None:
        if not self.past:
            raise IndexError("no move to undo")
        self.fit, self._table = self.past.pop(), None

    def _after(self, switches: Sequence[Switch]) -> Fit:
        fit = self.fit
        for variable, option in switches:
            if fit.selected[variable] != option:
                fit = fit.switched(variable)
        return fit
