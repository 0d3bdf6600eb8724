"""The real `ringback` binary between a real server and a receiver that checks signatures with the official library.

Used by the test_*.py files beside it, which `tests/run` starts. Everything listens on the loopback address and on ports that the
system chose; every file lies in a temporary folder. Nothing here knows how Ringback works inside: it writes a configuration, starts
the command, and looks at what arrives and at /metrics.
"""

import base64
import http.server
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

from standardwebhooks import Webhook

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("RINGBACK", ROOT / "target/debug/ringback"))
NODE_PACKAGES = pathlib.Path(os.environ.get("RINGBACK_NODE_PACKAGES", ROOT / "target/real/node_modules"))
PATIENCE = 60  # seconds until something that should happen counts as not happening


def free_port():
    """A port that was free a moment ago; for servers that cannot be asked which one they took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def eventually(what, check):
    """Asks `check` until it gives something true, and returns that."""
    end = time.monotonic() + PATIENCE
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"after {PATIENCE} s still not: {what}")
        time.sleep(0.05)


def ask(url, method="GET", body=None):
    """One request; returns status and text."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def answers(url):
    """Whether anything at all answers there."""
    try:
        return ask(url)[0] < 500
    except OSError:
        return False


class Server:
    """A third-party server as a child process, ended by its own id."""

    def __init__(self, command, url, folder, ready=None):
        self.log = open(folder / "server.log", "wb")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=folder)
        try:
            eventually(f"{command[0]} answers at {url}", lambda: self._alive(command) and (ready() if ready else answers(url)))
        except BaseException:
            self.stop()
            raise

    def _alive(self, command):
        if self.process.poll() is not None:
            raise AssertionError(f"{command} ended with {self.process.returncode}; see {self.log.name}")
        return True

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Receiver:
    """A handler: checks each request with the official library, keeps it, and answers what the test tells it to."""

    def __init__(self):
        # A fresh secret in the form that the specification asks for.
        self.secret = "whsec_" + base64.b64encode(os.urandom(32)).decode()
        self.requests = []  # every attempt as it came: {"headers": …, "body": …, "status": …}
        self.faults = []
        self._answers = []
        self._lock = threading.Lock()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(receiver._take({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/hooks"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def _take(self, headers, body):
        with self._lock:
            try:
                Webhook(self.secret).verify(body, headers)
                status = self._answers.pop(0) if self._answers else 204
            except Exception as error:  # whatever the library objects to is the finding
                self.faults.append(f"{type(error).__name__}: {error}; headers {headers}")
                status = 400
            self.requests.append({"headers": headers, "body": body.decode(), "status": status})
            return status

    def answer_next(self, *statuses):
        """What the next requests are told, instead of 204."""
        with self._lock:
            self._answers.extend(statuses)

    def accepted(self):
        """The events that were accepted, in the order of arrival."""
        with self._lock:
            return [dict(json.loads(r["body"]), id=r["headers"]["webhook-id"]) for r in self.requests if 200 <= r["status"] < 300]

    def told(self, since=0):
        """The accepted events as `(type, key)`, from the `since`-th on."""
        return [(event["type"], event["key"]) for event in self.accepted()[since:]]

    def stop(self):
        self._http.shutdown()
        self._http.server_close()


class Bridge:
    """A temporary folder with a configuration, and the daemon that runs on it."""

    def __init__(self, provider, settings=None, retry=("1s", "1s", "1s")):
        self._folder = tempfile.TemporaryDirectory(prefix="rb-")
        self.folder = pathlib.Path(self._folder.name)
        self.receiver = Receiver()
        self.admin = free_port()
        self.process = None
        self._log = open(self.folder / "ringback.log", "ab")
        (self.folder / "provider.toml").write_text(provider)
        secret = self.folder / "receiver.whsec"
        secret.write_text(self.receiver.secret + "\n")
        secret.chmod(0o600)
        pairs = ", ".join(f"{name} = {json.dumps(value)}" for name, value in (settings or {}).items())
        (self.folder / "config.toml").write_text(
            f"""schema = 1
data_dir = "data"
[log]
format = "text"
[admin]
listen = "127.0.0.1:{self.admin}"
[defaults.stream]
every = "1s"
[sources.real]
provider = "./provider.toml"
settings = {{ {pairs} }}
[handlers.receiver]
url = "{self.receiver.url}"
secret = {{ file = "receiver.whsec" }}
retry = {{ schedule = {json.dumps(list(retry))} }}
"""
        )

    def command(self, *arguments):
        """Runs one `ringback` command to its end."""
        return subprocess.run(
            [BINARY, *arguments, "-c", self.folder / "config.toml"], capture_output=True, text=True, timeout=PATIENCE, cwd=self.folder
        )

    def start(self):
        self.process = subprocess.Popen(
            [BINARY, "run", "-c", self.folder / "config.toml"],
            stdout=self._log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=self.folder,
        )
        eventually("the daemon is ready", lambda: self._alive() and answers(f"http://127.0.0.1:{self.admin}/readyz"))

    def _alive(self):
        if self.process.poll() is not None:
            raise AssertionError(f"ringback ended with {self.process.returncode}:\n{self.log()}")
        return True

    def polls(self):
        """How many polls have ended, as /metrics counts them, by result."""
        text = ask(f"http://127.0.0.1:{self.admin}/metrics")[1]
        found = {}
        for labels, value in re.findall(r"^ringback_polls_total\{([^}]*)\} (\S+)", text, re.M):
            result = re.search(r'result="([^"]*)"', labels).group(1)
            found[result] = found.get(result, 0) + float(value)
        return found

    def look(self, times=1):
        """Waits until so many polls have begun and ended after this moment (one may be under way, so one more is waited for)."""
        before = sum(self.polls().values())
        eventually(f"{times} more polls", lambda: self._alive() and sum(self.polls().values()) >= before + times + 1)

    def kill(self):
        """SIGKILL: no chance to tidy up."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def log(self):
        return (self.folder / "ringback.log").read_text(errors="replace")[-8000:]

    def close(self):
        if self.process and self.process.poll() is None:
            self.kill()
        self.receiver.stop()
        self._log.close()
        self._folder.cleanup()
