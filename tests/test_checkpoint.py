"""Checkpoints: what a file holds, what tells it from another one, and what damage is told."""

import importlib
import json
import os
from enum import Enum

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from cggd import (
    Additive,
    ChoiceSpace,
    Descent,
    Enumerate,
    Function,
    Invalid,
    LongestPath,
    Measurement,
    Metric,
    Peak,
    Predicted,
    Status,
    Table,
    checkpoint,
    maximize,
    maximum,
    minimize,
)
from cggd import checkpoint as checkpoints
from cggd.checkpoint import FORMAT, digest, load, save
from tests.messages import FAR, LAT, case, search

SPACE = ChoiceSpace({"a": ["x", "y"], "b": ["x", "y"], "c": ["x", "y", "z"]})
COST = Additive(SPACE, [3, 1, 4, 2, 5, 3, 0], name="cost")
OPTIONS = {"improvers": [Descent(steps=12, starts=2)]}


def time_of(values=(1, 5, 1, 4, 2, 3, 6)):
    """Values of a function, so that nothing is known of it but what it returns."""
    table = Additive(SPACE, values)
    return Function(SPACE, lambda s: float(table(s)), name="time")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """The bytes of a checkpoint of a search that was stopped in its second start."""
    path = tmp_path_factory.mktemp("stored") / "search.ckpt"
    minimize(COST, [time_of() <= 9], checkpoint=path, callback=lambda p: p.start == 1 and p.step == 3, **OPTIONS)
    return path.read_bytes()


def resume(path):
    return minimize(COST, [time_of() <= 9], checkpoint=path, resume=True, **OPTIONS)


def refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"search\.ckpt is not a cggd checkpoint, or is damaged"):
        resume(path)


# -- damage -----------------------------------------------------------------------------------------------------------


def test_an_undamaged_file_is_continued(tmp_path, stored):
    path = tmp_path / "search.ckpt"
    path.write_bytes(stored)
    assert len(resume(path).history) == 24


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_damage_is_an_error_that_names_the_file(tmp_path_factory, stored, data):
    path = tmp_path_factory.getbasetemp() / "search.ckpt"
    at = data.draw(st.integers(0, len(stored) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "drop", "append", "zeros"]))
    some = data.draw(st.binary(min_size=1, max_size=9))
    content = {
        "flip": stored[:at] + bytes([stored[at] ^ data.draw(st.integers(1, 255))]) + stored[at + 1 :],
        "cut": stored[:at],
        "insert": stored[:at] + some + stored[at:],
        "drop": stored[:at] + stored[at + 1 + len(some) :],
        "append": stored + some,
        "zeros": stored[:at] + bytes(len(stored) - at) + b"\0",
    }[kind]
    refused(path, content)


FACTS = ["search", "seconds", "calls", "n_candidates", "memory"]
ARRAYS = ["known_value", "known_selection", "known_values", "memory_0_logits", "history_start", "history_value"]
ARRAYS += ["history_violation", "history_best", "history_seconds"]
WRONG = [None, "x", -1, 2.5, [], {}, 10**30, float("nan")]


@pytest.fixture
def parts(tmp_path, stored):
    """The facts and arrays of the file, and where to put others."""
    path = tmp_path / "search.ckpt"
    path.write_bytes(stored)
    return (path, *load(path))


@pytest.mark.parametrize("name", FACTS)
def test_facts_that_are_missing_or_wrong(parts, name):
    path, facts, arrays = parts
    for wrong in [*WRONG, ...]:
        told = {key: value for key, value in facts.items() if key != name}
        if wrong is not ...:
            told[name] = wrong
        if (name, wrong) in (("seconds", 2.5), ("seconds", 10**30), ("calls", 10**30)):  # no such damage
            continue
        save(path, told, arrays)
        with pytest.raises(ValueError, match=r"search\.ckpt"):
            resume(path)


@pytest.mark.parametrize(
    "name", ["start", "used", "rescale", "rng_state", "scale", "step", "stale", "violated", "escalations", "cost"]
)
def test_facts_of_the_descent_that_are_missing_or_wrong(parts, name):
    path, facts, arrays = parts
    for wrong in ["x", None, -1, {}, float("inf"), ...]:
        if name == "cost" and wrong in (None, -1):  # no such damage
            continue
        memory = {key: value for key, value in facts["memory"]["0"].items() if key != name}
        if wrong is not ...:
            memory[name] = wrong
        save(path, facts | {"memory": {"0": memory}}, arrays)
        with pytest.raises(ValueError, match=r"search\.ckpt is not a cggd checkpoint, or is damaged"):
            resume(path)


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_are_missing_or_wrong(parts, name):
    path, facts, arrays = parts
    good = arrays[name]
    assert good.size
    others = [None, good[:-1], np.concatenate([good, good]), good[None], good.astype("f4"), good.astype("U8")]
    others += [np.zeros(0), np.array(3.0), (good == 0).astype("i4"), good == 0]
    for wrong in others:
        rest = {key: array for key, array in arrays.items() if key != name}
        save(path, facts, rest if wrong is None else rest | {name: wrong})
        with pytest.raises(ValueError, match=r"search\.ckpt is not a cggd checkpoint, or is damaged"):
            resume(path)


NEVER = [("known_selection", 7), ("known_selection", -1), ("memory_0_logits", np.nan), ("memory_0_logits", -np.inf)]


@pytest.mark.parametrize(("name", "wrong"), NEVER)
def test_numbers_that_no_search_stores(parts, name, wrong):
    path, facts, arrays = parts
    array = arrays[name].copy()
    array.flat[0] = wrong
    save(path, facts, arrays | {name: array})
    with pytest.raises(ValueError, match=r"search\.ckpt is not a cggd checkpoint, or is damaged"):
        resume(path)


def test_older_and_newer_formats_are_named(tmp_path, stored):
    path = tmp_path / "search.ckpt"
    path.write_bytes(stored.replace(b"checkpoint %d " % FORMAT, b"checkpoint %d " % (FORMAT + 1), 1))
    with pytest.raises(
        ValueError, match=rf"search\.ckpt was written by another version .* format {FORMAT + 1}.*delete"
    ):
        resume(path)
    with path.open("wb") as file:  # the first format: an archive alone
        np.savez(file, facts=np.array(json.dumps({"search": {}})), logits=np.zeros(7))
    with pytest.raises(ValueError, match=r"search\.ckpt .*older version"):
        resume(path)


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "search.ckpt"
    save(path, {"n": 1}, {"a": np.arange(3)})

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(path, {"n": 2}, {"a": np.arange(4)})
    facts, arrays = load(path)
    assert (facts, arrays["a"].tolist()) == ({"n": 1}, [0, 1, 2])
    assert [p.name for p in tmp_path.iterdir()] == ["search.ckpt"]


def test_a_full_disk_costs_a_warning_and_not_the_search(tmp_path, monkeypatch):
    def full(path, facts, arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    monkeypatch.setattr(importlib.import_module("cggd.solve"), "CHECKPOINT_SECONDS", 0.0)
    with pytest.warns(RuntimeWarning, match="No space left on device") as seen:
        result = minimize(COST, [time_of() <= 9], checkpoint=tmp_path / "search.ckpt", **OPTIONS)
    assert len(seen) > 1
    assert (result.feasible, len(result.history)) == (True, 24)


def test_a_path_that_cannot_be_written_is_told_before_the_search(tmp_path):
    calls = []
    metric = Function(SPACE, lambda s: calls.append(s) or 1.0)
    (tmp_path / "search.ckpt.partial").mkdir()
    with pytest.raises(ValueError, match=r"checkpoint must be a file that can be written, got '.*search\.ckpt'"):
        minimize(metric, checkpoint=tmp_path / "search.ckpt")
    assert not calls


def test_a_pipe_is_not_replaced_by_a_checkpoint(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"checkpoint must be a file that can be replaced, got .*pipe, a device"):
        minimize(COST, checkpoint=path)
    assert path.is_fifo()


# -- what is restored -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("starts", [1, 3])
def test_infeasibility_is_proved_again_or_not_said(tmp_path, starts):
    path = tmp_path / "search.ckpt"
    options = {"improvers": [Descent(steps=5, starts=starts), Enumerate(most_calls=100)], "checkpoint": path}
    first = minimize(COST, [time_of() <= 3.5], **options)
    again = minimize(COST, [time_of() <= 3.5], resume=True, **options)
    for result in (first, again):
        assert result.status is Status.INFEASIBLE
        assert (len(result.history), result.note) == (5 * starts, "all 12 selections were evaluated")
    repaired = minimize(COST, [time_of((0, 5, 0, 4, 2, 3, 6)) <= 3.5], resume=True, **options)
    assert (repaired.feasible, repaired.value) == (True, 10)


@pytest.mark.parametrize("bound", [7, 9, 12])
def test_what_a_function_says_today_counts(tmp_path, bound):
    path = tmp_path / "search.ckpt"
    minimize(COST, [time_of() <= bound], checkpoint=path, **OPTIONS)
    stored = load(path)[1]
    today = (6, 1, 5, 0, 6, 3, 2)
    result = minimize(COST, [time_of(today) <= bound], checkpoint=path, resume=True, **OPTIONS)
    known = SPACE.check_selections(stored["known_selection"])
    costs = COST.evaluate(known)[Additive(SPACE, today).evaluate(known) <= bound]
    assert result.feasible == (len(costs) > 0)
    if len(costs):
        assert result.value == costs.min()
        assert result.constraints[0].value == Additive(SPACE, today)(result.indices)


def test_calls_of_what_is_evaluated_again_are_counted(tmp_path):
    path = tmp_path / "search.ckpt"
    before = minimize(COST, [time_of() <= 9], checkpoint=path, **OPTIONS)
    known = len(load(path)[1]["known_value"])
    after = minimize(COST, [time_of() <= 9], checkpoint=path, resume=True, **OPTIONS)
    assert known >= 1
    # The file was written before the selection was evaluated again at the end of the first search.
    assert after.evaluations == before.evaluations - 1 + known + 1


# -- what tells metrics apart -----------------------------------------------------------------------------------------


def path_metric(edges=(("a", "b"),), fixed=0.0, weight="duration", values=(1, 2, 1, 2, 1, 2, 3), at=None, on="c"):
    graph = nx.DiGraph(edges)
    graph.add_nodes_from(["a", "b", "c", "load"])
    graph.nodes["load"][weight] = fixed
    graph.add_edge("load", on)
    return LongestPath(SPACE, graph, values, at, weight)


class Model:
    """A fitted model with a tree of objects that holds its numbers."""

    def __init__(self, numbers, offset=0.5):
        self.parts = {"inner": [type("Part", (), {"__init__": lambda s: None})()]}
        self.parts["inner"][0].numbers = np.array(numbers, dtype=float)
        self.offset, self.lock, self.me = offset, object(), self

    def predict(self, X):
        return X @ self.parts["inner"][0].numbers + self.offset


STAGES = {"early": ["a", "b"], "late": ["b", "c"]}
MATRIX = np.arange(14.0).reshape(2, 7)
DIFFERENT = [
    path_metric(),
    path_metric(edges=(("b", "a"),)),
    path_metric(edges=()),
    path_metric(fixed=2.0),
    path_metric(fixed=2.0, on="b"),
    path_metric(fixed=2.0, weight="seconds"),
    path_metric(values=(1, 2, 1, 2, 1, 2, 4)),
    path_metric(at={"a": ["a", "load"]}),
    Peak(SPACE, np.arange(7), stages=STAGES),
    Peak(SPACE, np.arange(7), stages=STAGES | {"late": ["c"]}),
    Peak(SPACE, np.arange(7)),
    Peak(SPACE, None, MATRIX),
    Peak(SPACE, None, MATRIX[::-1]),
    Peak(SPACE, None, sparse.csr_array(MATRIX + 1)),
    Table(SPACE, np.arange(12)),
    Table(SPACE, np.arange(12)[::-1]),
    Additive(SPACE, np.arange(7)),
    Additive(SPACE, np.arange(7, dtype=np.float32)),
    Additive(SPACE, np.arange(7)) + 1,
    2 * path_metric(),
    3 * path_metric(),
    maximum(path_metric(), path_metric(fixed=2.0)),
    maximum(path_metric(), path_metric(fixed=3.0)),
    Predicted(SPACE, Model(np.arange(7))),
    Predicted(SPACE, Model(np.arange(7)[::-1])),
    Predicted(SPACE, Model(np.arange(7), offset=1.0)),
    Function(SPACE, len),
    Function(SPACE, len, repeats=3),
]


def test_metrics_with_other_values_have_other_digests():
    assert len({digest(metric) for metric in DIFFERENT}) == len(DIFFERENT)


def test_metrics_with_the_same_values_have_the_same_digest():
    assert digest(path_metric(fixed=2.0)) == digest(path_metric(fixed=2.0))
    assert digest(Predicted(SPACE, Model([1] * 7))) == digest(Predicted(SPACE, Model([1] * 7)))
    used = Function(SPACE, lambda s: 1.0)
    before = digest(used)
    used([0, 0, 0])
    assert digest(used) == before == digest(Function(SPACE, lambda s: 2.0))
    metric = path_metric()
    before = digest(metric)
    metric.replacements(np.zeros(3, dtype=int))
    assert digest(metric) == before


def test_a_counter_in_a_metric_of_a_users_class_does_not_count():
    class Counting(Metric):
        def __init__(self, calls):
            self.space, self.name, self.unit, self.calls = SPACE, "calls", "", calls

        def evaluate(self, selections):
            return np.zeros(len(selections))

    assert digest(Counting(1)) == digest(Counting(2))


class Colour(Enum):
    RED = 1
    BLUE = 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1, 2], [2, 1]),
        ([[1], 2], [1, [2]]),
        ({"a": 1}, {"a": 2}),
        ({1, 2}, {1, 3}),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.array(["a", None], dtype=object), np.array(["a", "b"], dtype=object)),
        (sparse.coo_array(np.arange(3.0)), sparse.coo_array(np.arange(1.0, 4.0))),
        (Colour.RED, Colour.BLUE),
        (1, 1.5),
        ("1", 1),
    ],
)
def test_other_contents_have_other_digests(one, other):
    assert digest(one) != digest(other)
    assert digest([one]) == digest([one])


def test_other_labels_are_another_search(tmp_path):
    path = tmp_path / "search.ckpt"
    for labels in ("xy", "xz"):
        space = ChoiceSpace({"a": list(labels)})
        options = {"checkpoint": path, "resume": path.exists(), "improvers": [Descent(steps=3, starts=1)]}
        if labels == "xy":
            minimize(Function(space, lambda s: 1.0), **options)
        else:
            with pytest.raises(ValueError, match="belongs to another search: its labels"):
                minimize(Function(space, lambda s: 1.0), **options)


@pytest.mark.parametrize("kind", ["measurement", "function", "sum"])
def test_what_was_measured_is_in_the_file(tmp_path, kind):
    """A killed search without a log goes on where it was, and measures nothing twice."""
    calls, space = [], ChoiceSpace.from_sizes([4, 4, 4])

    def run(s):
        calls.append(tuple(s.values()))
        if s[0] == 3:
            raise Invalid("too large")
        return {"time": float(s[0] + 2 * s[1] - s[2]), "power": float(s[1])}

    def problem():
        if kind == "function":
            return Function(space, lambda s: run(s)["time"], costly=True, name="time"), []
        bench = Measurement(space, run, ["time", "power"])
        time = bench["time"] + 0.5 * bench["power"] if kind == "sum" else bench["time"]
        return time, [bench["power"] <= 2]

    path = tmp_path / "search.ckpt"
    first = minimize(*problem(), max_evaluations=20, checkpoint=path, callback=lambda p: p.evaluations == 9)
    assert first.evaluations == len(calls) == 9
    again = minimize(*problem(), max_evaluations=20, checkpoint=path, resume=True)
    assert again.evaluations == len(calls) == len(set(calls)) == 20
    assert again.value <= first.value
    third = minimize(*problem(), max_evaluations=20, checkpoint=path, resume=True)
    assert (third.value, len(calls)) == (again.value, 20)


def test_repeats_of_a_noisy_device_are_in_the_file(tmp_path):
    rng, space = np.random.default_rng(0), ChoiceSpace.from_sizes([4, 4])

    def problem():
        bench = Measurement(space, lambda s: {"time": s[0] + s[1] + 0.1 * rng.normal()}, ["time"], repeats=3)
        return bench, [bench["time"]]

    (one, wanted), (other, again) = problem(), problem()
    minimize(*wanted, max_evaluations=12, checkpoint=tmp_path / "c")
    minimize(*again, max_evaluations=12, checkpoint=tmp_path / "c", resume=True)
    rows = one.selections()
    for mine, theirs in zip(one.known(rows), other.known(rows), strict=True):
        np.testing.assert_array_equal(mine, theirs)


# -- wrong input -------------------------------------------------------------------------------------------------------


def npy(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def npz(path):
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))


def pickled(path):
    with path.open("wb") as file:
        np.savez(file, facts=np.array({"a": 1}, dtype=object))


def truncated(path):
    search(checkpoint=path)
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path):
    search(checkpoint=path)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 3] ^= 255
    path.write_bytes(bytes(whole))


DAMAGES = [npy, npz, pickled, truncated, flipped, lambda p: p.write_bytes(b""), lambda p: p.write_text("x" * 99)]
DAMAGES += [lambda p: p.mkdir(), lambda p: np.savez(p.open("wb"), facts=np.array("{"))]
IDS = ["npy", "npz", "pickle", "truncated", "flipped byte", "empty", "text", "folder", "half JSON"]


@pytest.mark.parametrize("damage", DAMAGES, ids=IDS)
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_a_damaged_checkpoint(damage, tmp_path):
    path = tmp_path / "search.ckpt"
    damage(path)
    with pytest.raises(ValueError, match=r"search\.ckpt is not a cggd checkpoint, or is damaged"):
        checkpoints.load(path)
    with pytest.raises(
        ValueError, match=r"search\.ckpt is not a cggd checkpoint, or is damaged|must be a file, got the folder"
    ):
        search(checkpoint=path, resume=True)


OTHERS = [
    case("other seed", {"seed": 1}, ValueError, "seed is 0", "here it is 1"),
    case(
        "other steps",
        {"improvers": [Descent(steps=4, starts=1)]},
        ValueError,
        "its improvers read alike, but their parameters or numbers differ",
    ),
    case(
        "other starts",
        {"improvers": [Descent(steps=3, starts=2)]},
        ValueError,
        "its improvers read alike, but their parameters or numbers differ",
    ),
    case(
        "other rescale",
        {"improvers": [Descent(3, 1, rescale=1.5)]},
        ValueError,
        "its improvers read alike, but their parameters or numbers differ",
    ),
    case(
        "other improvers",
        {"improvers": [Descent(3, 1), Enumerate()]},
        ValueError,
        "improvers are Descent, here they are Descent, Enumerate",
    ),
]


@pytest.mark.parametrize(("options", "error", "fragments"), OTHERS)
def test_a_checkpoint_of_other_options(options, error, fragments, tmp_path):
    path = tmp_path / "search.ckpt"
    search(checkpoint=path)
    with pytest.raises(error) as caught:
        search(checkpoint=path, resume=True, **options)
    for fragment in (str(path), "another search", *fragments):
        assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("run", "fragment"),
    [
        (lambda **o: minimize(FAR, [FAR <= 30], **o), "layout"),
        (lambda **o: maximize(LAT, [LAT <= 7], **o), "sense is 'minimize', here it is 'maximize'"),
        (lambda **o: minimize(LAT, [LAT <= 6], **o), "Constraint(lat <= 7 ms)"),
        (lambda **o: minimize(-LAT, [LAT <= 7], **o), "objective is 'lat', here it is '-lat'"),
    ],
    ids=["space", "sense", "constraints", "objective"],
)
def test_a_checkpoint_of_another_problem(run, fragment, tmp_path):
    path = tmp_path / "search.ckpt"
    search(checkpoint=path)
    with pytest.raises(ValueError, match="belongs to another search") as caught:
        run(improvers=[Descent(steps=3, starts=1)], checkpoint=path, resume=True)
    assert fragment in str(caught.value)
