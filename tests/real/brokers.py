"""What the tests against message brokers share: a list of payments that a test changes, a daemon that polls it and publishes what it
sees, and certificates of an authority of our own.
"""

import http.server
import json
import subprocess
import threading

import bridge

PROVIDER = """
schema = 1
base_url = "{{ settings.url }}"
settings.url = "where the list is"

[streams.payments]
path    = "/payments"
records = "."
key     = ".id"
detect  = "snapshot"
types   = { created = "payment.created", updated = "payment.updated" }
"""


class Payments:
    """A list that is served as it stands."""

    def __init__(self):
        self._records = {"first": {"id": "first", "n": 0}}
        self._lock = threading.Lock()
        payments = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                with payments._lock:
                    body = json.dumps(list(payments._records.values())).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def put(self, key, **members):
        with self._lock:
            self._records[key] = {"id": key, **members}

    def stop(self):
        self._http.shutdown()
        self._http.server_close()


class Publisher(bridge.Bridge):
    """A daemon with one more handler, `broker`, with these keys; the handler over HTTP hears the same events and knows what they are."""

    def __init__(self, test, keys):
        self.payments = Payments()
        test.addCleanup(self.payments.stop)
        super().__init__(PROVIDER, {"url": self.payments.url})
        test.addCleanup(self.close)
        with open(self.folder / "config.toml", "a") as config:
            config.write(f'[handlers.broker]\nsecret = {{ file = "receiver.whsec" }}\nretry = {{ schedule = {json.dumps(["200ms"] * 40)} }}\n{keys}\n')

    def begin(self):
        self.start()
        self.look(1)

    def told(self, count):
        """The first events that were seen, in the order in which the handler over HTTP was told."""
        return bridge.eventually(f"{count} events are seen", lambda: self._alive() and (found := self.receiver.accepted())[count - 1 :] and found[:count])

    def delivery(self, event):
        """What became of an event at the broker."""
        status, text = bridge.ask(f"http://127.0.0.1:{self.admin}/api/v1/events/{event}")
        assert status == 200, text
        return next(delivery for delivery in json.loads(text)["deliveries"] if delivery["handler"] == "broker")

    def attempts(self, event, until):
        """The attempts of an event at the broker once there is one like this; the newest last."""
        seen = []

        def found():
            seen[:] = self.delivery(event)["attempts"]
            return self._alive() and any(until(attempt) for attempt in seen)
        try:
            bridge.eventually("an attempt like that", found)
        except AssertionError as late:
            raise AssertionError(f"{late} of {event} among {json.dumps(seen[-3:], indent=1)}\n{self.log()[-2000:]}") from None
        return seen

    def delivered(self, event):
        return self.attempts(event, lambda attempt: attempt["result"] == "delivered")


def authority(folder):
    """Makes `ca.pem`, `server.pem` with its key for this machine's loopback address, and `client.pem` with its key."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=An authority of our own")
    for name, more in (("server", "subjectAltName=DNS:localhost,DNS:broker.bank.example\nextendedKeyUsage=serverAuth\n"), ("client", "extendedKeyUsage=clientAuth\n")):
        (folder / f"{name}.ext").write_text("basicConstraints=CA:FALSE\n" + more)
        openssl("req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem")
    for key in folder.glob("*.key"):
        key.chmod(0o600)
