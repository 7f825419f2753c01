"""Compression of trained networks: a format for each weight of an ONNX file, under limits on the file.

Names are loaded when they are used, so that the package can be imported without `onnx`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cggd_compress.answer import KEEP, Compressed, Row
    from cggd_compress.compression import Compression, compress
    from cggd_compress.costs import Cost, Limit, error, latency, size
    from cggd_compress.network import Part
    from cggd_compress.options import Option, default_options

_HOMES = {
    "answer": ("KEEP", "Compressed", "Row"),
    "compression": ("Compression", "compress"),
    "costs": ("Cost", "Limit", "error", "latency", "size"),
    "network": ("Part",),
    "options": ("Option", "default_options"),
}

__all__ = [
    "KEEP",
    "Compressed",
    "Compression",
    "Cost",
    "Limit",
    "Option",
    "Part",
    "Row",
    "compress",
    "default_options",
    "error",
    "latency",
    "size",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"cggd_compress.{module}"), name)
    raise AttributeError(f"module 'cggd_compress' has no attribute {name!r}")
