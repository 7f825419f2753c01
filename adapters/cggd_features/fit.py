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

# Swaps are computed for so many pairs at a time, whose numbers the cache of a processor holds.
BLOCK = 2**15


@dataclass(frozen=True, eq=False)
class Fit:
    """A least-squares fit on a subset, with closed forms for every addition, removal and swap.

    Attributes
    ----------
    selected : bool array of shape (n_variables,)
    inside : ndarray of int, shape (s,)
        The columns in the fit, in the order of the rows of K, b and U.
    inverse, coef, residual : ndarray
        K, b and r of the formulas of `cggd_features.gram`. U is not kept: an addition and a removal each need one
        combination of rows of the Gram matrix, and only swaps need all of it, in blocks.
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
    residual: NDArray[np.float64]
    left: Sequence[NDArray[np.float64]]
    dependent: bool

    @cached_property
    def value(self) -> float:
        """R^2 of the subset."""
        return float((self.coef * self.gram.target[self.inside]).sum())

    @cached_property
    def rows(self) -> NDArray[np.float64]:
        """Products of the columns inside with all columns, shape (s, n_columns)."""
        return self.gram.matrix[self.inside]

    def plus(self, variable: int) -> Fit:
        """The fit with one more variable, in O(s p); one that adds nothing beyond rounding is refused."""
        own = self.gram.columns[variable]
        if len(own) == 0 or self.dependent:
            return self.gram.at(_switched(self.selected, variable))
        used = self.inverse @ self.rows[:, own]
        rest = self.gram.matrix[own] - used.T @ self.rows
        sizes, directions = np.linalg.eigh(rest[:, own]) if len(own) > 1 else (rest[0, own], np.ones((1, 1)))
        if sizes.min() <= COLLINEAR:
            return self.gram.at(_switched(self.selected, variable))
        kept = (directions / sizes) @ directions.T
        new_effect = kept @ rest
        step = kept @ self.residual[own]
        corner = used @ kept
        inverse = np.empty((len(used) + len(own),) * 2)
        np.add(self.inverse, corner @ used.T, out=inverse[: len(used), : len(used)])
        inverse[: len(used), len(used) :] = -corner
        inverse[len(used) :, : len(used)] = -corner.T
        inverse[len(used) :, len(used) :] = kept
        left = []
        for (_, columns), block in zip(self.gram.classes, self.left, strict=True):
            taken = np.einsum("kvi,kvj->vij", rest[:, columns], new_effect[:, columns])
            left.append(block - taken)
        return replace(
            self,
            selected=_switched(self.selected, variable),
            inside=np.concatenate([self.inside, own]),
            inverse=inverse,
            coef=np.concatenate([self.coef - used @ step, step]),
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
        lost, step = self.inverse[gone] @ self.rows, kept @ self.coef[gone]
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

    def swaps(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """What R^2 would gain if one variable took another's place.

        Returns
        -------
        out : ndarray of int, shape (n_out,)
            The selected variables that have columns.
        change : ndarray of shape (n_out, n_variables)
            Of R^2 with the row's variable out and the column's one in; minus the row's loss for the selected.
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
        """What each variable explains once those at some places, shape (i, k), are left out, shape (i, n_variables)."""
        kept = np.linalg.inv(self.inverse[places[:, :, None], places[:, None, :]])  # (i, k, k)
        step = np.einsum("ikl,ilq->ikq", kept, self.coef[places])
        effects = (self.inverse[places.ravel()] @ self.rows).reshape(*places.shape, -1)  # of U
        for (variables, columns), left in zip(self.gram.classes, self.left, strict=True):
            if columns.shape[1] == 1 and places.shape[1] == 1:
                effect = effects[:, 0, columns[:, 0]]  # (i, j)
                spread = left[:, 0, 0] + kept[:, :, 0] * effect**2
                explained = np.zeros_like(effect)
                for output in range(self.residual.shape[1]):
                    explained += (self.residual[columns[:, 0], output] + step[:, :, output] * effect) ** 2
                out[:, variables] = explained / np.where(spread > COLLINEAR, spread, np.inf)
            else:
                effect = effects[:, :, columns]  # (i, k, j, l)
                residual = self.residual[columns][None] + np.einsum("ikjl,ikq->ijlq", effect, step)
                spread = left[None] + np.einsum("ikjl,ikm,imjn->ijln", effect, kept, effect, optimize=True)
                out[:, variables] = _quadratic(spread, residual)


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
