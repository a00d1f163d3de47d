"""cluster.py AKIDA_SERVE WORK INPUTS: see run."""
import json
import logging
import os
import pathlib
import sys
import time
import urllib.request

import numpy as np
import ray
from ray.cluster_utils import Cluster

import batch
from server import Server, free_ports

binary, work, inputs = sys.argv[1:]
failed = 0


def check(what, holds, more=""):
    global failed
    print(("ok    " if holds else "FAIL  ") + what + (f": {more}" if more != "" else ""), flush=True)
    failed += not holds


def samples(address):
    status = json.load(urllib.request.urlopen(f"http://{address}/status.json", timeout=20))
    return {board["name"]: board["samples"] for board in status["boards"]}


def service(number):
    """The service of one node, with two boards."""
    folder = pathlib.Path(work) / f"node{number}"
    folder.mkdir()
    return Server(binary, pathlib.Path(work) / "models", ["sim:akida2", "sim:akida2"], folder=folder)


def application(expected, x):
    from ray import serve
    import deployment
    port, = free_ports(1)
    # All nodes are this machine: one proxy, since a port is bound once.
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port}, logging_config={"log_level": "ERROR"})
    serve.run(deployment.app({"model": "mnist_cnn", "shape": "28,28,1", "replicas": 2}), name="digits")

    def post(body):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", data=body, method="POST")
        try:
            answer = urllib.request.urlopen(request, timeout=60)
            return answer.status, json.load(answer)
        except urllib.error.HTTPError as e:
            return e.code, json.load(e)
    answers = [post(x[8 * i:8 * i + 8].tobytes()) for i in range(20)]
    classes = [c for _, a in answers for c in a["classes"]]
    check("Ray Serve: classes as akida-run", classes == expected.reshape(len(expected), -1).argmax(axis=1)[:160].tolist())
    check("Ray Serve: the board is named", all("simulated" in a["board"] or a["board"].startswith("sim:") for _, a in answers), answers[0][1]["board"])
    status, said = post(b"123")
    check("Ray Serve: a wrong size is refused", status == 400 and "784" in said["error"], said)
    serve.shutdown()


with service(1) as one, service(2) as two:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 100 << 20, "include_dashboard": False})
    for node in (one, two):
        cluster.add_node(num_cpus=1, object_store_memory=100 << 20, resources={batch.RESOURCE: 2}, env_vars={"AKIDA_SERVE": node.http})
    cluster.wait_for_nodes()
    # Workers find the example and tritonclient where this process does.
    ray.init(address=cluster.address, log_to_driver=True, logging_level=logging.ERROR, runtime_env={"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}})
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        nodes = [n for n in ray.nodes() if n["Alive"]]
        check("three nodes, four boards", len(nodes) == 3 and ray.cluster_resources()[batch.RESOURCE] == 4, ray.cluster_resources().get(batch.RESOURCE))
        x = np.load(inputs)["x_u8"].reshape(-1, 28, 28, 1)
        expected = np.load(f"{work}/expected.npz")["out0"]
        began = time.monotonic()
        y, boards = batch.infer(x, "mnist_cnn", 64)
        took = time.monotonic() - began
        check(f"Ray Data: {len(x)} digits, equal to akida-run bit for bit", y.dtype == expected.dtype and y.reshape(expected.shape).tobytes() == expected.tobytes(), f"{took:.1f} s")
        check("every answer names its board", all("sim" in b for b in boards), sorted(set(boards)))
        used = [sum(samples(node.metrics).values()) for node in (one, two)]
        check("both nodes' boards worked, and nothing was done twice", min(used) > 0 and sum(used) == len(x), used)
        accuracy = (y.reshape(len(y), -1).argmax(axis=1) == np.load(inputs)["labels"]).mean()
        check("accuracy", accuracy > 0.97, f"{accuracy:.4f}")
        application(expected, x)
    finally:
        ray.shutdown()
        cluster.shutdown()
print(f"tests/integrations/ray: {failed} checks failed")
sys.exit(1 if failed else 0)
