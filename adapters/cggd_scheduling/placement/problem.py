"""Placements: assign the operators of a graph to devices, with memory limits, pins and colocated operators."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import networkx as nx

from cggd import Additive, ChoiceSpace, Constraint
from cggd.checks import as_amount, as_number, own
from cggd.rounding import true_texts
from cggd.space import few
from cggd_scheduling.limits import exceeds


@dataclass(frozen=True)
class Device:
    """A device that operators may be placed on.

    Parameters
    ----------
    name : str
    kind : str, optional
        Devices of one kind are equally fast; by default the name.
    memory : float
        Bound on the sum of the memory of its operators.
    link : float
        Share of an operator's transfer cost that the device pays to send or receive the output: 1 if the device waits
        for its link; 0 if transfers cost it nothing, such as a host whose memory they go through.
    """

    name: str
    kind: str = ""
    memory: float = math.inf
    link: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"name of a device must be a word, got {self.name!r}")
        own(self, kind=self.kind or self.name, memory=as_number(self.memory, f"memory of {self.name!r}", finite=False))
        own(self, link=as_amount(self.link, f"link of device {self.name!r}"))
        if self.memory < 0:
            raise ValueError(f"memory of {self.name!r} must be at least 0, got {self.memory}")


@dataclass(frozen=True)
class Operator:
    """One operator of a graph.

    Parameters
    ----------
    times : mapping of kind of device to time
        The operator can only be placed on devices of these kinds.
    memory : float
    transfer : float
        Time that a device with link 1 takes to send or to receive its output.
    """

    times: Mapping[str, float]
    memory: float = 0.0
    transfer: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.times, Mapping) or not self.times:
            raise ValueError(f"times must map kinds of devices to times, at least one, got {self.times!r}")
        own(self, times={kind: as_amount(t, f"time on {kind!r}") for kind, t in self.times.items()})
        own(self, memory=as_amount(self.memory, "memory"), transfer=as_amount(self.transfer, "transfer"))


@dataclass(frozen=True, eq=False)
class Placement:
    """The problem of placing the operators of a graph on devices.

    The *load* of a device is the time of its operators and of its transfers: the output of an operator is sent once,
    and received once by each other device that needs it (Tarnawski et al., 2020). The largest load determines the
    throughput of a pipeline over a stream of inputs. A single input takes at least the *critical path*: the longest
    chain of operators, with the transfers between their devices.

    Parameters
    ----------
    operators : mapping of name to Operator
    edges : sequence of (operator, operator)
        The second needs the output of the first.
    devices : sequence of Device
    colocate : sequence of sequences of operators
        Groups of operators that must be on the same device.
    pins : mapping of operator to the name of a device, or to a list of names
        The devices on which an operator may be.
    unit, memory_unit : str
        Units of time and of memory.

    Raises
    ------
    ValueError
        If a name is unknown, the graph has a cycle, or an operator has no time on any device.

    Notes
    -----
    Tarnawski, Phanishayee, Devanur, Mahajan, Paravecino: Efficient algorithms for device placement of DNN graph
    operators. NeurIPS, 2020.

    Examples
    --------
    >>> devices = [Device("gpu0", "gpu", memory=2), Device("gpu1", "gpu", memory=2), Device("cpu", link=0)]
    >>> work = {name: Operator({"gpu": 3.0, "cpu": 9.0}, memory=1, transfer=0.5) for name in "abcd"}
    >>> problem = Placement(work, [("a", "b"), ("b", "c"), ("c", "d")], devices, pins={"d": "gpu1"}, unit="ms")
    >>> problem.loads({"a": "gpu0", "b": "gpu0", "c": "gpu1", "d": "gpu1"})
    {'gpu0': 6.5, 'gpu1': 6.5, 'cpu': 0.0}

    `place` solves it; it is also the method `solve`. The metrics `load` and `critical_path` are a `DeviceLoad` and a
    `TransferPath`.
    """

    # Set by the modules that define them, which import this one.
    solve: ClassVar[Callable[..., Any]]
    load: ClassVar[Any]
    critical_path: ClassVar[Any]

    operators: Mapping[Hashable, Operator]
    edges: Sequence[tuple[Hashable, Hashable]]
    devices: Sequence[Device]
    colocate: Sequence[Sequence[Hashable]] = ()
    pins: Mapping[Hashable, str | Sequence[str]] = field(default_factory=dict)
    unit: str = ""
    memory_unit: str = ""

    def __post_init__(self) -> None:
        if wrong := [device for device in self.devices if not isinstance(device, Device)]:
            raise TypeError(f"devices must be a sequence of Device, got {wrong[0]!r}")
        if not isinstance(self.operators, Mapping):
            raise TypeError(f"operators must map names to Operator, got {type(self.operators).__name__}")
        if strange := [name for name, operator in self.operators.items() if not isinstance(operator, Operator)]:
            raise TypeError(f"operator {strange[0]!r} must be an Operator, got {self.operators[strange[0]]!r}")
        own(self, devices=tuple(self.devices), edges=tuple(dict.fromkeys(map(tuple, self.edges))))
        names = [device.name for device in self.devices]
        if not self.operators or not names:
            raise ValueError(f"a placement needs operators and devices, got {len(self.operators)} and {len(names)}")
        if len(set(names)) < len(names):
            raise ValueError(f"devices must have different names, got {few(names)}")
        for what, mentioned in (
            ("edges", [end for edge in self.edges for end in edge]),
            ("colocate", [operator for group in self.colocate for operator in group]),
            ("pins", list(self.pins)),
        ):
            if unknown := [name for name in mentioned if name not in self.operators]:
                raise ValueError(f"{what} names {unknown[0]!r}, which is no operator; there are {few(self.operators)}")
        if not nx.is_directed_acyclic_graph(self.graph):
            cycle = [u for u, _ in nx.find_cycle(self.graph)]
            raise ValueError(f"the operators {few(cycle)} wait for each other in a cycle")
        for operator, pin in self.pins.items():
            if not pin or not isinstance(pin, str | Sequence):
                raise ValueError(f"pins must give {operator!r} the name of a device or a list of names, got {pin!r}")
            if wrong := [name for name in self._pinned(operator) if name not in names]:
                raise ValueError(f"pins puts {operator!r} on {wrong[0]!r}, which is no device; there are {few(names)}")
        kinds = {device.kind for device in self.devices}
        for name, operator in self.operators.items():
            if not kinds & operator.times.keys():
                raise ValueError(
                    f"operator {name!r} runs on {few(operator.times)}, and the devices are {few(sorted(kinds))}"
                )

    # -- what follows from it -----------------------------------------------------------------------------------------

    @cached_property
    def graph(self) -> nx.DiGraph:
        """The graph of operators."""
        graph = nx.DiGraph()
        graph.add_nodes_from(self.operators)
        graph.add_edges_from(self.edges)
        return graph

    @cached_property
    def groups(self) -> list[list[Hashable]]:
        """Groups of colocated operators, in the given order; any other operator is a group alone."""
        together = nx.Graph()
        together.add_nodes_from(self.operators)
        for group in self.colocate:
            nx.add_path(together, group)
        place = {operator: n for n, operator in enumerate(self.operators)}
        return [sorted(group, key=place.__getitem__) for group in nx.connected_components(together)]

    def _pinned(self, operator: Hashable) -> list[str]:
        pin = self.pins.get(operator, [device.name for device in self.devices])
        return [pin] if isinstance(pin, str) else list(pin)

    def _possible(self, operator: Hashable) -> list[str]:
        """Names of the devices that an operator can be on, in the order of the devices."""
        pinned, times = self._pinned(operator), self.operators[operator].times
        return [device.name for device in self.devices if device.name in pinned and device.kind in times]

    def possible(self, group: Iterable[Hashable]) -> list[Device]:
        """The devices on which a group can be, by pins, kinds and its own memory."""
        group = list(group)
        names = set.intersection(*(set(self._possible(operator)) for operator in group))
        need = self.memory(group)
        return [device for device in self.devices if device.name in names and not exceeds(need, device.memory)]

    def memory(self, operators: Iterable[Hashable]) -> list[float]:
        """Memory of each operator."""
        return [self.operators[operator].memory for operator in operators]

    def fits(self, where: Mapping[Hashable, Any]) -> bool:
        """Whether a placement keeps the memory limits.

        Parameters
        ----------
        where : mapping of operator to the name of a device
        """
        on: dict[str, list[Hashable]] = {device.name: [] for device in self.devices}
        for operator in self.operators:
            on[where[operator]].append(operator)
        return not any(exceeds(self.memory(on[device.name]), device.memory) for device in self.devices)

    def conflicts(self) -> list[str]:
        """Reasons why no placement is possible that follow from pins, kinds and memory without a search, as text."""
        found, bound_to = [], {device.name: [] for device in self.devices}
        for group in self.groups:
            sets = {operator: set(self._possible(operator)) for operator in group}
            if not (common := set.intersection(*sets.values())):
                found.append(self._disagreement(sets))
            elif not self.possible(group):
                most = max(device.memory for device in self.devices if device.name in common)
                taken, given = true_texts(sum(self.memory(group)), most)
                found.append(
                    f"{few(group)} take {taken}{self._of_memory} together, and no device that they may be on has more "
                    f"than {given}"
                )
            elif len(common) == 1:
                bound_to[common.pop()] += group
        for device in self.devices:
            there = bound_to[device.name]
            need = self.memory(there)
            if exceeds(need, device.memory):
                taken, given = true_texts(sum(need), device.memory)
                found.append(
                    f"{few(there)} must be on {device.name!r} and take {taken}{self._of_memory}, but it has {given}"
                )
        need, room = self.memory(self.operators), [device.memory for device in self.devices]
        if not found and math.isfinite(sum(room)) and exceeds([*need, *(-memory for memory in room)], 0):
            taken, given = true_texts(sum(need), sum(room))
            found.append(f"all operators take {taken}{self._of_memory}, and all devices have {given}")
        return found

    def _disagreement(self, sets: Mapping[Hashable, set[str]]) -> str:
        """Which operators of a group conflict: one that fits on no device, or two that share no device."""
        for operator, devices in sets.items():
            if not devices:
                kinds = few(self.operators[operator].times)
                return f"{operator!r} is pinned to {few(self._pinned(operator))}, but it runs on {kinds} alone"
        operators = list(sets)
        pairs = [(a, b) for i, a in enumerate(operators) for b in operators[i + 1 :] if not sets[a] & sets[b]]
        culprits = pairs[0] if pairs else operators
        each = " and ".join(f"{operator!r} ({self._why(operator, sets[operator])})" for operator in culprits)
        return f"{each} must be on one device, and there is none for all of them"

    def _why(self, operator: Hashable, devices: set[str]) -> str:
        return f"{'pinned to' if operator in self.pins else 'runs on'} {few(sorted(devices))}"

    @property
    def _of_memory(self) -> str:
        return f" {self.memory_unit}" if self.memory_unit else ""

    # -- as a problem of the core -------------------------------------------------------------------------------------

    @cached_property
    def space(self) -> ChoiceSpace:
        """A decision per group, named after its first operator; the options are devices."""
        if wrong := self.conflicts():
            raise ValueError(f"no placement is possible: {'; '.join(wrong)}")
        return ChoiceSpace({group[0]: [device.name for device in self.possible(group)] for group in self.groups})

    def operator_devices(self, selection: Mapping[Hashable, Any]) -> dict[Hashable, str]:
        """The device of each operator, for a selection of a device for each group."""
        where = {operator: selection[group[0]] for group in self.groups for operator in group}
        return {operator: where[operator] for operator in self.operators}

    @cached_property
    def memory_limits(self) -> list[Constraint]:
        """A constraint for each device with limited memory."""
        need = [sum(self.operators[operator].memory for operator in group) for group in self.groups]
        limits = []
        for device in self.devices:
            if math.isfinite(device.memory):
                taken = {
                    d: {o: need[i] if o == device.name else 0.0 for o in self.space.option_labels(d)}
                    for i, d in enumerate(self.space.decisions)
                }
                name = f"memory of {device.name}"
                limits.append(Additive(self.space, taken, name=name, unit=self.memory_unit) <= device.memory)
        return limits

    def loads(self, where: Mapping[Hashable, Any]) -> dict[str, float]:
        """The load of each device, computed one operator at a time.

        Parameters
        ----------
        where : mapping of operator to the name of a device
        """
        devices = {device.name: device for device in self.devices}
        loads = dict.fromkeys(devices, 0.0)
        for name, operator in self.operators.items():
            home = where[name]
            loads[home] += operator.times[devices[home].kind]
            away = {where[successor] for successor in self.graph.successors(name)} - {home}
            for end in {home, *away} if away else ():
                loads[end] += devices[end].link * operator.transfer
        return loads
