"""tritonclient over HTTP and gRPC against akida-serve; results bit-equal to akida-run's."""

import asyncio
import json
import pathlib
import queue
import struct
import subprocess
import sys
import traceback
import zlib

import numpy as np
import tritonclient.grpc as tg
import tritonclient.grpc.aio as tga
import tritonclient.http as th
from tritonclient.utils import InferenceServerException

from service import ask, service

BIN, MADE, DATA = (pathlib.Path(a) for a in sys.argv[1:4])
MODEL = "mnist_cnn"
STREAMS = 1000
failed, passed = [], 0


def check(test):
    """Runs a test at once and goes on after a failure."""
    global passed
    try:
        test()
        passed += 1
        print(f"ok      {test.__doc__}")
    except Exception:  # whatever it was, the others are worth a look
        failed.append(test.__doc__)
        print(f"FAILED  {test.__doc__}")
        traceback.print_exc()
    return test


def locally(model, samples, *options):
    """The arrays that akida-run makes."""
    made = MADE / f"{model}-local.npz"
    given = MADE / f"{model}-samples.npy"
    np.save(given, samples)
    subprocess.run(
        [BIN / "akida-run", MADE / "repository" / model / "1/model.akm", "--device", "sim:akida2", "--input", given,
         "--output", made, "--show", "none", "--quiet", *options],
        check=True, stdout=subprocess.DEVNULL)
    return dict(np.load(made))


def same(got, want):
    assert got.dtype == want.dtype and got.shape == want.shape, (got.dtype, got.shape, want.dtype, want.shape)
    assert got.tobytes() == want.tobytes(), f"{(got != want).sum()} of {got.size} elements differ"


def refused(call, status, part):
    """The call fails with this status, and says why."""
    try:
        call()
    except InferenceServerException as e:
        assert str(e.status()) == status or status in str(e.status()), f"{e.status()} instead of {status}: {e.message()}"
        assert part in e.message(), e.message()
        return
    raise AssertionError("nothing was refused")


def http_input(name, array, binary=True):
    i = th.InferInput(name, list(array.shape), {"float32": "FP32", "uint8": "UINT8", "object": "BYTES"}[str(array.dtype)])
    i.set_data_from_numpy(array, binary_data=binary)
    return i


def grpc_input(name, array):
    i = tg.InferInput(name, list(array.shape), {"float32": "FP32", "uint8": "UINT8", "object": "BYTES"}[str(array.dtype)])
    i.set_data_from_numpy(array)
    return i


def png(image):
    """A gray image as PNG, by nobody's library."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    height, width = image.shape
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


rng = np.random.default_rng(7)
pixels = np.load(DATA / MODEL / "inputs.npz")
pixels = pixels[[n for n in pixels.files if n != "labels"][0]][:64]
pixels = np.ascontiguousarray(pixels.reshape(len(pixels), 28, 28, 1).astype(np.uint8))
floats = ((pixels.astype(np.float32) / 255 - 0.5) / 0.5).transpose(0, 3, 1, 2).copy()

with service(BIN, MADE / "repository", MADE / "clients.log") as s:
    http = th.InferenceServerClient(f"127.0.0.1:{s.http}", concurrency=8)
    grpc = tg.InferenceServerClient(f"127.0.0.1:{s.grpc}")
    metadata = http.get_model_metadata(MODEL)
    x, y = metadata["inputs"][0]["name"], metadata["outputs"][0]["name"]
    from_floats, from_pixels = locally(MODEL, floats)["out0"], locally(MODEL, pixels)["out0"]

    @check
    def _():
        """health, over HTTP and gRPC"""
        for client in (http, grpc):
            assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(MODEL)
            assert client.is_model_ready(MODEL, "1")
        assert not http.is_model_ready("none")

    @check
    def _():
        """metadata of server and model, and configuration"""
        assert http.get_server_metadata()["name"] == grpc.get_server_metadata().name == "akida-serve"
        assert metadata["inputs"] == [{"name": x, "datatype": "FP32", "shape": [-1, 1, 28, 28]}], metadata
        by_grpc = grpc.get_model_metadata(MODEL, as_json=True)
        assert [i["name"] for i in by_grpc["inputs"]] == [x] and by_grpc["versions"] == ["1"] == metadata["versions"]
        config = grpc.get_model_config(MODEL).config
        assert config.max_batch_size == http.get_model_config(MODEL)["max_batch_size"] >= 64
        assert list(config.input[0].dims) == [1, 28, 28]

    @check
    def _():
        """inference over HTTP, binary and JSON, floats and pixels: bit-equal to akida-run"""
        for binary_in in (True, False):
            for binary_out in (True, False):
                outputs = [th.InferRequestedOutput(y, binary_data=binary_out)]
                for array, want in ((floats, from_floats), (pixels, from_pixels)):
                    got = http.infer(MODEL, [http_input(x, array, binary_in)], outputs=outputs, request_id="a/1")
                    same(got.as_numpy(y), want)
                    response = got.get_response()
                    assert response["id"] == "a/1" and response["model_version"] == "1"
                    assert response["parameters"]["device"] == "sim:akida2 (simulated)" or "simulated" in response["parameters"]["device"], response

    @check
    def _():
        """inference over HTTP with packed requests and answers"""
        for algorithm in ("gzip", "deflate"):
            got = http.infer(MODEL, [http_input(x, floats)], request_compression_algorithm=algorithm,
                             response_compression_algorithm=algorithm)
            same(got.as_numpy(y), from_floats)

    @check
    def _():
        """inference over gRPC, plain and packed: bit-equal to akida-run"""
        for algorithm in (None, "gzip", "deflate"):
            for array, want in ((floats, from_floats), (pixels, from_pixels)):
                got = grpc.infer(MODEL, [grpc_input(x, array)], request_id="b", compression_algorithm=algorithm)
                same(got.as_numpy(y), want)
                response = got.get_response()
                assert response.id == "b" and "simulated" in response.parameters["device"].string_param

    @check
    def _():
        """many at once: each gets the answer to its own samples"""
        waiting = []
        for i in range(64):
            waiting.append((i, http.async_infer(MODEL, [http_input(x, floats[i:i + 1])])))
        for i, request in waiting:
            same(request.get_result().as_numpy(y), from_floats[i:i + 1])
        results = queue.Queue()
        for i in range(64):
            grpc.async_infer(MODEL, [grpc_input(x, pixels[i:i + 1])],
                             callback=lambda result, error, i=i: results.put((i, result, error)))
        for _ in range(64):
            i, result, error = results.get(timeout=60)
            assert error is None, error
            same(result.as_numpy(y), from_pixels[i:i + 1])

    @check
    def _():
        """several outputs, all or some, in the order asked for"""
        model = "yolo_two_heads"
        about = http.get_model_metadata(model)
        names = [o["name"] for o in about["outputs"]]
        assert len(names) == 2, names
        shape = [3, *about["inputs"][0]["shape"][1:]]
        samples = rng.random(shape, dtype=np.float32)
        want = locally(model, samples)
        got = http.infer(model, [http_input(about["inputs"][0]["name"], samples)])
        by_grpc = grpc.infer(model, [grpc_input(about["inputs"][0]["name"], samples)],
                             outputs=[tg.InferRequestedOutput(n) for n in reversed(names)])
        for i, name in enumerate(names):
            same(got.as_numpy(name), want[f"out{i}"])
            same(by_grpc.as_numpy(name), want[f"out{i}"])
        assert [o.name for o in by_grpc.get_response().outputs] == names[::-1]

    @check
    def _():
        """classification, by output over HTTP and gRPC, and by query"""
        best = np.argsort(-from_floats.reshape(64, -1), axis=1, kind="stable")[:, :3]
        by_http = http.infer(MODEL, [http_input(x, floats)], outputs=[th.InferRequestedOutput(y, class_count=3)])
        by_grpc = grpc.infer(MODEL, [grpc_input(x, floats)], outputs=[tg.InferRequestedOutput(y, class_count=3)])
        for got in (by_http.as_numpy(y), by_grpc.as_numpy(y)):
            assert got.shape == (64, 3), got.shape
            for row, want in zip(got, best):
                assert [int(t.decode().split(":")[1]) for t in row] == list(want), (row, want)
        body = json.dumps({"inputs": [{"name": x, "datatype": "FP32", "shape": [1, 1, 28, 28],
                                       "data": floats[0].ravel().tolist()}]})
        status, _, text = ask(s.http, "POST", f"/v2/models/{MODEL}/infer?classification=2", body)
        assert status == 200, text
        assert [int(t.split(":")[1]) for t in json.loads(text)["outputs"][0]["data"]] == list(best[0][:2]), text

    @check
    def _():
        """encoded images as strings"""
        also = http.get_model_config(MODEL)["parameters"].get("also." + x, {}).get("string_value", "")
        if "BYTES" not in also:
            raise AssertionError(f"the model takes no encoded images: {also!r}")
        from_png = []
        for i in range(2):
            picture = png(pixels[i, :, :, 0])
            array = np.array([picture], dtype=object)
            from_png.append(http.infer(MODEL, [http_input(x, array)]).as_numpy(y))
            same(grpc.infer(MODEL, [grpc_input(x, array)]).as_numpy(y), from_png[-1])
        same(np.concatenate(from_png), from_pixels[:2])

    @check
    def _():
        """errors: status, and a message that names the thing"""
        wrong_shape, wrong_name = np.zeros((1, 1, 28, 27), np.float32), "nothing"
        for client, make, not_found, invalid in ((http, http_input, "404", "400"),
                                                 (grpc, grpc_input, "NOT_FOUND", "INVALID_ARGUMENT")):
            good = [make(x, floats[:1])]
            refused(lambda: client.infer("none", good), not_found, "none")
            refused(lambda: client.infer(MODEL, good, model_version="7"), not_found, "7")
            refused(lambda: client.infer(MODEL, [make(x, wrong_shape)]), invalid, "27")
            refused(lambda: client.infer(MODEL, [make(wrong_name, floats[:1])]), invalid, wrong_name)
            refused(lambda: client.infer(MODEL, good, sequence_id=5), invalid, "sequence_id")
            refused(lambda: client.get_model_metadata("none"), not_found, "none")
        large = np.zeros((100_000, 1, 28, 28), np.float32)[:0]
        refused(lambda: http.infer(MODEL, [http_input(x, large)]), "400", "")

    @check
    def _():
        """repository: index, unload, load"""
        for client in (http, grpc):
            def states():
                index = client.get_model_repository_index()
                index = index if isinstance(index, list) else [
                    {"name": m.name, "version": m.version, "state": m.state} for m in index.models]
                return {m["name"]: m["state"] for m in index}
            assert states() == {MODEL: "READY", "yolo_two_heads": "READY"}, states()
            client.unload_model("yolo_two_heads")
            assert states()["yolo_two_heads"] != "READY"
            assert not client.is_model_ready("yolo_two_heads")
            client.load_model("yolo_two_heads")
            assert states()["yolo_two_heads"] == "READY" and client.is_model_ready("yolo_two_heads")
        refused(lambda: http.load_model("none"), "404", "none")
        refused(lambda: http.load_model(MODEL, config="{}"), "400", "config")

    @check
    def _():
        """statistics count samples and requests"""
        def counted(stats):
            return int(stats["inference_count"]), int(stats["inference_stats"]["success"]["count"])
        before = counted(http.get_inference_statistics(MODEL)["model_stats"][0])
        for _ in range(3):
            http.infer(MODEL, [http_input(x, floats[:5])])
        after = counted(http.get_inference_statistics(MODEL)["model_stats"][0])
        assert (after[0] - before[0], after[1] - before[1]) == (15, 3), (before, after)
        by_grpc = grpc.get_inference_statistics(MODEL, as_json=True)["model_stats"][0]
        assert counted(by_grpc) == after
        status, _, text = ask(s.metrics, "GET", "/metrics")
        assert status == 200 and b"# TYPE" in text

    @check
    def _():
        """a stream answers in order, and goes on after an error"""
        answers = queue.Queue()
        grpc.start_stream(lambda result, error: answers.put((result, error)))
        for i in range(40):
            shape = floats[i:i + 1] if i != 20 else np.zeros((1, 3), np.float32)
            grpc.async_stream_infer(MODEL, [grpc_input(x, shape)], request_id=str(i))
        for i in range(40):
            result, error = answers.get(timeout=60)
            if i == 20:
                assert error is not None and "3" in error.message(), error
            else:
                assert error is None, error
                assert result.get_response().id == str(i)
                same(result.as_numpy(y), from_floats[i:i + 1])
        grpc.stop_stream()

    async def streams():
        async with tga.InferenceServerClient(f"127.0.0.1:{s.grpc}") as client:
            begun, all_begun = 0, asyncio.Event()

            async def one(n):
                # A request of each stream is under way at a time: a client may not hold more than half of what the service holds.
                answered = asyncio.Semaphore(1)

                async def requests():
                    nonlocal begun
                    begun += 1
                    if begun == STREAMS:
                        all_begun.set()
                    # Nobody ends before everybody has begun.
                    await all_begun.wait()
                    for k in range(3):
                        await answered.acquire()
                        yield {"model_name": MODEL, "inputs": [grpc_input(x, pixels[(n + k) % 64:][:1])],
                               "request_id": f"{n}.{k}"}
                k = 0
                async for result, error in client.stream_infer(requests()):
                    assert error is None, error
                    assert result.get_response().id == f"{n}.{k}"
                    i = (n + k) % 64
                    same(result.as_numpy(y), from_pixels[i:i + 1])
                    k += 1
                    answered.release()
                assert k == 3, k

            await asyncio.wait_for(asyncio.gather(*(one(n) for n in range(STREAMS))), 300)

    @check
    def _():
        """1,000 streams at once, three requests in each"""
        asyncio.run(streams())

    @check
    def _():
        """akida-run --server writes what akida-run writes"""
        for name, array, want in (("floats", floats, from_floats), ("pixels", pixels, from_pixels)):
            given, made = MADE / f"{name}.npy", MADE / f"{name}-remote.npz"
            np.save(given, array)
            subprocess.run(
                [BIN / "akida-run", "--server", f"http://127.0.0.1:{s.http}", MODEL, "--input", given, "--output", made,
                 "--raw", "--show", "none", "--quiet"], check=True, stdout=subprocess.DEVNULL)
            local = locally(MODEL, array, "--raw")
            remote = dict(np.load(made))
            assert sorted(local) == sorted(remote), (sorted(local), sorted(remote))
            for key, value in local.items():
                same(remote[key], value)

    http.close()
    grpc.close()

print(f"{passed} passed, {len(failed)} failed")
sys.exit(1 if failed else 0)
