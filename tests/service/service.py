"""An akida-serve on loopback, and little else that the tests share."""

import contextlib
import http.client
import pathlib
import socket
import subprocess
import time


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ask(port, method, path, body=None, headers=None):
    """Status, headers and body of one request over HTTP."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read()
    finally:
        connection.close()


class Service:
    """A process with its ports."""

    def __init__(self, bin, repository, log, devices=("sim:akida2",), extra=()):
        self.http, self.grpc, self.metrics = free_port(), free_port(), free_port()
        arguments = [pathlib.Path(bin) / "akida-serve", "--repository", repository]
        for device in devices:
            arguments += ["--device", device]
        for name in ("http", "grpc", "metrics"):
            arguments += [f"--{name}", f"127.0.0.1:{getattr(self, name)}"]
        self.log = open(log, "wb")
        self.process = subprocess.Popen([str(a) for a in (*arguments, *extra)], stdout=self.log, stderr=self.log)

    def wait_until_ready(self, seconds=120):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise SystemExit(f"akida-serve ended with {self.process.returncode}, see {self.log.name}")
            with contextlib.suppress(OSError):
                if ask(self.http, "GET", "/v2/health/ready")[0] == 200:
                    return
            time.sleep(0.05)
        raise SystemExit(f"akida-serve was not ready in {seconds} s, see {self.log.name}")

    def memory(self):
        """Resident bytes."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


@contextlib.contextmanager
def service(*arguments, **named):
    """A service that is ready; terminated at the end, and its exit code looked at."""
    s = Service(*arguments, **named)
    try:
        s.wait_until_ready()
        yield s
        s.process.terminate()
        code = s.process.wait(60)
        if code != 0:
            raise SystemExit(f"akida-serve ended with {code} after SIGTERM, see {s.log.name}")
    finally:
        if s.process.poll() is None:
            s.process.kill()
            s.process.wait()
        s.log.close()
