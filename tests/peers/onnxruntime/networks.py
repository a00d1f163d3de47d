"""The networks that are measured beside peers: float ONNX file, samples, and our model of it."""

import pathlib
import subprocess

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DATA = pathlib.Path("tests/data/conformance")


def mobilenet_v1(path, size=224):
    """MobileNetV1-1.0 with random weights, as PyTorch exports it with batch normalization folded."""
    random = np.random.default_rng(1)
    nodes, tensors = [], []

    def tensor(name, values):
        tensors.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def conv(name, x, inputs, filters, kernel, stride, groups=1):
        fan = inputs // groups * kernel * kernel
        w = tensor(f"{name}.w", random.normal(0, np.sqrt(2 / fan), (filters, inputs // groups, kernel, kernel)))
        b = tensor(f"{name}.b", random.normal(0, 0.1, filters))
        pad = kernel // 2
        nodes.append(helper.make_node(
            "Conv", [x, w, b], [name], name=name, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, group=groups,
        ))
        nodes.append(helper.make_node("Clip", [name, "zero", "six"], [f"{name}.y"], name=f"{name}.clip"))
        return f"{name}.y"

    tensors.append(numpy_helper.from_array(np.float32(0), "zero"))
    tensors.append(numpy_helper.from_array(np.float32(6), "six"))
    x = conv("first", "x", 3, 32, 3, 2)
    channels = 32
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)] + [(512, 1)] * 5 + [(1024, 2), (1024, 1)]
    for i, (filters, stride) in enumerate(blocks):
        x = conv(f"dw{i}", x, channels, channels, 3, stride, channels)
        x = conv(f"pw{i}", x, channels, filters, 1, 1)
        channels = filters
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["pooled"], name="pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"))
    w, b = tensor("fc.w", random.normal(0, 0.03, (1000, channels))), tensor("fc.b", random.normal(0, 0.1, 1000))
    nodes.append(helper.make_node("Gemm", ["flat", w, b], ["scores"], name="fc", transB=1))
    graph = helper.make_graph(
        nodes, "mobilenet_v1", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, size, size])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 1000])], tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return random.uniform(0, 1, (16, 3, size, size)).astype(np.float32)


def with_any_batch(source, path):
    """The network with a batch of any size and floats as input; a cast of floats to floats is none."""
    model = onnx.load(source)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    for value in list(model.graph.input) + list(model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]
    onnx.save(model, path)


def shaped(samples, path):
    """Samples as floats in the layout of the network's input."""
    dims = [d.dim_value for d in onnx.load(path).graph.input[0].type.tensor_type.shape.dim][1:]
    samples = samples.astype(np.float32)
    if list(samples.shape[1:]) != dims and [samples.shape[3], *samples.shape[1:3]] == dims:
        samples = samples.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(samples)


def conformance(name, scratch):
    """(float file, samples, our file) of a conformance network."""
    folder = DATA / name
    plain = scratch / f"{name}.onnx"
    with_any_batch(folder / "model.onnx", plain)
    samples = next(f for f in (folder / "calib.npz", folder / "inputs.npz") if f.exists())
    arrays = np.load(samples)
    return plain, shaped(arrays[arrays.files[0]], plain), folder / "quantized.onnx"


def large(name, scratch, convert):
    """(float file, samples, our file) of MobileNetV1-1.0/224, quantized by us."""
    plain, ours = scratch / f"{name}.onnx", scratch / f"{name}.akm"
    samples = mobilenet_v1(plain)
    np.savez(scratch / "samples.npz", x=samples)
    command = [convert, "quantize", str(plain), "--target", "akida2", "--samples", str(scratch / "samples.npz"), "-o", str(ours)]
    subprocess.run([*command, "--no-cache"], check=True, capture_output=True)
    return plain, samples, ours
