"""Errors of formats at the outputs of the nodes that use a weight, without runs of the whole model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from cggd.metrics.base import Invalid
from cggd.space import ChoiceSpace
from cggd_compress.choices import Choices
from cggd_compress.network import Fragment, Part
from cggd_compress.runtime import Runtime


def local_errors(choices: Choices, runtime: Runtime, batch: Mapping[str, NDArray]) -> NDArray[np.float64]:
    """Squared differences of the outputs of the nodes that use a weight, as a share of the squared outputs.

    The inputs of these nodes are those of the original model. While differences are small, the error of the whole model
    is proportional to them, with a factor for each weight.

    Parameters
    ----------
    choices : Choices
    runtime : Runtime
    batch : mapping of name to array
        Inputs of the model.

    Returns
    -------
    ndarray, shape (n_options,)
        Summed over the weights of a decision; NaN where the runtime fails.
    """
    values = _inputs(choices, runtime, batch)
    parts = choices.network.parts
    found = []
    for decision in map(str, choices.space.decisions):
        before = {name: _run(runtime, parts[name].model, values) for name in choices.members[decision]}
        for option in map(str, choices.space.option_labels(decision)):
            fragments = choices.fragments[decision, option]
            try:
                found.append(sum(_error(runtime, parts[n], f, values, before[n]) for n, f in fragments.items()))
            except Invalid:
                found.append(np.nan)
    return np.array(found, dtype=float)


def _inputs(choices: Choices, runtime: Runtime, batch: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Inputs of the nodes that use weights, in a run of the original."""
    wanted = {value.name for part in choices.network.parts.values() for value in part.model.graph.input}
    model = onnx.ModelProto.FromString(choices.network.assemble({}))
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.name in wanted}
    shown = sorted(wanted - batch.keys() - constants.keys())
    held = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in shown if name not in held)
    session = runtime.session(model.SerializeToString())
    return constants | dict(batch) | dict(zip(shown, session.run(shown, dict(batch)) if shown else [], strict=True))


def _run(runtime: Runtime, model: onnx.ModelProto, values: Mapping[str, NDArray]) -> dict[str, NDArray]:
    session = runtime.session(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run(None, {i.name: values[i.name] for i in session.get_inputs()}), strict=True))
    except Exception as error:
        raise Invalid(str(error)) from None


def _error(
    runtime: Runtime, part: Part, fragment: Fragment, values: Mapping[str, NDArray], before: Mapping[str, NDArray]
) -> float:
    if fragment.model is part.model:
        return 0.0
    after = _run(runtime, fragment.model, values)
    if part.places and not fragment.replaced:  # the fragment only computes the weight; its nodes stay as they are
        model = onnx.ModelProto()
        model.CopyFrom(part.model)
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(after[part.name], part.name))
        after = _run(runtime, model, values)
    pairs = [(before[n].astype(float), after[n].astype(float)) for n in before if before[n].dtype.kind == "f"]
    whole = sum(float((old**2).sum()) for old, _ in pairs)
    return sum(float(((new - old) ** 2).sum()) for old, new in pairs) / (whole or 1.0)


@dataclass(frozen=True, eq=False)
class Scaled:
    """Errors of the whole model with single formats, estimated from one measured format for each decision.

    Attributes
    ----------
    space : ChoiceSpace
    near : ndarray, shape (n_options,)
        Errors by `local_errors`; NaN where an option cannot be chosen.
    """

    space: ChoiceSpace
    near: NDArray[np.float64]

    @cached_property
    def chosen(self) -> NDArray[np.int64]:
        """The option of each decision to measure, that of the median positive local error, shape (n_decisions,)."""
        return np.array([self._median(a, b) for a, b in pairwise(self.space.offsets)], dtype=np.int64)

    @property
    def measured(self) -> NDArray[np.bool_]:
        """Options to measure, shape (n_options,): the chosen ones, and those without a local error."""
        found = self.near == 0
        found[self.chosen] = True
        return found

    def errors(self, measured: NDArray[np.float64], original: NDArray[np.int64]) -> NDArray[np.float64]:
        """Errors of all options from the measured ones; `original` has the option of each decision that is kept."""
        decision = np.repeat(np.arange(self.space.n_decisions), self.space.sizes)
        first = measured[original][decision]
        near = np.where(self.near[self.chosen] > 0, self.near[self.chosen], 1)
        scale = (measured[self.chosen] - measured[original]) / near
        return np.where(self.near == 0, measured, first + scale[decision] * self.near)

    def _median(self, first: int, last: int) -> int:
        own = self.near[first:last]
        order = np.argsort(np.where(own > 0, own, np.inf), kind="stable")
        return first + int(order[max(int((own > 0).sum()) - 1, 0) // 2])
