import csv
import io
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cggd import Additive, Function, Interactions, MetricError
from cggd_nas import Choice, collect, measure
from cggd_nas.calls import Place
from cggd_nas.extract import extract
from cggd_nas.lookup import Entry, LookupTable, measure_lookup
from cggd_nas.measure import Measurement
from cggd_nas.metrics import Costs
from tests.nas.nets import FEW, SEPARABLE, SMALLER, made, some_selections

words = st.text("abc.;=, \"'é", max_size=5).map(str.strip)
shapes = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=4).map(tuple), max_size=2).map(tuple)
places = st.builds(Place, words, words, shapes)


def by_macs(module, arguments):
    """A device of which the time is known: MACs, and 1 for each call."""
    return Measurement(measure.macs(module, arguments) + 1.0, 0.0, 1, 1, "a board")


@given(st.dictionaries(places, st.floats(0, 1e9)), words, words)
def test_files_keep_every_entry(tmp_path_factory, values, unit, device):
    table = LookupTable({place: Entry(value, unit, device, "2026-01-31") for place, value in values.items()})
    path = tmp_path_factory.mktemp("lookup") / "table.csv"
    table.write(path)
    assert LookupTable.read(path).entries == table.entries
    cells = itertools.chain.from_iterable(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))
    assert not [cell for cell in cells if cell.startswith("=")]


def test_the_format(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(
        "module,option,input_shape,value,unit,device,date\r\n"
        "stem,,1x3x32x32,0.25,ms,board,2026-01-31\r\n"
        'cell,"a=1;b=2",1x8 1x8,1e-1,ms,board,2026-02-01\n'
        "\n"
        "head,fc,,3,ms,board,2026-02-01\n"
    )
    table = LookupTable.read(path)
    assert table.entries == {
        Place("stem", "", ((1, 3, 32, 32),)): Entry(0.25, "ms", "board", "2026-01-31"),
        Place("cell", "a=1;b=2", ((1, 8), (1, 8))): Entry(0.1, "ms", "board", "2026-02-01"),
        Place("head", "fc", ()): Entry(3.0, "ms", "board", "2026-02-01"),
    }
    assert table.unit == "ms"


GOOD = "module,option,input_shape,value,unit,device,date\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected the header module,option,"),
        ("module,option\n", "line 1: expected the header"),
        (GOOD + "a,b,1x3\n", r"line 2: expected 7 fields .*, got 3"),
        (GOOD + "a,b,1x,1,ms,x,2026-01-31\n", "line 2: expected an input shape such as 1x16x32x32, got '1x'"),
        (GOOD + "a,b,1x3,fast,ms,x,2026-01-31\n", "line 2: expected a finite number, got 'fast'"),
        (GOOD + "a,b,1x3,inf,ms,x,2026-01-31\n", "line 2: expected a finite number"),
        (GOOD + "a,b,1x3,1,ms,x,31.1.2026\n", "line 2: expected a date such as 2026-01-31, got '31.1.2026'"),
        (GOOD + "a,b,1x3,1,ms,x,2026-01-31\n" * 2, r"line 3: there are two values of a \[b\] given 1x3"),
        (GOOD + 'a,"b,1x3', "line 2: expected fields with closed quotes"),
        (
            GOOD + "a,b,1x3,1,ms,x,2026-01-31\na,c,1x3,1,s,x,2026-01-31\n",
            "table.csv: entries must have one unit, got",
        ),
        (GOOD + "a,b,1x3,1,ms,x,2026-01-31\na,c,1x3,1,ms,y,2026-01-31\n", "entries must have one device, got 'x', 'y'"),
    ],
)
def test_files_that_are_no_tables(tmp_path, text, message):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        LookupTable.read(path)


@pytest.mark.parametrize("name", SMALLER)
def test_a_table_of_a_known_device_adds_up_to_the_network(name):
    """Where time is MACs plus 1 per call, the sum over parts is the MACs of the network plus its number of parts."""
    supernet, example = made(name)
    costs = Costs(supernet, example)
    selections = some_selections(supernet, FEW.get(name, 6))
    rows = [supernet.space.indices(s) for s in selections]
    table = measure_lookup(supernet, example, measure=by_macs, selections=None if name in SEPARABLE else rows)
    metric = costs.looked_up(table)
    assert isinstance(metric, Additive if name in SEPARABLE else (Interactions, Function))
    assert (metric.name, metric.unit) == ("latency", "ms")
    for selection in selections:
        parts = len(costs.tracer.calls(selection))
        assert metric(selection) == pytest.approx(measure.macs(extract(supernet, selection), example) + parts)


@pytest.mark.parametrize("name", ["strided", "nested", "widths", "nats_size", "transformer"])
def test_tables_of_parts_that_interact_are_exact_under_every_selection(name):
    supernet, example = made(name)
    drawn = np.random.default_rng(0)
    table = measure_lookup(
        supernet, example, measure=lambda *_: measure.Measurement(drawn.integers(1, 999) / 10, 0.0, 1, 1, "board")
    )
    costs = Costs(supernet, example)
    metric = costs.looked_up(table)
    assert isinstance(metric, Interactions)
    for row in supernet.space.enumerate():
        calls = costs.tracer.calls(supernet.space.labels(row))
        assert metric(row) == pytest.approx(math.fsum(table.entries[call.place].value for call in calls))


def test_places_of_an_additive_network():
    supernet, example = made("additive")
    table = measure_lookup(supernet, example, measure=by_macs)
    found = [(place.path, place.option) for place in table.entries]
    wide = [(f"{block}.main", option) for block in (1, 3, 4) for option in ("conv3", "conv1")]
    down = [("2", "pool"), ("2", "conv")]
    assert sorted(found) == sorted([("0", ""), ("5", ""), ("6", ""), *wide, *down])
    assert Place("2", "conv", ((1, 4, 8, 8),)) in table.entries


def test_shapes_that_depend_on_the_selection_are_all_measured():
    supernet, example = made("strided")
    table = measure_lookup(supernet, example, measure=by_macs)
    sides = {place.shapes[0][-1] for place in table.entries if place.path == "2.main"}
    assert sides == {8, 4}


def test_real_measurements_have_a_device_and_a_date():
    supernet, example = made("alone")
    seen = []
    table = measure_lookup(
        supernet,
        example,
        measure=lambda module, x: measure.latency(module, x, warmup=0, repeats=3),
        progress=lambda place, entry: seen.append(place),
    )
    assert seen == list(table.entries)
    for entry in table.entries.values():
        assert entry.value > 0
        assert (entry.unit, entry.device) == ("ms", measure.device_name(torch.device("cpu")))
        assert len(entry.date) == 10


def test_what_is_known_is_not_measured_again():
    supernet, example = made("alone")
    first = measure_lookup(supernet, example, measure=by_macs)
    one = dict(itertools.islice(first.entries.items(), 1))
    measured = []

    def counted(module, x):
        measured.append(module)
        return by_macs(module, x)

    second = measure_lookup(supernet, example, measure=counted, known=LookupTable(one))
    assert len(measured) == 1
    assert second.entries == first.entries


class Scaled(nn.Module):
    """A part of a user that takes what is no tensor, and some of it by name."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.scale = torch.ones(4)  # a plain tensor, neither parameter nor buffer

    def forward(self, x, factor=1.0, *, mask=None):
        y = self.linear(x) * self.scale * factor
        return y if mask is None else y * mask


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.choice = Choice({"scaled": Scaled(), "other": Scaled()}, decision="c")
        self.last = Scaled()

    def forward(self, x):
        return self.last(factor=2.0, x=self.choice(x, 3.0, mask=x > 0))


@pytest.mark.filterwarnings("ignore:example has")
def test_parts_are_measured_with_all_their_arguments():
    supernet, example = collect(Named()), torch.randn(2, 4)
    seen = []

    def measured(module, arguments):
        seen.append((tuple(module(*arguments).shape), [str(x.dtype) for x in arguments]))
        return by_macs(module, arguments)

    table = measure_lookup(supernet, example, measure=measured)
    places = {Place("choice", label, ((2, 4), (2, 4))) for label in ("scaled", "other")}
    assert set(table.entries) == {*places, Place("last", "", ((2, 4),))}
    both = (2, 4), ["torch.float32", "torch.bool"]
    assert sorted(seen) == [((2, 4), ["torch.float32"]), both, both]
    costs = Costs(supernet, example)
    for selection in ([0], [1]):
        there = measure.macs(extract(supernet, selection), example)
        assert costs.macs()(selection) == there / 1e6
        assert table.metric(supernet, example)(selection) == there + 2  # calls


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measure": lambda module, arguments: 1.0}, "measure must return a cggd_nas.measure.Measurement, got 1.0"),
        ({"measure": 3}, "measure must be a function of a module and a tuple of its arguments, got 3"),
        ({"known": {}}, r"known must be a LookupTable, got \{\}"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    supernet, example = made("alone")
    with pytest.raises(TypeError, match=message):
        measure_lookup(supernet, example, **{"measure": by_macs, **options})
    with pytest.raises(TypeError, match=r"table must be a LookupTable, got 'table.csv'"):
        Costs(supernet, example).looked_up("table.csv")


def test_an_entry_without_shape_holds_for_all():
    supernet, example = made("alone")
    table = LookupTable(
        {Place("", option, ()): Entry(i, "mJ", "board", "2026-01-31") for i, option in enumerate(("conv", "pool"))}
    )
    metric = table.metric(supernet, example, name="energy")
    assert [metric([0]), metric([1])] == [0, 1]
    assert metric.unit == "mJ"


def test_missing_entries_are_an_error_that_names_them():
    supernet, example = made("additive")
    entries = dict(measure_lookup(supernet, example, measure=by_macs).entries)
    del entries[Place("2", "conv", ((1, 4, 8, 8),))]
    with pytest.raises(ValueError, match=r"no entry for 1 parts: '2 \[conv\] given 1x4x8x8'"):
        LookupTable(entries).metric(supernet, example)
    with pytest.raises(ValueError, match="no entry for"):
        LookupTable(entries).metric(supernet, torch.rand(1, 3, 16, 16)[..., ::2, ::2].repeat(2, 1, 1, 1))


def test_missing_entries_are_found_at_evaluation_where_parts_interact():
    supernet, example = made("strided")
    table = measure_lookup(supernet, example, measure=by_macs, selections=[[0, 0, 0]])
    metric = table.metric(supernet, example)
    assert metric([0, 0, 0]) > 0
    with pytest.raises(MetricError, match=r"no entry for \d parts: 'the network|no entry for \d parts: '1 \[2\]"):
        metric([1, 0, 0])


@pytest.mark.parametrize("name", ["additive", "nested"])
def test_bounds_allow_for_the_rounding_of_the_sum_of_entries(name):
    """Whether the metric is additive or a function: 0.1 ms three times are 0.3 ms, and no more."""
    supernet, example = made(name)
    tracer = Costs(supernet, example).tracer
    selection = some_selections(supernet, 1)[0]
    parts = len(tracer.calls(selection))

    def constant(value):
        return lambda module, arguments: measure.Measurement(value, 0.0, 1, 1, "board")

    for value, bound in ((0.1, parts / 10), (0.7, 7 * parts / 10), (3.0, 3.0 * parts)):
        table = measure_lookup(supernet, example, measure=constant(value))
        metric = table.metric(supernet, example)
        assert isinstance(metric, Additive) == (name == "additive")
        assert (metric <= bound).report(selection).satisfied
        assert (metric >= bound).report(selection).satisfied
        assert not (metric <= bound * (1 - 1e-12)).report(selection).satisfied
        indices = supernet.space.indices(selection)
        switches = (metric <= bound).table(indices)[supernet.space.layout.flat(indices)]  # to what it is already
        assert (metric <= bound).satisfied(switches).all()
