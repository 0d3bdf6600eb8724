"""What the tests against message brokers share: a list of payments that a test changes, a daemon that polls it and publishes what it
sees, and certificates of an authority of our own.
"""

import base64
import contextlib
import hashlib
import hmac
import http.server
import json
import os
import socket
import struct
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
        config = (self.folder / "config.toml").read_text().replace('every = "1s"', 'every = "200ms"')
        with open(self.folder / "config.toml", "w") as file:
            file.write(f'{config}[handlers.broker]\nsecret = {{ file = "receiver.whsec" }}\nretry = {{ schedule = {json.dumps(["200ms"] * 40)} }}\n{keys}\n')

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


class Gate:
    """Stands before a broker that has neither TLS nor users: takes TLS where it is given certificates, lets in who knows a password, and
    passes everything else on. The logins are those of Kafka's protocol, PLAIN and SCRAM (RFC 5802), here as a server sees them.
    """

    def __init__(self, port, context=None, users=None):
        self.to, self.context, self.users = port, context, users or {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, caller):
        with contextlib.suppress(OSError, EOFError), caller:
            if self.context:
                caller = self.context.wrap_socket(caller, server_side=True)
            if self.users and not self._let_in(caller):
                return
            with socket.create_connection(("127.0.0.1", self.to)) as broker:
                threading.Thread(target=self._pump, args=(broker, caller), daemon=True).start()
                self._pump(caller, broker)

    def _pump(self, source, target):
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                target.sendall(chunk)
            target.shutdown(socket.SHUT_WR)

    def _frame(self, caller):
        """One request: its kind, its number, what follows the header."""
        def exactly(count):
            found = b""
            while len(found) < count:
                chunk = caller.recv(count - len(found))
                if not chunk:
                    raise EOFError
                found += chunk
            return found
        frame = exactly(struct.unpack(">i", exactly(4))[0])
        kind, _, number, client = struct.unpack(">hhih", frame[:10])
        return kind, number, frame[10 + max(client, 0) :]

    def _answer(self, caller, number, body):
        caller.sendall(struct.pack(">ii", len(body) + 4, number) + body)

    def _let_in(self, caller):
        kind, number, body = self._frame(caller)
        mechanism = body[2:].decode()
        known = kind == 17 and mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
        self._answer(caller, number, struct.pack(">hi", 0 if known else 33, 0))
        if not known:
            return False

        def said():
            _, number, body = self._frame(caller)
            return number, body[4:].decode()

        def say(number, text):
            self._answer(caller, number, struct.pack(">hh", 0, -1) + struct.pack(">i", len(text)) + text.encode())

        def refuse(number):
            reason = b"who are you?"
            self._answer(caller, number, struct.pack(">hh", 58, len(reason)) + reason + struct.pack(">i", 0))
            return False
        number, text = said()
        if mechanism == "PLAIN":
            _, user, password = text.split("\0")
            if self.users.get(user) != password:
                return refuse(number)
            say(number, "")
            return True
        kind = mechanism.removeprefix("SCRAM-").replace("SHA-", "sha")
        first = text.removeprefix("n,,")
        user, nonce = first.removeprefix("n=").split(",r=")
        salt, nonce = os.urandom(16), nonce + base64.b64encode(os.urandom(9)).decode()
        challenge = f"r={nonce},s={base64.b64encode(salt).decode()},i=4096"
        say(number, challenge)
        number, text = said()
        unproven, proof = text.rsplit(",p=", 1)
        signed = f"{first},{challenge},{unproven}".encode()
        salted = hashlib.pbkdf2_hmac(kind, self.users.get(user, "").encode(), salt, 4096)
        key = hmac.digest(salted, b"Client Key", kind)
        signature = hmac.digest(hashlib.new(kind, key).digest(), signed, kind)
        if unproven != f"c=biws,r={nonce}" or base64.b64decode(proof) != bytes(a ^ b for a, b in zip(key, signature)):
            return refuse(number)
        server = hmac.digest(hmac.digest(salted, b"Server Key", kind), signed, kind)
        say(number, "v=" + base64.b64encode(server).decode())
        return True

    def stop(self):
        self._listener.close()
