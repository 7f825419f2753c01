import pytest
import torch
from torch import nn

from cggd_nas import Choice, collect
from cggd_nas import tracer as tracer_module
from cggd_nas.extract import extract
from cggd_nas.sums import sum_of_modules
from cggd_nas.trace import Recorder, trace
from cggd_nas.tracer import Region, Tracer
from tests.nas.nets import FEW, NAMES, SEPARABLE, made, some_selections


@pytest.mark.parametrize("name", NAMES)
def test_the_tracer_gives_the_trace_of_the_extracted_network(name):
    supernet, example = made(name)
    tracer = Tracer(supernet, example)
    for selection in some_selections(supernet, FEW.get(name, 8)):
        found, traced = tracer.trace(selection), trace(extract(supernet, selection), example)
        assert [(o.name, o.macs, o.folds) for o in found.operations] == [
            (o.name, o.macs, o.folds) for o in traced.operations
        ]
        assert found.live_elements.tolist() == traced.live_elements.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_composed_traces_are_those_of_runs(name, monkeypatch):
    supernet, example = made(name)
    # So that traces are not remembered as a whole, and are composed of parts as early as can be.
    monkeypatch.setattr("cggd_nas.tracer.REMEMBERED", 8)
    tracer, composing = Tracer(supernet, example), []
    compose = tracer_module.composed
    monkeypatch.setattr("cggd_nas.tracer.composed", lambda *base: composing.append(compose(*base)) or composing[-1])
    for selection in some_selections(supernet, FEW.get(name, 8) + 2):
        found, run = tracer.trace(selection), tracer._whole(selection).trace
        assert [(o.name, o.macs, o.folds, o.decisions) for o in found.operations] == [
            (o.name, o.macs, o.folds, o.decisions) for o in run.operations
        ]
        assert (found.live_elements.tolist(), found.peaks) == (run.live_elements.tolist(), run.peaks)
    if name in ("additive", "nats_topology", "fbnet"):
        assert composing[-1] is not None


@pytest.mark.parametrize("name", NAMES)
def test_separable_networks_are_recognised(name):
    supernet, example = made(name)
    assert (Tracer(supernet, example).separated() is not None) == (name in SEPARABLE)


def test_units_know_what_they_depend_on():
    supernet, example = made("widths")
    tracer = Tracer(supernet, example)
    selection = {"width": "4", "kernel": "1"}
    reads = {unit.path: variant.reads for unit, variant in tracer.variants(selection) if unit is not None}
    assert reads == {"0": ("width",), "1": ("width",), "3": ("width",), "4": ("kernel",), "4.options.1": ("width",)}
    calls = [(call.path, call.option, call.place.shapes) for call in tracer.calls(selection)]
    wide = ((1, 4, 8, 8),)
    assert calls == [
        ("0", "4", ((1, 3, 8, 8),)),
        ("1", "4", wide),
        ("2", "", wide),
        ("3", "4", wide),
        ("4.options.1", "4", wide),
    ]


class Both(nn.Module):
    """Reads a second decision only where the first asks for it."""

    labels, decision, mixing = ("x", "y"), "first", None

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(2))

    def plain(self, selection):
        if selection["first"] == "x":
            return nn.Linear(3, 3)
        return nn.Linear(3, 3, bias=selection.get("second") == "b")


def test_decisions_that_are_read_in_some_cases_only_are_told_apart():
    supernet = collect(nn.Sequential(Both(), Choice({"a": nn.Identity(), "b": nn.ReLU()}, decision="second")))
    tracer = Tracer(supernet, torch.zeros(1, 3))

    def count(module):
        return sum(p.numel() for p in module.parameters())

    for _ in range(2):
        for selection, expected in (("xa", 12), ("ya", 9), ("yb", 12), ("xb", 12), ("ya", 9)):
            assert tracer.total(dict(zip(["first", "second"], selection, strict=True)), count) == expected
    assert tracer.separated() is None
    together = [(decisions, table.tolist()) for decisions, table in sum_of_modules(tracer, count) if decisions]
    assert together == [(("first", "second"), [[12, 12], [9, 12]])]


def test_parts_are_traced_once(monkeypatch):
    supernet, example = made("additive")
    tracer = Tracer(supernet, example)
    traced = []
    monkeypatch.setattr("cggd_nas.tracer.trace_fake", lambda module, x: (traced.append(module), trace(module, x))[1])
    for selection in some_selections(supernet, 8) * 2:
        tracer.trace(selection)
    assert len(traced) == 2 + 2 + 2 + 2


def test_views_and_shared_results_of_units():
    """Units that return their argument, a view of it, two tensors of one storage, and a weight."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.turn = Choice({"flat": nn.Flatten(), "same": nn.Flatten(2)}, decision="turn")
            self.halves = Choice({"two": Halves(), "one": Halves()}, decision="halves")

        def forward(self, x):
            a, b, weight = self.halves(x[:, ::2])
            return self.turn(torch.cat([a, b], 1)) + 1, a.transpose(2, 3), weight

    class Halves(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))

        def forward(self, x):
            return *(x * 2).chunk(2, 1), self.weight

    supernet, example = collect(Net()), torch.zeros(1, 8, 4, 4)
    tracer = Tracer(supernet, example)
    for selection in some_selections(supernet, 4):
        found, traced = tracer.trace(selection), trace(extract(supernet, selection), example)
        assert found.live_elements.tolist() == traced.live_elements.tolist()
        assert [o.name for o in found.operations] == [o.name for o in traced.operations]


@pytest.mark.parametrize("name", ["nats_size", "transformer", "nested", "strided"])
def test_remembering_parts_changes_nothing_but_the_work(name, monkeypatch):
    supernet, example = made(name)
    selections = some_selections(supernet, FEW.get(name, 6)) * 2

    def traced_twice():
        tracer, traced = Tracer(supernet, example), []
        with monkeypatch.context() as patch:
            patch.setattr("cggd_nas.tracer.Recorder.splice", counted(traced))
            traces = [(tracer.trace(s), tracer.calls(s)) for s in selections]
        return [
            (one.macs, one.live_elements.tolist(), [(c.place, c.trace.macs if c.trace else None) for c in calls])
            for one, calls in traces
        ], traced

    def counted(seen):
        splice = Recorder.splice
        return lambda self, part, *rest: (seen.append(part), splice(self, part, *rest))[1]

    remembered, few = traced_twice()
    monkeypatch.setattr("cggd_nas.tracer.REMEMBERED", 0)
    anew, many = traced_twice()
    assert remembered == anew
    assert len(few) < len(many)


def test_parts_with_too_many_combinations_are_not_remembered(monkeypatch):
    monkeypatch.setattr("cggd_nas.tracer.REMEMBERED", 3)
    supernet, example = made("additive")
    tracer = Tracer(supernet, example)
    for selection in some_selections(supernet, 8):
        tracer.trace(selection)
    regions = [p.forward for p in tracer.root.module.modules() if isinstance(p.__dict__.get("forward"), Region)]
    assert [(len(r.decisions), r.open, len(r.known)) for r in regions] == [(3, True, 0)] + [(1, False, 2)] * 3
