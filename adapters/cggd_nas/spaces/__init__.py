"""Search spaces to start from: functions that return a network with choices."""

from cggd_nas.spaces.conv1d import conv1d
from cggd_nas.spaces.mobile import fbnet, fbnet_latency, mobile_stack
from cggd_nas.spaces.nats_size import nats_size
from cggd_nas.spaces.nats_topology import cell_graph, nats_topology
from cggd_nas.spaces.transformer import transformer_encoder

__all__ = [
    "cell_graph",
    "conv1d",
    "fbnet",
    "fbnet_latency",
    "mobile_stack",
    "nats_size",
    "nats_topology",
    "transformer_encoder",
]
