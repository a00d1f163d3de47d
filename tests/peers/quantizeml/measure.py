"""QuantizeML and `akida-convert quantize` in turns. See `run`.

With arguments MODEL SAMPLES it is one turn of the peer: it prints seconds and the most memory in use (MiB).
"""

import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

DATA = pathlib.Path("tests/data/conformance")
SMALL = ["mnist_cnn", "resnet8", "mobilenet_v1_025", "ds_cnn_kws"]
LARGE = ["200-megabytes", "10000-nodes"]
# Made here: MobileNetV1 of width 1 for images of 224 pixels.
IMAGES = "mobilenet_v1-1.0-224"
IMAGE_SAMPLES = 128
# Samples for the large files, where calibration is not what is measured.
FEW = 8
# A turn that takes longer is ended and told.
LIMIT = 1800


# Filters and stride of each pair of a depthwise and a pointwise convolution of MobileNetV1.
PAIRS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]


def mobilenet(path, size=224, classes=1000):
    """MobileNetV1 of width 1 as PyTorch exports it in evaluation: normalization folded, random weights."""
    from onnx import TensorProto, helper, numpy_helper, save

    random = np.random.default_rng(1)
    nodes, weights = [], []

    def constant(name, shape, spread):
        values = random.normal(0, spread, shape).astype(np.float32)
        weights.append(numpy_helper.from_array(values, name))
        return name

    def convolution(at, name, shape, stride, groups=1):
        inputs = [at, constant(f"{name}.weight", shape, (2 / np.prod(shape[1:])) ** 0.5)]
        inputs.append(constant(f"{name}.bias", shape[:1], 0.01))
        pad = shape[2] // 2
        nodes.append(
            helper.make_node(
                "Conv", inputs, [f"{name}.sums"], name, kernel_shape=shape[2:], strides=[stride] * 2,
                pads=[pad] * 4, group=groups,
            )
        )
        nodes.append(helper.make_node("Relu", [f"{name}.sums"], [f"{name}.out"], f"{name}.relu"))
        return f"{name}.out"

    at, channels = convolution("image", "first", [32, 3, 3, 3], 2), 32
    for number, (filters, stride) in enumerate(PAIRS):
        at = convolution(at, f"depthwise{number}", [channels, 1, 3, 3], stride, channels)
        at, channels = convolution(at, f"pointwise{number}", [filters, channels, 1, 1], 1), filters
    nodes.append(helper.make_node("GlobalAveragePool", [at], ["pooled"], "pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"))
    gemm = ["flat", constant("classes.weight", [classes, channels], channels**-0.5), constant("classes.bias", [classes], 0.01)]
    nodes.append(helper.make_node("Gemm", gemm, ["scores"], "classes", transB=1))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, size, size])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", classes])
    graph = helper.make_graph(nodes, "mobilenet_v1", [image], [scores], weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def peer_turn(model, samples):
    import onnx
    from quantizeml.models import quantize

    graph, samples = onnx.load(model), np.load(samples)
    start = time.perf_counter()
    quantize(graph, samples=samples, num_samples=len(samples), batch_size=min(len(samples), 32))
    seconds = time.perf_counter() - start
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def their_turn(model, samples):
    command = [sys.executable, __file__, str(model), str(samples)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=environment)
    except subprocess.TimeoutExpired:
        return f"over {LIMIT} s", None
    if ended.returncode:
        return (ended.stderr.strip().splitlines() or ["?"])[-1][:80], None
    seconds, memory = ended.stdout.split()[-2:]
    return float(seconds), float(memory)


# Starts a program and prints its seconds and the most memory it had in use (MiB). Small itself: the system counts what a process had in
# use before it became another program.
STARTER = """
import os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - start, usage.ru_maxrss / 1024)
sys.exit(status != 0)
"""


def our_turn(tool, model, samples, out):
    command = [tool, "quantize", model, "--target", "akida2", "--samples", samples, "-o", out, "--quiet", "--no-cache"]
    ended = subprocess.run([sys.executable, "-c", STARTER, *command], stdout=subprocess.PIPE, text=True)
    if ended.returncode:
        raise SystemExit(f"akida-convert failed for {model}")
    seconds, memory = ended.stdout.split()
    return float(seconds), float(memory)


def best(turns):
    """Least time with its memory; the reason where there is none."""
    good = [turn for turn in turns if turn[1] is not None]
    return min(good) if good else turns[0]


def main():
    tool, large, rounds = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
    chosen = sys.argv[4:] or [*SMALL, IMAGES, *LARGE]
    print("| file | samples | akida-convert | memory | QuantizeML 1.2.5 | memory | ratio |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        files = [(name, DATA / name / "model.onnx", None) for name in SMALL]
        mobilenet(scratch / f"{IMAGES}.onnx")
        files += [(IMAGES, scratch / f"{IMAGES}.onnx", IMAGE_SAMPLES)]
        files += [(name, large / f"{name}.onnx", FEW) for name in LARGE]
        for name, model, few in (file for file in files if file[0] in chosen):
            samples = scratch / f"{name}.npy"
            if few is None:
                arrays = np.load(DATA / name / "calib.npz")
                array = arrays[arrays.files[0]].astype(np.float32)
                if array.ndim == 3:
                    array = (array / np.float32(255) - np.float32(0.1307))[:, None] / np.float32(0.3081)
            else:
                import onnx

                dims = onnx.load(model, load_external_data=False).graph.input[0].type.tensor_type.shape.dim[1:]
                array = np.random.default_rng(1).random((few, *(d.dim_value for d in dims)), dtype=np.float32)
            np.save(samples, array)
            ours, theirs = [], []
            for turn in range(rounds if few is None else 1):
                for peer in [ours, theirs] if turn % 2 == 0 else [theirs, ours]:
                    if peer is ours:
                        ours.append(our_turn(tool, str(model), str(samples), str(scratch / "out.akm")))
                    else:
                        theirs.append(their_turn(model, samples))
            (seconds, memory), (their_seconds, their_memory) = best(ours), best(theirs)
            if their_memory is None:
                peer, ratio = f"{their_seconds} | ", ""
            else:
                peer, ratio = f"{their_seconds:.2f} s | {their_memory:.0f} MiB", f"**{their_seconds / seconds:.1f}**"
            print(f"| {name} | {len(array)} | {seconds:.2f} s | {memory:.0f} MiB | {peer} | {ratio} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        peer_turn(sys.argv[1], sys.argv[2])
    else:
        main()
