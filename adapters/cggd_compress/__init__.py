"""Formats for the tensors of a trained network, within hard limits.

Names are loaded when they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    "Cache",
    "Choice",
    "FormatTable",
    "Plan",
    "Recipe",
    "make_recipe",
    "plan",
    "read_format_table",
    "read_formats",
    "read_gguf",
    "read_measurement",
    "read_quantize_log",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"cggd_compress.{module}"), name)
    raise AttributeError(f"module 'cggd_compress' has no attribute {name!r}")
