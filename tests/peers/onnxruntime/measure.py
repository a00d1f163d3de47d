"""ONNX Runtime, rten and `akida-run bench` in turns. See `run`."""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import networks

NETWORKS = ["mnist_cnn", "resnet8", "mobilenet_v1_025", "akidanet_05_160", "mobilenet_v1_100_224"]
# Goals: how many times the speed of ONNX Runtime's best, and of rten.
BATCHES = {1: (1.5, 2), 64: (2, 2)}
SECONDS = 0.4


def session(model, threads):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


class Samples(CalibrationDataReader):
    def __init__(self, name, arrays):
        self.feeds = iter([{name: array[None]} for array in arrays])

    def get_next(self):
        return next(self.feeds, None)


def ort_time(runner, feed):
    """Microseconds of a call."""
    runner.run(None, feed)
    times, start = [], time.perf_counter()
    while not times or time.perf_counter() - start < SECONDS:
        begin = time.perf_counter()
        runner.run(None, feed)
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e6


def rten_time(tool, model, shape, threads):
    command = [tool, str(model), ",".join(map(str, shape)), str(threads), str(SECONDS)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def our_report(tool, model, batch, threads, device="sim:akida2"):
    command = [tool, "bench", str(model), "--device", device, "--batch", str(batch)]
    command += ["--threads", str(threads)] if threads > 1 else []
    command += ["--seconds", str(SECONDS), "--format", "json", "--quiet"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def beside(tools, rounds, threads, network, files, scratch):
    """Rows of one network."""
    plain, samples, ours = files
    quantized = scratch / f"{network}.qdq.onnx"
    runners = {"float": session(plain, threads)}
    name = runners["float"].get_inputs()[0].name
    quantize_static(
        plain, quantized, Samples(name, samples[:32]), quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True,
    )
    runners["qdq"] = session(quantized, threads)
    for batch, (ort_goal, rten_goal) in BATCHES.items():
        shape = (batch, *samples.shape[1:])
        feed = {name: np.resize(samples, shape)}
        found = {key: [] for key in ["ours", "compute", "overhead", "float", "qdq", "rten"]}
        peers = ["ours", "float", "qdq", "rten"]
        for turn in range(rounds):
            for peer in peers[turn % 4:] + peers[: turn % 4]:
                if peer == "ours":
                    report = our_report(tools["run"], ours, batch, threads)
                    found["ours"].append(report["latency_us"]["p50"] / batch)
                    found["compute"].append(report["compute_us"])
                    found["overhead"].append(report["overhead_us"])
                elif peer == "rten":
                    found["rten"].append(rten_time(tools["rten"], plain, shape, threads) / batch)
                else:
                    found[peer].append(ort_time(runners[peer], feed) / batch)
        middle = {key: statistics.median(values) for key, values in found.items()}
        columns = [middle[key] for key in ["ours", "compute", "overhead", "float", "qdq", "rten"]]
        ratios = [min(middle["float"], middle["qdq"]) / middle["ours"], middle["rten"] / middle["ours"]]
        shown = [f"**{r:.2f}** of {goal}" for r, goal in zip(ratios, (ort_goal, rten_goal))]
        print(f"| {network} | {batch} | " + " | ".join(f"{v:.1f}" for v in columns) + " | " + " | ".join(shown) + " |", flush=True)


def own_ratios(tools, rounds, files, scratch):
    """What is held against itself: batches, threads, bits."""
    print("\n| our own | ratio | of |")
    print("|---|--:|--:|")

    def ratio(text, goal, first, second):
        pairs = [(first(), second()) if turn % 2 else tuple(reversed((second(), first()))) for turn in range(rounds)]
        print(f"| {text} | **{statistics.median(a / b for a, b in pairs):.2f}** | {goal} |", flush=True)

    def speed(model, batch=64, threads=1, device="sim:akida2"):
        return lambda: our_report(tools["run"], model, batch, threads, device)["throughput_per_s"]

    for network in ["mnist_cnn", "resnet8"]:
        model = files[network][2]
        for batch in [64, 256, 1024, 4096]:
            ratio(f"{network}, samples/s at batch {batch} by those at 16", 1, speed(model, batch), speed(model, 16))
    for network in files:
        model = files[network][2]
        ratio(f"{network}, samples/s with 2 threads by those with 1", 1.85, speed(model, threads=2), speed(model))
    for network in ["mnist_cnn", "vgg_mnist"]:
        folder = networks.DATA / "akida1_nets" / network
        source = folder / "model.onnx" if (folder / "model.onnx").exists() else networks.DATA / network / "model.onnx"
        samples = networks.DATA / "mnist_cnn" / "calib.npz"
        made = []
        for target in ["akd1000", "akida2"]:
            out = scratch / f"{network}.{target}.akm"
            command = [tools["convert"], "quantize", str(source), "--target", target, "--samples", str(samples), "-o", str(out)]
            subprocess.run([*command, "--no-cache"], check=True, capture_output=True)
            made.append(out)
        ratio(f"{network}, 8/4/4 on sim:akd1000 by 8 bits on sim:akida2", 1, speed(made[0], device="sim:akd1000"), speed(made[1]))


def main():
    tools = dict(zip(["run", "convert", "rten"], sys.argv[1:4]))
    rounds, threads = int(sys.argv[4]), int(sys.argv[5])
    chosen = sys.argv[6:] or NETWORKS
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        files = {}
        for network in chosen:
            conformance = (networks.DATA / network).exists()
            files[network] = (
                networks.conformance(network, scratch) if conformance else networks.large(network, scratch, tools["convert"])
            )
        print(f"onnxruntime {ort.__version__}, {threads} thread(s) each; µs a sample, medians of {rounds} rounds in turns.\n")
        print("| network | batch | sim:akida2 | of it arithmetic | beside it | ORT float32 | ORT QDQ int8 | rten | best of ORT / sim | rten / sim |")
        print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
        for network in chosen:
            beside(tools, rounds, threads, network, files[network], scratch)
        if not sys.argv[6:]:
            own_ratios(tools, rounds, files, scratch)


main()
