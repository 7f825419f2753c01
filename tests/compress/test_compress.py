"""From a model and data to a file within limits."""

import csv
import io
import json
import re
import sys
from importlib.metadata import EntryPoint

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cggd import Status, commands
from cggd_compress import KEEP, Compression, Limit, Option, compress, error, size
from cggd_compress.damage import error_function, group_errors, likely_ratios
from cggd_compress.runtime import Runtime
from tests.compress.models import network


@pytest.fixture
def run(cggd, monkeypatch):
    """The program, with the command whether or not the installed package knows it."""
    point = EntryPoint("compress", "cggd_compress.cli:app", "cggd.commands")
    monkeypatch.setattr(commands, "entry_points", lambda group: [point])
    return lambda *arguments: cggd("compress", *arguments)


@pytest.fixture(scope="module")
def compression():
    tokens = np.random.default_rng(1).integers(0, 100, (24, 6))
    return Compression(network(), {"tokens": tokens})


def test_a_limit_on_the_size_is_kept_by_the_file(model, data, tmp_path):
    found = compress(model, data, ["size<=30%"], measurements=8, out=tmp_path / "small.onnx")
    written = (tmp_path / "small.onnx").read_bytes()
    assert found.status is Status.FEASIBLE
    assert found.costs["size"] == found.predicted["size"] == len(written) <= 0.3 * model.ByteSize()
    outputs = [Runtime().outputs(Runtime().session(m), [data]) for m in (model.SerializeToString(), written)]
    assert 0 < found.costs["error"] < 0.1
    assert all(np.isfinite(rows).all() for rows in outputs[1].values())
    assert "size <= " in found.summary()


@pytest.mark.parametrize("share", [0.55, 0.35, 0.27, 0.22, 0.18])
def test_the_answer_is_no_worse_than_any_uniform_format_that_fits(compression, share):
    bound = share * compression.original["size"]
    found = compression.solve([size <= bound], measurements=12)
    assert found.feasible
    assert found.costs["size"] <= bound
    space = compression.choices.space
    for option in {o for d in space.decisions for o in space.option_labels(d)}:
        labels = {d: option if option in space.option_labels(d) else KEEP for d in space.decisions}
        if compression.choices.size(labels) <= bound:
            assert found.costs["error"] <= compression.metrics["error"](labels)


def test_quick_errors_rank_formats_like_measured_ones_do(compression):
    """One format of each weight is measured; of the others, errors are within a factor of two here."""
    quick = Compression(network(), {"tokens": np.random.default_rng(1).integers(0, 100, (24, 6))}, quick=True)
    scaled, measured = quick.singles["error"], compression.singles["error"]
    assert len(quick.measured) == 1 + quick.choices.space.n_decisions
    used = measured > 0
    assert (np.abs(np.log2(scaled[used] / measured[used])) < 1).all()
    found = quick.solve(["size<=25%"], measurements=4)
    assert found.costs["size"] <= 0.25 * found.original["size"]
    with pytest.raises(ValueError, match="quick=True measures no time"):
        Compression(network(), {}, quick=True, timed=True)


@pytest.mark.parametrize("name", ["relative", "mse", "cosine", "kl", "mismatch", "labels"])
def test_errors_of_groups_sum_to_the_error(name):
    rng = np.random.default_rng(0)
    reference, outputs = ({"y": rng.standard_normal((41, 5)), "z": rng.random((41, 3))} for _ in range(2))
    labels = rng.integers(0, 5, 41)
    groups = group_errors(name, labels, reference, outputs)
    assert groups.shape == (32,)
    assert groups.sum() == pytest.approx(error_function(name, labels)(reference, outputs))
    assert group_errors(error_function("mse", None), None, reference, outputs) is None


def test_of_many_selections_the_likely_best_is_nearer_the_best_than_the_least_measured():
    """Errors of groups scatter; with sums that are nearly right, and with sums that say little."""
    rng = np.random.default_rng(0)
    for beyond, scatter in ((0.01, 2.0), (1.0, 0.1)):
        chosen = []
        for _ in range(100):
            promised = np.exp(rng.random(16))
            truth = promised * np.exp(beyond * rng.standard_normal(16))
            groups = truth[:, None] * np.exp(scatter * rng.standard_normal((16, 32)) - scatter**2 / 2)
            ratios = likely_ratios(groups, promised)
            assert ratios[0] == 0
            chosen.append([truth[i] for i in (ratios.argmin(), groups.sum(axis=1).argmin(), promised.argmin())])
        likely, measured, summed = np.log(chosen).mean(axis=0)
        assert likely <= min(measured, summed) + 0.05
    np.testing.assert_array_equal(likely_ratios(np.ones((2, 1)), np.array([1.0, 2.0])), [0, np.log(2)])


def test_an_impossible_limit_is_named_with_the_least_that_works(compression):
    before = len(compression.measured)
    found = compression.solve(["size<=1kB"])
    least = compression.choices.size.limits()[0]
    assert (found.status, found.data, len(compression.measured)) == (Status.INFEASIBLE, None, before)
    assert f"the least size is {least:.0f} B" in found.message
    at_least = compression.solve([size <= least], measurements=2)
    assert at_least.costs["size"] == least
    assert compression.solve([size <= least - 1]).status is Status.INFEASIBLE


@pytest.mark.parametrize("name", ["size", "memory", "macs", "traffic"])
@pytest.mark.parametrize("factor", [1e3, 1e-3])
def test_a_limit_in_another_unit_is_hinted_at(compression, name, factor):
    limit = Limit(name, "<=", factor * compression.original_costs[name])
    hint = rf"{name} <= .* known value of {name}, .*(is the bound in|plain number)"
    if factor < 1:
        found = compression.solve([limit], minimize="macs", measurements=1)
        assert found.status is Status.INFEASIBLE
        assert re.search(f"cannot be kept: the least {name} .*{hint}", found.message)
    else:
        with pytest.warns(UserWarning, match=hint):
            assert compression.solve([limit], minimize="macs", measurements=1).feasible


def test_the_least_size_within_an_error(compression):
    found = compression.solve([error <= 1e-3], minimize="size", measurements=12)
    assert found.costs["error"] <= 1e-3
    assert found.costs["size"] < 0.5 * compression.original["size"]


def test_an_error_that_nothing_reaches_is_not_called_infeasible(compression):
    """What is measured proves nothing about what is not."""
    found = compression.solve(["size<=30%", error <= 1e-12], measurements=4)
    assert found.status is Status.UNKNOWN
    assert "the nearest has" in found.message


def test_weights_can_be_kept_or_given_their_bits(model, data):
    found = compress(model, data, [size <= 20_000], keep=["HEAD*"], bits=["embed*=8"], measurements=4)
    assert (found.selection["head.weight"], found.selection["embed.weight"]) == (KEEP, "8 bit/128")
    for wrong, match in (({"keep": ["tail*"]}, "matches no weight; there are embed.weight"),
                         ({"bits": ["embed*=5"]}, "has options of 2, 4, 8, 16, 32 bits"),
                         ({"bits": ["embed*"]}, "must be a pattern and numbers"),
                         ({"together": ["tail*"]}, "matches no weight")):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            compress(model, data, [size <= 20_000], **wrong)


def test_weights_that_must_agree_are_one_decision(model, data):
    found = compress(model, data, ["size<=40%"], together=["*.weight"], measurements=3)
    assert len(found.selection) == 1


def test_a_run_resumes_from_its_log(model, data, tmp_path):
    first = compress(model, data, ["size<=25%"], measurements=4, log=tmp_path / "log")
    again = Compression(model, data, log=tmp_path / "log")
    assert len(again.measured) == first.measurements
    again.bench.__dict__["reference"] = None  # any further measurement would fail
    assert again.singles["error"].shape == (again.choices.space.n_options,)
    other = Compression(model, {"tokens": data["tokens"][:8]}, log=tmp_path / "log")
    assert len(other.measured) == 0


def test_an_option_of_your_own(model, data):
    def signs(part):
        scale = numpy_helper.from_array(np.abs(part.array).mean().reshape(1), "scale")
        sign = numpy_helper.from_array(np.sign(part.array).astype(np.int8), "sign")
        cast = helper.make_node("Cast", ["sign"], ["float"], to=TensorProto.FLOAT)
        return part.stored([cast, helper.make_node("Mul", ["float", "scale"], [part.name])], [sign, scale])

    found = compress(model, data, ["size<=40%"], options=[Option("signs", 8, signs), "float16"], measurements=4)
    assert set(found.selection.values()) <= {KEEP, "signs", "float16"}
    assert "signs" in found.selection.values()


def test_errors_of_your_own_and_of_labels(model, data):
    def worst(reference, outputs):
        return float(max(np.abs(reference[name] - outputs[name]).max() for name in reference))

    assert compress(model, data, ["size<=30%"], error=worst, measurements=2).costs["error"] > 0
    labels = np.zeros(24, dtype=int)
    found = compress(model, {**data, "labels": labels}, ["size<=30%"], error="labels", measurements=2)
    assert 0 <= found.costs["error"] <= 1


def test_weights_that_the_data_does_not_reach_are_named(model):
    still = {"tokens": np.zeros((4, 6), dtype=int)}
    for tensor in model.graph.initializer:
        if tensor.name == "up.weight":  # nothing passes
            tensor.CopyFrom(numpy_helper.from_array(np.zeros((32, 80), dtype=np.float32), "up.weight"))
    found = compress(model, still, ["size<=60%"], measurements=2)
    assert "the data never shows a difference in conv.weight, up.weight, down.weight: keep them" in found.message


def test_limits_on_time_are_checked_on_the_file(model, data):
    found = compress(model, data, ["latency<=10s", "size<=50%"], measurements=3, options=["float16", "int8 dynamic"])
    assert found.feasible
    assert 0 < found.costs["latency"] <= 1e4
    none = compress(model, data, ["latency<=1e-6"], measurements=2, options=["float16"])
    assert none.status is Status.UNKNOWN


def test_a_program_elsewhere_measures_the_time(run, files, tmp_path):
    """Here the time is the length of the file in kB, so that the answer is known to fit."""
    script = tmp_path / "board.py"
    script.write_text("import os, sys\nprint(f'latency={os.path.getsize(sys.argv[1]) / 1e3}')\n")
    arguments = [files[0], "--data", files[1], "--option", "float16", "--measurements", 2, "--quiet"]
    board = f"{sys.executable} {script} {{model}}"
    status, _, _ = run(*arguments, "--limit", "latency<=30", "--command", board, "--out", tmp_path / "small.onnx")
    assert status == 0
    assert (tmp_path / "small.onnx").stat().st_size <= 30_000
    script.write_text("print('nothing')")
    status, _, complaint = run(*arguments, "--limit", "latency<=30", "--command", board)
    assert status == 1
    assert "the model itself cannot be measured: the program printed no line such as latency=7.5" in complaint


def test_a_sweep_never_gets_worse_with_a_looser_bound(compression):
    front = compression.sweep("size", 4, measurements=3)
    assert front.feasible
    assert (np.diff(front.values) <= 0).all()
    assert (front.metric_values <= front.bounds).all()


def test_the_manifest_says_what_was_chosen_and_what_was_not(model, data):
    found = compress(model, data, ["size<=30%"], measurements=3)
    manifest = json.loads(found.to_json())
    assert manifest["selection"] == found.selection
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert len(rows) == len(manifest["options"])
    chosen = {row["decision"]: row["option"] for row in rows if row["chosen"] == "True"}
    assert chosen == found.selection
    ax = found.plot()
    assert [label.get_text() for label in ax.get_yticklabels()][-1] == "up.weight" or len(ax.patches)


@pytest.mark.slow
def test_a_torch_module_is_exported(data):
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.ReLU(), torch.nn.Linear(64, 40))
    x = np.random.default_rng(0).standard_normal((16, 32)).astype(np.float32)
    found = compress(module, {"input": x}, ["size<=40%"], measurements=3)
    assert found.feasible
    assert set(found.selection) == {"0.weight", "2.weight"}
    session = Runtime().session(found.data)
    assert session.run(None, {"input": x[:5]})[0].shape == (5, 40)
    with pytest.raises(TypeError, match="must be a path"):
        compress(object(), {"input": x}, ["size<=40%"])
    with pytest.raises(ValueError, match="must have arrays named input"):
        compress(module, {"x": x}, ["size<=40%"])


def test_smaller_models_are_candidates_and_compared_with_the_original():
    """Half of the units do nothing, so that the model without them is as good in fewer bytes."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    wide, narrow = (
        torch.nn.Sequential(torch.nn.Linear(32, n), torch.nn.Tanh(), torch.nn.Linear(n, 40)) for n in (96, 48)
    )
    with torch.no_grad():
        wide[2].weight[:, 48:] = 0
        for mine, theirs in ((narrow[0].weight, wide[0].weight[:48]), (narrow[0].bias, wide[0].bias[:48]),
                             (narrow[2].weight, wide[2].weight[:, :48]), (narrow[2].bias, wide[2].bias)):  # fmt: skip
            mine.copy_(theirs)
    data = {"input": np.random.default_rng(0).standard_normal((16, 32)).astype(np.float32)}
    found = compress([wide, narrow], data, ["size<=40%"], measurements=3)
    alone = compress(wide, data, ["size<=40%"], measurements=3)
    assert found.message.startswith("model 2 of 2")
    assert found.limits == alone.limits, "a share is one of the original's cost"
    assert found.costs["error"] < 0.1 * alone.costs["error"]
    other = torch.nn.Sequential(torch.nn.Linear(32, 40))
    worse = compress([wide, other], data, ["size<=40%"], measurements=3)
    assert worse.costs == alone.costs
    with pytest.raises(ValueError, match="empty list"):
        compress([], data, ["size<=40%"])


@pytest.mark.parametrize("wrong", [np.ones((4, 6)), [np.ones((4, 6))], [{"tokens": 1}], None])
def test_data_without_names_of_inputs(model, wrong):
    with pytest.raises(TypeError, match=r"data must be the path of .*; got (ndarray|list|NoneType)"):
        compress(model, wrong, ["size<=50%"])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda a, b: abs(a - b).mean(), "raised TypeError: unsupported operand"),
        (lambda a: 0.0, "raised TypeError: .* takes 1 positional argument"),
        (lambda a, b: abs(a["logits"] - b["logits"]).mean(), "raised KeyError: 'logits'"),
        (lambda a, b: abs(a["scores"] - b["scores"]), r"returned an array of shape \(24, 40\)"),
        (lambda a, b: None, "returned None"),
        (lambda a, b: np.nan, "returned nan"),
    ],
)
def test_an_error_function_of_another_form(model, data, function, message):
    right = r"error must be a function of two mappings.* that returns a number.* 'scores' of shape \(24, 40\)"
    with pytest.raises(TypeError, match=f"{right}.* it {message}"):
        Compression(model, data, error=function)


def test_single_texts_are_lists_of_one(model, data):
    made = Compression(model, data, options="float16", keep="head*", bits="embed*=16")
    assert {str(o) for d in made.choices.space.decisions for o in made.choices.space.option_labels(d)} == {
        KEEP,
        "float16",
    }
    assert set(made.forbid) == {"head.weight", "embed.weight"}


# -- the command line -------------------------------------------------------------------------------------------------


def test_the_command_writes_a_file_and_a_manifest(run, files, tmp_path):
    model, data = files
    status, out, _ = run(
        model, "--data", data, "--limit", "size<=30%", "--measurements", 4, "--out", tmp_path / "small.onnx",
        "--manifest", tmp_path / "m.json", "--csv", tmp_path / "m.csv", "--picture", tmp_path / "m.png", "--quiet",
        "--explain",
    )  # fmt: skip
    assert status == 0
    assert "every limit is kept by the file" in out
    assert "up.weight: " in out
    assert "size <= " in out.splitlines()[-1]
    assert (tmp_path / "small.onnx").stat().st_size <= 0.3 * model.stat().st_size
    manifest = json.loads((tmp_path / "m.json").read_text())
    assert manifest["costs"]["size"] == (tmp_path / "small.onnx").stat().st_size
    assert (tmp_path / "m.png").stat().st_size > 1000


def test_the_command_says_what_is_impossible_and_writes_nothing(run, files, tmp_path):
    status, out, _ = run(files[0], "--data", files[1], "--limit", "size<=1kB", "--out", tmp_path / "small.onnx")
    assert status == 2
    assert "cannot be kept: the least size is" in out
    assert not (tmp_path / "small.onnx").exists()


def test_the_command_sweeps(run, files, tmp_path):
    model, data = files
    status, out, _ = run(
        model, "--data", data, "--sweep", "size", "--bounds", 3, "--measurements", 2, "--csv", tmp_path / "f.csv",
        "--picture", tmp_path / "f.png",
    )  # fmt: skip
    assert status == 0
    assert "for each bound on size [B]" in out
    assert len((tmp_path / "f.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({}, "has no array 'tokens'; the model takes tokens (int64, shape [batch, 6])"),
        ({"tokens": np.zeros((4, 6), dtype=int), "mask": np.zeros(4)}, "an array 'mask', which is no input"),
        ({"tokens": np.zeros((4, 7), dtype=int)}, "axis 1 of the array 'tokens' must be 6 long, got (4, 7)"),
        ({"tokens": np.zeros(6, dtype=int)}, "must have 2 axes, got shape (6,)"),
        ({"tokens": np.zeros((4, 6)) + 0.5}, "must be of type int64, got float64"),
        ({"tokens": np.zeros((0, 6), dtype=int)}, "must have a multiple of 32 samples"),
        ({"tokens": np.full((4, 6), 1000)}, "the model itself does not work: ONNX Runtime cannot run it"),
    ],
)
def test_wrong_data_is_told_in_one_line(run, files, tmp_path, arrays, says):
    np.savez(tmp_path / "wrong.npz", **arrays)
    status, _, complaint = run(files[0], "--data", tmp_path / "wrong.npz", "--limit", "size<=30%")
    assert status == 1
    assert says in complaint
    assert len(complaint.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--limit", "size<=6 parsecs"], "the unit must be one of B, kB, MB"),
        (["--limit", "weight<=6"], "a limit must be of size, memory, macs"),
        (["--limit", "size=6MB"], "a limit must read like size<=6MB"),
        (["--minimize", "beauty"], "must be of size"),
        ([], "without limits the model stays as it is"),
        (["--error", "beauty"], "error must be one of relative"),
        (["--error", "nowhere.py:f"], "must name a function as FILE.py:FUNCTION"),
        (["--option", "3 bit"], "options has '3 bit', which is none of 'float16'"),
        (["--sweep", "size", "--out", "x.onnx"], "--sweep writes no model"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(run, files, arguments, says):
    status, _, complaint = run(files[0], "--data", files[1], "--quiet", *arguments)
    assert status == 1
    assert says in complaint


def test_data_that_is_no_archive(run, files, tmp_path):
    np.save(tmp_path / "one.npy", np.zeros((4, 6), dtype=int))
    for wrong in (tmp_path / "one.npy", files[0]):
        status, _, complaint = run(files[0], "--data", wrong, "--limit", "size<=30%")
        assert (status, "must be an .npz file" in complaint, len(complaint.strip().splitlines())) == (1, True, 1)


def test_a_damaged_model_and_an_operator_that_the_runtime_lacks(run, files, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(files[0].read_bytes()[:3000])
    status, _, complaint = run(tmp_path / "bad.onnx", "--data", files[1], "--limit", "size<=30%")
    assert (status, "bad.onnx is not an ONNX model, or is damaged" in complaint) == (1, True)
    strange = network()
    strange.graph.node[3].op_type = "NoSuchOperator"
    onnx.save(strange, tmp_path / "strange.onnx")
    status, _, complaint = run(tmp_path / "strange.onnx", "--data", files[1], "--limit", "size<=30%", "--quiet")
    assert (status, "NoSuchOperator" in complaint, len(complaint.strip().splitlines())) == (1, True, 1)
