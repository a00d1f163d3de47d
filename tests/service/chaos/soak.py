"""soak.py WORK INPUTS MINUTES: see soak."""
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(__file__))
import plain  # noqa: E402
from server import Clients, Digits, Server  # noqa: E402

work, inputs, minutes = sys.argv[1], sys.argv[2], float(sys.argv[3])
pause = float(os.environ.get("AKIDA_SOAK_PAUSE", "0.02"))
# Resident memory may grow by so much over the second half of the run, by its slope.
GROWTH_MIB = 8.0
BOARDS = 8
digits = Digits(inputs, {1: f"{work}/expected.npz"})


def state(pid):
    """(resident MiB, descriptors, threads)"""
    status = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status"))
    return int(status["VmRSS"].split()[0]) / 1024, len(os.listdir(f"/proc/{pid}/fd")), int(status["Threads"])


def slope(points):
    """Least squares: growth a second."""
    n = len(points)
    mx, my = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    return sum((x - mx) * (y - my) for x, y in points) / max(sum((x - mx) ** 2 for x, _ in points), 1e-9)


def grpc(server, until, results):
    """Load over gRPC: akida-bench, twenty seconds at a time."""
    while time.monotonic() < until - 25:
        done = subprocess.run([f"{work}/akida-bench", f"grpc://{server.grpc}", "digits0", "--batch", "2", "--concurrency", "2", "--seconds", "20",
                               "--rate", "20", "--datatype", "UINT8", "--format", "json"], capture_output=True, text=True)
        results.append((done.returncode, done.stdout, done.stderr[-300:]))


with Server(f"{work}/akida-serve", f"{work}/models", ["sim:akida2"] * BOARDS) as server:
    began = time.monotonic()
    end = began + minutes * 60
    # A client of each model: one sample, a few, many; kept connections and one for each request.
    kinds = [{"batch": 1}, {"batch": lambda i: 1 + i % 16, "pause": 2 * pause}, {"batch": 64, "pause": 10 * pause}, {"batch": 4, "keep": False, "pause": 2 * pause}]
    groups = [Clients(server.http, f"digits{n}", digits, 1, **{"pause": pause, **kinds[n % 4]}) for n in range(BOARDS)]
    bench = []
    side = threading.Thread(target=grpc, args=(server, end, bench))
    side.start()
    points, minute = [], 0
    while time.monotonic() < end:
        if not server.alive():
            sys.exit(f"FAIL  the service ended with {server.process.returncode}: {server.tail()}")
        points.append((time.monotonic() - began, *state(server.process.pid)))
        if points[-1][0] >= 60 * minute:
            # Scraped as a monitoring system does.
            plain.get(server.metrics, "/metrics")
            right = sum(g.right for g in groups)
            print(f"      {points[-1][0] / 60:4.0f} min: {right} requests right, {points[-1][1]:.1f} MiB, {points[-1][2]} descriptors, {points[-1][3]} threads", flush=True)
            minute += 1
        time.sleep(2)
    side.join()
    for group in groups:
        group.end()
    status = json.loads(plain.get(server.metrics, "/status.json")[2])
    code = server.stop()
failures = []


def demand(holds, what):
    print(("ok    " if holds else "FAIL  ") + what, flush=True)
    if not holds:
        failures.append(what)


right = sum(g.right for g in groups)
other = {k: sum(len(v) if isinstance(v := getattr(g, k), list) else v for g in groups) for k in ("refused", "errors", "wrong", "unanswered")}
demand(right > 0 and not any(other.values()), f"{right} requests over HTTP, all right bit for bit; others: {other}" + "".join(f"; {g.errors[:1]} {g.unanswered[:1]}" for g in groups if g.errors or g.unanswered))
asked = errors = 0
for returned, text, said in bench:
    document = json.loads(text) if returned == 0 else {}
    asked += document.get("requests", 0)
    errors += document.get("failures", 0) + (returned != 0)
demand(errors == 0 and (minutes < 1 or bench), f"{len(bench)} runs of akida-bench over gRPC, {asked} requests, {errors} failures" + (f" {bench[-1][2]}" if errors else ""))
half = [p for p in points if p[0] >= points[-1][0] / 2]
grows = slope([(p[0], p[1]) for p in half]) * (half[-1][0] - half[0][0])
demand(grows <= GROWTH_MIB, f"memory: {half[0][1]:.1f} MiB at half time, {points[-1][1]:.1f} at the end, {max(p[1] for p in points):.1f} at most; {grows:+.2f} MiB over the second half by its slope ({GROWTH_MIB} are allowed)")
for number, name in ((2, "descriptors"), (3, "threads")):
    values = [p[number] for p in half]
    demand(max(values) - min(values) <= 12, f"{name}: {min(values)} to {max(values)} in the second half")
demand(all(b["state"] == "healthy" and b["samples"] > 0 for b in status["boards"]) and len(status["boards"]) == BOARDS, f"{len(status['boards'])} boards, samples {[b['samples'] for b in status['boards']]}")
demand(not status["errors"], f"last errors: {status['errors'][:2]}")
demand(code == 0, f"SIGTERM: ended with {code}")
print(f"tests/service/soak: {points[-1][0] / 60:.1f} minutes, {len(failures)} failures")
sys.exit(1 if failures else 0)
