import pytest
from hypothesis import given
from hypothesis import strategies as st

from cggd_scheduling import Project, Schedule
from cggd_scheduling.decoding import Instance, backward, forward, order_by, parallel, serial
from cggd_scheduling.profiles import Packed, Steps, profiles_for
from tests.scheduling.projects import projects, selections, serial_by_hand

HORIZON = 40


@st.composite
def placements(draw):
    """Capacities, and tasks with the earliest times at which they are wanted."""
    capacities = draw(st.lists(st.integers(0, 9), max_size=3))
    demands = st.tuples(*(st.integers(0, c) for c in capacities))
    return capacities, draw(st.lists(st.tuples(st.integers(0, 6), demands, st.integers(0, 8)), max_size=6))


@given(placements())
def test_profiles_agree_with_counting_every_unit_of_time(drawn):
    capacities, tasks = drawn
    for profiles in (Packed(capacities, HORIZON), Steps(capacities)):
        taken = [[0] * (2 * HORIZON) for _ in capacities]
        profile = profiles.empty
        for duration, demands, time in tasks:
            at = time
            while any(
                taken[k][t] + demand > capacities[k]
                for k, demand in enumerate(demands)
                for t in range(at, at + duration)
            ):
                at += 1
            need = profiles.need(duration, demands)
            assert profiles.earliest(profile, need, time) == at
            before = profile
            profile = profiles.placed(profile, need, at)
            assert profiles.earliest(before, need, time) == at  # a profile is a value
            for k, demand in enumerate(demands):
                for t in range(at, at + duration):
                    taken[k][t] += demand


def test_long_horizons_are_kept_in_steps():
    assert isinstance(profiles_for([5, 5], 1000), Packed)
    assert isinstance(profiles_for([5, 5], 10**12), Steps)
    assert isinstance(profiles_for([], 10**12), Packed)


def positions(instance, modes):
    return [
        next(m for m, o in enumerate(options) if o.label == modes[a])
        for a, options in zip(instance.names, instance.options, strict=True)
    ]


def as_schedule(instance, start, modes):
    labels = {a: o[m].label for a, o, m in zip(instance.names, instance.options, modes, strict=True)}
    starts = {a: s * instance.unit for a, s in zip(instance.names, start, strict=True)}
    return Schedule(instance.project.requirements(), starts, labels)


@given(projects(least=1), st.randoms(use_true_random=False))
def test_the_serial_scheme_agrees_with_the_one_by_hand(project, random):
    instance = Instance.of(project)
    for modes in list(selections(project))[:2]:
        order = order_by([random.random() for _ in instance.names], instance.before)
        made = serial(instance, order, instance.before, positions(instance, modes))
        names = [instance.names[a] for a in order]
        by_hand = serial_by_hand(project, names, modes)
        assert as_schedule(instance, made.start, positions(instance, modes)).start == by_hand


@given(projects(least=1), st.randoms(use_true_random=False))
def test_schemes_make_what_the_checker_passes_and_improvement_never_lengthens(project, random):
    instance = Instance.of(project)
    keys = [random.random() for _ in instance.names]
    for labels in list(selections(project))[:2]:
        modes = positions(instance, labels)
        made = serial(instance, order_by(keys, instance.before), instance.before, modes)
        for first in (made, parallel(instance, keys, instance.before, modes)):
            as_schedule(instance, first.start, modes).verify()
            mirrored = backward(instance, first.finish, modes)
            again = forward(instance, mirrored, modes)
            as_schedule(instance, again.start, modes).verify()
            assert first.makespan >= mirrored.makespan >= again.makespan
            assert first.left == again.left == instance.left(modes)


@given(projects(least=1), st.randoms(use_true_random=False))
def test_modes_tried_on_the_way_keep_to_the_budgets(project, random):
    instance = Instance.of(project)
    for labels in list(selections(project))[:1]:
        modes = positions(instance, labels)
        order = order_by([random.random() for _ in instance.names], instance.before)
        made = serial(instance, order, instance.before, modes, free=[random.random() < 0.7 for _ in modes])
        as_schedule(instance, made.start, modes).verify()
        assert made.left == instance.left(modes)
        assert instance.affordable(modes)


@given(projects(least=1, nonrenewable=3))
def test_packed_budgets_agree_with_sums(project):
    instance = Instance.of(project)
    modes = [random_mode % len(o) for random_mode, o in enumerate(instance.options)]
    rows = [project.activities[a][o[m].label] for a, o, m in zip(instance.names, instance.options, modes, strict=True)]
    kept = all(sum(x.demands.get(r, 0) for x in rows) <= b for r, b in project.budgets.items())
    assert instance.affordable(modes) == kept


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=6), st.data())
def test_orders_put_predecessors_first_and_follow_the_keys_otherwise(keys, data):
    n = len(keys)
    before = [data.draw(st.lists(st.integers(0, a - 1), max_size=2)) if a else [] for a in range(n)]
    order = order_by(keys, before)
    assert sorted(order) == list(range(n))
    assert all(order.index(b) < order.index(a) for a in range(n) for b in before[a])
    assert order_by(keys, [[]] * n) == sorted(range(n), key=lambda a: (keys[a], a))


def test_times_are_counted_in_their_greatest_common_divisor():
    project = Project({"a": [(10**15, {"r": 1})], "b": [(2 * 10**15, {"r": 1})]}, (), {"r": 1})
    instance = Instance.of(project)
    assert (instance.unit, isinstance(instance.profiles, Packed)) == (10**15, True)


@pytest.mark.parametrize("scale", [1, 10**7 + 7])
def test_both_kinds_of_profiles_make_the_same_schedules(scale):
    rows = {
        "a": [(3, {"r": 2})],
        "b": [(2, {"r": 1})],
        "c": [(4, {"r": 2})],
        "d": [(1, {"r": 3})],
        "e": [(7, {"r": 1})],
    }
    longer = {a: [(d * scale + (a == "e"), x) for d, x in modes] for a, modes in rows.items()}
    instance = Instance.of(Project(longer, [("a", "d")], {"r": 3}))
    assert isinstance(instance.profiles, Packed) == (scale == 1)
    made = serial(instance, [0, 1, 2, 3, 4], instance.before, [0] * 5)
    by_hand = serial(Instance.of(Project(rows, [("a", "d")], {"r": 3})), [0, 1, 2, 3, 4], instance.before, [0] * 5)
    assert [round(s / scale) for s in made.start] == by_hand.start
