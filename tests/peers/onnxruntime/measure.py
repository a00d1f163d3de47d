"""ONNX Runtime and `akida-run bench` in turns, over networks of tests/data/conformance. See `run`."""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

NETWORKS = ["mnist_cnn", "resnet8", "mobilenet_v1_025", "akidanet_05_160"]
DATA = pathlib.Path("tests/data/conformance")
BATCHES = [1, 64]
SECONDS = 0.4


def session(model):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


class Samples(CalibrationDataReader):
    def __init__(self, name, arrays):
        self.feeds = iter([{name: array[None]} for array in arrays])

    def get_next(self):
        return next(self.feeds, None)


def with_any_batch(source, path):
    """The network with a batch of any size."""
    model = onnx.load(source)
    for value in list(model.graph.input) + list(model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]
    onnx.save(model, path)


def their_time(runner, feed):
    """Microseconds of a call."""
    runner.run(None, feed)
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        begin = time.perf_counter()
        runner.run(None, feed)
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e6


def our_time(tool, model, batch):
    command = [tool, "bench", str(model), "--device", "sim:akida2", "--batch", str(batch)]
    command += ["--seconds", str(SECONDS), "--format", "json", "--quiet"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return report["latency_us"]["p50"], report["compute_us"], report["overhead_us"]


def main():
    tool, rounds = sys.argv[1], int(sys.argv[2])
    print(f"onnxruntime {ort.__version__}, one thread each; µs a sample, medians of {rounds} rounds in turns.\n")
    print("| network | batch | sim:akida2 | of it arithmetic | beside it | ORT float32 | ORT QDQ int8 | best of ORT / sim |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for network in NETWORKS:
        folder = DATA / network
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            plain, quantized = scratch / "float.onnx", scratch / "qdq.onnx"
            with_any_batch(folder / "model.onnx", plain)
            name = session(plain).get_inputs()[0].name
            arrays = np.load(folder / "calib.npz")
            samples = arrays[arrays.files[0]].astype(np.float32)
            quantize_static(
                plain, quantized, Samples(name, samples[:32]), quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True,
            )
            runners = {"float": session(plain), "qdq": session(quantized)}
            for batch in BATCHES:
                feed = {name: np.resize(samples, (batch, *samples.shape[1:]))}
                found = {key: [] for key in ["ours", "compute", "overhead", *runners]}
                for turn in range(rounds):
                    peers = ["ours", *runners]
                    for peer in peers[turn % 3:] + peers[: turn % 3]:
                        if peer == "ours":
                            call, compute, overhead = our_time(tool, folder / "quantized.onnx", batch)
                            found["ours"].append(call / batch)
                            found["compute"].append(compute)
                            found["overhead"].append(overhead)
                        else:
                            found[peer].append(their_time(runners[peer], feed) / batch)
                middle = {key: statistics.median(values) for key, values in found.items()}
                ratio = min(middle["float"], middle["qdq"]) / middle["ours"]
                columns = [middle[key] for key in ["ours", "compute", "overhead", "float", "qdq"]]
                print(f"| {network} | {batch} | " + " | ".join(f"{v:.1f}" for v in columns) + f" | **{ratio:.2f}** |", flush=True)


main()
