"""A least-squares fit on a subset, and what every addition, removal and swap would make of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cggd_features.gram import Gram

# A column of length 1 of which less than this is left, once others are known, is a combination of them.
COLLINEAR = 1e-9


@dataclass(frozen=True, eq=False)
class Fit:
    """A least-squares fit on a subset, with closed forms for every addition, removal and swap.

    Attributes
    ----------
    selected : bool array of shape (n_variables,)
    inside : ndarray of int, shape (s,)
        The columns in the fit, in the order of the rows of K, b and U.
    inverse, coef, effect, residual : ndarray
        K, b, U and r of the formulas above.
    left : list of ndarray
        The blocks D_jj, for each class of variables in `Gram.classes`, shape (n, k, k).
    dependent : bool
        Whether selected columns are combinations of other selected ones. Those then count as if they were not there,
        so that `losses` and `swaps` may overstate what is lost with another one.
    """

    gram: Gram
    selected: NDArray[np.bool_]
    inside: NDArray[np.int64]
    inverse: NDArray[np.float64]
    coef: NDArray[np.float64]
    effect: NDArray[np.float64]
    residual: NDArray[np.float64]
    left: Sequence[NDArray[np.float64]]
    dependent: bool

    @cached_property
    def value(self) -> float:
        """R^2 of the subset."""
        return float((self.coef * self.gram.target[self.inside]).sum())

    def plus(self, variable: int) -> Fit:
        """The fit with one more variable, in O(s p); one that adds nothing beyond rounding is refused."""
        own = self.gram.columns[variable]
        used = self.effect[:, own]
        rest = self.gram.matrix[own] - self.gram.matrix[np.ix_(own, self.inside)] @ self.effect
        sizes, directions = np.linalg.eigh(rest[:, own])
        if len(own) == 0 or sizes.min() <= COLLINEAR or self.dependent:
            return self.gram.at(_switched(self.selected, variable))
        kept = (directions / sizes) @ directions.T
        new_effect = kept @ rest
        step = kept @ self.residual[own]
        corner = used @ kept
        left = []
        for (_, columns), block in zip(self.gram.classes, self.left, strict=True):
            taken = np.einsum("kvi,kvj->vij", rest[:, columns], new_effect[:, columns])
            left.append(block - taken)
        return replace(
            self,
            selected=_switched(self.selected, variable),
            inside=np.concatenate([self.inside, own]),
            inverse=np.block([[self.inverse + corner @ used.T, -corner], [-corner.T, kept]]),
            coef=np.concatenate([self.coef - used @ step, step]),
            effect=_below(self.effect, used @ new_effect, new_effect),
            residual=self.residual - rest.T @ step,
            left=left,
        )

    def minus(self, variable: int) -> Fit:
        """The fit with one variable less, in O(s p)."""
        gone = np.isin(self.inside, self.gram.columns[variable])
        if self.dependent or not gone.any():
            return self.gram.at(_switched(self.selected, variable))
        kept = np.linalg.inv(self.inverse[np.ix_(gone, gone)])
        across = self.inverse[np.ix_(~gone, gone)] @ kept
        lost, step = self.effect[gone], kept @ self.coef[gone]
        left = []
        for (_, columns), block in zip(self.gram.classes, self.left, strict=True):
            returned = np.einsum("kvi,kvj->vij", lost[:, columns], (kept @ lost)[:, columns])
            left.append(block + returned)
        return replace(
            self,
            selected=_switched(self.selected, variable),
            inside=self.inside[~gone],
            inverse=self.inverse[np.ix_(~gone, ~gone)] - across @ self.inverse[np.ix_(gone, ~gone)],
            coef=self.coef[~gone] - across @ self.coef[gone],
            effect=np.subtract(kept_effect := self.effect[~gone], across @ lost, out=kept_effect),
            residual=self.residual + lost.T @ step,
            left=left,
        )

    @cached_property
    def gains(self) -> NDArray[np.float64]:
        """What each variable would add to R^2, shape (n_variables,); 0 for the selected."""
        gains = np.zeros(len(self.gram.columns))
        for (variables, columns), left in zip(self.gram.classes, self.left, strict=True):
            gains[variables] = _quadratic(left, self.residual[columns])
        gains[self.selected] = 0.0
        return gains

    @cached_property
    def losses(self) -> NDArray[np.float64]:
        """What R^2 would lose with each variable, shape (n_variables,); 0 for those not selected."""
        losses = np.zeros(len(self.gram.columns))
        for variables, places in self._chosen:
            losses[variables] = _quadratic(self.inverse[places[:, :, None], places[:, None, :]], self.coef[places])
        return losses

    @cached_property
    def _chosen(self) -> Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """The selected variables by their number of columns, and the places of those among the columns inside."""
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

    def swaps(self, among: NDArray[np.int64] | None = None) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """What R^2 would gain if one variable took another's place.

        Parameters
        ----------
        among : ndarray of int, optional
            Variables to be put in; all by default.

        Returns
        -------
        out : ndarray of int, shape (n_out,)
            The selected variables that have columns.
        change : ndarray of shape (n_out, n_variables)
            Of R^2 with the row's variable out and the column's one in; minus the row's loss for the selected.
        """
        outs = [variables for variables, _ in self._chosen]
        change = np.zeros((sum(map(len, outs)), len(self.gram.columns)))
        wanted = None if among is None else np.isin(np.arange(len(self.gram.columns)), among)
        first = 0
        for variables, places in self._chosen:
            rows = slice(first, first + len(variables))
            first += len(variables)
            kept = np.linalg.inv(self.inverse[places[:, :, None], places[:, None, :]])  # (i, k, k)
            step = np.einsum("ikl,ilq->ikq", kept, self.coef[places])
            for (others, columns), left in zip(self.gram.classes, self.left, strict=True):
                if wanted is not None:
                    others, columns, left = others[wanted[others]], columns[wanted[others]], left[wanted[others]]
                if columns.shape[1] == 1 and places.shape[1] == 1:
                    at = columns[:, 0]
                    effect = self.effect[places][:, 0, at]  # (i, j)
                    spread = left[None, :, 0, 0] + kept[:, :, 0] * effect**2
                    explained = np.zeros_like(effect)
                    for output in range(self.residual.shape[1]):
                        explained += (self.residual[None, at, output] + step[:, :, output] * effect) ** 2
                    np.divide(explained, spread, out=explained, where=spread > COLLINEAR)
                    explained[spread <= COLLINEAR] = 0.0
                else:
                    effect = self.effect[places][:, :, columns]  # (i, k, j, l)
                    residual = self.residual[columns][None] + np.einsum("ikjl,ikq->ijlq", effect, step)
                    spread = left[None] + np.einsum("ikjl,ikm,imjn->ijln", effect, kept, effect, optimize=True)
                    explained = _quadratic(spread, residual)
                change[rows, others] = explained
        out = np.concatenate(outs) if outs else np.zeros(0, dtype=np.int64)
        change[:, self.selected] = 0.0
        change -= self.losses[out][:, None]
        return out, change


def _below(rows: NDArray[np.float64], less: NDArray[np.float64], more: NDArray[np.float64]) -> NDArray[np.float64]:
    """``rows - less`` with more rows below, without a copy of either."""
    out = np.empty((len(rows) + len(more), rows.shape[1]))
    np.subtract(rows, less, out=out[: len(rows)])
    out[len(rows) :] = more
    return out


def _switched(selected: NDArray[np.bool_], variable: int) -> NDArray[np.bool_]:
    out = selected.copy()
    out[variable] = not out[variable]
    return out


def _quadratic(matrices: NDArray[np.float64], vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over outputs of ``v' inv(M) v``, (..., k, k) and (..., k, n_outputs) to (...); without null directions."""
    if matrices.shape[-1] == 1:
        size = matrices[..., 0, 0]
        squares = (vectors**2).sum(axis=(-1, -2))
        return np.divide(squares, size, out=np.zeros_like(size), where=size > COLLINEAR)
    sizes, directions = np.linalg.eigh(matrices)
    squares = ((np.swapaxes(directions, -1, -2) @ vectors) ** 2).sum(axis=-1)
    return np.divide(squares, sizes, out=np.zeros_like(squares), where=sizes > COLLINEAR).sum(axis=-1)
