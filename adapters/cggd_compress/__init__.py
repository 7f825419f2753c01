"""Formats for the weights of a trained network, within hard limits: of an ONNX file, or of a table from any tool.

Names are loaded on first use, so that the package can be imported without `onnx`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cggd_compress.answer import KEEP, Compressed, Row
    from cggd_compress.compression import Compression, compress
    from cggd_compress.costs import Cost, Limit, error, latency, size
    from cggd_compress.network import Part
    from cggd_compress.options import Option, default_options
    from cggd_compress.planner import Cache, Choice, Plan, Recipe, make_recipe, plan
    from cggd_compress.recipes import (
        FormatTable,
        read_format_table,
        read_formats,
        read_gguf,
        read_measurement,
        read_quantize_log,
    )

_HOMES = {
    "answer": ("KEEP", "Compressed", "Row"),
    "compression": ("Compression", "compress"),
    "costs": ("Cost", "Limit", "error", "latency", "size"),
    "network": ("Part",),
    "options": ("Option", "default_options"),
    "planner": ("Cache", "Choice", "Plan", "Recipe", "make_recipe", "plan"),
    "recipes": (
        "FormatTable",
        "read_format_table",
        "read_formats",
        "read_gguf",
        "read_measurement",
        "read_quantize_log",
    ),
}

__all__ = [
    "KEEP",
    "Cache",
    "Choice",
    "Compressed",
    "Compression",
    "Cost",
    "FormatTable",
    "Limit",
    "Option",
    "Part",
    "Plan",
    "Recipe",
    "Row",
    "compress",
    "default_options",
    "error",
    "latency",
    "make_recipe",
    "plan",
    "read_format_table",
    "read_formats",
    "read_gguf",
    "read_measurement",
    "read_quantize_log",
    "size",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"cggd_compress.{module}"), name)
    raise AttributeError(f"module 'cggd_compress' has no attribute {name!r}")
