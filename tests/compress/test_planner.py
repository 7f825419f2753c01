"""Recipes from tables, against all selections and against a solver of another library."""

import csv
import io
import json
import re
import shlex
from contextlib import redirect_stdout
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, milp

from cggd import Problem, commands, rules
from cggd.budget import Stop
from cggd.result import Status
from cggd.testing import check_improver
from cggd_compress import Cache, FormatTable, make_recipe, plan
from cggd_compress.each_option import EachOption
from cggd_compress.planner import bytes_of
from cggd_compress.planner_cli import app

# -- answers ----------------------------------------------------------------------------------------------------------

DEVICES = ("gpu", "cpu")
FORMATS = ("q8_0", "q4_K", "q2_K")


@st.composite
def tables(draw, tensors=3):
    """A table whose numbers are whole, so that sums are exact; a device may lack a format."""
    rows = {}
    for n in range(draw(st.integers(1, tensors))):
        formats = draw(st.lists(st.sampled_from(FORMATS), min_size=1, unique=True))
        rows[f"blk.{n}.w"] = {
            name: {"bytes": draw(st.integers(1, 9)), "damage": draw(st.integers(0, 9))} for name in formats
        }
        for numbers in rows[f"blk.{n}.w"].values():
            for device in draw(st.sampled_from([DEVICES, ("cpu",)])):
                numbers[f"ms {device}"] = draw(st.integers(0, 5))
    return rows


def selections(rows):
    """Every choice of a format and a device for each tensor, as the table allows it."""
    timed = any(f"ms {device}" in numbers for f in rows.values() for numbers in f.values() for device in DEVICES)
    return product(
        *(
            [(t, f, d) for f, numbers in formats.items() for d in DEVICES if not timed or f"ms {d}" in numbers]
            for t, formats in rows.items()
        )
    )


@given(tables(), st.integers(2, 20), st.integers(0, 15), st.integers(0, 12), st.booleans(), st.booleans())
@settings(max_examples=60)
def test_the_best_of_all_selections(rows, gpu, cpu, most, together, alike):
    def total(chosen, column, device=None):
        return sum(rows[t][f][column.format(d)] for t, f, d in chosen if device in (None, d))

    def fits(chosen):
        return (
            total(chosen, "bytes", "gpu") <= gpu
            and total(chosen, "bytes", "cpu") <= cpu
            and total(chosen, "ms {}") <= most
            and (not together or len({d for _, _, d in chosen}) == 1)
            and (not alike or len({f for _, f, _ in chosen}) == 1)
        )

    if not any("ms gpu" in numbers for formats in rows.values() for numbers in formats.values()):
        with pytest.raises(ValueError, match="no milliseconds of device 'gpu'"):
            plan(FormatTable(rows), DEVICES)
        return
    made = plan(FormatTable(rows), {"gpu": gpu, "cpu": cpu})
    limits = [f"ms <= {most}"]
    limits += made.same("device", "blk*") if together else []
    limits += made.same("format", "blk.{}.w".replace("{}", "*")) if alike else []
    recipe = make_recipe(made, limits)
    best = min((total(chosen, "damage") for chosen in selections(rows) if fits(chosen)), default=None)
    assert recipe.result.value == best
    assert recipe.result.status is (Status.INFEASIBLE if best is None else Status.OPTIMAL)
    if best is None:
        assert recipe.diagnosis is not None
        assert not recipe.chosen
    else:
        chosen = [(tensor, choice.format, choice.device) for tensor, choice in recipe.chosen.items()]
        assert fits(chosen)
        assert total(chosen, "damage") == best == recipe.totals["damage"]
        assert total(chosen, "bytes", "gpu") == recipe.totals["gpu"]


@given(tables(2), st.data())
@settings(max_examples=40)
def test_a_cache_lies_beside_its_layers(rows, data):
    """f16 takes 2 bytes for each number, and q8_0 34 bytes for 32 of them."""
    pytest.importorskip("gguf")
    for formats in rows.values():
        cached = data.draw(st.sampled_from([32, 64]))
        for numbers in formats.values():
            numbers["cached"] = cached
            for device in DEVICES:
                numbers.pop(f"ms {device}", None)
    gpu, least = data.draw(st.integers(60, 900)), data.draw(st.sampled_from([1, 4]))
    sizes, damage = {"f16": 2, "q8_0": 34 / 32}, {"f16": 0, "q8_0": 3}

    def held(chosen, tokens, cache, device):
        return sum(
            rows[t][f]["bytes"] + tokens * rows[t][f]["cached"] * sizes[cache] for t, f, d in chosen if d == device
        )

    everything = [
        (sum(rows[t][f]["damage"] for t, f, _ in chosen) + damage[cache], tokens)
        for chosen in selections(rows)
        for tokens, cache in product([1, 4], sizes)
        if held(chosen, tokens, cache, "gpu") <= gpu and held(chosen, tokens, cache, "cpu") <= 150 and tokens >= least
    ]
    made = plan(FormatTable(rows), {"gpu": gpu, "cpu": 150}, cache=Cache([1, 4], damage))
    recipe = make_recipe(made, [f"context >= {least}"], then=[("context", "maximize")])
    assert recipe.feasible == bool(everything)
    if everything:
        best = min(value for value, _ in everything)
        assert recipe.totals["damage"] == best
        assert recipe.totals["context"] == max(tokens for value, tokens in everything if value == best)


@pytest.mark.parametrize("seed", range(4))
def test_a_table_of_many_tensors_is_proved_as_by_scipy(seed):
    """18 tensors, 4 formats, 2 devices, 3 limits and tensors of a block on one device, in whole numbers."""
    rng = np.random.default_rng(seed)
    rows = {}
    for name in (f"blk.{n // 3}.{n % 3}" for n in range(18)):
        size, harm = int(rng.integers(20, 200)), rng.lognormal(3, 1)
        rows[name] = {
            f"{bits} bit": {
                "bytes": size * bits,
                "damage": int(harm * 4.0 ** (5 - bits)) + 1,
                "ms gpu": size * bits,
                "ms cpu": 7 * size * bits,
            }
            for bits in (8, 4, 3, 2)
        }
    whole = sum(formats["4 bit"]["bytes"] for formats in rows.values())
    gpu, cpu, most = int(0.6 * whole), int(0.6 * whole), int(2.5 * whole)
    flat = [(t, d, numbers) for t, formats in rows.items() for d in DEVICES for numbers in formats.values()]
    n, blocks = len(flat), sorted({t.rpartition(".")[0] for t in rows})
    one_of_each = [[float(t == other) for other, _, _ in flat] + [0.0] * len(blocks) for t in rows]
    on_gpu = [
        [float(t == other and d == "gpu") for other, d, _ in flat] + [-float(t.startswith(f"{b}.")) for b in blocks]
        for t in rows
    ]
    sums = [
        [numbers["bytes"] * (d == "gpu") for _, d, numbers in flat],
        [numbers["bytes"] * (d == "cpu") for _, d, numbers in flat],
        [numbers[f"ms {d}"] for _, d, numbers in flat],
    ]
    sums = [row + [0.0] * len(blocks) for row in sums]
    answer = milp(
        [numbers["damage"] for _, _, numbers in flat] + [0.0] * len(blocks),
        integrality=np.ones(n + len(blocks)),
        bounds=(0, 1),
        constraints=[
            LinearConstraint(one_of_each, 1, 1),
            LinearConstraint(on_gpu, 0, 0),
            LinearConstraint(sums, -np.inf, [gpu, cpu, most]),
        ],
        options={"mip_rel_gap": 0},
    )
    made = plan(FormatTable(rows), {"gpu": gpu, "cpu": cpu})
    recipe = make_recipe(made, [f"ms <= {most}", *made.same("device", "blk.{}.*")])
    assert recipe.result.status is Status.OPTIMAL
    assert recipe.result.value == round(answer.fun)


# -- plans ------------------------------------------------------------------------------------------------------------

ROWS = {
    "blk.0.attn_q.weight": {"q8_0": {"bytes": 34, "damage": 1.0}, "q4_0": {"bytes": 18, "damage": 5.0}},
    "blk.0.ffn_up.weight": {"q8_0": {"bytes": 68, "damage": 0.5}, "q4_0": {"bytes": 36, "damage": 2.0}},
    "output.weight": {"f16": {"bytes": 64, "damage": 0.0}, "q8_0": {"bytes": 34, "damage": 3.0}},
}


def test_patterns_become_rules():
    made = plan(FormatTable(ROWS), DEVICES)
    limits = made.only("format", "output*", ["q8_0"]) + made.only("device", "blk.*", ["CPU"])
    chosen = make_recipe(made, limits).chosen
    assert {tensor: choice.label for tensor, choice in chosen.items()} == {
        "blk.0.attn_q.weight": "q8_0@cpu",
        "blk.0.ffn_up.weight": "q8_0@cpu",
        "output.weight": "q8_0@gpu",
    }
    on_attribute = rules.implies(("output.weight.device", "gpu"), ("output.weight.format", "q8_0"))
    recipe = make_recipe(made, [on_attribute, *made.only("device", "output*", ["gpu"])])
    assert recipe.chosen["output.weight"].label == "q8_0@gpu"
    for wrong in (made.only, made.same):
        with pytest.raises(ValueError, match=r"no tensor is called like 'embed\*'"):
            wrong("format", "embed*", *([["q8_0"]] if wrong == made.only else []))
    with pytest.raises(ValueError, match="has none of the formats 'q2_k'; it has"):
        made.only("format", "blk*", ["q2_K"])


@pytest.mark.parametrize(
    ("text", "expected"), [("7.5MB", 7_500_000), ("0.1 MB", 100_000), ("8GiB", 2**33), ("1e3 B", 1000), ("12", 12)]
)
def test_bytes(text, expected):
    assert bytes_of(text) == expected
    made = plan(FormatTable(ROWS), ["gpu"])
    assert made.limit(f"size <= {text}")[0].bound == made.limit(f"size + 1 <= gpu + {text}")[0].bound + 1 == expected


@pytest.mark.parametrize("text", ["", "8 G", "-1", "1_0", "GB"])
def test_wrong_bytes(text):
    with pytest.raises(ValueError, match="expected a number of bytes such as"):
        bytes_of(text)


@pytest.mark.parametrize(
    ("rows", "given", "message"),
    [
        ({}, {}, "no tensor with formats"),
        ({"a": {"q": {"bytes": 1}}}, {}, "tensor 'a' has no damage in format 'q'"),
        ({"a": {"q": {"damage": 1}}}, {}, "tensor 'a' has no bytes in format 'q'"),
        ({"a": {}}, {}, "no format that its shape allows"),
        (ROWS, {"devices": ["size"]}, "must not be called like a metric, got 'size'"),
        (ROWS, {"devices": {"gpu": "8 chips"}}, "expected a number of bytes"),
        ({"a": {"q": {"bytes": 1, "damage": 1, "ms gpu": 1}}}, {"devices": DEVICES}, "no milliseconds of device 'cpu'"),
    ],
)
def test_what_cannot_be_planned(rows, given, message):
    with pytest.raises(ValueError, match=message):
        plan(FormatTable(rows), **given)


def two_devices(seed, tensors=2):
    """A plan of layers on two devices with little memory, and a cache."""
    rng = np.random.default_rng(seed)
    rows = {
        f"blk.{n}.attn_k.weight": {
            name: {"bytes": int(b * (1 + n)), "damage": float(rng.integers(1, 99)), "cached": 64 * (1 + n)}
            for name, b in (("q8_0", 90), ("q4_K", 45))
        }
        for n in range(tensors)
    }
    room = sum(0.8 * formats["q8_0"]["bytes"] + 2.2 * formats["q8_0"]["cached"] for formats in rows.values())
    cache = Cache([1, 2, 4], {"f16": 0, "q8_0": 2})
    return plan(FormatTable(rows), {"gpu": 0.6 * room, "cpu": 0.5 * room}, cache=cache)


@pytest.mark.parametrize("seed", range(4))
def test_each_option_of_the_cache_keeps_the_laws_of_improvers(seed):
    made = two_devices(seed)
    for least in (2, 4):
        problem = Problem(made.metrics["damage"], [*made.limits, made.metrics["context"] >= least])
        check_improver(EachOption(made.space.decisions.index("cache")), problem)


def test_a_plan_with_a_cache_is_proved():
    """The products of layers and cache left a gap when the whole program was given to branch and bound."""
    made = two_devices(0, tensors=24)
    found = make_recipe(made, ["context >= 2"], time_limit=20)
    assert found.result.stopped in (Stop.OPTIMAL, Stop.PRECISION)
    assert make_recipe(made, ["context >= 2", "gpu <= 100", "cpu <= 100"]).result.status is Status.INFEASIBLE


def test_what_a_cache_needs():
    pytest.importorskip("gguf")
    for contexts, formats in (([], {"f16": 0.0}), ([8], {}), ([0], {"f16": 0.0}), ([8], {"int7": 0.0})):
        with pytest.raises(ValueError, match=r"contexts must be at least 1|formats of ggml|at least one number"):
            Cache(contexts, formats)
    with pytest.raises(ValueError, match="a column 'cached'"):
        plan(FormatTable(ROWS), cache=Cache([8]))
    with pytest.raises(ValueError, match="called 'cache'"):
        plan(FormatTable({"cache": ROWS["output.weight"]}, cached={"cache": 2}), cache=Cache([8]))


def test_formats_without_damage_are_left_out():
    rows = {"a": {"q": {"bytes": 1, "damage": 1.0}, "r": {"bytes": 1}, "s": {"damage": 0.0}}}
    made = plan(FormatTable(rows))
    assert list(made.space.option_labels("a")) == ["q"]
    assert sorted(made.notes) == [
        "a: r is left out, since its damage is not known",
        "a: s is left out, since its bytes are not known",
    ]


def test_bits_for_each_number():
    rows = {
        "a": {"q": {"bytes": 3, "damage": 0.0, "elements": 8}},
        "b": {"q": {"bytes": 5, "damage": 0.0, "elements": 8}},
    }
    assert make_recipe(plan(FormatTable(rows)), ["bpw <= 4"]).totals["bpw"] == 4
    rows["b"]["q"].pop("elements")
    with pytest.raises(ValueError, match="no metric 'bpw'"):
        make_recipe(plan(FormatTable(rows)), minimize="bpw")


# -- what is written --------------------------------------------------------------------------------------------------


def type_of(name, lines):
    """The type that llama-quantize takes for a tensor: of the first lowered expression that is found in its name."""
    pairs = [line.split("=", 1) for line in lines]
    return next(kind for pattern, kind in pairs if re.search(pattern.lower(), name))


def test_lines_for_llama_quantize():
    pytest.importorskip("gguf")
    recipe = make_recipe(plan(FormatTable(ROWS), ["CPU"]), ["size <= 120"])
    lines = recipe.tensor_types()
    assert lines[0] == r"^blk\.0\.attn_q\.weight$=q8_0"
    assert {name: type_of(name, lines) for name in ROWS} == {name: c.format for name, c in recipe.chosen.items()}
    assert type_of("output.weight", recipe.buffer_types()) == "CPU"


def test_names_that_llama_quantize_would_not_find():
    pytest.importorskip("gguf")
    one, other = {"q8_0": {"bytes": 1, "damage": 0.0}}, {"q4_0": {"bytes": 1, "damage": 0.0}}
    recipe = make_recipe(plan(FormatTable({"Head =x": one, "head": other})))
    assert [type_of(name, recipe.tensor_types()) for name in ("Head =x", "head")] == ["q8_0", "q4_0"]
    with pytest.raises(ValueError, match="'Q' cannot be told from another"):
        make_recipe(plan(FormatTable({"Q": one, "q": other}))).tensor_types()
    with pytest.raises(ValueError, match="'8 bit' of tensor 'a' is no format of ggml"):
        make_recipe(plan(FormatTable({"a": {"8 bit": one["q8_0"]}}))).tensor_types()


# -- the command ------------------------------------------------------------------------------------------------------

TABLE = """tensor,format,bytes,damage,ms gpu,ms cpu,cached
blk.0.q,q8_0,34,0.125,1,5,32
blk.0.q,q4_0,18,0.5,1,4,32
blk.1.q,q8_0,34,1,1,5,32
blk.1.q,q4_0,18,4,1,4,32
head,q8_0,68,0.25,2,,0
head,q4_0,36,2,2,8,0
"""


@pytest.fixture
def recipe(cggd, monkeypatch, tmp_path):
    """Run `cggd recipe table.csv` in a folder of its own."""

    class Point:
        name = "recipe"

        def load(self):
            return app

    monkeypatch.setattr(commands, "entry_points", lambda group: [Point()])
    monkeypatch.setattr(commands.app, "registered_groups", [])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text(TABLE)
    return lambda *arguments: cggd("recipe", "table.csv", *arguments)


def test_a_table_on_two_devices(recipe, tmp_path):
    pytest.importorskip("gguf")
    files = {
        "--csv": "out.csv",
        "--manifest": "out.json",
        "--tensor-types": "types.txt",
        "--buffer-types": "devices.txt",
    }
    written = [x for pair in files.items() for x in pair]
    code, out, _ = recipe("--device", "gpu=90", "--device", "cpu=40B", "--limit", "ms<=9", *written)
    assert code == 0
    assert "status     optimal" in out
    assert "limit      gpu <= 90 B: 86, 4 left" in out
    assert list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))[2] == {
        "tensor": "head", "format": "q8_0", "device": "gpu", "bytes": "68", "damage": "0.25", "ms": "2"
    }  # fmt: skip
    manifest = json.loads((tmp_path / "out.json").read_text())
    assert manifest["proved"]
    assert [(t["format"], t["device"]) for t in manifest["tensors"]] == [
        ("q4_0", "gpu"),
        ("q8_0", "cpu"),
        ("q8_0", "gpu"),
    ]
    assert (tmp_path / "types.txt").read_text() == "^blk\\.0\\.q$=q4_0\n^blk\\.1\\.q$=q8_0\n^head$=q8_0\n"
    assert (tmp_path / "devices.txt").read_text().count("=gpu") == 2
    code, out, _ = recipe("--device", "gpu=90", "--device", "cpu=40B", "--json")
    assert json.loads(out)["format"] == "cggd-recipe-1"


def test_rules_and_a_cache(recipe):
    pytest.importorskip("gguf")
    on_one = ["--together-on", "blk.*", "--device", "gpu=320", "--device", "cpu=200"]
    _, out, _ = recipe(*on_one, "--rule", "head.device=gpu -> blk.0.q.device=gpu", "--on", "head=gpu")
    assert out.count("@gpu") == 3
    cache = ["--context", "1,2,4", "--cache", "f16,q8_0=0.5", "--maximize", "context", "--then-minimize", "damage"]
    code, out, _ = recipe(*on_one, *cache)
    assert code == 0
    assert "cache      4 x q8_0" in out
    assert recipe("--cache", "q8_0")[0] == 1


def test_limits_that_nothing_meets(recipe):
    code, out, _ = recipe("--device", "gpu", "--limit", "size <= 71B")
    assert code == 2
    assert "size <= 72 B is the tightest bound that works" in out
    assert recipe("--device", "gpu", "--limit", "size <= 71", "--tensor-types", "types.txt")[0] == 2


def test_a_sweep(recipe, tmp_path):
    code, out, _ = recipe("--device", "gpu", "--sweep", "size", "--bounds", "72,0.1kB,136B", "--csv", "front.csv")
    assert code == 0
    assert [line.split()[2] for line in out.splitlines()[2:5]] == ["6.5", "3.5", "1.375"]
    assert (tmp_path / "front.csv").read_text().count("\n") == 1 + 3 * 3
    assert recipe("--sweep", "size", "--tensor-types", "t.txt")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--limit", "siez<=1"], "unknown metric 'siez'"),
        (["--minimize", "joules"], "there is no metric 'joules'; the table gives size, damage, ms, gpu, cpu"),
        (["--device", "tpu"], "no milliseconds of device 'tpu'"),
        (["--device", "gpu=x"], "expected a number of bytes"),
        (["--device", "gpu", "--device", "gpu"], "--device must name each device once"),
        (["--device", "gpu", "--only", "head"], "--only must have text on both sides"),
        (["--device", "gpu", "--minimize", "size", "--maximize", "ms"], "either minimize or maximize"),
        (["--column", "ny=damage"], "there is no column 'ny'"),
        (["--device", "gpu", "--context", "4.5"], "--context must be whole numbers"),
        (["--csv", "table.csv"], "must be a file of its own"),
    ],
)
def test_wrong_arguments(recipe, arguments, message):
    code, _, err = recipe(*arguments)
    assert code == 1
    assert message in err


def test_the_page_does_what_it_says(recipe, monkeypatch, tmp_path, cggd):
    """Its commands and its code print what it says, apart from the time of a sweep."""
    pytest.importorskip("gguf")
    page = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    (tmp_path / "formats.csv").write_text(re.findall(r"```csv\n(.*?)```", page, re.DOTALL)[0])
    commands = re.findall(r"```console\n\$ cggd (.*?)\n(.*?)```", page, re.DOTALL)
    assert len(commands) == page.count("$ cggd ") > 3
    for command, output in commands:
        _, out, _ = cggd(*shlex.split(command))
        assert out.startswith(output), command
    for code, output in re.findall(r"```python\n(.*?)```\s*```text\n(.*?)```", page, re.DOTALL):
        with redirect_stdout(io.StringIO()) as printed:
            exec(code, {"__name__": "example"})
        assert printed.getvalue().strip() == output.strip()
