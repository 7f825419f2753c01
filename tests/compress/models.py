"""A small model for the tests."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def network(*, seed=0, tied=True, opset=17):
    """Tokens, embeddings, a convolution, products and, where `tied`, logits from the embeddings."""
    rng = np.random.default_rng(seed)

    def weight(name, *shape):
        array = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        return numpy_helper.from_array(array.astype(np.float32), name)

    arrays = [
        weight("embed.weight", 100, 32),
        weight("conv.weight", 32, 32, 3),
        weight("up.weight", 32, 80),
        weight("down.weight", 80, 32),
        weight("down.bias", 32),
        weight("head.weight", 40, 32),
    ]
    arrays += [numpy_helper.from_array(np.array([-1, 32]), "flat"), numpy_helper.from_array(np.array([1]), "axis")]
    nodes = [
        helper.make_node("Gather", ["embed.weight", "tokens"], ["embedded"]),
        helper.make_node("Transpose", ["embedded"], ["channels"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["channels", "conv.weight"], ["mixed"], pads=[1, 1]),
        helper.make_node("Relu", ["mixed"], ["positive"]),
        helper.make_node("ReduceMax", ["positive"], ["pooled"], axes=[2], keepdims=0),
        helper.make_node("MatMul", ["pooled", "up.weight"], ["wide"]),
        helper.make_node("Tanh", ["wide"], ["bent"]),
        helper.make_node("MatMul", ["bent", "down.weight"], ["narrow"]),
        helper.make_node("Add", ["narrow", "down.bias"], ["moved"]),
        helper.make_node("Gemm", ["moved", "head.weight"], ["scores"], transB=1),
    ]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 40])]
    if tied:
        nodes += [
            helper.make_node("Transpose", ["embed.weight"], ["turned"], perm=[1, 0]),
            helper.make_node("MatMul", ["moved", "turned"], ["words"]),
        ]
        outputs.append(helper.make_tensor_value_info("words", TensorProto.FLOAT, ["batch", 100]))
    graph = helper.make_graph(
        nodes, "small", [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", 6])], outputs, arrays
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
