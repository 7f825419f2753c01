"""How a search ends: with outputs of any kind, with errors before the training, and with nothing lost after it."""

import importlib
import itertools
import pickle
import zipfile
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from cggd import Additive, Function, SearchError
from cggd_nas import Choice, Darts, NoFeasibleArchitectureError, collect, evaluate, retrain
from tests.nas.test_search import TRAIN, VAL, X, network, searched, states

training = importlib.import_module("cggd_nas.training")


# -- outputs ----------------------------------------------------------------------------------------------------------


@dataclass
class Output:
    logits: torch.Tensor
    features: torch.Tensor


class Wrapped(nn.Module):
    """A network whose outputs are of some kind."""

    def __init__(self, wrap):
        super().__init__()
        self.body = Choice(
            {"wide": nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 4)), "narrow": nn.Linear(6, 4)}
        )
        self.head, self.wrap = nn.Linear(4, 2), wrap

    def forward(self, x):
        features = self.body(x)
        return self.wrap(self.head(features), features)


KINDS = {
    "tuple": (lambda y, h: (y, h), lambda o: o[0]),
    "list": (lambda y, h: [h, y], lambda o: o[1]),
    "mapping": (lambda y, h: {"logits": y, "features": h}, lambda o: o["logits"]),
    "nested": (lambda y, h: ({"out": (y,)}, h), lambda o: o[0]["out"][0]),
    "dataclass": (Output, lambda o: o.logits),
    "object": (lambda y, h: type("Answer", (), {"y": y})(), lambda o: o.y),
    "one more dimension": (lambda y, h: y[None], lambda o: o[0]),
    "fewer dimensions": (lambda y, h: y[:, 1], lambda o: torch.stack([torch.zeros_like(o), o], 1)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_of_a_user_judges_outputs_of_any_kind(kind):
    wrap, read = KINDS[kind]
    torch.manual_seed(0)
    net = collect(Wrapped(wrap))
    size = Additive(net.space, [8.0, 2.0], name="size", unit="kB")
    result = searched(net, [size <= 5.0], loss=lambda o, y: functional.cross_entropy(read(o), y), candidates=2)
    assert result.selection == {"body": "narrow"}
    assert np.isfinite(result.loss)
    assert np.isnan(result.accuracy)
    assert "nan" not in result.summary()
    with torch.no_grad():
        net.model.eval()
        assert float(functional.cross_entropy(read(net.model(VAL[0])), VAL[1])) == pytest.approx(result.loss, rel=1e-5)


def sequence_loss(outputs, targets):
    return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())


@pytest.mark.parametrize("classes", [3, 5])
def test_sequences_are_judged_with_classes_in_the_last_dimension(classes):
    torch.manual_seed(0)
    x, y = torch.randn(8, 5, 4), torch.randint(classes, (8, 5))
    choice = Choice({"a": nn.Linear(4, 6), "b": nn.Linear(4, 6, bias=False)}, decision="d")
    net = collect(nn.Sequential(choice, nn.Linear(6, classes)))
    bound = Additive(net.space, [3.0, 2.0]) <= 2.0
    result = searched(net, [bound], loss=sequence_loss, train=(x, y), val=(x, y), batch_size=4)
    outputs = net.model(x)
    right = (outputs.argmax(2) == y).double().mean().item()
    if classes == 5:  # as many classes as places leave open which dimension is which
        assert np.isnan(result.accuracy)
    else:
        assert result.accuracy == pytest.approx(right)
    # With a loss of PyTorch they are in the second.
    assert evaluate(nn.Identity(), [(outputs.transpose(1, 2), y)]).accuracy == pytest.approx(right)


def test_an_accuracy_that_some_batches_lack_is_none():
    batches = [(torch.eye(2), torch.tensor([0, 1])), (torch.eye(2)[:, :, None], torch.tensor([0, 1]))]
    scores = evaluate(nn.Identity(), batches, loss=lambda o, y: o.sum())
    assert np.isnan(scores.accuracy)
    assert scores.n == 4


# -- before the training ----------------------------------------------------------------------------------------------


class TupleInEvaluation(nn.Module):
    """As networks with auxiliary heads, the other way round."""

    def forward(self, x):
        return x if self.training else (x, x)


def failing_in_evaluation(net):
    net.model.append(TupleInEvaluation())
    return {}


def wrong_targets(net):
    return {"val": (VAL[0], VAL[1][:, None])}


def regression(net):
    return {"val": (VAL[0], VAL[1].double()), "loss": functional.mse_loss}


def not_to_be_mixed(net):
    """A choice whose options return other structures, which could be read as long as a single path runs."""
    net.model.insert(0, Choice({"a": Twice(), "b": nn.Identity()}, decision="structures"))
    net.model.insert(1, First())
    return {"relaxation": Darts}


class Twice(nn.Module):
    def forward(self, x):
        return x, x


class First(nn.Module):
    def forward(self, x):
        return x if isinstance(x, torch.Tensor) else x[0]


def failing_metric(net):
    return {"metric": lambda outputs, targets: float("none")}


def a_number(net):
    return {"loss": lambda outputs, targets: functional.cross_entropy(outputs, targets).item()}


def nothing_to_learn(net):
    return {"loss": lambda outputs, targets: functional.cross_entropy(outputs, targets).detach()}


class Empty(list):
    def __len__(self):
        return 3


def no_batch(net):
    return {"val": Empty()}


WRONG = {
    failing_in_evaluation: "cross_entropy_loss|must be Tensor, not tuple",
    wrong_targets: "1D target tensor expected|0D or 1D target",
    regression: "must match the size|broadcast",
    not_to_be_mixed: r"options a, b of a choice return parts that cannot be mixed: tuple, Tensor\(16, 6\)",
    failing_metric: "could not convert string to float",
    a_number: r"loss must return a tensor of one number, got \d",
    nothing_to_learn: "gives the logits no gradient",
    no_batch: "val has a length of 3, but gives no batch",
}


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_what_cannot_be_judged_is_said_before_any_training(wrong):
    raw, _ = network()
    options = wrong(raw)
    net = collect(copy_of(raw.model))
    size = Additive(net.space, np.arange(net.space.n_options, dtype=float), name="size")
    before, modes = states(net), [part.training for part in net.model.modules()]
    random = torch.get_rng_state()
    with pytest.raises((ValueError, TypeError, RuntimeError), match=WRONG[wrong]):
        searched(net, [size <= 99.0], epochs=8, warmup=4, **options)
    torch.testing.assert_close(states(net), before, rtol=0, atol=0)
    assert [part.training for part in net.model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert all(p.requires_grad and p.grad is None for p in net.model.parameters())


def copy_of(model):
    """The parts of a collected network in one that is not collected yet."""
    return nn.Sequential(*model)


def test_the_note_says_where():
    net, size = network()
    with pytest.raises(RuntimeError) as caught:
        searched(net, [size <= 9.0], **wrong_targets(net))
    assert caught.value.__notes__ == ["in the first batch of val, in evaluation mode, before any training"]


@pytest.mark.parametrize("own", [False, True])
def test_looking_ahead_moves_no_order_of_data(own):
    """The batches of the first epoch are those that the generators give without it."""

    def loader(data, seed):
        generator = torch.Generator().manual_seed(seed) if own else None
        return DataLoader(TensorDataset(*data), batch_size=16, shuffle=True, generator=generator)

    def first_batches(rehearse, monkeypatch):
        with monkeypatch.context() as patch:
            if not rehearse:
                patch.setattr(training.Run, "_rehearse", lambda run: None)
            net, size = network()
            net.model.append(Seen())
            searched(net, [size <= 9.0], train=loader(TRAIN, 1), val=loader(VAL, 2), epochs=1, warmup=0)
            return net.model[-1].seen

    monkeypatch = pytest.MonkeyPatch()
    with_it, without = first_batches(True, monkeypatch), first_batches(False, monkeypatch)
    assert len(with_it) == len(without)
    assert all(torch.equal(a, b) for a, b in zip(with_it, without, strict=True))


class Seen(nn.Module):
    """Remembers what it is given in training."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        if self.training:
            self.seen.append(x.detach().clone())
        return x


# -- after the training -----------------------------------------------------------------------------------------------


def failing(function, calls, error):
    """A function that raises from the given call on."""
    count = itertools.count()

    def called(*arguments, **named):
        if next(count) >= calls:
            raise error
        return function(*arguments, **named)

    return called


class Unplugged:
    """Training data that cannot be read any more once the training is done."""

    def __init__(self, error, epochs):
        self.error, self.left = error, epochs + 1  # one look ahead

    def __len__(self):
        return 4

    def __iter__(self):
        if not self.left:
            raise self.error
        self.left -= 1
        return iter(zip(*(part.split(16) for part in TRAIN), strict=True))


class Board:
    """A device that measures until it is broken, and whose measurements nobody remembers."""

    def __init__(self, net):
        self.error = None
        self.latency = Function(net.space, self.measure, name="latency", unit="ms", cache=False)

    def measure(self, selection):
        if self.error is not None:
            raise self.error
        return sum({"wide": 8.0, "narrow": 2.0, "skip": 0.0}[option] for option in selection.values())


def end_of_data(net, monkeypatch, error):
    return {"train": Unplugged(error, 6)}


def first_candidate(net, monkeypatch, error):
    monkeypatch.setattr(training, "judge", failing(training.judge, 0, error))


def third_candidate(net, monkeypatch, error):
    monkeypatch.setattr(training, "judge", failing(training.judge, 2, error))


def first_finalist(net, monkeypatch, error):
    monkeypatch.setattr(training, "judge", failing(training.judge, 4, error))


def candidates_are_drawn(net, monkeypatch, error):
    monkeypatch.setattr(training, "likely", failing(training.likely, 0, error))


def bounds_are_evaluated(net, monkeypatch, error):
    monkeypatch.setattr(training, "holds", failing(training.holds, 0, error))


def recalibration(net, monkeypatch, error):
    monkeypatch.setattr(training, "recalibrate", failing(training.recalibrate, 0, error))


ENDS = [
    end_of_data, first_candidate, third_candidate, first_finalist, candidates_are_drawn, bounds_are_evaluated,
    recalibration,
]  # fmt: skip


@pytest.mark.parametrize("place", ENDS, ids=lambda place: place.__name__)
def test_what_fails_after_the_training_does_not_lose_it(place, monkeypatch):
    net, size = network()
    options = place(net, monkeypatch, OSError("no answer")) or {}
    with pytest.raises(SearchError, match=r"no answer \(the best architecture until then is in .result") as caught:
        searched(net, [size <= 20.0], candidates=4, finalists=2, **options)
    assert isinstance(caught.value.__cause__, OSError | RuntimeError)
    result = caught.value.result
    assert len(result.history) == 6
    assert size(result.selection) <= 20.0
    assert [row.value for row in result.constraints] == [size(result.selection)]
    assert result.remeasured == (place is not bounds_are_evaluated)
    assert ("bounds were not evaluated anew" in str(caught.value)) == (place is bounds_are_evaluated)
    assert ("not measured again" in result.summary()) == (place is bounds_are_evaluated)
    assert net.model(X).shape == (96, 2)  # the supernet has a selection
    judged = {third_candidate: 2, first_finalist: 4, bounds_are_evaluated: 4, recalibration: 4}
    assert sum(np.isfinite(c.loss) for c in result.candidates) == judged.get(place, 0)


@pytest.mark.parametrize("place", ENDS, ids=lambda place: place.__name__)
def test_ctrl_c_after_the_training_returns_what_is_known(place, monkeypatch):
    net, size = network()
    options = place(net, monkeypatch, KeyboardInterrupt()) or {}
    if place is bounds_are_evaluated:  # nothing is returned as feasible that was not evaluated again
        with pytest.raises(SearchError) as caught:
            searched(net, [size <= 20.0], candidates=4, finalists=2, **options)
        result = caught.value.result
    else:
        result = searched(net, [size <= 20.0], candidates=4, finalists=2, **options)
        assert "interrupted while" in result.stopped
    assert size(result.selection) <= 20.0
    assert len(result.history) == 6


@pytest.mark.parametrize("when", ["in an epoch", "at the end"])
def test_a_device_that_breaks_does_not_lose_what_it_measured(when):
    net, _ = network()
    board = Board(net)

    def unplug(epoch):
        if epoch.epoch == (3 if when == "in an epoch" else 5):
            board.error = OSError("unplugged")

    with pytest.raises(SearchError, match="unplugged") as caught:
        searched(net, [board.latency <= 17.0], callback=unplug)
    result, board.error = caught.value.result, None
    assert not result.remeasured
    assert board.latency(result.selection) <= 17.0
    assert [(row.value, row.satisfied) for row in result.constraints] == [(board.latency(result.selection), True)]
    assert len(result.history) == (4 if when == "in an epoch" else 6)
    assert result.candidates[0].selection == result.selection


def test_a_candidate_found_to_miss_a_bound_is_no_answer_where_the_device_breaks_next():
    net, _ = network()
    board, asked = Board(net), []
    real = training.holds

    def holds(constraints, selection):
        asked.append(selection)
        if len(asked) == 1:
            return None
        raise OSError("unplugged")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "holds", holds)
        with pytest.raises(SearchError) as caught:
            searched(net, [board.latency <= 17.0])
    assert net.space.labels(asked[0]) != caught.value.result.selection
    assert real is training.holds


def test_without_anything_feasible_the_failure_itself_is_raised(monkeypatch):
    net, _ = network()
    secret = Function(net.space, lambda s: 0.0 if s == {"0": "skip", "1": "narrow"} else 1.0, name="secret")
    net.set_logits([9.0, 0.0, 0.0] * 2)
    candidates_are_drawn(net, monkeypatch, OSError("no answer"))
    with pytest.raises(OSError, match="no answer"):
        searched(net, [secret <= 0.5], objective=lambda loss, _: loss, epochs=2)


def test_the_nearest_is_named_where_it_cannot_be_measured_again():
    net, _ = network()
    board = Board(net)
    net.set_logits([9.0, 0.0, 0.0] * 2)

    def within(constraints, rows):
        board.error = OSError("unplugged")
        return rows[:0]

    candidates = importlib.import_module("cggd_nas.candidates")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "within", within)
        with pytest.raises(NoFeasibleArchitectureError, match="no architecture") as caught:
            searched(net, [board.latency <= 1.0], objective=lambda loss, _: loss, epochs=2)
    assert caught.value.nearest == {"0": "wide", "1": "wide"}
    assert caught.value.constraints == []


class TestRetrain:
    """Training of an extracted network."""

    def test_what_fails_later_carries_the_scores(self):
        train, val = [list(zip(*(x.split(16) for x in data), strict=True)) for data in (TRAIN, VAL)]
        whole = retrain(nn.Linear(6, 2), train, val, 5)
        calls = 1 + 2 * (len(train) + len(val)) + 1  # in the third epoch
        loss = failing(functional.cross_entropy, calls, OSError("no answer"))
        with pytest.raises(SearchError, match=r"no answer \(the scores of 2 epochs are in .result\)") as caught:
            retrain(nn.Linear(6, 2), train, val, 5, loss=loss)
        assert caught.value.result.epochs == whole.epochs[:2]

    def test_what_cannot_be_evaluated_is_said_before_it(self):
        module = nn.Sequential(nn.Linear(6, 2), TupleInEvaluation())
        before = module[0].weight.clone()
        loader = DataLoader(TensorDataset(*TRAIN), 16, shuffle=True, generator=torch.Generator().manual_seed(1))
        state = loader.generator.get_state()
        with pytest.raises((TypeError, RuntimeError)):
            retrain(module, loader, loader, 3)
        assert torch.equal(module[0].weight, before)
        assert torch.equal(loader.generator.get_state(), state)

    def test_outputs_of_any_kind(self):
        module = nn.Sequential(nn.Linear(6, 2), Twice())
        train = list(zip(*(x.split(16) for x in TRAIN), strict=True))
        scores = retrain(module, train, train, 2, loss=lambda o, y: functional.cross_entropy(o[0], y)).final
        assert np.isfinite(scores.loss)
        assert np.isnan(scores.accuracy)


# -- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "search.pt"
    net, size = network()
    searched(net, [size <= 9.0], checkpoint=path, epochs=2)
    return path


def resumed(path):
    net, size = network()
    return net, searched(net, [size <= 9.0], checkpoint=path, epochs=2, resume=True)


def test_a_full_disk_does_not_end_a_search(tmp_path):
    path = tmp_path / "search.pt"
    net, size = network()
    filled = []

    def fill(epoch):
        if epoch.epoch == 1:
            (tmp_path / "search.pt.partial").symlink_to("/dev/full")
            filled.append(path.read_bytes())

    with pytest.warns(
        UserWarning, match=r"checkpoint .*search.pt was not written after epoch 2: .* the search goes on"
    ):
        result = searched(net, [size <= 9.0], checkpoint=path, epochs=3, callback=fill)
    assert result.stopped == "all 3 epochs done"
    assert path.read_bytes() == filled[0]
    assert not (tmp_path / "search.pt.partial").is_symlink()


@pytest.mark.parametrize("wrong", ["folder", "partial"])
def test_a_checkpoint_that_cannot_be_written_is_said_before_the_search(tmp_path, wrong):
    path = tmp_path / "search.pt"
    (path if wrong == "folder" else tmp_path / "search.pt.partial").mkdir()
    net, size = network()
    before = states(net)
    words = {"folder": "got the folder .*search.pt", "partial": "that can be written, got '.*search.pt'"}[wrong]
    with pytest.raises(ValueError, match=f"checkpoint must be a file,? {words}"):
        searched(net, [size <= 9.0], checkpoint=path)
    torch.testing.assert_close(states(net), before, rtol=0, atol=0)


def test_an_older_or_later_format_is_named(written):
    saved = torch.load(written, weights_only=True)
    for number in (1, 99):
        changed = {name: value for name, value in saved.items() if name != "format"}
        torch.save(changed if number == 1 else {**saved, "format": number}, written)
        with pytest.raises(
            ValueError, match=rf"checkpoint .*search.pt has format {number}, .* reads format {training.FORMAT}"
        ):
            resumed(written)


@pytest.mark.parametrize(
    "name", ["epoch", "model", "optimizers", "safeguard", "generators", "random", "history", "met", "nearest"]
)
@pytest.mark.parametrize("how", ["missing", "other"])
def test_parts_that_are_missing_or_others_are_an_error_that_names_the_file(written, name, how):
    saved = torch.load(written, weights_only=True)
    if how == "missing":
        del saved[name]
    else:
        saved[name] = {"a": [3]} if name != "nearest" else [1, 2, 3]
    torch.save(saved, written)
    with pytest.raises(ValueError, match=r"checkpoint .*search.pt is damaged"):
        resumed(written)


def test_damaged_bytes_are_an_error_that_names_the_file_or_change_nothing(written):
    content, rng = written.read_bytes(), np.random.default_rng(0)
    whole = states(resumed(written)[0])
    refused, same = 0, 0
    for place in rng.integers(len(content), size=40):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        written.write_bytes(damaged)
        try:
            net, _ = resumed(written)
        except ValueError as error:
            refused += "search.pt" in str(error)
        else:  # bytes between the parts of the archive
            torch.testing.assert_close(states(net), whole, rtol=0, atol=0, equal_nan=True)
            same += 1
    assert refused + same == 40
    assert refused > 20
    for cut in (0, 10, len(content) // 2, len(content) - 1):
        written.write_bytes(content[:cut])
        with pytest.raises(ValueError, match=r"checkpoint .*search.pt cannot be read"):
            resumed(written)


class Harmful:
    def __reduce__(self):
        return list.append, (RAN, 1)


RAN: list[int] = []


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_no_code_in_a_checkpoint_is_run(written, how):
    if how == "pickle":
        written.write_bytes(pickle.dumps({"signature": Harmful()}))
    else:
        saved = torch.load(written, weights_only=True)
        torch.save({**saved, "met": [Harmful()]}, written)
        assert zipfile.is_zipfile(written)
    with pytest.raises(ValueError, match=r"checkpoint .*search.pt cannot be read"):
        resumed(written)
    assert RAN == []


def test_bounds_that_read_alike_are_not_the_same_search(written):
    net, size = network()
    near = size <= np.nextafter(9.0, 10)
    with pytest.raises(ValueError, match="belongs to another search: its constraints"):
        searched(net, [near], epochs=2, checkpoint=written, resume=True)
