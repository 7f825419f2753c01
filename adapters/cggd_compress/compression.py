"""Compression: choose a format for each weight under limits on the file, and check them on the file."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import onnx
from numpy.typing import NDArray

from cggd.budget import Budget
from cggd.checks import whole
from cggd.constraints import Constraint, unit_hint
from cggd.explain import Explanation, explain
from cggd.feasibility import diagnose, smallest_bound
from cggd.incumbent import Finding, Incumbent
from cggd.metrics import Additive, Measurement, Metric
from cggd.metrics.base import Invalid
from cggd.problem import Problem
from cggd.result import Result, Status
from cggd.rounding import number_text
from cggd.solve import minimize as search
from cggd.sweep import Front, sweep
from cggd_compress.answer import KEEP, Compressed, Row
from cggd_compress.calibration import Calibration, as_batches, given_data, model_inputs, read_data
from cggd_compress.choices import Choices, choices_of
from cggd_compress.costs import COSTS, Limit, amount, as_limits, cost_of, parse_limit
from cggd_compress.damage import check_function, error_function, group_errors, likely_ratios
from cggd_compress.local import Scaled, local_errors
from cggd_compress.network import Network, read_model
from cggd_compress.options import Option, default_options, named_options
from cggd_compress.runtime import Clock, Command, Runtime
from cggd_compress.torch_models import export
from cggd_compress.workload import Trace, trace, workload

Progress = Callable[[str, int, int], None]
Row64 = NDArray[np.int64]

# Rounds that scale the predicted error and time to the measured ones, and minimise the sum again.
ROUNDS = 4

# Timings of the returned file: each must satisfy the limit.
CHECKS = 3

# Margin for the largest ratio of the sum of errors to the joint error, beyond those of measured selections.
PLAUSIBLE = 1.5

# Measured selections of least error that are compared with the least sum.
CHECKED = 16

# Seconds for the least sum of errors, which usually takes much less to solve exactly.
SUM_SECONDS = 10.0


def _silent(text: str, done: int, total: int) -> None:
    """Show nothing."""


@dataclass(frozen=True, eq=False)
class Bench:
    """Runs files of selections and compares their outputs with those of the original.

    Attributes
    ----------
    choices : Choices
    calibration : Calibration
    runtime : Runtime
    error : str or callable
    timed : bool
        Whether the time of a run is measured as well.
    command : Command or None
        Program that measures the time; None for ONNX Runtime on this machine.
    teacher : bytes or None
        Model that outputs are compared with; None for the original.
    grouped : dict of selection to errors
        Errors on groups of rows of selections that ran; None if the user gave the error as a function.
    """

    choices: Choices
    calibration: Calibration
    runtime: Runtime
    error: Any
    timed: bool
    command: Command | None = None
    teacher: bytes | None = None
    grouped: dict[frozenset[Any], NDArray[np.float64] | None] = field(default_factory=dict)

    @cached_property
    def session(self) -> Any:
        """Session of the original."""
        return self.runtime.session(self.choices.network.assemble({}))

    @cached_property
    def reference(self) -> Mapping[str, NDArray]:
        """Outputs of the original, or of the teacher."""
        session = self.session if self.teacher is None else self.runtime.session(self.teacher)
        return self.runtime.outputs(session, self.calibration.batches)

    @cached_property
    def clock(self) -> Clock:
        """Measures times relative to the original."""
        return Clock(self.session, self.calibration.batches[0])

    def __call__(self, selection: Mapping[Any, Any]) -> dict[str, float]:
        """Error of a selection, and the median time of a run on the first batch."""
        original = all(option == KEEP for option in selection.values())
        found, outputs = self._run(self.choices.file(selection), original=original)
        errors = group_errors(self.error, self.calibration.labels, self.reference, self._paired(outputs))
        self.grouped[frozenset(selection.items())] = errors
        return found

    def distance(self, outputs: Mapping[str, NDArray]) -> float:
        """Error of outputs on the calibration data."""
        return float(error_function(self.error, self.calibration.labels)(self.reference, self._paired(outputs)))

    def _paired(self, outputs: Mapping[str, NDArray]) -> Mapping[str, NDArray]:
        """Outputs under the names of the reference, in the order of the model."""
        if len(outputs) != len(self.reference):
            raise ValueError(f"the models must have as many outputs, got {[*self.reference]} and {[*outputs]}")
        return dict(zip(self.reference, outputs.values(), strict=True))

    def groups(self, selection: Mapping[Any, Any]) -> NDArray[np.float64] | None:
        """Errors of a selection on groups of rows; None if the user gave the error as a function."""
        key = frozenset(selection.items())
        if key not in self.grouped:  # measured by an earlier run, whose log has no groups
            self(selection)
        return self.grouped[key]

    def of_file(self, data: bytes, checks: int = 1) -> dict[str, float]:
        """Error of a file, and the largest of several measured times."""
        return self._run(data, checks)[0]

    def _run(
        self, data: bytes, checks: int = 1, *, original: bool = False
    ) -> tuple[dict[str, float], Mapping[str, NDArray]]:
        """Costs and outputs of a file; the time of the original is what other times are multiples of."""
        session = self.runtime.session(data)
        outputs = self.runtime.outputs(session, self.calibration.batches)
        found = {"error": self.distance(outputs)}
        if self.timed and self.command is not None:
            found["latency"] = max(self.command.time(data) for _ in range(checks))
        elif self.timed:
            found["latency"], found["spread"] = max(
                self.clock.time(None if original else session) for _ in range(checks)
            )
        return found, outputs


class Compression:
    """A model with the options of its weights and their measurements, for several compressions.

    Parameters
    ----------
    model : path, onnx.ModelProto or torch.nn.Module
        The inputs of a torch module have the names of the arguments of ``forward``.
    data : path of an .npz file, or mapping of name to array
        An array for each input of the model, with samples along the first axis. For ``error="labels"``, an additional
        array ``labels`` holds the right class of each sample.
    options : list of Option or str, optional
        Formats that may replace weights; by default `default_options`.
    error : str or callable
        ``"relative"`` (mean square, as a share of that of the original), ``"mse"``, ``"cosine"``, ``"kl"``,
        ``"mismatch"`` (share of rows whose largest entry moves), ``"labels"`` (share of wrong rows), or a function of
        two mappings of output names to rows: the original's and the compressed model's.
    keep : list of str
        Patterns of weights that stay as they are.
    bits : list of str
        Such as ``"embed*=8"``: weights that match the pattern have only options of so many bits.
    together : list of str
        Patterns; all weights that match one have the same option.
    timed : bool
        Measure the time of a run; the default options then include those that save time.
    command : str, optional
        A program that times a file on another device, such as ``"./on_board.sh {model}"``; it prints ``latency=`` and
        milliseconds.
    batch : int
        Samples in a run, if the model does not fix their number.
    threads : int
        Threads of ONNX Runtime.
    least : int
        Weights with fewer elements stay as they are.
    quick : bool
        For large models: measure the error of one format of each weight alone. Errors of its other formats are
        estimated in proportion to the errors at the outputs of the nodes that use the weight. Joint errors are always
        measured.
    teacher : path, onnx.ModelProto or torch.nn.Module, optional
        The model that outputs are compared with, if `model` is a smaller one; by default `model`.
    log : path of a folder, optional
        Measurements are appended to a file in this folder. The next run with the same model, data and options reads
        them.
    progress : callable, optional
        Takes a text, the number of steps done and the number of all steps.

    Attributes
    ----------
    choices : Choices
    metrics : dict of name to Metric
    forbid : dict of decision to options
    """

    def __init__(
        self,
        model: Any,
        data: Any,
        *,
        options: Sequence[Option | str] | None = None,
        error: Any = "relative",
        keep: Iterable[str] = (),
        bits: Iterable[str] = (),
        together: Iterable[str] = (),
        timed: bool = False,
        command: str | None = None,
        batch: int = 32,
        threads: int = 1,
        least: int = 1024,
        quick: bool = False,
        teacher: Any = None,
        log: str | PathLike[str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        if quick and timed:
            raise ValueError("quick=True measures no time for each format; leave out limits on latency, or quick")
        self.progress, self.quick = progress or _silent, quick
        arrays = read_data(Path(data)) if isinstance(data, str | PathLike) else given_data(data)
        proto = _model(model, arrays)
        self.original = {"size": float(proto.ByteSize())}
        calibration = as_batches(model_inputs(proto.graph), arrays, whole(batch, "batch", least=1))
        elsewhere = None if command is None else Command(command)
        runtime = Runtime(whole(threads, "threads", least=1))
        error_function(error, calibration.labels)
        whole_file = proto.SerializeToString()
        taught = None if teacher is None else _model(teacher, arrays).SerializeToString()
        digest = hashlib.blake2b(whole_file + (taught or b""), digest_size=8)
        _check_runs(runtime, whole_file, calibration, error, taught=taught is not None)
        network = Network(proto, whole(least, "least", least=1))
        if not network.parts:
            kinds = network.kinds(least)
            others = f"; its weights are {', '.join(kinds)}, which stay as they are" if kinds else ""
            raise ValueError(f"the model has no weights of {least} and more single-precision numbers{others}")
        seen = _trace(network, calibration)
        ranges = None if seen is None else seen.ranges
        wanted = default_options(fast=timed, ranges=ranges) if options is None else _options(_listed(options), ranges)
        self.choices = choices_of(network, wanted, runtime, together=_listed(together), progress=self.progress)
        self.forbid = self.choices.forbidden(_listed(keep), _listed(bits))
        self.bench = Bench(self.choices, calibration, runtime, error, timed, elsewhere, taught)
        units = {name: COSTS[name].unit for name in (("error", "latency") if timed else ("error",))}
        path = None
        if log is not None:
            name = error if isinstance(error, str) else getattr(error, "__qualname__", "error")
            where = f"{timed} {threads}" if command is None else f"{timed} {command}"
            digest.update(f"{calibration.digest()} {name} {where} {_texts(self.choices)}".encode())
            Path(log).mkdir(parents=True, exist_ok=True)
            path = Path(log) / f"measurements-{digest.hexdigest()}.jsonl"
        self.measured = Measurement(self.choices.space, self.bench, units, log=path)
        known, means, _ = self.measured.known(self.kept[None])
        if timed and known[0]:  # times in a log are relative to this one
            self.bench.clock.original = float(means[0, list(units).index("latency")])
        self.metrics: dict[str, Metric] = {"size": self.choices.size, **self.measured.metrics}
        self.metrics |= {} if seen is None else workload(self.choices, seen)

    # -- one weight at a time -----------------------------------------------------------------------------------------

    @property
    def kept(self) -> Row64:
        """The selection that leaves every weight as it is."""
        space = self.choices.space
        return space.indices(dict.fromkeys(space.decisions, KEEP))

    @property
    def allowed(self) -> NDArray[np.bool_]:
        """Options that `keep` and `bits` allow, shape (n_options,)."""
        space = self.choices.space
        found = space.allowed(self.forbid or None)
        return np.ones(space.n_options, dtype=bool) if found is None else found

    @cached_property
    def singles(self) -> dict[str, NDArray[np.float64]]:
        """Error and time with each option alone, shape (n_options,); NaN if it cannot run or is not allowed."""
        space, rows = self.choices.space, self.choices.space.switches(self.kept)
        found = {name: np.full(space.n_options, np.nan) for name in self.measured.units}
        usable = self.allowed | (rows == self.kept).all(axis=1)
        scaled = self._local() if self.quick else None
        wanted = np.flatnonzero(usable if scaled is None else usable & scaled.measured)
        for done, option in enumerate(wanted):
            self.progress("errors of single weights", done, len(wanted))
            for name, metric in self.measured.metrics.items():
                found[name][option] = metric.evaluate(rows[option : option + 1])[0]
        self.progress("errors of single weights", len(wanted), len(wanted))
        if any(np.isnan(values[space.offsets[:-1] + self.kept]).any() for values in found.values()):
            self._check_original()
        if scaled is not None:
            found["error"] = np.where(usable, scaled.errors(found["error"], space.offsets[:-1] + self.kept), np.nan)
        return found

    def _local(self) -> Scaled:
        """Errors at the outputs of the nodes that use each weight, to be scaled to errors of the whole model."""
        space, bench = self.choices.space, self.bench
        self.progress("errors near each weight", 0, 1)
        near = np.where(self.allowed, local_errors(self.choices, bench.runtime, bench.calibration.batches[0]), np.nan)
        self.progress("errors near each weight", 1, 1)
        return Scaled(space, near)

    def _check_original(self) -> None:
        """Raise a ValueError that says why the original cannot be measured."""
        try:
            numbers = self.bench(self.choices.space.labels(self.kept))
        except Invalid as error:
            raise ValueError(f"the model itself cannot be measured: {error}") from None
        raise ValueError(f"the model itself cannot be measured: it has {numbers}")

    def predicted(self, scale: Mapping[str, float] | None = None) -> dict[str, Metric]:
        """Every cost as a sum over weights; for measured costs, the change by each option alone, times `scale`."""
        space, found = self.choices.space, dict(self.metrics)
        at_start = space.offsets[:-1] + self.kept
        for name, values in self.singles.items():
            first = float(values[at_start[0]])
            added = np.nan_to_num((values - first) * (scale or {}).get(name, 1.0))
            found[name] = Additive(space, added, constant=first, name=name, unit=COSTS[name].unit)
        return found

    def runnable(self) -> NDArray[np.bool_]:
        """Options that are allowed and that the runtime can run, shape (n_options,)."""
        return self.allowed & ~np.isnan(next(iter(self.singles.values())))

    # -- answers ------------------------------------------------------------------------------------------------------

    def solve(self, limits: Any = (), *, minimize: Any = "error", measurements: int = 32, seed: int = 0) -> Compressed:
        """The best file within limits.

        Parameters
        ----------
        limits : list of str or Limit
            Such as ``["size<=6MB", latency <= 8]``.
        minimize : str or Cost
        measurements : int
            Largest number of joint measurements, after those of single weights.
        seed : int
        """
        goal, asked = cost_of(minimize, "minimize").name, self.bounds(limits)
        self._check_measured({goal, *(limit.name for limit in asked)})
        if goal == "error" and not asked:
            raise ValueError("without limits the model stays as it is; give limits such as ['size<=25%'], or minimize")
        self._warn_of_units(asked)
        if (message := self._impossible(asked)) is not None:
            return self._answer(Status.INFEASIBLE, None, asked, message)
        run = _Refinement(self, goal, asked, whole(measurements, "measurements", least=1), seed)
        checked: list[dict[str, float]] = []
        for row in run.order():
            data = self.choices.file(self.choices.space.labels(row))
            summed = {n: float(self.metrics[n].evaluate(row[None])[0]) for n in self.metrics if not COSTS[n].costly}
            costs = {**summed, "size": float(len(data)), **self.bench.of_file(data, CHECKS)}
            if all(_keeps(limit, costs) for limit in asked):
                message = run.additivity(row) + self._unreached()
                return self._answer(Status.FEASIBLE, row, asked, message, data, costs)
            checked.append(costs)
        message = "no selection that was measured keeps every limit; " + run.nearest(checked)
        return self._answer(Status.UNKNOWN, None, asked, message)

    def sweep(
        self,
        cost: Any,
        bounds: Iterable[float] | int,
        limits: Any = (),
        *,
        minimize: Any = "error",
        measurements: int = 32,
        seed: int = 0,
    ) -> Front:
        """The best file within each of several bounds on a cost; a looser bound never gives a worse file.

        Parameters
        ----------
        cost : str or Cost
        bounds : list of float or str, or int
            Upper bounds; texts such as ``"25%"`` are shares of the original. An int is the number of bounds, from the
            least that works to that of the original.
        limits, minimize, seed
            As for `solve`.
        measurements : int
            Largest number of joint measurements for each bound.
        """
        swept, goal, fixed = cost_of(cost, "cost").name, cost_of(minimize, "minimize").name, self.bounds(limits)
        self._check_measured({swept, goal, *(limit.name for limit in fixed)})
        self._warn_of_units(fixed)
        if isinstance(bounds, int):
            low, high = self._range(swept)
            wanted = [Limit(swept, "<=", float(b)) for b in np.linspace(low, high, whole(bounds, "bounds", least=2))]
        else:
            wanted = self.bounds([parse_limit(f"{swept}<={bound}") for bound in bounds])
        for limit in sorted(wanted, key=lambda one: one.bound):
            if self._impossible([*fixed, limit]) is None:
                _Refinement(self, goal, [*fixed, limit], whole(measurements, "measurements", least=1), seed)
        kept = self.constraints(fixed, self.metrics, costly=True)
        steps = [limit.bound for limit in wanted]
        return sweep(self.metrics[goal], kept, self.metrics[swept], steps, improvers=[_Known(self.measured)], seed=seed)

    def explain(self, limits: Any = (), *, minimize: Any = "error", seed: int = 0, **options: Any) -> Explanation:
        """Explain what other options and other bounds would cost, by the sums over weights; see `cggd.explain`.

        Parameters
        ----------
        limits, minimize, seed
            As for `solve`.
        **options
            Those of `cggd.explain`: ``decisions``, ``by``, ``time_limit``.
        """
        goal, asked = cost_of(minimize, "minimize").name, self.bounds(limits)
        self._check_measured({goal, *(limit.name for limit in asked)})
        metrics = self.predicted()
        bounds = self.constraints(asked, metrics, costly=True)
        found = search(metrics[goal], bounds, forbid=~self.runnable(), seed=seed, time_limit=SUM_SECONDS)
        return explain(found, seed=seed, **options)

    def _range(self, name: str) -> tuple[float, float]:
        """The least value of a cost by the sums, rounded up, and that of the original."""
        metric = self.predicted()[name] if COSTS[name].costly else self.metrics[name]
        least = smallest_bound(metric, [], forbid=~self.runnable()).value
        high = float(self.metrics[name].evaluate(self.kept[None])[0])
        return (high if least is None else float(np.ceil(least))), high

    def _check_measured(self, names: Iterable[str]) -> None:
        for name in sorted(set(names) - self.metrics.keys()):
            how = "give timed=True" if name == "latency" else "ONNX Runtime does not show inner values of this model"
            raise ValueError(f"{name} is not known here; {how}")

    def bounds(self, limits: Any) -> list[Limit]:
        """Limits with shares of the original converted to absolute bounds."""
        found = []
        for limit in as_limits(limits):
            if limit.share:
                before = self.original_costs.get(limit.name)
                if not before:
                    raise ValueError(f"limit {limit.name}: a share of the original needs its {limit.name}")
                limit = replace(limit, bound=limit.bound * before, share=False)
            found.append(limit)
        return found

    @cached_property
    def original_costs(self) -> dict[str, float]:
        """Costs of the model as it was given."""
        return {name: float(m.evaluate(self.kept[None])[0]) for name, m in self.metrics.items()} | self.original

    def constraints(self, limits: Sequence[Limit], metrics: Mapping[str, Metric], *, costly: bool) -> list[Constraint]:
        """Limits as constraints on metrics; with `costly`, also those on measured costs."""
        chosen = [limit for limit in limits if costly or not COSTS[limit.name].costly]
        return [Constraint(metrics[limit.name], limit.bound, limit.sense) for limit in chosen]

    def _warn_of_units(self, limits: Sequence[Limit]) -> None:
        """Warn about limits that never bind and are likely in another unit."""
        for constraint in self.constraints(limits, self.metrics, costly=False):
            low, high = constraint.metric.limits()
            hint = unit_hint(constraint, low, high)
            if hint and constraint.satisfied(low if constraint.sense == "<=" else high):
                warnings.warn(hint, stacklevel=3)

    def _impossible(self, limits: Sequence[Limit]) -> str | None:
        """Why limits on sums are infeasible, and what would work; None if infeasibility is not proved."""
        cheap = self.constraints(limits, self.metrics, costly=False)
        if not cheap:
            return None
        found = diagnose(cheap, forbid=~self.allowed)
        if found.feasibility.status is not Status.INFEASIBLE:
            return None
        works = [
            f"the least {r.metric.name} is {number_text(r.value)} {r.metric.unit}".rstrip()
            if r.sense == "<="
            else f"the largest {r.metric.name} is {number_text(r.value)} {r.metric.unit}".rstrip()
            for r in found.remedies
            if r.value is not None
        ]
        hints = "".join(f"; {hint}" for c in found.conflict if (hint := unit_hint(c, *c.metric.limits())))
        return (
            f"{' and '.join(str(c) for c in found.conflict)} cannot be kept: {', or '.join(works) or 'proved'}{hints}"
        )

    def _unreached(self) -> str:
        """A warning about weights whose format never changes the error, such as those of a branch never taken."""
        space, errors = self.choices.space, self.singles["error"]
        first = float(errors[space.offsets[0] + self.kept[0]])
        spans = [errors[a:b] for a, b in zip(space.offsets[:-1], space.offsets[1:], strict=True)]
        same = [len(e) > 1 and bool((np.isnan(e) | (e == first)).all()) and not np.isnan(e[1:]).all() for e in spans]
        names = [str(d) for d, alike in zip(space.decisions, same, strict=True) if alike]
        if not names:
            return ""
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return f"; the data never shows a difference in {', '.join(names[:3])}{more}: keep them, or give other data"

    def _answer(
        self,
        status: Status,
        row: Row64 | None,
        limits: Sequence[Limit],
        message: str,
        data: bytes | None = None,
        costs: Mapping[str, float] | None = None,
    ) -> Compressed:
        space = self.choices.space
        selection = None if row is None else {str(d): str(o) for d, o in space.labels(row).items()}
        predicted = {} if row is None else {n: float(m.evaluate(row[None])[0]) for n, m in self.predicted().items()}
        texts = [f"{one.name} {one.sense} {amount(one.bound, COSTS[one.name].unit)}" for one in limits]
        known = {} if costs is None else {name: costs[name] for name in COSTS if name in costs}
        return Compressed(
            status,
            data,
            selection,
            known,
            dict(self.original if row is None else self.original_costs),
            predicted,
            texts,
            self._rows(row),
            message,
            len(self.measured),
        )

    def _rows(self, row: Row64 | None) -> list[Row]:
        """A row for every option."""
        space, refused = self.choices.space, self.choices.refused
        singles = self.__dict__.get("singles", {})
        allowed, sizes = self.allowed, self.choices.bytes_of
        found = []
        for place, decision in enumerate(space.decisions):
            for index, option in enumerate(space.option_labels(decision)):
                at = int(space.offsets[place]) + index
                numbers = {n: float(v[at]) for n, v in singles.items() if not np.isnan(v[at])}
                why_not = "" if allowed[at] else "ruled out by keep or bits"
                if not why_not and singles and "error" not in numbers:
                    why_not = "it could not be measured"
                chosen = row is not None and bool(row[place] == index)
                size, error, latency = int(sizes[at]), numbers.get("error"), numbers.get("latency")
                found.append(Row(str(decision), str(option), chosen, size, error, latency, why_not))
            for (name, option), why in refused.items():
                if name == decision:
                    found.append(Row(name, option, False, None, None, None, why))
        return found


@dataclass(frozen=True)
class _Known:
    """An improver that yields all measured selections."""

    measured: Measurement

    def suits(self, problem: Problem) -> bool:
        return True

    def improve(
        self, problem: Problem, incumbent: Incumbent, budget: Budget, rng: np.random.Generator
    ) -> Iterator[Finding]:
        for row in self.measured.selections():
            yield Finding(row)


class _Refinement:
    """Joint measurements of the least sum, rescaled sums, uniform formats, and selections that the engine chooses."""

    def __init__(self, compression: Compression, goal: str, limits: Sequence[Limit], most: int, seed: int) -> None:
        self.compression, self.goal, self.limits, self.seed = compression, goal, limits, seed
        self.left = most
        self.seen: dict[bytes, Row64] = {}
        self.sums: set[bytes] = set()
        self.allowed = compression.runnable()
        self.run()

    def run(self) -> None:
        """Measure the most promising selections, until the number of measurements is used up."""
        scale: dict[str, float] = {}
        for round_ in range(ROUNDS):
            found = self._least_sum(scale)
            if found is None or not self._take(found):
                break
            self.sums.add(found.tobytes())
            scale = self._scale(found)
            if not self.costly and round_ == 0:
                break
        if self.goal != "size" or self.costly:
            least = [self._least_sum(scale, limit.name) for limit in self.costly]
            for row in [*(row for row in least if row is not None), *self._uniform()]:
                self._take(row)
            self._search()

    @property
    def costly(self) -> list[Limit]:
        """Limits on costs that are measured."""
        return [limit for limit in self.limits if COSTS[limit.name].costly]

    def _least_sum(self, scale: Mapping[str, float], limited: str = "") -> Row64 | None:
        """The best selection by the sums, or the one of the least limited cost within the other limits."""
        metrics = self.compression.predicted(scale)
        limits = [limit for limit in self.limits if limit.name != limited]
        bounds = self.compression.constraints(limits, metrics, costly=True)
        goal, forbid = metrics[limited or self.goal], ~self.allowed
        found = search(goal, bounds, forbid=forbid, seed=self.seed, time_limit=SUM_SECONDS, gap=0.0)
        return found.indices if found.indices is not None else self._nearest(found)

    def _nearest(self, found: Result) -> Row64 | None:
        space = self.compression.choices.space
        return None if found.nearest is None else space.indices(found.nearest)

    def _take(self, row: Row64) -> bool:
        """Measure a selection; false if it was seen before, or no measurement is left."""
        if row.tobytes() in self.seen:
            return False
        if not self.compression.measured.known(row[None])[0][0]:
            if self.left < 1:
                return False
            self.left -= 1
        self.compression.progress("joint measurements", len(self.seen), len(self.seen) + self.left)
        self.seen[row.tobytes()] = row
        for metric in self.compression.measured.metrics.values():
            metric.evaluate(row[None])
        return True

    def _scale(self, row: Row64) -> dict[str, float]:
        """Ratio of the measured to the predicted change of each cost."""
        found, predicted = {}, self.compression.predicted()
        for name, metric in self.compression.measured.metrics.items():
            first = self.compression.original_costs[name]
            joint, promised = (float(m.evaluate(row[None])[0]) - first for m in (metric, predicted[name]))
            if promised and np.isfinite(joint) and joint / promised > 0:
                found[name] = joint / promised
        return found

    def _uniform(self) -> list[Row64]:
        """The same option for every weight that has it, for each option; only selections within the cheap limits."""
        space = self.compression.choices.space
        cheap = self.compression.constraints(self.limits, self.compression.metrics, costly=False)
        rows = []
        for option in dict.fromkeys(o for d in space.decisions for o in space.option_labels(d)):
            row = self.compression.kept.copy()
            for place, decision in enumerate(space.decisions):
                labels, first = list(space.option_labels(decision)), int(space.offsets[place])
                if option in labels and self.allowed[first + labels.index(option)]:
                    row[place] = labels.index(option)
                elif not self.allowed[first + row[place]]:
                    row[place] = int(np.flatnonzero(self.allowed[first : first + len(labels)])[0])
            if all(c.holds(row[None])[0] for c in cheap):
                rows.append(row)
        return rows

    def _search(self) -> None:
        """Run the engine for costly metrics on the measured problem."""
        if self.left < 1:
            return
        metrics = self.compression.metrics
        start = next(iter(self.best()), None)
        began = len(self.compression.measured)

        def show(progress: Any) -> None:
            done = len(self.compression.measured) - began
            self.compression.progress("joint measurements", len(self.seen) + done, len(self.seen) + self.left)

        limits = self.compression.constraints(self.limits, metrics, costly=True)
        search(
            metrics[self.goal],
            limits if start is None else [*limits, *self._promising(start)],
            forbid=~self.allowed,
            initial=start,
            max_evaluations=self.left,
            seed=self.seed,
            callback=show,
        )

    def _promising(self, best: Row64) -> list[Constraint]:
        """A limit on the sum of errors, beyond which a joint error below the best one is implausible.

        The joint error of such a selection would have to be a smaller share of its sum than that of any measured one.
        """
        if self.goal != "error":
            return []
        summed = self.compression.predicted()["error"]
        pairs = [(float(summed.evaluate(row[None])[0]), joint) for _, joint, row in self._ranked()]
        ratios = [promised / joint for promised, joint in pairs if promised > 0 and joint > 0]
        joint = float(self.compression.metrics["error"].evaluate(best[None])[0])
        return [summed <= PLAUSIBLE * max(ratios) * joint] if ratios and joint > 0 else []

    def _ranked(self) -> list[tuple[float, float, Row64]]:
        """Measured selections with their total violation of the limits and their objective, the best first."""
        compression = self.compression
        rows = compression.measured.selections()
        space = compression.choices.space
        rows = rows[self.allowed[space.offsets[:-1] + rows].all(axis=1)]
        found = []
        for row in rows:
            costs = self._costs(row)
            if all(np.isfinite(list(costs.values()))):
                found.append((_violation(self.limits, costs), costs[self.goal], row))
        return sorted(found, key=lambda entry: entry[:2])

    def best(self) -> list[Row64]:
        """Measured selections that satisfy every limit, the best first."""
        return [row for violation, _, row in self._ranked() if violation == 0]

    def order(self) -> list[Row64]:
        """`best`, led by the selection of least error according to both measurements and sums.

        The least of many measured errors is often least by chance of the calibration data.
        """
        rows = self.best()
        sums = [row for row in rows if row.tobytes() in self.sums]
        if self.goal != "error" or not sums:
            return rows
        checked = [sums[0], *(row for row in rows[:CHECKED] if row is not sums[0])]
        space, summed = self.compression.choices.space, self.compression.predicted()["error"]
        found = [self.compression.bench.groups(space.labels(row)) for row in checked]
        promised = np.array([float(summed.evaluate(row[None])[0]) for row in checked])
        if any(errors is None or errors.min() <= 0 for errors in found) or promised.min() <= 0:
            return rows if found[0] is None else [sums[0], *rows]
        return [checked[int(likely_ratios(np.stack(cast(Any, found)), promised).argmin())], *rows]

    def nearest(self, checked: Sequence[Mapping[str, float]]) -> str:
        """The least that works, as a text: each costly limit with its least cost where the other limits are kept.

        Parameters
        ----------
        checked : list of dict of name to float
            Costs of files that violated a limit when they were checked.
        """
        measured = [self._costs(row) for violation, _, row in self._ranked() if violation > 0]
        every = [*measured, *checked]
        if not every:
            return "nothing could be measured"
        texts = []
        for limit in self.costly:
            others = [other for other in self.limits if other is not limit]
            found = [costs[limit.name] for costs in every if _violation(others, costs) == 0]
            if found and limit.sense == "<=":
                least, whole = min(found), self.compression.original_costs[limit.name]
                share = f" ({least / whole:.1%} of the original's)" if whole else ""
                unit = COSTS[limit.name].unit
                rest = ", with every other limit kept," if others else ""
                texts.append(f"the least measured {limit.name}{rest} is {amount(least, unit)}{share}")
        costs = min(every, key=lambda costs: _violation(self.limits, costs))
        near = ", ".join(f"{n} {amount(v, COSTS[n].unit)}" for n, v in costs.items() if n in COSTS)
        return "; ".join([*texts, f"the nearest has {near}"])

    def _costs(self, row: Row64) -> dict[str, float]:
        return {name: float(metric.evaluate(row[None])[0]) for name, metric in self.compression.metrics.items()}

    def additivity(self, row: Row64) -> str:
        """How well the sum of errors predicted the joint error, as a text."""
        predicted, measured = self.compression.predicted()["error"], self.compression.metrics["error"]
        promised, joint = (float(metric.evaluate(row[None])[0]) for metric in (predicted, measured))
        if not promised:
            return f"the joint error is {joint:.3g}, and the sum of those of single weights is 0"
        return f"the joint error {joint:.3g} is {joint / promised:.2f} times the sum of those of single weights"


def compress(
    model: Any,
    data: Any,
    limits: Any = (),
    *,
    minimize: Any = "error",
    measurements: int = 32,
    seed: int = 0,
    out: str | PathLike[str] | None = None,
    **options: Any,
) -> Compressed:
    """Choose a format for each weight of a trained model so that the ONNX file satisfies limits.

    Parameters
    ----------
    model : path, onnx.ModelProto or torch.nn.Module, or a list of these
        The first of a list is the original, and the others are smaller ones, such as those that `cggd_nas.prunable`
        cuts out of it. Each is compressed and compared with the original, and the best file is returned.
    data : path of an .npz file, or mapping of name to array
        Calibration data; see `Compression`.
    limits : list of str or Limit
        Such as ``["size<=6MB", "latency<=8ms"]``, ``[size <= 6e6]`` or ``["size<=25%"]``, a share of the original.
    minimize : str or Cost
        ``"error"``, ``"size"`` or ``"latency"``.
    measurements : int
        Largest number of joint measurements, after those of single weights.
    seed : int
    out : path, optional
        File to write, if there is one within the limits.
    **options
        Those of `Compression`: ``options``, ``error``, ``keep``, ``bits``, ``together``, ``log``, ...

    Returns
    -------
    Compressed

    Raises
    ------
    ValueError, TypeError
        If an argument, the model or the data is wrong, or ONNX Runtime cannot run the model.
    """
    asked, goal = as_limits(limits), cost_of(minimize, "minimize")
    models = list(model) if isinstance(model, list | tuple) else [model]
    if not models:
        raise ValueError("model is an empty list; give at least one model")
    options["timed"] = options.get("timed", False) or "latency" in {goal.name, *(limit.name for limit in asked)}
    best: Compressed | None = None
    original: dict[str, float] = {}
    for i, one in enumerate(models):
        made = Compression(one, data, teacher=models[0] if i else None, **options)
        if i == 0:
            asked = made.bounds(asked)
        found = made.solve(asked, minimize=goal, measurements=measurements, seed=seed)
        if len(models) > 1:
            original = original or made.original_costs
            found = replace(found, message=f"model {i + 1} of {len(models)}; {found.message}", original=original)
        if best is None or (found.feasible and not best.costs.get(goal.name, np.inf) <= found.costs[goal.name]):
            best = found
    assert best is not None
    if out is not None and best.feasible:
        best.save(out)
    return best


def _model(model: Any, arrays: Mapping[str, Any]) -> onnx.ModelProto:
    if isinstance(model, str | PathLike):
        return read_model(Path(model))
    if isinstance(model, onnx.ModelProto):
        return onnx.ModelProto.FromString(model.SerializeToString())
    return export(model, arrays)


def _check_runs(runtime: Runtime, data: bytes, calibration: Calibration, error: Any, *, taught: bool) -> None:
    """Raise a ValueError if ONNX Runtime cannot run the model as it was given, or its outputs have no such error."""
    own = callable(error) and not taught  # a teacher may have other names of outputs
    try:
        found = runtime.outputs(runtime.session(data), calibration.batches[: None if own else 1])
    except Invalid as reason:
        raise ValueError(f"the model itself does not work: {reason}") from None
    if own:
        check_function(error, found)
    elif not callable(error):
        error_function("mismatch" if error == "labels" else error, None)(found, found)


def _trace(network: Network, calibration: Calibration) -> Trace | None:
    """A run of the original with all intermediate values; None if the runtime does not return them."""
    try:
        return trace(network.assemble({}), calibration.batches)
    except Invalid:
        return None


def _options(options: Sequence[Option | str], ranges: Mapping[str, tuple[float, float]] | None) -> list[Option]:
    found = []
    for option in options:
        found += named_options([option], ranges) if isinstance(option, str) else [option]
    names = [option.name for option in found]
    if KEEP in names or len(set(names)) < len(names):
        raise ValueError(f"options must have names of their own, other than {KEEP!r}, got {names}")
    return found


def _listed(given: Any) -> Any:
    """A list of texts, also where a single text is given."""
    return [given] if isinstance(given, str) else given


def _texts(choices: Choices) -> str:
    """The formats and their bytes, on which the measurements depend."""
    return f"{[(d, list(choices.space.option_labels(d))) for d in choices.space.decisions]} {choices.bytes_of.tolist()}"


def _violation(limits: Sequence[Limit], costs: Mapping[str, float]) -> float:
    """Sum of the relative violations of limits; 0 exactly if all are satisfied."""
    total = 0.0
    for limit in limits:
        if not _keeps(limit, costs):
            total += max(abs(costs[limit.name] - limit.bound) / max(abs(limit.bound), 1e-300), 1e-12)
    return total


def _keeps(limit: Limit, costs: Mapping[str, float]) -> bool:
    sense = cast(Literal["<=", ">="], limit.sense)
    return costs[limit.name] <= limit.bound if sense == "<=" else costs[limit.name] >= limit.bound
