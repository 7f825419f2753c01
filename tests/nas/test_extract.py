import copy
import json
import pickle

import pytest
import torch
from torch import fx, nn

from cggd_nas import Choice, GumbelSoftmax, collect
from cggd_nas.extract import Architecture, extract
from cggd_nas.spaces import conv1d, nats_size
from tests.nas.nets import FEW, NAMES, made, some_selections


@pytest.mark.parametrize("name", NAMES)
def test_an_extracted_network_is_plain_and_does_what_the_supernet_does(name):
    supernet, example = made(name)
    supernet.model.eval()
    batch = torch.cat([example, torch.rand_like(example)])
    for selection in some_selections(supernet, FEW.get(name, 8)):
        module = extract(supernet, selection)
        for part in module.modules():
            for kind in type(part).__mro__:
                assert kind.__module__.partition(".")[0] not in ("cggd", "cggd_nas")
            for hooks in (part._forward_pre_hooks, part._forward_hooks):
                assert not hooks
        assert not any("logits" in parameter for parameter, _ in module.named_parameters())
        with supernet.selected(selection), torch.no_grad():
            torch.testing.assert_close(module(batch), supernet.model(batch), rtol=1e-6, atol=1e-6)


def test_extraction_copies_and_leaves_the_supernet_alone():
    supernet, example = made("additive")
    before = copy.deepcopy(supernet.model.state_dict())
    module = extract(supernet.model, supernet.selection())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    for name, value in supernet.model.state_dict().items():
        assert torch.equal(value, before[name])
    supernet.model(example)  # its hook still draws
    assert module.training
    assert not extract(supernet.model.eval(), supernet.selection()).training


def test_extraction_after_a_training_step_with_mixed_paths():
    supernet, example = made("additive")
    supernet.relax(GumbelSoftmax(hard=False))
    supernet.model(example).sum().backward()
    assert extract(supernet, supernet.selection())(example).shape == (1, 5)


@pytest.mark.parametrize("name", ["nested", "widths", "nats_size"])
@pytest.mark.parametrize("training", [True, False])
def test_every_part_is_in_the_mode_of_the_supernet(name, training):
    """Those that are made anew as well: a depth's sequence, the identity in the place of a mask."""
    supernet, _ = made(name)
    supernet.model.train(training)
    for selection in some_selections(supernet, 3):
        assert {part.training for part in extract(supernet, selection).modules()} == {training}


def test_a_module_in_two_places_stays_one():
    choice = Choice({"a": nn.Linear(3, 3), "b": nn.Identity()}, decision="d")
    layer = nn.Linear(3, 3)
    module = extract(nn.Sequential(choice, layer, choice, layer), {"d": "a"})
    assert module[0] is module[2]
    assert module[1] is module[3]


def test_users_own_classes_stay_and_ours_become_graphs():
    module = extract(*[made("additive")[0], {"shared": "conv3", "down": "pool", "4.main": "conv1"}])
    assert type(module[1]).__name__ == "Block"
    cell = extract(made("nats_size")[0], dict.fromkeys(["c0", "c1", "c2", "c3", "c4"], "4"))
    assert any(isinstance(part, fx.GraphModule) for part in cell.modules())


@pytest.mark.parametrize("name", ["nats_topology", "nats_size", "transformer"])
def test_extracted_networks_can_be_copied_and_pickled(name):
    supernet, example = made(name)
    module = extract(supernet, supernet.selection()).eval()
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        torch.testing.assert_close(other(example), module(example))


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"shared": "conv3"}, "selection leaves decisions open: 'down', '4.main'"),
        ({"shared": "conv9", "down": "pool", "4.main": "conv1"}, "decision 'shared' has no option 'conv9'"),
        ({"shared": "conv3", "down": "pool", "4.main": "conv1", "x": "y"}, "unknown decision 'x'"),
        ([0, 0], "shape"),
    ],
)
def test_wrong_selections(selection, message):
    with pytest.raises(ValueError, match=message):
        extract(made("additive")[0], selection)


def test_indices_are_a_selection():
    assert isinstance(extract(made("alone")[0], [1]), nn.AvgPool2d)


@pytest.mark.parametrize(
    ("factory", "arguments", "shape"),
    [(nats_size, {"widths": [2, 4]}, (1, 3, 8, 8)), (conv1d, {"layers": 2, "channels": [2, 4]}, (1, 1, 16))],
)
def test_state_dict_and_specification_rebuild_the_network(factory, arguments, shape):
    supernet = collect(factory(**arguments))
    for selection in some_selections(supernet, 2):
        module = extract(supernet, selection).eval()
        spec = Architecture(selection, builder=f"{factory.__module__}.{factory.__qualname__}", arguments=arguments)
        again = Architecture.from_json(spec.to_json())
        assert again == spec
        rebuilt = again.build(factory)
        rebuilt.load_state_dict(module.state_dict())
        example = torch.rand(shape)
        torch.testing.assert_close(rebuilt.eval()(example), module(example), rtol=0, atol=0)


def test_what_json_changes_is_refused():
    for spec in (Architecture({"a": "b"}, arguments={"widths": (2, 4)}), Architecture({1: "b"})):
        with pytest.raises(TypeError, match="must be of types that JSON keeps"):
            spec.to_json()


@pytest.mark.parametrize(
    "text", ["", "[1]", "{}", json.dumps({"format": "other", "selection": {}, "builder": "", "arguments": {}})]
)
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match="text must be"):
        Architecture.from_json(text)


def written(**changes):
    return json.dumps({**json.loads(Architecture({"a": "b"}, builder="nets.make").to_json()), **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (written(selections={}), r"the architecture has the unknown key 'selections'; .*; did you mean 'selection'\?"),
        (written(seed=3), "has the unknown key 'seed'; known are 'selection', 'builder', 'arguments'"),
        (written(selection=["b"]), r"whose 'selection' is an object, got \['b'\]"),
        (written(builder=None), "whose 'builder' is a string, got None"),
        (written(arguments=3), "whose 'arguments' is an object, got 3"),
        (written().replace('"a": "b"', '"a": "b", "a": "c"'), "has the key 'a' twice"),
        (written().replace("{", "[", 1), "text must be JSON"),
        ("[" * 100_000, "text must be JSON"),
    ],
)
def test_text_that_says_something_else_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Architecture.from_json(text)
