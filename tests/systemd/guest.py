"""What is checked in the machine of tests/systemd/run. Every check is a line: ok or FAIL; the status is the number of failures."""
import contextlib
import ctypes
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, "/test")
import plain  # noqa: E402

HTTP, GRPC, METRICS, UNIX = "127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:8002", "unix:/run/akida-serve.sock"
SERVICE = "akida-serve.service"
SOCKETS = ["akida-serve.socket", "akida-serve-grpc.socket", "akida-serve-metrics.socket", "akida-serve-unix.socket"]
failures = 0
DIGITS = plain.read_npz("/test/inputs.npz")["x_u8"]
EXPECTED = plain.read_npz("/test/expected.npz")["out0"]
DIGITS = ("UINT8", [DIGITS[1][0], 28, 28, 1], DIGITS[2])


def check(name, holds, more=""):
    global failures
    print(("ok    " if holds else "FAIL  ") + name + (f": {more}" if more != "" else ""), flush=True)
    if not holds:
        failures += 1


@contextlib.contextmanager
def part(name):
    """A part of the test that must not take the rest with it."""
    global failures
    print(f"      -- {name} ({time.monotonic():.0f} s after the start)", flush=True)
    # Starts by hand count towards StartLimitBurst= too, and there are many here.
    systemctl("reset-failed")
    try:
        yield
    except Exception as e:  # noqa: BLE001
        failures += 1
        print(f"FAIL  {name}: {type(e).__name__}: {e}", flush=True)
        print(run("journalctl", "-u", SERVICE, "-n", "15", "-o", "cat", "--no-pager").stdout, flush=True)


def run(*command, limit=120):
    return subprocess.run(command, capture_output=True, text=True, timeout=limit)


def systemctl(*words, limit=120):
    return run("systemctl", *words, limit=limit)


def show(unit, name):
    return systemctl("show", "-p", name, "--value", unit).stdout.strip()


def until(what, seconds=90):
    """Waits for an event that nothing announces, looking often."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := what():
            return result
        time.sleep(0.1)
    return None


def writes(pid, user, groups, paths):
    """Those of the paths that a user may write to in the mounts of a process, in which nothing else can be executed."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY), 0x20000) != 0:  # CLONE_NEWNS
                raise OSError(ctypes.get_errno(), "setns")
            os.setgroups(groups)
            os.setgid(user)
            os.setuid(user)
            os.write(send, json.dumps([path for path in paths if os.access(path, os.W_OK)]).encode())
        os._exit(0)
    os.close(send)
    os.waitpid(child, 0)
    with os.fdopen(receive) as answer:
        return json.load(answer)


def write(path, text, mode=0o644):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def drop_in(unit, text):
    write(f"/etc/systemd/system/{unit}.d/50-test.conf", text)
    systemctl("daemon-reload")


def config(devices=("sim:akida2",), more="", name="serve.toml", ports=(8000, 8001, 8002)):
    write(f"/etc/akida/{name}", CONFIG.format(devices=json.dumps(list(devices)), ports=ports, more=more))


CONFIG = """repository = "/var/lib/akida/models"
device = {devices}
http = ["127.0.0.1:{ports[0]}"]
grpc = ["127.0.0.1:{ports[1]}"]
metrics = ["127.0.0.1:{ports[2]}"]
{more}
"""


def ready(address=HTTP):
    try:
        return plain.get(address, "/v2/health/ready", timeout=5)[0] == 200
    except OSError:
        return False


def right(first=0, count=8, address=HTTP, headers={}):
    """Whether an inference gives what akida-run gave, bit for bit."""
    connection = plain.connect(address, timeout=60)
    name = json.loads(plain.get(address, "/v2/models/mnist_cnn", headers=headers)[2])["inputs"][0]["name"]
    status, document, outputs, _ = plain.infer(connection, "mnist_cnn", name, plain.rows(DIGITS, first, count), headers=headers)
    connection.close()
    return status == 200 and list(outputs.values())[0][2] == plain.rows(EXPECTED, first, count)[2]


class Load:
    """Clients that ask and count until told to stop. Every request ends in exactly one of: right, refused (503, documented), lost."""

    def __init__(self, clients, keep, address=HTTP):
        self.right, self.refused, self.wrong, self.lost = 0, 0, [], []
        self.keep, self.address, self.stop = keep, address, threading.Event()
        self.lock = threading.Lock()
        self.name = json.loads(plain.get(address, "/v2/models/mnist_cnn")[2])["inputs"][0]["name"]
        self.threads = [threading.Thread(target=self.client, args=(i,)) for i in range(clients)]
        for t in self.threads:
            t.start()

    def client(self, number):
        connection = None
        i = number
        while not self.stop.is_set():
            first, i = i % 60, i + 7
            try:
                fresh = connection is None
                if fresh:
                    connection = plain.connect(self.address, timeout=120)
                status, document, outputs, _ = plain.infer(connection, "mnist_cnn", self.name, plain.rows(DIGITS, first, 4), close=not self.keep)
                with self.lock:
                    if status == 200 and list(outputs.values())[0][2] == plain.rows(EXPECTED, first, 4)[2]:
                        self.right += 1
                    elif status == 503:
                        self.refused += 1
                    else:
                        self.wrong.append((status, document))
            except Exception as e:  # noqa: BLE001
                with self.lock:
                    self.lost.append(("first" if fresh else "kept", type(e).__name__, str(e)))
                connection.close()
                connection = None
            else:
                if not self.keep or connection.sock is None:
                    connection.close()
                    connection = None

    def end(self):
        self.stop.set()
        for t in self.threads:
            t.join(150)
        return f"{self.right} right, {self.refused} refused with 503, {len(self.wrong)} wrong, {len(self.lost)} without an answer"


def main():
    print("      systemd " + run("systemctl", "--version").stdout.split("\n")[0], flush=True)
    state = systemctl("is-system-running", "--wait", limit=170).stdout.strip()
    failed = run("systemctl", "--failed", "--plain", "--no-legend").stdout
    check("the machine is up", state in ("running", "degraded"), f"{state} after {time.monotonic():.0f} s {failed.split()[:1]}")
    package = os.path.exists("/test/akida-tools.deb")
    if package:
        with part("package"):
            done = run("dpkg", "--force-depends", "-i", "/test/akida-tools.deb", limit=300)
            check("the package is installed", done.returncode == 0, done.stderr.strip()[-200:])
            check("units are known, none is started", show(SERVICE, "LoadState") == "loaded" and show(SERVICE, "ActiveState") == "inactive")
            check("and none is enabled", systemctl("is-enabled", SERVICE).stdout.strip() == "disabled")
    with part("folders"):
        mode = os.stat("/etc/akida/credentials").st_mode & 0o777
        check("credentials are root's alone", mode == 0o700, oct(mode))
        check("the group of boards exists", run("getent", "group", "akida").returncode == 0)
        pathlib.Path("/var/lib/akida/models/mnist_cnn/1").mkdir(parents=True)
        os.link("/test/mnist_cnn.akm", "/var/lib/akida/models/mnist_cnn/1/model.akm")

    with part("the sample configuration"):
        drop_in(SERVICE, "[Service]\nWatchdogSec=10\n")
        done = systemctl("start", SERVICE, limit=300)
        check("starts with the configuration that is installed", done.returncode == 0, done.stderr.strip())
        systemctl("stop", SERVICE)
        check("and stops cleanly", show(SERVICE, "Result") == "success", show(SERVICE, "Result"))

    with part("start and readiness"):
        config()
        start = time.monotonic()
        done = systemctl("start", SERVICE, limit=300)
        took = time.monotonic() - start
        check("systemctl start comes back when the service is ready", done.returncode == 0 and ready(), f"{took:.1f} s, {show(SERVICE, 'StatusText')}")
        check("infers bit for bit as akida-run", right())
        log = run("journalctl", "-u", SERVICE, "-o", "json", "--no-pager").stdout.splitlines()
        this = show(SERVICE, "InvocationID")
        log = [entry for entry in map(json.loads, log) if entry.get("_SYSTEMD_INVOCATION_ID") == this]
        check("its log is in the journal under its name", any(e.get("SYSLOG_IDENTIFIER") == "akida-serve" for e in log), f"{len(log)} entries")
        # A board is called healthy when it has given the known answers, a model in service when it has on its boards.
        tested = [int(e["__MONOTONIC_TIMESTAMP"]) for e in log if re.search(r"\b(healthy board|in service model)=", str(e.get("MESSAGE", "")))]
        active = int(show(SERVICE, "ActiveEnterTimestampMonotonic"))
        check("the known-answer test is before readiness", len(tested) == 2 and max(tested) < active, f"{(active - max(tested, default=0)) / 1e3:.0f} ms before")
        check("Landlock holds", any("out of reach (Landlock" in str(e.get("MESSAGE", "")) for e in log))
        check("reload keeps it serving", systemctl("reload", SERVICE).returncode == 0 and ready())
        systemctl("stop", SERVICE)
        check("stops cleanly", show(SERVICE, "Result") == "success")

    with part("readiness waits for the board"):
        # The board is another process, which is held still: it answers nothing.
        simulator = subprocess.Popen(["/test/akida-sim", "serve", "--board", "akida2", "--socket", "/run/board.sock"], stdout=subprocess.PIPE, text=True)
        simulator.stdout.readline()
        run("chgrp", "akida", "/run/board.sock")
        os.chmod("/run/board.sock", 0o660)
        config(devices=("vfio-user:/run/board.sock",), more="[health]\nretest = 2.0\nstuck = 20.0\n")
        os.kill(simulator.pid, signal.SIGSTOP)
        systemctl("start", "--no-block", SERVICE)
        until(lambda: show(SERVICE, "MainPID") != "0")
        time.sleep(3)
        check("a board that has not answered keeps the service from being ready", show(SERVICE, "ActiveState") == "activating", show(SERVICE, "ActiveState"))
        os.kill(simulator.pid, signal.SIGCONT)
        check("ready once the board has answered", bool(until(lambda: show(SERVICE, "ActiveState") == "active")) and ready(), show(SERVICE, "StatusText"))
        check("and right", right())

        # In service the board falls silent: it must not look alive, and comes back by itself.
        before = show(SERVICE, "MainPID")
        os.kill(simulator.pid, signal.SIGSTOP)
        asked = threading.Thread(target=quiet, args=(right,))
        asked.start()
        start = time.monotonic()
        gone = until(lambda: not ready(), 120)
        check("a board that falls silent in service: not ready, and the status says so", bool(gone), f"{time.monotonic() - start:.0f} s, {show(SERVICE, 'StatusText')}")
        os.kill(simulator.pid, signal.SIGCONT)
        asked.join(150)
        check("the board is tested again and serves", bool(until(ready, 150)) and right(), f"{time.monotonic() - start:.0f} s, same process: {show(SERVICE, 'MainPID') == before}")
        systemctl("stop", SERVICE)
        simulator.terminate()
        simulator.wait(10)
        systemctl("reset-failed")

    with part("watchdog"):
        config()
        systemctl("start", SERVICE, limit=300)
        before = int(show(SERVICE, "MainPID"))
        os.kill(before, signal.SIGSTOP)
        start = time.monotonic()
        again = until(lambda: show(SERVICE, "MainPID") not in (str(before), "0") and ready(), 120)
        check("a process that hangs is killed and started again", bool(again), f"{time.monotonic() - start:.0f} s, NRestarts {show(SERVICE, 'NRestarts')}")
        said = run("journalctl", "-u", SERVICE, "-o", "cat", "--no-pager").stdout
        check("by the watchdog", "Watchdog timeout" in said)
        check("and infers as before", right())
        pid = int(show(SERVICE, "MainPID"))
        os.kill(pid, signal.SIGKILL)
        check("killed from outside it is started again", bool(until(lambda: show(SERVICE, "MainPID") not in (str(pid), "0") and ready(), 120)))

    with part("confinement"):
        pid = show(SERVICE, "MainPID")
        status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
        akida = run("getent", "group", "akida").stdout.split(":")[2]
        check("a user of its own, the boards' group", status["Uid"].split()[0] != "0" and akida in status["Groups"].split(), f"uid {status['Uid'].split()[0]}, groups {status['Groups']}")
        check("no capability", int(status["CapEff"], 16) == 0 and int(status["CapBnd"], 16) == 0 and int(status["CapPrm"], 16) == 0)
        check("no new privileges, system calls filtered", status["NoNewPrivs"] == "1" and status["Seccomp"] == "2")
        mounts = [line.split() for line in pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
        writable = sorted(m[4] for m in mounts if "rw" in m[5].split(",") and not m[4].startswith(("/proc", "/dev", "/tmp", "/var/tmp", "/run/credentials", "/sys/fs/cgroup")))
        # A mount that may be written to is so only where the files' rights let the service's user.
        written = writes(pid, int(status["Uid"].split()[0]), [int(g) for g in status["Groups"].split()], ["/tmp", *writable])
        check("it can write to no file system but temporary ones", written == ["/tmp"], f"{written} of {writable}")
        limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
        check("locked memory without a limit, no core files", bool(re.search(r"Max locked memory +unlimited", limits)) and bool(re.search(r"Max core file size +0 ", limits)))
        check("in its slice", "/akida.slice/" in pathlib.Path(f"/proc/{pid}/cgroup").read_text())
        rated = run("systemd-analyze", "security", "--no-pager", SERVICE).stdout
        score = re.search(r"Overall exposure level for .*: ([\d.]+)", rated)
        check("systemd-analyze security, of the unit that runs: at most 1.5", bool(score) and float(score[1]) <= 1.5, score[1] if score else rated[-300:])
        systemctl("stop", SERVICE)

    with part("socket activation"):
        check("sockets are listened on", systemctl("start", *SOCKETS).returncode == 0 and show(SERVICE, "ActiveState") == "inactive")
        start = time.monotonic()
        answer = plain.get(HTTP, "/v2/health/ready", timeout=200)[0]
        check("a first connection starts the service and is answered", answer == 200 and show(SERVICE, "ActiveState") == "active", f"{answer} after {time.monotonic() - start:.1f} s")
        check("right over TCP", right())
        check("and over the Unix socket", right(address=UNIX))
        check("metrics come over theirs", b"# HELP" in plain.get(METRICS, "/metrics")[2])
        page = plain.get(METRICS, "/")
        check("and the status page", page[0] == 200 and b"akida-serve" in page[2], page[0])
        # A message of no bytes, behind its head of five.
        pathlib.Path("/test/message").write_bytes(bytes(5))
        called = run("curl", "-s", "-S", "--http2-prior-knowledge", "-H", "content-type: application/grpc", "-H", "te: trailers", "--data-binary", "@/test/message",
                     "-D", "-", "-o", "/test/answer", "--max-time", "20", f"http://{GRPC}/inference.GRPCInferenceService/ServerLive")
        # ServerLiveResponse { live: true }
        check("gRPC answers on its", pathlib.Path("/test/answer").read_bytes() == bytes([0, 0, 0, 0, 2, 8, 1]), called.stdout.split("\r")[0] + called.stderr)
        run("useradd", "-M", "outsider")
        done = run("setpriv", "--reuid", "outsider", "--clear-groups", "curl", "-s", "--unix-socket", "/run/akida-serve.sock", "http://x/v2/health/live")
        check("the Unix socket is not for everybody", done.returncode != 0, done.returncode)

    for keep in (False, True):
        with part("restart with requests in flight, " + ("kept connections" if keep else "a connection for each request")):
            load = Load(6, keep)
            until(lambda: load.right >= 30, 120)
            for _ in range(2):
                had = load.right
                systemctl("reset-failed")
                done = systemctl("restart", SERVICE, limit=300)
                check("restarted", done.returncode == 0, done.stderr.strip())
                until(lambda: load.right >= had + 30, 120)
            said = load.end()
            # Documented: a connection that is kept may end between two requests; a request sent into that moment gets no answer,
            # was not accepted, and may be sent again. On a fresh connection every request is answered.
            lost = [l for l in load.lost if l[0] == "first"]
            check("every answer is right or a refusal", not load.wrong, load.wrong[:2])
            check("no request on a fresh connection is without an answer", not lost, lost[:3])
            check("requests without an answer on kept connections: at most one a client and restart", len(load.lost) - len(lost) <= 12, said)
    with part("credentials"):
        write("/etc/akida/credentials/access", "line-7 k3JvQ0mS9rXw2TzB8eYd infer\noperator 5fGh7JkL1qWe3RtY9uIo admin\n", 0o600)
        config(more='access = "/run/credentials/akida-serve.service/akida_access"')
        check("restarted with tokens", systemctl("restart", SERVICE, limit=300).returncode == 0)
        name = "x"
        status = plain.get(HTTP, "/v2/models/mnist_cnn", timeout=60)[0]
        check("no token: 401", status == 401, status)
        check("the token of the credential is taken", right(headers={"Authorization": "Bearer k3JvQ0mS9rXw2TzB8eYd"}))
        visible = run("sh", "-c", "setpriv --reuid outsider --clear-groups cat /run/credentials/akida-serve.service/* /etc/akida/credentials/*")
        check("nobody else reads it", visible.returncode != 0 and "k3Jv" not in visible.stdout)
        os.remove("/etc/akida/credentials/access")

    with part("an instance of the template"):
        systemctl("stop", *SOCKETS, SERVICE)
        config(name="serve@second.toml", ports=(9000, 9001, 9002))
        done = systemctl("start", "akida-serve@second.service", limit=300)
        check("starts", done.returncode == 0, done.stderr)
        check("and serves on its own addresses", right(address="127.0.0.1:9000"))
        systemctl("stop", "akida-serve@second.service")

    with part("mistakes"):
        write("/etc/akida/serve.toml", "repository = 7\n")
        systemctl("start", SERVICE)
        time.sleep(3)
        check("a wrong configuration is not tried again and again", show(SERVICE, "ActiveState") == "failed" and show(SERVICE, "NRestarts") == "0", f"exit {show(SERVICE, 'ExecMainStatus')}, restarts {show(SERVICE, 'NRestarts')}")
        said = run("journalctl", "-u", SERVICE, "-n", "12", "-o", "cat", "--no-pager").stdout
        check("the journal says where it is wrong", "serve.toml" in said and "repository" in said, said.strip().splitlines()[-1:])
        systemctl("reset-failed")

    if package:
        with part("removal"):
            config()
            systemctl("start", *SOCKETS, SERVICE, limit=300)
            done = run("dpkg", "-r", "akida-tools", limit=200)
            check("the package is removed", done.returncode == 0, done.stderr.strip()[-200:])
            check("with it the service and its sockets", show(SERVICE, "ActiveState") in ("inactive", "failed") and not ready())
            check("models stay", os.path.exists("/var/lib/akida/models/mnist_cnn/1/model.akm"))
    print(f"      guest: {failures} failed, {time.monotonic():.0f} s after the start", flush=True)
    return min(failures, 100)


def quiet(what):
    with contextlib.suppress(Exception):
        what()


if __name__ == "__main__":
    sys.exit(main())
