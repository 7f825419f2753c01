"""Tables of formats from files: CSV, GGUF, logs of llama-quantize, measurements of ExLlamaV2."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cggd_compress import (
    FormatTable,
    make_recipe,
    plan,
    read_format_table,
    read_formats,
    read_gguf,
    read_measurement,
    read_quantize_log,
)
from cggd_compress.recipes import NAMES, block_of

gguf = pytest.importorskip("gguf")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def written(text, name="table.csv"):
    with open(name, "w", encoding="utf-8") as file:
        file.write(text)
    return name


# -- tables -----------------------------------------------------------------------------------------------------------


@given(
    st.sampled_from(NAMES["tensor"]), st.sampled_from(NAMES["format"]), st.sampled_from(NAMES["damage"]),
    st.sampled_from(",;\t|"), st.booleans(),
)  # fmt: skip
def test_headings_of_other_tools(tensor, name, damage, delimiter, capitals):
    header = delimiter.join([tensor, name, damage, "size [kB]", "energy (mJ)"])
    text = f"{header.upper() if capitals else header}\nq{delimiter}8 bit{delimiter}0.5{delimiter}1.5{delimiter}7\n"
    table = read_format_table(written(text.replace("SIZE [KB]", "SIZE [kB]").replace("(MJ)", "(mJ)")))
    energy = "ENERGY" if capitals else "energy"
    assert table.rows == {"q": {"8 bit": {"damage": 0.5, "bytes": 1500, energy: 7}}}
    assert make_recipe(plan(table), minimize=energy).totals[energy] == 7
    assert plan(table).metrics[energy].unit == "mJ"


@pytest.mark.parametrize(
    ("unit", "cell", "expected"),
    [
        ("B", "12", 12), ("bytes", "12", 12), ("bit", "12", 1.5), ("MiB", "0.5", 2**19), ("MB", "0.1", 100_000),
        ("GB", "1e-9", 1), ("kB", "0.0001", 0.1),
    ],
)  # fmt: skip
def test_units_of_sizes(unit, cell, expected):
    table = read_format_table(written(f"tensor,format,size [{unit}],damage\nq,8,{cell},0\n"))
    assert table.rows["q"]["8"]["bytes"] == expected


def test_milliseconds_of_devices():
    header = "tensor,format,bytes,damage,ms gpu,cpu [ms],npu (us),tpu [s]"
    table = read_format_table(written(f"{header}\nq,8,1,0,2,3,4000,0.005\nq,4,1,0,,3,4000,0.005\n"))
    assert table.rows["q"]["8"] == {"bytes": 1, "damage": 0, "ms gpu": 2, "ms cpu": 3, "ms npu": 4, "ms tpu": 5}
    assert "ms gpu" not in table.rows["q"]["4"]
    assert list(plan(table).memory) == ["gpu", "cpu", "npu", "tpu"]
    assert plan(table).space.option_labels("q")[:3] == ("8@gpu", "8@cpu", "4@cpu")
    one = read_format_table(written("tensor,format,bytes,damage,latency [s]\nq,8,1,0,0.25\n"))
    assert one.rows["q"]["8"]["ms"] == 250
    assert list(plan(one, ["gpu", "cpu"]).metrics["ms"].values) == [250, 250]


def test_text_is_left_out_with_a_note():
    table = read_format_table(written("tensor,format,bytes,damage,kind\nq,8,1,0,attention\nq,4,1,0,7\n"))
    assert table.rows["q"]["4"] == {"bytes": 1, "damage": 0}
    assert table.notes == ["table.csv: column 'kind' is left out: 'attention' is no number"]


def test_a_heading_is_given_a_meaning():
    text = "tensor,format,bytes,loss,KL [nats]\nq,8,1,9,0.5\n"
    assert read_format_table(written(text)).rows["q"]["8"]["damage"] == 9
    table = read_format_table(written(text), columns={"KL [nats]": "damage"})
    assert table.rows["q"]["8"] == {"bytes": 1, "loss": 9, "damage": 0.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the file is empty"),
        ("tensor,format,bytes,damage\n", "line 1: there is no row below the header"),
        ("a,b,c\n1,2,3\n", "line 1: expected a column 'tensor' \\(or decision"),
        ("tensor,bits\nq,8\n", "line 1: expected a column 'format'"),
        ("tensor,format,bytes,bytes\nq,8,1,1\n", "line 1: there are two columns of 'bytes'"),
        ("tensor,format,,damage\nq,8,1,1\n", "line 1: column 3 has no name"),
        ("tensor,format,size [stone]\nq,8,1\n", "line 1: .* a size is in bits or B, kB, KB, MB"),
        ("tensor,format,bytes\nq,8,1\nq,8,2\n", "line 3: format '8' of tensor 'q' stands on line 2 already"),
        ("tensor,format,bytes\nq,8\n", "line 2: expected 3 fields"),
        ("tensor,format,bytes\n,8,1\n", "line 2: the cell of column 'tensor' is empty"),
        ("tensor,format,bytes\nq,8,1_0\n", "line 2: column 'bytes': expected a finite number without underscores"),
        ("tensor,format,damage\nq,8,\n", "line 2: column 'damage': the cell is empty"),
        ("tensor,format,ms gpu\nq,8,fast\n", "line 2: column 'ms gpu': expected a finite number"),
        ('tensor,format,bytes\n"q,8,1\n', "line 2: .*closed quotes"),
    ],
)
def test_wrong_tables(text, message):
    with pytest.raises(ValueError, match=f"table.csv, {message}"):
        read_format_table(written(text))


# -- files of models --------------------------------------------------------------------------------------------------

SHAPES = {
    "token_embd.weight": (256, 100),
    "blk.0.attn_norm.weight": (256,),
    "blk.0.attn_q.weight": (256, 256),
    "blk.0.attn_k.weight": (256, 64),
    "blk.1.attn_qkv.weight": (256, 384),
    "blk.1.ffn_down.weight": (96, 256),
}


@pytest.fixture
def model():
    """A model of two layers in float16, written by the package of the format itself."""
    writer = gguf.GGUFWriter("model.gguf", "llama")
    writer.add_block_count(2)
    writer.add_embedding_length(256)
    writer.add_head_count(8)
    writer.add_head_count_kv(2)
    for name, shape in SHAPES.items():
        kind = np.float32 if len(shape) == 1 else np.float16
        writer.add_tensor(name, np.zeros(shape[::-1], kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return "model.gguf"


def test_a_model(model):
    table = read_gguf(model)
    assert table.shapes == SHAPES
    assert table.kept["blk.0.attn_q.weight"] == "f16"
    assert table.kept["blk.0.attn_norm.weight"] == "f32"
    # Two heads of keys and two of values, each of 256 / 8 numbers.
    assert table.cached == {"blk.0.attn_k.weight": 128, "blk.1.attn_qkv.weight": 128}
    assert 0 < table.header < 2000


def test_a_model_gives_the_sizes_of_a_table_of_damage(model):
    damage = "tensor,format,damage\n" + "".join(
        f"{name},{kind},{harm}\n"
        for name in list(SHAPES)[2:]
        for kind, harm in (("F16", 0), ("q8_0", 0.1), ("Q4_K", 0.5))
    )
    table = read_formats([written(damage), model])
    assert list(table.rows["blk.0.attn_norm.weight"]) == ["f32"]
    assert table.rows["token_embd.weight"]["f16"] == {"bytes": 2 * 256 * 100, "elements": 25600, "damage": 0}
    assert table.rows["blk.0.attn_k.weight"]["Q4_K"]["bytes"] == 64 * 144
    assert list(table.rows["blk.1.ffn_down.weight"]) == ["F16", "q8_0"]
    assert table.notes == ["blk.1.ffn_down.weight: Q4_K needs rows of a multiple of 256 numbers, not 96"]
    recipe = make_recipe(plan(table), ["bpw <= 9"])
    assert recipe.feasible
    assert recipe.totals["size"] == table.header + sum(c.numbers["bytes"] for c in recipe.chosen.values())


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1"])
def test_sizes_are_those_of_the_quantiser(kind):
    """The package of the format quantises numbers; its bytes are those of the block."""
    numbers = np.zeros((4, 256), np.float32)
    made = gguf.quants.quantize(numbers, gguf.GGMLQuantizationType[kind.upper()])
    count, size = block_of(kind)
    assert made.nbytes == numbers.size // count * size


def test_damaged_models(model, tmp_path):
    data = (tmp_path / model).read_bytes()
    for n, broken in enumerate([b"", b"GGUF", data[:300], data[:-10], b"x" * 100]):
        (tmp_path / f"{n}.gguf").write_bytes(broken)
        with pytest.raises(ValueError, match=f"{n}.gguf: not a complete GGUF file"):
            read_gguf(f"{n}.gguf")
    with pytest.raises(FileNotFoundError, match=r"no\.gguf: no such file"):
        read_gguf("no.gguf")


def test_latent_attention_is_not_guessed(tmp_path):
    writer = gguf.GGUFWriter("mla.gguf", "deepseek2")
    writer.add_block_count(1)
    writer.add_head_count(8)
    writer.add_kv_lora_rank(64)
    writer.add_tensor("blk.0.attn_q.weight", np.zeros((32, 32), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    table = read_gguf("mla.gguf")
    assert not table.cached
    assert "latent attention" in table.notes[0]


# -- logs and measurements --------------------------------------------------------------------------------------------

LOG = """
main: quantizing 'model.gguf' to 'out.gguf' as Q4_K_M
[   1/   6]                    token_embd.weight - [  256,   100,     1,     1], type =    f16, converting to q6_K .. size =     0.05 MiB ->     0.02 MiB
[   2/   6]               blk.0.attn_norm.weight - [  256,     1,     1,     1], type =    f32, size =    0.001 MB
[   3/   6]                  blk.0.attn_q.weight - [  256,   256,     1,     1], type =    f16,
====== llama_model_quantize_internal: did not find weights for blk.0.attn_q.weight
converting to iq4_k .. size =     0.12 MiB ->     0.04 MiB
[   4/   6] blk.0.attn_k.weight                  - [   256,     64], type =    f16, size =     0.03 MiB ->     0.01 MiB (q4_K)
[   5/   6] blk.1.ffn_up_exps.weight             - [   256,    64,     8,     1], type =   bf16, size =    0.250 MiB
[   6/   6] blk.1.ffn_down.weight                - [   256,    64], type =    f16, converting to q4_K ..
"""  # noqa: E501


def test_a_log():
    table = read_quantize_log(written(LOG, "q.log"))
    kept = {"token_embd": "q6_K", "blk.0.attn_norm": "f32", "blk.0.attn_q": "iq4_k", "blk.0.attn_k": "q4_K"}
    kept |= {"blk.1.ffn_up_exps": "bf16"}
    assert table.kept == {f"{name}.weight": kind for name, kind in kept.items()}
    # The package knows no iq4_k: 0.04 MiB may be a number up to 0.045.
    assert table.rows == {"blk.0.attn_q.weight": {"iq4_k": {"bytes": 47186, "elements": 65536}}}
    sized = read_formats("q.log")
    assert sized.rows["token_embd.weight"]["q6_K"]["bytes"] == 100 * 210 // 32 * 32 + 32
    assert sized.rows["blk.1.ffn_up_exps.weight"]["bf16"]["bytes"] == 2 * 256 * 64 * 8
    with pytest.raises(ValueError, match="expected lines of llama-quantize"):
        read_quantize_log(written("main: build = 1\n", "other.log"))


def test_a_log_and_a_table_of_damage():
    damage = "layer,type,kl\nblk.0.attn_k.weight,Q4_K,0.5\nblk.0.attn_k.weight,q8_0,0.1\n"
    table = read_formats([written(damage), written(LOG, "q.log")])
    sizes = {name: numbers["bytes"] for name, numbers in table.rows["blk.0.attn_k.weight"].items()}
    assert sizes == {"Q4_K": 64 * 144, "q8_0": 64 * 8 * 34}
    assert list(plan(table).space.option_labels("blk.0.attn_k.weight")) == ["Q4_K", "q8_0"]


def test_a_measurement():
    data = {
        "measurement": {
            "model.layers.0.self_attn": [
                {"accuracy": 0.75, "total_bits": 801, "q_proj": {}},
                {"accuracy": 0.5, "total_bits": 400, "q_proj": {}},
            ],
            "model.layers.0.parallel_decoder": {"attn": [{"accuracy": 1.0, "total_bits": 8}], "mlp": []},
            "model.norm.norm": None,
        },
        "last_module_idx": 3,
    }
    table = read_formats(written(json.dumps(data), "measurement.json"))
    assert table.rows == {
        "model.layers.0.self_attn": {"#0": {"bytes": 101, "damage": 0.25}, "#1": {"bytes": 50, "damage": 0.5}},
        "model.layers.0.parallel_decoder.attn": {"#0": {"bytes": 1, "damage": 0.0}},
    }
    for wrong in ("{}", '{"measurement": {"a": [1]}}', '{"measurement": {"a": null}}'):
        with pytest.raises(ValueError, match="with total_bits and accuracy"):
            read_measurement(written(wrong, "wrong.json"))


# -- several files ----------------------------------------------------------------------------------------------------


def test_files_that_contradict_each_other(model):
    first = written("tensor,format,bytes\nq,8,1\n", "a.csv")
    with pytest.raises(ValueError, match=r"b\.csv: bytes of 'q' in format '8' is 2, and 1 in a file before"):
        read_formats([first, written("tensor,format,bytes,damage\nq,8,2,0\n", "b.csv")])
    log = written("[ 1/ 1] token_embd.weight - [ 256, 99, 1, 1], type = f16, size = 0.05 MB\n", "other.log")
    with pytest.raises(ValueError, match=r"tensor 'token_embd.weight' has shape \(256, 99\), and \(256, 100\)"):
        read_formats([model, log])
    with pytest.raises(ValueError, match="paths is empty"):
        read_formats([])


def test_a_format_that_nobody_can_size(model):
    with pytest.raises(ValueError, match="bytes of format 'int7' are not given"):
        read_formats([written("tensor,format,damage\ntoken_embd.weight,int7,0\n"), model])


def test_a_sheet_is_read_as_a_table():
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("openpyxl")
    pandas.DataFrame({"tensor": ["q"], "format": ["8"], "bytes": [3], "damage": [0.5]}).to_excel("t.xlsx", index=False)
    assert read_formats("t.xlsx").rows == {"q": {"8": {"bytes": 3, "damage": 0.5}}}


def test_without_the_package_of_the_format(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gguf.constants", None)
    assert read_formats(written("tensor,format,bytes,damage\nq,8,1,0\n")).rows["q"]
    with pytest.raises(ImportError, match=r"pip install 'cggd\[compress\]'"):
        block_of("q8_0")


def test_columns():
    rows = {"a": {"q": {"bytes": 1, "damage": 0}}, "b": {"q": {"bytes": 1, "ms": 0}}}
    assert FormatTable(rows).columns == ["bytes", "damage", "ms"]
