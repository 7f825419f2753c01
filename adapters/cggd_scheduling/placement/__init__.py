"""Device placement: assign the operators of a graph to devices with limited memory."""

from cggd_scheduling.placement.files import read, read_onnx
from cggd_scheduling.placement.metrics import DeviceLoad, TransferPath
from cggd_scheduling.placement.problem import Device, Operator, Placement
from cggd_scheduling.placement.search import place

__all__ = ["Device", "DeviceLoad", "Operator", "Placement", "TransferPath", "place", "read", "read_onnx"]
