"""akida-serve as a child of a test: its configuration, its end, its memory; and clients that count what comes of every request."""
import json
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(__file__))
import plain  # noqa: E402


def free_ports(count):
    """Ports nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def toml(value):
    return json.dumps(value)


class Server:
    """A process with addresses of its own. Use it with `with`: it is killed at the end if need be."""

    def __init__(self, binary, repository, devices, tables="", environment={}, log=None, files=None, prefix=(), folder=None):
        self.http, self.grpc, self.metrics = (f"127.0.0.1:{p}" for p in free_ports(3))
        self.binary, self.environment, self.log, self.files, self.prefix = binary, environment, log, files, prefix
        self.folder = pathlib.Path(folder or pathlib.Path(repository).parent)
        self.config = self.folder / "serve.toml"
        self.config.write_text(f"repository = {toml(str(repository))}\ndevice = {toml(list(devices))}\nhttp = [{toml(self.http)}]\n"
                               f"grpc = [{toml(self.grpc)}]\nmetrics = [{toml(self.metrics)}]\n{tables}\n")
        self.process, self.peak, self.samples = None, 0, []

    def start(self, wait=True):
        limit = self.files
        log = self.log if self.log is not None else open(self.folder / "serve.log", "ab")

        def before():
            if limit:
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        self.process = subprocess.Popen([*self.prefix, self.binary, "--config", str(self.config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                        preexec_fn=before, env={**os.environ, **self.environment})
        threading.Thread(target=self.watch, args=(self.process,), daemon=True).start()
        if wait:
            self.wait_ready()
        return self

    def watch(self, process):
        """Samples resident memory until the process ends."""
        while process.poll() is None:
            try:
                kib = next(int(line.split()[1]) for line in open(f"/proc/{process.pid}/status") if line.startswith("VmRSS"))
            except (OSError, StopIteration):
                break
            self.peak = max(self.peak, kib / 1024)
            time.sleep(0.02)

    def wait_ready(self, seconds=120):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"akida-serve ended with {self.process.returncode}: {self.tail()}")
            try:
                if plain.get(self.http, "/v2/health/ready", timeout=5)[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise RuntimeError(f"not ready after {seconds} s: {self.tail()}")

    def tail(self, lines=15):
        try:
            return "\n".join((self.folder / "serve.log").read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def boards(self):
        """What the status says of each board."""
        return json.loads(plain.get(self.metrics, "/status.json")[2])["boards"]

    def until(self, holds, what, seconds=60):
        """Waits for something that nothing announces."""
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                raise RuntimeError(f"not within {seconds} s: {what}; {self.boards()}")
            time.sleep(0.02)

    def alive(self):
        return self.process.poll() is None

    def stop(self, sig=signal.SIGTERM, seconds=60):
        if self.process and self.alive():
            self.process.send_signal(sig)
            self.process.wait(seconds)
        return self.process.returncode

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process and self.alive():
            self.process.kill()
            self.process.wait(30)


class Digits:
    """Samples of a network and the answers that akida-run gives, by version."""

    def __init__(self, inputs, expected, shape=(28, 28, 1)):
        datatype, dims, data = plain.read_npz(inputs)["x_u8"]
        self.inputs = (datatype, [dims[0], *shape], data)
        self.expected = {version: plain.read_npz(path)["out0"] for version, path in expected.items()}
        self.count = min(e[1][0] for e in self.expected.values())

    def sample(self, first, count):
        return plain.rows(self.inputs, first, count)

    def right(self, version, first, count, data):
        return plain.rows(self.expected[version], first, count)[2] == data


class Clients:
    """Clients in a closed loop. Each request is counted in one of: right, refused (503 or 429), error (another typed error), wrong,
    unanswered (the connection ended first). Nothing is sent again."""

    def __init__(self, address, model, digits, clients, batch=4, keep=True, timeout=60, pause=0.0, headers={}):
        self.address, self.model, self.digits, self.batch, self.keep, self.timeout = address, model, digits, batch, keep, timeout
        self.pause, self.headers = pause, headers
        self.right, self.refused, self.errors, self.wrong, self.unanswered, self.sent = 0, 0, [], [], [], 0
        self.versions, self.slowest = {}, 0.0
        self.done, self.lock = threading.Event(), threading.Lock()
        self.name = json.loads(plain.get(address, f"/v2/models/{model}", headers=headers)[2])["inputs"][0]["name"]
        self.threads = [threading.Thread(target=self.loop, args=(i,), daemon=True) for i in range(clients)]
        for thread in self.threads:
            thread.start()

    def loop(self, number):
        connection, i = None, number
        while not self.done.is_set():
            count = self.batch(i) if callable(self.batch) else self.batch
            first, i = (i * 13) % (self.digits.count - count), i + len(self.threads)
            began, fresh = time.monotonic(), connection is None
            with self.lock:
                self.sent += 1
            try:
                connection = connection or plain.connect(self.address, self.timeout)
                status, document, outputs, _ = plain.infer(connection, self.model, self.name, self.digits.sample(first, count),
                                                           headers=self.headers, close=not self.keep)
                with self.lock:
                    self.slowest = max(self.slowest, time.monotonic() - began)
                    if status == 200:
                        version = int(document["model_version"])
                        self.versions[version] = self.versions.get(version, 0) + 1
                        if self.digits.right(version, first, count, next(iter(outputs.values()))[2]):
                            self.right += 1
                        else:
                            self.wrong.append((version, first, count))
                    elif status in (429, 503):
                        self.refused += 1
                    else:
                        self.errors.append((status, str(document)[:300]))
                if not self.keep or connection.sock is None:
                    connection.close()
                    connection = None
                if status != 200:
                    time.sleep(0.05)
            except Exception as e:  # noqa: BLE001
                with self.lock:
                    self.unanswered.append(("fresh" if fresh else "kept", type(e).__name__, str(e)[:200]))
                if connection:
                    connection.close()
                connection = None
                time.sleep(0.05)
            if self.pause:
                time.sleep(self.pause)

    def until(self, count, seconds=120):
        """Waits for so many more right answers."""
        goal, end = self.right + count, time.monotonic() + seconds
        while self.right < goal:
            if time.monotonic() > end:
                raise RuntimeError(f"{self.right} of {goal} right answers after {seconds} s: {self.told()}; {self.errors[-2:]} {self.unanswered[-2:]}")
            time.sleep(0.02)

    def end(self):
        self.done.set()
        for thread in self.threads:
            thread.join(self.timeout + 30)
        counted = self.right + self.refused + len(self.errors) + len(self.wrong) + len(self.unanswered)
        if counted != self.sent:
            raise RuntimeError(f"{self.sent} requests were sent, {counted} are accounted for: {self.told()}")
        return self

    def told(self):
        return f"{self.right} right, {self.refused} refused, {len(self.errors)} errors, {len(self.wrong)} wrong, {len(self.unanswered)} unanswered"
