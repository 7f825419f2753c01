"""Choice spaces: decisions, their options, and conversions between labels, indices and flat positions."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, Literal

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cggd.checks import own
from cggd.layout import Layout

# Spaces up to this many selections may be enumerated; 4 million rows of a few decisions take about 200 MB.
ENUMERABLE = 4_000_000


@dataclass(frozen=True, eq=False)
class _Numbered(Mapping[Hashable, Sequence[Hashable]]):
    """Decisions 0, 1, ... with options 0, 1, ..., without storing them."""

    sizes: NDArray[np.int64]

    def __getitem__(self, decision: Any) -> range:
        return range(int(self.sizes[decision]))

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.sizes)))

    def __len__(self) -> int:
        return len(self.sizes)


@dataclass(frozen=True, eq=False, repr=False)
class ChoiceSpace:
    """Decisions, each with a finite number of options.

    A *selection* has one option of each decision: a mapping of labels such as ``{"stem": "conv3"}``, or an int array of
    shape (n_decisions,) with the index of each option in its decision. *Flat* arrays have one entry for each option of
    each decision, shape (n_options,), divided by `offsets`.

    Parameters
    ----------
    options : mapping of decision to sequence of options
        Labels may be any hashable values. A decision has at least one option, and its options are distinct.
    graph : networkx graph, optional
        A graph whose nodes or edges are the decisions; used for drawing and for path metrics.
    attributes : mapping of name to sequence of str, optional
        Texts that describe options, one per option in flat order, such as the socket of each board; an empty text means
        none. Rules may refer to them (`cggd.rules`).

    Raises
    ------
    ValueError
        If there is no decision, a decision has no option, or an option is given twice.

    Examples
    --------
    >>> space = ChoiceSpace({"stem": ["conv3", "conv5"], "pool": ["max", "avg", "none"]})
    >>> space.n_decisions, space.n_options, space.n_selections
    (2, 5, 6)
    >>> space.indices({"stem": "conv5", "pool": "none"})
    array([1, 2])
    >>> space.labels([1, 2])
    {'stem': 'conv5', 'pool': 'none'}
    """

    options: Mapping[Hashable, Sequence[Hashable]]
    graph: nx.Graph[Any] | None = None
    attributes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    decisions: Sequence[Hashable] = field(init=False)
    layout: Layout = field(init=False)
    _labels: Mapping[Hashable, Sequence[Hashable]] = field(init=False)

    def __post_init__(self) -> None:
        if isinstance(self.options, _Numbered):
            decisions, labels, sizes = range(len(self.options)), self.options, self.options.sizes
        else:
            labels = _checked(self.options)
            decisions, sizes = tuple(labels), np.fromiter(map(len, labels.values()), np.int64, len(labels))
        if len(decisions) == 0:
            raise ValueError("options is empty; a choice space needs at least one decision")
        if self.graph is not None and not isinstance(self.graph, nx.Graph):
            raise TypeError(f"graph must be a networkx graph, got {self.graph!r}")
        layout = Layout(np.concatenate([[0], np.cumsum(sizes)]))
        for name, texts in self.attributes.items():
            if len(texts) != layout.n_options:
                raise ValueError(
                    f"attribute {name!r} must have {layout.n_options} texts, one per option, got {len(texts)}"
                )
        own(self, decisions=decisions, _labels=labels, layout=layout)

    # -- other ways to make one -----------------------------------------------------------------------------------

    @classmethod
    def from_sizes(cls, sizes: ArrayLike) -> ChoiceSpace:
        """Decisions 0, 1, ... with options 0, 1, ..., given the numbers of options; labels take no memory.

        Examples
        --------
        >>> ChoiceSpace.from_sizes([2, 3]).labels([1, 0])
        {0: 1, 1: 0}
        """
        array = as_array(sizes, "sizes")
        if array.ndim != 1 or array.size == 0:
            raise ValueError(f"sizes must be a non-empty list of numbers of options, got {_shown(array)}")
        if not np.issubdtype(array.dtype, np.integer):
            raise TypeError(f"sizes must be whole numbers, got dtype {array.dtype}")
        if array.min() < 1:
            decision = int(np.argmax(array < 1))
            raise ValueError(f"sizes must be at least 1, got {array[decision]} for decision {decision}")
        return cls(_Numbered(array.astype(np.int64)))

    @classmethod
    def from_graph(
        cls,
        graph: nx.Graph[Any],
        options: Sequence[Hashable] | None = None,
        *,
        on: Literal["nodes", "edges"] = "nodes",
        attribute: str = "options",
    ) -> ChoiceSpace:
        """Decisions on the nodes or edges of a graph, which is kept.

        Parameters
        ----------
        graph : networkx graph
            Decisions are node labels, or edge tuples ``(u, v)``.
        options : sequence, optional
            Options of every decision. By default those of a node (edge) are its `attribute`, and nodes (edges) without
            it are no decisions.
        on : {"nodes", "edges"}
        attribute : str
        """
        if on not in ("nodes", "edges"):
            raise ValueError(f'on must be "nodes" or "edges", got {on!r}')
        if not isinstance(graph, nx.Graph):
            raise TypeError(f"graph must be a networkx graph, got {graph!r}")
        if graph.number_of_nodes() == 0 or (on == "edges" and graph.number_of_edges() == 0):
            raise ValueError(f"graph has no {on}, and a choice space needs at least one decision")
        if on == "edges" and graph.is_multigraph():
            raise ValueError("graph has parallel edges; a decision per edge needs at most one edge between two nodes")
        items = graph.nodes if on == "nodes" else graph.edges
        if options is not None:
            return cls(dict.fromkeys(items, options), graph)
        mapping = {item: data[attribute] for item, data in items.items() if attribute in data}
        if not mapping:
            raise ValueError(f"no {on[:-1]} of graph carries the attribute {attribute!r}; set it or pass options")
        return cls(mapping, graph)

    @classmethod
    def from_table(cls, frame: Any, *, decision: str = "decision", option: str = "option") -> ChoiceSpace:
        """Decisions and options in the order in which a long table first names them.

        Parameters
        ----------
        frame : DataFrame or mapping of column name to sequence
            One row per option. Metrics take their values from the other columns: ``Additive(space, frame["ms"])``
            needs the rows of one decision to stand together; otherwise use ``Additive.from_table``.
        decision, option : str
            Column names.
        """
        decisions, options = _columns(frame, decision, option)
        for name, labels in ((decision, decisions), (option, options)):
            missing = [row for row, label in enumerate(labels) if label is None or label != label]
            if missing:
                raise ValueError(f"column {name!r} has no label in row {missing[0]}, got {labels[missing[0]]!r}")
        mapping: dict[Hashable, list[Hashable]] = {}
        for d, o in zip(decisions, options, strict=True):
            mapping.setdefault(d, []).append(o)
        return cls(mapping)

    # -- size and shape -------------------------------------------------------------------------------------------

    @property
    def n_decisions(self) -> int:
        """Number of decisions."""
        return self.layout.n_decisions

    @property
    def n_options(self) -> int:
        """Number of options of all decisions together."""
        return self.layout.n_options

    @cached_property
    def n_selections(self) -> int:
        """Number of selections, an exact integer of any size."""
        sizes, counts = np.unique(self.sizes, return_counts=True)
        return prod(map(pow, sizes.tolist(), counts.tolist()))

    def has_at_most(self, n: int) -> bool:
        """Whether there are at most `n` selections; faster than to compute their number.

        Examples
        --------
        >>> ChoiceSpace.from_sizes([10] * 3).has_at_most(1000), ChoiceSpace.from_sizes([10] * 10**6).has_at_most(1000)
        (True, False)
        """
        return n > 0 and bool(np.log2(self.sizes).sum() <= np.log2(n) + 1) and self.n_selections <= n

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of options of each decision, shape (n_decisions,)."""
        return self.layout.sizes

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Start of each decision in flat arrays, and their length, shape (n_decisions + 1,)."""
        return self.layout.offsets

    def __repr__(self) -> str:
        low, high = int(self.sizes.min()), int(self.sizes.max())
        each = f"{low}" if low == high else f"{low} to {high}"
        return f"ChoiceSpace({self.n_decisions} decisions, {each} options each)"

    # -- conversions ----------------------------------------------------------------------------------------------

    def option_labels(self, decision: Hashable) -> Sequence[Hashable]:
        """Labels of the options of one decision."""
        self.position(decision)  # raises if it is unknown
        return self._labels[decision]

    @cached_property
    def _positions(self) -> dict[Hashable, int]:
        return {decision: d for d, decision in enumerate(self.decisions)}

    def position(self, decision: Hashable) -> int:
        """Number of a decision, from its label."""
        try:
            return self._positions[decision]
        except (KeyError, TypeError):
            raise ValueError(f"unknown decision {decision!r}; the space has {few(self.decisions)}") from None

    def option_index(self, decision: Hashable, option: Hashable) -> int:
        """Local index of an option of a decision, from its label."""
        labels = self.option_labels(decision)
        try:
            return labels.index(option)
        except ValueError:
            raise ValueError(f"decision {decision!r} has no option {option!r}; it has {few(labels)}") from None

    def indices(self, selection: Mapping[Hashable, Hashable] | ArrayLike) -> NDArray[np.int64]:
        """Check a selection, given as labels or as indices, and return its indices, shape (n_decisions,)."""
        if isinstance(selection, Mapping):
            missing = [d for d in self.decisions if d not in selection]
            if missing:
                raise ValueError(f"selection leaves decisions open: {few(missing)}")
            return self.partial(selection)
        array = as_array(selection, "selection")
        if array.shape != (self.n_decisions,):
            raise ValueError(
                f"selection must be a mapping of labels, or indices of shape ({self.n_decisions},), got {_shown(array)}"
            )
        return self.check_selections(array[None])[0]

    def partial(self, selection: Mapping[Hashable, Hashable]) -> NDArray[np.int64]:
        """Indices of a selection that may be incomplete; -1 for decisions without an option."""
        indices = np.full(self.n_decisions, -1, dtype=np.int64)
        for decision, option in selection.items():
            indices[self.position(decision)] = self.option_index(decision, option)
        return indices

    def labels(self, selection: ArrayLike) -> dict[Hashable, Hashable]:
        """Labels of a selection given as indices, shape (n_decisions,)."""
        indices = self.indices(selection).tolist()
        if isinstance(self._labels, _Numbered):  # the labels are the numbers
            return dict(zip(self.decisions, indices, strict=True))
        return {d: labels[i] for (d, labels), i in zip(self._labels.items(), indices, strict=True)}

    def check_selections(self, selections: ArrayLike) -> NDArray[np.int64]:
        """Check an array of selections, shape (n, n_decisions), and return it as int64."""
        array = as_array(selections, "selections")
        if array.ndim != 2 or array.shape[1] != self.n_decisions:
            raise ValueError(f"selections must have shape (n, {self.n_decisions}), got {array.shape}")
        if not np.issubdtype(array.dtype, np.integer):
            raise TypeError(f"selections must hold whole numbers, got {array.dtype} ({few(array.ravel().tolist())})")
        wrong = (array < 0) | (array >= self.sizes)
        if wrong.any():
            row, d = np.argwhere(wrong)[0].tolist()
            raise ValueError(
                f"selection {row} takes option {array[row, d]} of decision {self.decisions[d]!r}, "
                f"which has options 0 to {self.sizes[d] - 1}"
            )
        return array.astype(np.int64, copy=False)

    def values(self, values: Any, *, argument: str = "values") -> NDArray[np.float64]:
        """Check numbers given per option and return them flat.

        Parameters
        ----------
        values : array-like of shape (n_options,), or mapping of decision to (mapping of option to number, or sequence)
        argument : str
            Their name in error messages.
        """
        if isinstance(values, Mapping):
            flat = self._values_of_mapping(values, argument)
        else:
            flat = as_floats(values, argument).copy()  # the caller may change the original
            if flat.shape == (self.n_decisions, self.layout.uniform):
                flat = flat.ravel()
        if flat.shape != (self.n_options,):
            raise ValueError(f"{argument} must have one number per option, shape ({self.n_options},), got {flat.shape}")
        if not np.isfinite(flat).all():
            where = int(np.argmax(~np.isfinite(flat)))
            raise ValueError(f"{argument} must be finite, got {flat[where]} for {self.name_option(where)}")
        return flat

    def _values_of_mapping(self, values: Mapping, argument: str) -> NDArray[np.float64]:
        unknown = [d for d in values if d not in self._positions]
        if unknown:
            raise ValueError(f"{argument} names unknown decisions: {few(unknown)}; the space has {few(self.decisions)}")
        rows = []
        for decision, labels in self._labels.items():
            if decision not in values:
                raise ValueError(f"{argument} has no entry for decision {decision!r}")
            given, name = values[decision], f"{argument} of decision {decision!r}"
            if isinstance(given, Mapping):
                if extra := [o for o in given if o not in labels]:
                    raise ValueError(f"{name} names unknown options: {few(extra)}")
                if missing := [o for o in labels if o not in given]:
                    raise ValueError(f"{name} lacks options: {few(missing)}")
                given = [given[o] for o in labels]
            rows.append(as_floats(given, name))
            if rows[-1].shape != (len(labels),):
                raise ValueError(f"{name} must hold {len(labels)} numbers, got {rows[-1].shape}")
        return np.concatenate(rows, dtype=np.float64)

    def from_rows(
        self, frame: Any, column: str, *, decision: str = "decision", option: str = "option"
    ) -> NDArray[np.float64]:
        """One column of a long table as flat values; rows may stand in any order."""
        decisions, options, numbers = _columns(frame, decision, option, column)
        given = as_floats(numbers, f"column {column!r}")
        places = [
            self.offsets[self.position(d)] + self.option_index(d, o) for d, o in zip(decisions, options, strict=True)
        ]
        rows = np.bincount(np.array(places, dtype=np.int64), minlength=self.n_options)
        for wrong, what in ((rows > 1, "more than one row"), (rows == 0, "no row")):
            if wrong.any():
                raise ValueError(f"column {column!r} has {what} for {self.name_option(int(np.argmax(wrong)))}")
        flat = np.empty(self.n_options)
        flat[places] = given
        return self.values(flat, argument=f"column {column!r}")

    def name_option(self, flat: int) -> str:
        """Decision and option of a flat position, for messages."""
        d = int(np.searchsorted(self.offsets, flat, side="right")) - 1
        decision = self.decisions[d]
        return f"option {self._labels[decision][flat - int(self.offsets[d])]!r} of decision {decision!r}"

    # -- selections -----------------------------------------------------------------------------------------------

    def switches(self, selection: NDArray[np.int64], options: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Copies of a selection, each switched to one option, shape (n, n_decisions).

        Parameters
        ----------
        selection : ndarray of int, shape (n_decisions,)
        options : ndarray of int, shape (n,), optional
            Positions of the options; by default all.

        Examples
        --------
        >>> ChoiceSpace.from_sizes([2, 2]).switches(np.array([0, 0]), np.array([1, 3])).tolist()
        [[1, 0], [0, 1]]
        """
        options = np.arange(self.n_options) if options is None else options
        rows = np.repeat(selection[None], len(options), axis=0)
        decisions = self.layout.owner[options]
        rows[np.arange(len(options)), decisions] = options - self.offsets[decisions]
        return rows

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Selections drawn uniformly, shape (n, n_decisions)."""
        return rng.integers(0, self.sizes, size=(n, self.n_decisions))

    def enumerate(self) -> NDArray[np.int64]:
        """All selections in C order of the decisions (the last varies fastest), shape (n_selections, n_decisions)."""
        if self.n_selections > ENUMERABLE:
            number = count(self.n_selections)
            raise ValueError(f"the space has {number} selections; only {ENUMERABLE} can be enumerated")
        # Decisions of one option are left out: numpy arrays have at most 64 dimensions.
        open_ = np.flatnonzero(self.sizes > 1)
        rows = np.zeros((self.n_selections, self.n_decisions), dtype=np.int64)
        if len(open_):
            rows[:, open_] = np.stack(np.unravel_index(np.arange(self.n_selections), tuple(self.sizes[open_])), axis=1)
        return rows

    def allowed(self, forbid: Mapping[Hashable, Iterable[Hashable]] | ArrayLike | None) -> NDArray[np.bool_] | None:
        """Mask of the options that may be chosen, shape (n_options,); None if all may.

        Parameters
        ----------
        forbid : mapping of decision to options, or bool array of shape (n_options,), or None
            The options that must not be chosen.

        Examples
        --------
        >>> ChoiceSpace({"a": ["x", "y"], "b": ["z"]}).allowed({"a": ["y"]})
        array([ True, False,  True])
        """
        if forbid is None:
            return None
        if isinstance(forbid, Mapping):
            mask = np.ones(self.n_options, dtype=bool)
            for decision, labels in forbid.items():
                if isinstance(labels, str) or not isinstance(labels, Iterable):
                    raise TypeError(f"forbid[{decision!r}] must be a list of options, got {labels!r}")
                first = self.offsets[self.position(decision)]
                for option in labels:
                    mask[first + self.option_index(decision, option)] = False
        else:
            array = as_array(forbid, "forbid")
            if array.shape != (self.n_options,) or array.dtype != np.bool_:
                raise ValueError(
                    f"forbid must be a bool array of shape ({self.n_options},), got {array.dtype} {array.shape}"
                )
            mask = ~array
        left = self.layout.reduce(np.logical_or, mask)
        if not left.all():
            raise ValueError(f"every option of decision {self.decisions[int(np.argmin(left))]!r} is forbidden")
        return None if mask.all() else mask


def _checked(options: Any) -> dict[Hashable, tuple[Hashable, ...]]:
    """The options of each decision, or an error that names the decision and what is wrong with it."""
    if not isinstance(options, Mapping):
        raise TypeError(
            f"options must map each decision to its options, got {type(options).__name__}; "
            "for unlabelled decisions use ChoiceSpace.from_sizes"
        )
    checked = {}
    for decision, labels in options.items():
        if isinstance(labels, str | bytes | set | frozenset) or not isinstance(labels, Iterable):
            raise TypeError(f"options of decision {decision!r} must be a list of labels, got {labels!r}")
        checked[decision] = labels = tuple(labels)
        if any(label != label for label in (decision, *labels)):
            raise ValueError(f"decision {decision!r} and its options must have labels, got NaN in {few(labels)}")
        if not labels:
            raise ValueError(f"decision {decision!r} has no option; give it at least one or leave it out")
        if unhashable := [label for label in labels if not _is_hashable(label)]:
            raise TypeError(
                f"options of decision {decision!r} must be hashable labels such as strings, numbers or tuples, "
                f"got {unhashable[0]!r}"
            )
        if len(set(labels)) != len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise ValueError(f"decision {decision!r} lists option {twice!r} more than once; options must differ")
    return checked


def as_array(values: Any, argument: str, *, wanted: str = "a flat list") -> NDArray[Any]:
    """An array of anything that makes one; a ragged list is an error that names the argument."""
    try:
        return np.asarray(values)
    except ValueError:
        raise ValueError(f"{argument} is ragged; give {wanted}") from None


def as_floats(values: Any, argument: str) -> NDArray[np.float64]:
    """Numbers as a float array; other values are an error that names the argument."""
    array = as_array(values, argument, wanted="numbers in a flat list, or a mapping")
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{argument} must hold numbers, got {array.dtype} ({few(array.ravel()[:4].tolist())})")
    return array if array.dtype == np.float32 else array.astype(np.float64, copy=False)


def _columns(frame: Any, *names: str) -> list[list]:
    columns = []
    for name in names:
        try:
            column = frame[name]
        except (KeyError, IndexError, TypeError, ValueError):
            if not isinstance(frame, Mapping) and not hasattr(frame, "columns"):
                wanted = "a DataFrame or map column names to columns"
                raise TypeError(f"the table must be {wanted}, got {frame!r}") from None
            known = list(getattr(frame, "columns", frame))
            raise ValueError(f"the table has no column {name!r}; it has {few(known)}") from None
        if isinstance(column, str) or not isinstance(column, Iterable):
            raise TypeError(f"column {name!r} must hold one entry per row, got {column!r}")
        # numpy would turn labels of several types into strings.
        columns.append(getattr(column, "tolist", lambda column=column: list(column))())
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1:
        raise ValueError(f"columns {few(names)} have different lengths {lengths}")
    return columns


def count(number: int) -> str:
    """A whole number of any size in a few characters, for messages; floats end at 1e308."""
    return f"{number:.3g}" if number < 10**300 else f"about 2**{number.bit_length()}"


def _is_hashable(label: Any) -> bool:
    try:
        return isinstance(hash(label), int)
    except TypeError:
        return False


def _shown(array: NDArray[Any]) -> str:
    return repr(array.item()) if array.ndim == 0 else f"shape {array.shape}"


def few(labels: Iterable[Any], most: int = 6) -> str:
    """The first few labels, for messages."""
    labels = list(labels[: most + 1] if isinstance(labels, Sequence) else labels)
    return ", ".join(repr(x) for x in labels[:most]) + (", ..." if len(labels) > most else "")


def check_space(space: Any) -> None:
    """Raise a TypeError if something is not a choice space."""
    if not isinstance(space, ChoiceSpace):
        raise TypeError(f"space must be a ChoiceSpace, got {space!r}")
