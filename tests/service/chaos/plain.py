"""A client of the Open Inference Protocol in Python's own library, for tests that must see every byte and count every answer:
no retries, no pool, nothing hidden. Tensors are (datatype, shape, bytes), little-endian, in row-major order."""
import ast
import http.client
import json
import socket
import struct
import zipfile

NUMPY = {"|u1": "UINT8", "|i1": "INT8", "<f4": "FP32", "<i4": "INT32", "<i8": "INT64"}


def read_npz(path):
    """The arrays of an .npz file by name."""
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.namelist():
            data = archive.read(entry)
            assert data[:6] == b"\x93NUMPY", entry
            start, = struct.unpack_from("<H", data, 8) if data[6] == 1 else struct.unpack_from("<I", data, 8)
            begin = 10 if data[6] == 1 else 12
            header = ast.literal_eval(data[begin:begin + start].decode())
            assert not header["fortran_order"], entry
            arrays[entry.removesuffix(".npy")] = (NUMPY[header["descr"]], list(header["shape"]), data[begin + start:])
    return arrays


def rows(tensor, first, count):
    """`count` samples of a tensor from `first` on."""
    datatype, shape, data = tensor
    size = len(data) // shape[0]
    return datatype, [count] + shape[1:], data[first * size:(first + count) * size]


class Unix(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path, timeout=30):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def connect(address, timeout=30):
    """A connection to HOST:PORT or to unix:PATH."""
    if address.startswith("unix:"):
        return Unix(address[5:], timeout)
    host, _, port = address.rpartition(":")
    return http.client.HTTPConnection(host, int(port), timeout=timeout)


def get(address, path, method="GET", body=None, headers={}, timeout=30):
    """(status, headers, body) of one request on a connection of its own."""
    connection = connect(address, timeout)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def infer_body(name, tensor, id=""):
    """Body and headers of an inference with the binary tensor extension, outputs binary too."""
    datatype, shape, data = tensor
    head = {"inputs": [{"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(data)}}],
            "parameters": {"binary_data_output": True}}
    if id:
        head["id"] = id
    head = json.dumps(head).encode()
    return head + data, {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}


def parse(headers, body):
    """(document, outputs by name) of an answer to an inference."""
    length = {k.lower(): v for k, v in headers.items()}.get("inference-header-content-length")
    if length is None:
        return json.loads(body), {}
    document, place, outputs = json.loads(body[:int(length)]), int(length), {}
    for output in document["outputs"]:
        size = output["parameters"]["binary_data_size"]
        outputs[output["name"]] = (output["datatype"], output["shape"], body[place:place + size])
        place += size
    assert place == len(body), f"{len(body) - place} bytes too many"
    return document, outputs


def infer(connection, model, name, tensor, id="", headers={}, close=False):
    """(status, document, outputs, headers) of an inference on an open connection. What the socket says is raised."""
    body, more = infer_body(name, tensor, id)
    connection.request("POST", f"/v2/models/{model}/infer", body, {**more, **headers, **({"Connection": "close"} if close else {})})
    answer = connection.getresponse()
    data = answer.read()
    heads = dict(answer.getheaders())
    if answer.status != 200:
        return answer.status, data.decode(errors="replace"), {}, heads
    document, outputs = parse(heads, data)
    return 200, document, outputs, heads
