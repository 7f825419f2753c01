"""The loop of a search: epochs that train weights and architecture, and the choice of the result at the end."""

from __future__ import annotations

import itertools
import math
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from cggd import Constraint, Feasibility, SafeguardState, SearchError
from cggd.checks import whole
from cggd.constraints import Row
from cggd.guide.relaxation import annealed
from cggd.outputs import replacing
from cggd_nas.batches import Batch, Batches, checked, generator_of, in_order, repeated
from cggd_nas.bounds import NoFeasibleArchitectureError
from cggd_nas.candidates import Candidate, holds, judge, likely, ranked
from cggd_nas.guide import TorchGuide
from cggd_nas.history import Epoch, margins, skips
from cggd_nas.learners import Learners
from cggd_nas.measure import evaluating, same_mode
from cggd_nas.recalibration import recalibrate, recalibrated
from cggd_nas.relaxations import Relaxation, UniformPath
from cggd_nas.result import NasResult
from cggd_nas.retrain import Accuracy, Loss, evaluate
from cggd_nas.supernet import Supernet
from cggd_nas.visited import Visited

Objective = Callable[[Tensor, Supernet], Tensor]

# Share of the epochs after which the temperature is constant and candidates are collected (CONNAS, ICLR 2026).
LATE = 2 / 3

# Number of the checkpoint format; checkpoints of the first format have no number.
FORMAT = 2

# Batches of validation data on which all candidates are evaluated; finalists are evaluated on all.
RANKING_BATCHES = 10


class Writer(Protocol):
    """The method of TensorBoard's ``SummaryWriter`` that a search uses."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int, /) -> Any:
        """Record a number."""
        ...


@dataclass(frozen=True, kw_only=True)
class Judging:
    """Numbers of candidates and finalists at the end, and of batches for calibration."""

    candidates: int
    finalists: int
    calibration: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Reports:
    """Where each epoch is reported."""

    checkpoint: Path | None
    resume: bool
    writer: Writer | None
    callback: Callable[[Epoch], Any] | None


@dataclass(frozen=True, eq=False, kw_only=True)
class Settings:
    """The settings of a search; see `cggd_nas.search`."""

    epochs: int
    warmup: int
    every: int
    seed: int
    loss: Loss
    metric: Accuracy | None
    objective: Objective | None
    relaxation: Callable[..., Relaxation]
    judging: Judging
    reports: Reports


@dataclass
class _Means:
    """Values of an epoch's steps."""

    train: list[float] = field(default_factory=list)
    val: list[float] = field(default_factory=list)
    feasible: list[bool] = field(default_factory=list)


class Run:
    """A search and its state."""

    def __init__(
        self,
        guide: TorchGuide,
        settings: Settings,
        train: Batches,
        val: Batches,
        learners: Learners,
        known: Feasibility,
    ) -> None:
        self.guide, self.settings, self.train, self.val, self.known = guide, settings, train, val, known
        self.learners, self.paths = learners, torch.Generator().manual_seed(settings.seed)
        self.epoch = 0
        self.history: list[Epoch] = []
        self.visited = Visited(LATE * settings.epochs)
        self.calibration: list[Any] = []
        self.began = time.perf_counter()

    @property
    def supernet(self) -> Supernet:
        """The supernet that the guide steers."""
        return self.guide.supernet

    @property
    def model(self) -> nn.Module:
        """Its network."""
        return self.supernet.model

    @property
    def constraints(self) -> Sequence[Constraint]:
        """The constraints of the guide."""
        return self.guide.guide.constraints

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return self.supernet.parameters[0].device

    # -- the loop -----------------------------------------------------------------------------------------------------

    def run(self, console: Console) -> NasResult:
        """Search; changes only the network's weights and logits and, at success, the selection that it runs."""
        failure: BaseException | None = None
        begun = False
        with same_mode(self.model), self.supernet.kept():
            try:
                self._prepare()
                begun = True
                stopped = self._loop(console)
            except KeyboardInterrupt:
                stopped = f"interrupted in epoch {self.epoch}"
            except Exception as error:
                failure, stopped = error, f"{type(error).__name__} in epoch {self.epoch}: {error}"
            finally:
                self.learners.require(weights=True, architecture=True)
                self.model.zero_grad(set_to_none=True)
            if failure is not None and (not begun or self.epoch <= self.settings.warmup or not self.visited.feasible):
                raise failure  # there is no result yet
            result, later = self._result(stopped)
        self.supernet.select(result.selection)
        try:
            recalibrate(self.model, self.calibration)
        except KeyboardInterrupt:
            result = replace(result, stopped=f"{result.stopped}, interrupted while batch norms were recalibrated")
        except Exception as error:
            later = later or error
        if (failure := failure or later) is not None:
            anew = "" if result.remeasured else "; its bounds were not evaluated anew"
            message = f"{type(failure).__name__}: {failure} (the best architecture until then is in .result{anew})"
            raise SearchError(message, result) from failure  # pyright: ignore[reportArgumentType] - of a search as well
        return result

    def _prepare(self) -> None:
        """Checks before the training, and the checkpoint to resume from."""
        self._rehearse()
        path = self.settings.reports.checkpoint
        if path is not None and self.settings.reports.resume and path.exists():
            self._restore(_loaded(path), path)

    def _loop(self, console: Console) -> str:
        """Run all epochs; returns why they ended."""
        path, callback = self.settings.reports.checkpoint, self.settings.reports.callback
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=console.quiet) as bar:
            task = bar.add_task("search", total=self.settings.epochs, completed=self.epoch)
            while self.epoch < self.settings.epochs:
                done = self._advance()
                bar.update(task, advance=1, description=_described(done))
                if path is not None:
                    self._saved(path)
                if callback is not None and callback(done):
                    return f"stopped by callback after {self.epoch} epochs"
        return f"all {self.settings.epochs} epochs done"

    def _rehearse(self) -> None:
        """Evaluate one batch of each kind without training, so that errors are raised before the training.

        This computes the loss of both batches, the gradient of the architecture and the loss of a candidate, in
        evaluation mode and with paths mixed as after the warm-up.
        """
        s, generators = self.settings, self._generators()
        states = [generator.get_state() for generator in generators]
        own_random = torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else [])
        self.learners.require(weights=False, architecture=True)
        first = dict[str, Any]()
        try:
            with own_random, evaluating(self.model), self.supernet.kept():
                relaxed = s.relaxation(temperature=annealed(0, s.epochs, share=LATE))
                self.supernet.relax(relaxed, generator=self.paths)
                for data, name in ((self.train, "train"), (self.val, "val")):
                    if (raw := next(iter(data), None)) is None:
                        raise ValueError(f"{name} has a length of {len(data)}, but gives no batch")
                    batch, first[name] = Batch.of(raw, self.model, name), raw
                    with _noting(f"in the first batch of {name}, in evaluation mode, before any training"):
                        loss = self._loss(batch, finite=False)
                        if name == "val" or s.objective is None:
                            self._total(loss).backward()
                with _noting("where a candidate is judged by the first batches, before any training"):
                    self.supernet.select(self.supernet.indices())
                    with recalibrated(self.model, [first["train"]]):
                        evaluate(self.model, [first["val"]], loss=s.loss, metric=s.metric)
        finally:
            self.model.zero_grad(set_to_none=True)
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)

    def _advance(self) -> Epoch:
        """One epoch."""
        s, epoch, sums = self.settings, self.epoch, _Means()
        temperature = annealed(epoch, s.epochs, share=LATE)
        warm = epoch < s.warmup
        before = self.supernet.indices()
        self.supernet.relax(UniformPath() if warm else s.relaxation(temperature=temperature), generator=self.paths)
        self.model.train()
        validation = checked(repeated(self.val), "val", self.model)
        for number, batch in enumerate(checked(self.train, "train", self.model)):
            sums.train.append(self._learn(batch))
            if not warm and number % s.every == 0:
                self._choose(next(validation), sums)
        record = self._record(temperature, sums, before)
        self.history.append(record)
        self.epoch += 1
        if s.reports.writer is not None:
            _write(s.reports.writer, record, self.constraints)
        return record

    def _learn(self, batch: Batch) -> float:
        """One step of the weights."""
        self.learners.require(weights=True, architecture=False)
        self.learners.optimizer.zero_grad()
        loss = self._loss(batch)
        self.learners.step_weights(loss)
        return float(loss.detach())

    def _choose(self, batch: Batch, sums: _Means) -> None:
        """One step of the architecture."""
        chooser = self.learners.chooser
        self.learners.require(weights=False, architecture=True)
        chooser.zero_grad()
        loss = self._loss(batch)
        self._total(loss).backward()
        if self.settings.objective is None:
            seen = self.guide.update(chooser).seen
        else:
            seen = self.guide.guide.observe(self.supernet.logits())
            chooser.step()
        self.visited.add(seen, self.epoch, self.constraints)
        sums.val.append(float(loss.detach()))
        sums.feasible.append(seen.feasible)

    def _total(self, loss: Tensor) -> Tensor:
        """The loss that a step of the architecture minimises."""
        total = loss if self.settings.objective is None else self.settings.objective(loss, self.supernet)
        _check_gradient(total)
        return total

    def _loss(self, batch: Batch, *, finite: bool = True) -> Tensor:
        batch = batch.to(self.device)
        loss = batch.loss(self.settings.loss, batch.outputs(self.model))
        if not isinstance(loss, Tensor):
            raise TypeError(f"loss must return a tensor of one number, got {loss!r}")
        if loss.numel() != 1 or (finite and not torch.isfinite(loss)):
            got = f"{loss.item()}" if loss.numel() == 1 else f"a tensor of shape {tuple(loss.shape)}"
            raise ValueError(
                f"the loss of a batch must be one finite number, got {got} in epoch {self.epoch}; if it is a mean over "
                "the batch and the data are finite, the rate of weight_optimizer is too large"
            )
        return loss

    def _record(self, temperature: float, sums: _Means, before: NDArray[np.int64]) -> Epoch:
        seen = self.guide.guide.observe(self.supernet.logits())
        self.visited.add(seen, self.epoch, self.constraints)
        least, mean = margins(self.supernet)
        return Epoch(
            epoch=self.epoch,
            temperature=temperature,
            train_loss=_mean(sums.train),
            val_loss=_mean(sums.val),
            feasible=_mean(sums.feasible),
            changes=int((seen.selection != before).sum()),
            least_margin=least,
            mean_margin=mean,
            skips=skips(self.supernet),
            values=tuple(seen.values.tolist()),
            selection=self.supernet.selection(),
        )

    # -- the end ------------------------------------------------------------------------------------------------------

    def _result(self, stopped: str) -> tuple[NasResult, BaseException | None]:
        """The result with the best candidate so far, and the error of a failure."""
        failure: BaseException | None = None
        cut_short, remeasured = True, True
        pool, judged, finals = list[tuple[int, ...]](), list[Candidate](), list[Candidate]()
        try:
            self._tell_apart(pool, judged, finals)
            cut_short = False
        except KeyboardInterrupt:
            stopped += ", interrupted while candidates were told apart"
        except Exception as error:
            failure = error
            stopped += f", {type(error).__name__} while candidates were told apart: {error}"
        done = {candidate.indices for candidate in finals}
        best_first = [*ranked(finals), *(c for c in ranked(judged) if c.indices not in done)]
        if cut_short:
            judged_ones = {candidate.indices for candidate in judged}
            others = (one for one in dict.fromkeys([*pool, *self.visited.feasible]) if one not in judged_ones)
            in_turn = [*best_first, *map(self._unjudged, others)]
        else:
            in_turn = best_first
        best, rows, refuted = None, list[Row](), set[tuple[int, ...]]()
        try:
            for candidate in in_turn:
                if (found := holds(self.constraints, candidate.indices)) is not None:
                    best, rows = candidate, found
                    break
                refuted.add(candidate.indices)
        except (Exception, KeyboardInterrupt) as error:  # a device that no longer answers, for one
            failure = failure or error
            rest = [candidate for candidate in in_turn if candidate.indices not in refuted]
            best = next((candidate for candidate in rest if candidate.indices in self.visited.feasible), rest[0])
            rows, remeasured = self._remembered(best), False
        if best is None:
            raise failure or self._none_feasible(stopped)
        result = NasResult(
            selection=best.selection,
            loss=best.loss,
            accuracy=best.accuracy,
            constraints=rows,
            candidates=best_first or [best],
            history=self.history,
            feasibility=self.known,
            stopped=stopped,
            seconds=time.perf_counter() - self.began,
            remeasured=remeasured,
        )
        return result, failure

    def _tell_apart(self, pool: list[tuple[int, ...]], judged: list[Candidate], finals: list[Candidate]) -> None:
        """Fill the lists: likely selections, evaluated candidates, and those evaluated on all data."""
        judging, rng = self.settings.judging, np.random.default_rng(self.settings.seed)
        pool += likely(self.supernet, self.constraints, self.visited.feasible, number=judging.candidates, rng=rng)
        self.calibration = list(itertools.islice(self.train, judging.calibration))
        part = list(itertools.islice(self.val, RANKING_BATCHES))
        for one in pool:
            judged.append(self._judged(one, part))
        for candidate in ranked(judged)[: judging.finalists]:
            finals.append(self._judged(candidate.indices, in_order(self.val)))

    def _judged(self, selection: tuple[int, ...], data: Any) -> Candidate:
        return judge(self.supernet, selection, self.calibration, data, self.settings.loss, self.settings.metric)

    def _unjudged(self, selection: tuple[int, ...]) -> Candidate:
        return Candidate(self.supernet.space.labels(selection), selection, math.nan, math.nan, 0)

    def _remembered(self, candidate: Candidate) -> list[Row]:
        """The report of a selection from the values of the constraints at its last visit."""
        if (visit := self.visited.feasible.get(candidate.indices)) is None:
            return []
        return [constraint.row(value) for constraint, value in zip(self.constraints, visit.values, strict=True)]

    def _none_feasible(self, stopped: str) -> NoFeasibleArchitectureError:
        reason = f"no architecture that satisfies every bound was met ({stopped})"
        if (nearest := self.visited.nearest) is None:
            return NoFeasibleArchitectureError(reason, None, self.known.constraints)
        indices, rows = np.array(nearest.indices), list[Row]()
        with suppress(Exception):  # without the report, the error is still useful
            rows = [constraint.report(indices) for constraint in self.constraints]
        return NoFeasibleArchitectureError(reason, self.supernet.space.labels(indices), rows)

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def _signature(self) -> dict[str, Any]:
        """Settings that must be equal in a search and its continuation."""
        s = self.settings
        return {
            "epochs": s.epochs,
            "warmup": s.warmup,
            "every": s.every,
            "seed": s.seed,
            "batches": len(self.train),
            "options": [[str(d), *map(str, o)] for d, o in self.supernet.space.options.items()],
            "constraints": [f"{constraint} ({constraint.bound!r})" for constraint in self.constraints],
        }

    def _generators(self) -> list[torch.Generator]:
        own = [generator_of(self.train), generator_of(self.val)]
        return [self.paths, *(generator for generator in own if generator is not None)]

    def _saved(self, path: Path) -> None:
        """Write a checkpoint. If this fails, for example on a full disk, only warn."""
        try:
            with replacing(path) as file:
                torch.save(self._state(), file)
        except (OSError, RuntimeError) as error:  # PyTorch reports some failed writes as RuntimeError
            warnings.warn(
                f"checkpoint {path} was not written after epoch {self.epoch - 1}: {type(error).__name__}: {error}; the "
                "search goes on",
                stacklevel=2,
            )

    def _state(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "signature": self._signature(),
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "optimizers": self.learners.state(),
            "safeguard": {name: _plain(value) for name, value in vars(self.guide.state).items()},
            "generators": [generator.get_state() for generator in self._generators()],
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "history": [asdict(record) for record in self.history],
            **self.visited.state(),
        }

    def _restore(self, saved: dict[str, Any], path: Path) -> None:
        now, there = self._signature(), saved["signature"]
        for name, value in now.items():
            if there.get(name) != value:
                raise ValueError(
                    f"checkpoint {path} belongs to another search: its {name} is {there.get(name)}, not {value}"
                )
        try:
            self._take(saved)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
            raise ValueError(f"checkpoint {path} is damaged: {type(error).__name__}: {error}") from error

    def _take(self, saved: dict[str, Any]) -> None:
        epoch = whole(saved["epoch"], "epoch", least=0)
        history = [Epoch(**record) for record in saved["history"]]
        visited = self.visited.restored(saved)
        guarded = saved["safeguard"]
        state = SafeguardState(
            None if guarded["witness"] is None else np.array(guarded["witness"]),
            guarded["violated"],
            None if guarded["target"] is None else np.array(guarded["target"]),
            guarded["escalations"],
        )
        self.model.load_state_dict(saved["model"])
        self.learners.restore(saved["optimizers"])
        for generator, generator_state in zip(self._generators(), saved["generators"], strict=True):
            generator.set_state(generator_state)
        torch.set_rng_state(saved["random"])
        if saved["random_cuda"] is not None:
            torch.cuda.set_rng_state(saved["random_cuda"], self.device)
        self.epoch, self.history, self.visited, self.guide.state = epoch, history, visited, state


def _loaded(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            if (damaged := archive.testzip()) is not None:  # PyTorch does not check checksums
                raise zipfile.BadZipFile(f"{damaged} is damaged")
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"checkpoint {path} cannot be read: {type(error).__name__}: {error}") from error
    if not isinstance(saved, dict) or not isinstance(saved.get("signature"), dict):
        raise ValueError(f"checkpoint {path} was not written by cggd_nas.search")
    if saved.get("format") != FORMAT:
        raise ValueError(
            f"checkpoint {path} has format {saved.get('format', 1)}, and this version of cggd_nas reads format "
            f"{FORMAT}; begin the search anew"
        )
    return saved


@contextmanager
def _noting(note: str) -> Iterator[None]:
    """Add a note to an error raised inside."""
    try:
        yield
    except Exception as error:
        error.add_note(note)
        raise


def _check_gradient(total: Tensor) -> None:
    if not total.requires_grad:
        raise ValueError("the objective gives the logits no gradient; it must depend on supernet.parameters")


def _mean(numbers: Sequence[float]) -> float:
    return float(np.mean(numbers)) if numbers else math.nan


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _described(record: Epoch) -> str:
    if math.isnan(record.feasible):
        return f"warm-up, loss {record.train_loss:.3g}"
    return f"loss {record.train_loss:.3g}, validation {record.val_loss:.3g}, feasible {record.feasible:.0%}"


def _write(writer: Writer, record: Epoch, constraints: Sequence[Constraint]) -> None:
    scalars = {
        "loss/train": record.train_loss,
        "loss/validation": record.val_loss,
        "search/feasible": record.feasible,
        "search/temperature": record.temperature,
        "search/changes": record.changes,
        "search/least_margin": record.least_margin,
        "search/mean_margin": record.mean_margin,
        "search/skips": record.skips,
        **{f"constraint/{c.metric.name}": v for c, v in zip(constraints, record.values, strict=True)},
    }
    for tag, value in scalars.items():
        if not math.isnan(value):
            writer.add_scalar(tag, value, record.epoch)
