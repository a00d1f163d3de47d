"""The service beside the pipeline in one process and a Python service, in turns. Prints a table, and fails below the goals."""

import contextlib
import json
import pathlib
import statistics
import subprocess
import sys
import time

from service import ask, free_port, service

BIN, MADE, DATA, SECONDS = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), float(sys.argv[4])
MODEL, BATCH, ROUNDS = "mnist_cnn", 64, 3
# Of the throughput in one process.
SHARE = 0.9
# How long a request may wait for others of its batch: models.batch_delay_ms of the service's configuration is 0 unless said.
BOUND_US = 0
# Over that, at half of what one-sample requests can reach.
LATE_US = 3000


def bench(url, *options, seconds=SECONDS):
    out = subprocess.run([BIN / "akida-bench", url, MODEL, "--seconds", str(seconds), "--format", "json", *map(str, options)],
                         stdout=subprocess.PIPE, check=True)
    report = json.loads(out.stdout)
    assert report["failures"] == 0, report["failed"]
    return report


def in_process():
    out = subprocess.run([BIN / "akida-run", "bench", MADE / "repository" / MODEL / "1/model.akm", "--device", "sim:akida2",
                          "--batch", str(BATCH), "--seconds", str(SECONDS), "--format", "json"], stdout=subprocess.PIPE, check=True)
    return json.loads(out.stdout)["throughput_per_s"]


@contextlib.contextmanager
def peer():
    port = free_port()
    process = subprocess.Popen([sys.executable, pathlib.Path(__file__).with_name("peer.py"), DATA / "model.onnx", str(port)])
    try:
        end = time.monotonic() + 60
        while True:
            assert process.poll() is None and time.monotonic() < end, "the peer does not start"
            with contextlib.suppress(OSError):
                if ask(port, "GET", "/v2/health/ready")[0] == 200:
                    break
            time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


rows = {}
with service(BIN, MADE / "repository", MADE / "load.log") as s, peer() as peer_port:
    ours, grpc, theirs = f"http://127.0.0.1:{s.http}", f"grpc://127.0.0.1:{s.grpc}", f"http://127.0.0.1:{peer_port}"
    saturating = ["--batch", BATCH, "--concurrency", 4]
    for _ in range(ROUNDS):
        turns = {
            "in one process (akida-run bench)": in_process,
            "akida-serve, HTTP, pixels": lambda: bench(ours, *saturating, "--datatype", "UINT8")["samples_per_s"],
            "akida-serve, gRPC, pixels": lambda: bench(grpc, *saturating, "--datatype", "UINT8")["samples_per_s"],
            "akida-serve, gRPC stream, pixels": lambda: bench(grpc, *saturating, "--datatype", "UINT8", "--stream")["samples_per_s"],
            "akida-serve, HTTP, floats": lambda: bench(ours, *saturating, "--datatype", "FP32")["samples_per_s"],
            "FastAPI and ONNX Runtime, HTTP, floats": lambda: bench(theirs, *saturating, "--datatype", "FP32")["samples_per_s"],
        }
        for name, measure in turns.items():
            rows.setdefault(name, []).append(measure())
    base = rows["in one process (akida-run bench)"]
    print(f"| samples/s at {BATCH} per request, 4 clients | median of {ROUNDS} | of one process, in turns |")
    print("|---|---|---|")
    shares = {}
    for name, values in rows.items():
        shares[name] = statistics.median(v / b for v, b in zip(values, base))
        print(f"| {name} | {statistics.median(values):.0f} | {shares[name]:.2f} |")

    print()
    print("| open loop at half of saturation, one sample a request | requests/s | p50 ms | p99 ms | p99.9 ms |")
    print("|---|---|---|---|---|")
    late = {}
    for name, url, datatype in (("akida-serve, HTTP", ours, "UINT8"), ("akida-serve, gRPC", grpc, "UINT8"),
                                ("FastAPI and ONNX Runtime, HTTP", theirs, "FP32")):
        one = ["--batch", 1, "--datatype", datatype]
        rate = bench(url, *one, "--concurrency", 16)["throughput_per_s"] / 2
        runs = [bench(url, *one, "--concurrency", 128, "--rate", rate, "--arrivals", "poisson")["latency_us"] for _ in range(ROUNDS)]
        median = {p: statistics.median(r[p] for r in runs) for p in ("p50", "p99", "p999")}
        late[name] = median["p99"]
        print(f"| {name} | {rate:.0f} | {median['p50'] / 1e3:.2f} | {median['p99'] / 1e3:.2f} | {median['p999'] / 1e3:.2f} |")

print(f"\nbatching bound {BOUND_US / 1e3:.2f} ms")
wrong = [f"{n}: {shares[n]:.2f} of one process, {SHARE} is the goal" for n in shares
         if n.endswith("pixels") and "stream" not in n and shares[n] < SHARE]
wrong += [f"{n}: p99 {late[n] / 1e3:.2f} ms, {(BOUND_US + LATE_US) / 1e3:.2f} is the goal" for n in late
          if n.startswith("akida") and late[n] > BOUND_US + LATE_US]
for line in wrong:
    print(f"MISSED  {line}")
sys.exit(1 if wrong else 0)
