"""Blocks replaced one by one: what they learn from, how they are scored and chosen, and what is refused."""

import copy
import itertools

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from cggd_nas import Costs, NoFeasibleArchitectureError, evaluate, replace_blocks


class Block(nn.Module):
    """A residual block that changes its input in place first."""

    def __init__(self, width, hidden):
        super().__init__()
        self.body = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, width))

    def forward(self, x, *, scale=1.0):
        kept = x.clone()
        return kept + scale * self.body(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(4, 6)
        self.blocks = nn.ModuleList([Block(6, 24) for _ in range(3)])
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, scale=0.5)
        return self.head(x)


class Scaled(nn.Module):
    """The cheaper block takes the same arguments."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x, *, scale=1.0):
        return x + scale * self.linear(x)


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    x = torch.randn(256, 4)
    y = (x @ torch.randn(4, 3)).argmax(1)
    model, batches = Net(), list(zip(x.split(32), y.split(32), strict=True))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _, (inputs, targets) in itertools.product(range(20), batches):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return model.eval(), batches


def options():
    torch.manual_seed(1)
    return {f"blocks.{i}": {"linear": Scaled(), "none": nn.Identity()} for i in range(3)}


def found(trained, bound, **more):
    model, batches = trained
    return replace_blocks(
        model,
        options(),
        batches,
        batches,
        lambda supernet: Costs(supernet, torch.zeros(1, 4)).parameters() <= bound,
        **{"epochs": 15, "rate": 0.01, **more},
    )


def test_the_network_stays_as_it_was_where_bounds_allow_it(trained):
    model, batches = trained
    before = copy.deepcopy(model.state_dict())
    result = found(trained, 10_000)
    assert result.loss <= result.original_loss == pytest.approx(evaluate(model, batches).loss)
    for name, weights in model.state_dict().items():
        assert torch.equal(weights, before[name])


def test_losses_are_those_of_the_networks_and_bounds_are_kept(trained):
    _, batches = trained
    result = found(trained, 480)
    assert result.constraints[0].satisfied
    network = result.network()
    assert sum(p.numel() for p in network.parameters()) == result.constraints[0].value <= 480
    assert evaluate(network, batches).loss == pytest.approx(result.loss, rel=1e-5)
    labels = [result.selection[f"blocks.{i}"] for i in range(3)]
    assert labels != ["original"] * 3
    # A block that learnt its block's outputs is nearer to them than none at all.
    for i in range(3):
        assert result.errors[f"blocks.{i}", "linear"] < result.errors[f"blocks.{i}", "none"]


def test_scores_are_the_rises_of_single_replacements_and_the_best_judged_is_taken(trained):
    result = found(trained, 480)
    space = result.supernet.space
    for (block, label), rise in result.scores.items():
        one = [0] * 3
        one[space.position(block)] = space.option_labels(block).index(label)
        assert rise == pytest.approx(result.judged[tuple(one)] - result.original_loss)
    parameters = {one: Costs(result.supernet, torch.zeros(1, 4)).parameters()(one) for one in result.judged}
    within = {one: loss for one, loss in result.judged.items() if parameters[one] <= 480}
    refined = min(within.values())
    assert refined <= result.loss <= found(trained, 480, rounds=1).loss
    assert result.judged[tuple(space.indices(result.selection).tolist())] == result.loss


def test_the_same_seed_gives_the_same_answer(trained):
    one, other = found(trained, 480), found(trained, 480)
    assert (one.selection, one.loss, one.errors) == (other.selection, other.loss, other.errors)


def test_bounds_that_no_blocks_keep_are_told(trained):
    with pytest.raises(NoFeasibleArchitectureError, match="no selection of blocks keeps the bounds"):
        found(trained, 10)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({}, "blocks is empty"),
        ({"body": {"none": nn.Identity()}}, "blocks names 'body', which the model lacks; it has stem, blocks"),
        ({"stem": {}}, "must map labels other than 'original'"),
        ({"stem": {"original": nn.Identity()}}, "must map labels other than 'original'"),
        ({"stem": {"none": nn.Identity()}}, r"tensors of the shapes that its block returns, \[\(32, 6\)\], got"),
        ({"blocks.0": {"a": Scaled()}, "blocks.0.body": {"b": nn.Identity()}}, "stands inside 'blocks.0'"),
    ],
)
def test_wrong_blocks_are_told(trained, blocks, message):
    model, batches = trained
    with pytest.raises(ValueError, match=message):
        replace_blocks(model, blocks, batches, batches, lambda supernet: [], epochs=1)


def test_blocks_that_are_never_reached_are_told(trained):
    model, batches = trained
    model = copy.deepcopy(model)
    model.spare = nn.Linear(6, 6)
    with pytest.raises(ValueError, match="train never reaches the blocks spare"):
        replace_blocks(model, {"spare": {"none": nn.Identity()}}, batches, batches, lambda supernet: [])
