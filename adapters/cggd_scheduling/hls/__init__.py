"""High-level synthesis: functional units for the operations of a data-flow graph."""

from cggd_scheduling.hls.files import read, read_library
from cggd_scheduling.hls.graph import DataFlowGraph, FunctionalUnit, UnitLibrary
from cggd_scheduling.hls.problem import Synthesis
from cggd_scheduling.hls.search import synthesize

__all__ = ["DataFlowGraph", "FunctionalUnit", "Synthesis", "UnitLibrary", "read", "read_library", "synthesize"]
