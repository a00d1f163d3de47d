"""Bodies nobody should send, over connections that stay open: every one is answered as the client's mistake, and the service stays as it was."""

import collections
import gzip
import http.client
import json
import pathlib
import random
import sys

import numpy as np

from service import ask, service

BIN, MADE, COUNT = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
MODEL = "mnist_cnn"
SEED = 20250101
# Resident memory may grow by what a few requests need, not by what thousands leave behind.
GROWTH = 64 << 20
ODD = [None, True, -1, 0, 1, 2**31, 2**63, 2**64, -2**63, 1e308, 1.5, "", "x", "FP32", "BYTES", [], {}, [[]], [0] * 300, "a" * 5000,
       {"a": {"b": []}}, "\u0000", "\ud83d\ude00", "../../etc/passwd"]


def good(rng, name):
    """A request that is right, as JSON or binary; JSON, data, whether it is binary."""
    batch = rng.choice([1, 1, 2, 3])
    data = np.zeros((batch, 1, 28, 28), np.float32)
    binary = rng.random() < 0.5
    given = {"name": name, "datatype": "FP32", "shape": list(data.shape)}
    if binary:
        given["parameters"] = {"binary_data_size": data.nbytes}
    else:
        given["data"] = data.ravel().astype(int).tolist()
    document = {"id": "i", "inputs": [given], "parameters": {"priority": 1, "binary_data_output": binary}}
    return document, data.tobytes() if binary else b"", binary


def places(value, path=()):
    """Every place in a document."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for i in range(min(len(value), 5)):
            yield from places(value[i], (*path, i))


def changed(rng, document):
    """The document with one place replaced, removed or doubled."""
    document = json.loads(json.dumps(document))
    path = rng.choice([p for p in places(document) if p])
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    how = rng.random()
    if how < 0.6:
        holder[path[-1]] = rng.choice(ODD)
    elif how < 0.85:
        del holder[path[-1]]
    elif isinstance(holder, list):
        holder.append(holder[path[-1]])
    else:
        holder[path[-1] + "x"] = holder.pop(path[-1])
    return document


def request(rng, name):
    """Headers and body."""
    document, data, binary = good(rng, name)
    headers = {}
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        document = changed(rng, document)
        if not isinstance(document, dict) or not document:
            break
    text = json.dumps(document).encode()
    how = rng.random()
    if how < 0.15:
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.randbytes(rng.randrange(4)) + text[at + rng.randrange(3):]
    elif how < 0.2:
        text = text[:rng.randrange(len(text) + 1)]
    elif how < 0.23:
        text = rng.randbytes(rng.randrange(200))
    elif how < 0.24:
        text = b"[" * rng.randrange(200_000)
    if binary:
        length = len(text)
        if rng.random() < 0.2:
            length = rng.choice([0, 1, length - 1, length + 1, length + len(data) + 1, -1, 2**64, "x", ""])
        headers["Inference-Header-Content-Length"] = str(length)
    if rng.random() < 0.2:
        data = data[:rng.randrange(len(data) + 1)] + rng.randbytes(rng.randrange(9))
    body = text + data
    if rng.random() < 0.1:
        headers["Content-Encoding"] = rng.choice(["gzip", "deflate", "br", "gzip, gzip", ""])
        if rng.random() < 0.5:
            body = gzip.compress(body)[: rng.randrange(1, 400)] if rng.random() < 0.5 else gzip.compress(body)
    return headers, body


def main():
    rng = random.Random(SEED)
    statuses = collections.Counter()
    with service(BIN, MADE / "repository", MADE / "malformed.log") as s:
        about = json.loads(ask(s.http, "GET", f"/v2/models/{MODEL}")[2])
        name = about["inputs"][0]["name"]
        path = f"/v2/models/{MODEL}/infer"
        connection = http.client.HTTPConnection("127.0.0.1", s.http, timeout=60)
        before = None
        for n in range(COUNT):
            headers, body = request(rng, name)
            connection.request("POST", path, body=body, headers=headers)
            reply = connection.getresponse()
            text = reply.read()
            statuses[reply.status] += 1
            where = f"body {n} of seed {SEED}: {headers} {body[:300]!r}"
            assert reply.status in (200, 400, 413), f"{reply.status} {text[:300]!r} for {where}"
            if reply.status != 200:
                assert json.loads(text)["error"], where
            if n == COUNT // 10:
                before = s.memory()
        grown = s.memory() - before
        assert grown < GROWTH, f"memory grew by {grown} bytes"
        x = np.zeros((1, 1, 28, 28), np.float32)
        body = json.dumps({"inputs": [{"name": name, "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}]})
        assert ask(s.http, "POST", path, body)[0] == 200
    print(f"ok      {COUNT} malformed bodies: {dict(sorted(statuses.items()))}, memory grew by {grown / 2**20:.1f} MiB")


main()
