"""A bank's way in: a TLS server of Python's own that demands a client certificate, both where the token is got and where records are
listed. The certificates are made by openssl for this test."""

import base64
import http.server
import json
import pathlib
import ssl
import subprocess
import tempfile
import threading
import unittest
import urllib.parse

import bridge

PROVIDER = """
schema = 1
base_url = "{{ settings.url }}"
settings.url = "where the bank listens"
secrets.id = "client id"
secrets.secret = "client secret"
auth = { type = "oauth2", token_url = "{{ settings.url }}/token", client_id = "{{ secrets.id }}", client_secret = "{{ secrets.secret }}" }

[streams.payments]
path    = "/payments"
records = ".data"
key     = ".id"
detect  = "snapshot"
types   = { created = "payment.created" }
"""


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def certificates(folder):
    """An authority, and by it a server, a client, and a client of nobody's."""
    for name in ("ca", "stranger-ca"):
        openssl(folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                "-keyout", f"{name}.key", "-out", f"{name}.crt", "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
    for name, authority, use in (("server", "ca", "serverAuth"), ("client", "ca", "clientAuth"), ("stranger", "stranger-ca", "clientAuth")):
        openssl(folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (folder / f"{name}.ext").write_text(f"basicConstraints=CA:FALSE\nextendedKeyUsage={use}\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n")
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-CAcreateserial", "-days", "2",
                "-extfile", f"{name}.ext", "-out", f"{name}.crt")


class Bank:
    """Says who asked for what, by the name in the certificate."""

    def __init__(self, folder):
        self.asked, self.records, bank = [], [{"id": "P-1"}], self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self, status, body):
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def by(self):
                return dict(part[0] for part in self.connection.getpeercert()["subject"])["commonName"]

            def do_POST(self):
                form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                good = self.headers["Authorization"] == "Basic " + base64.b64encode(b"cid:csecret").decode()
                bank.asked.append((self.by(), "token", form.get("grant_type")))
                self.answer(200 if good else 401, {"access_token": "t1", "token_type": "bearer", "expires_in": 3600} if good else {"error": "invalid_client"})

            def do_GET(self):
                good = self.headers["Authorization"] == "Bearer t1"
                bank.asked.append((self.by(), self.path, good))
                self.answer(200 if good else 401, {"data": bank.records})

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.crt", folder / "server.key")
        context.load_verify_locations(folder / "ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.url = f"https://localhost:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()


class MutualTls(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="rb-tls-")
        self.addCleanup(folder.cleanup)
        self.certificates = pathlib.Path(folder.name)
        certificates(self.certificates)
        self.bank = Bank(self.certificates)
        self.addCleanup(self.bank.stop)
        self.bridge = bridge.Bridge(PROVIDER, {"url": self.bank.url})
        self.addCleanup(self.bridge.close)
        for name, text in (("id", "cid"), ("secret", "csecret")):
            (self.bridge.folder / name).write_text(text)

    def configure(self, tls):
        """The source with these lines of its `tls`."""
        config = self.bridge.folder / "config.toml"
        given = 'secrets = { id = { file = "id" }, secret = { file = "secret" } }\n'
        text = config.read_text().replace("[sources.real]\n", "[sources.real]\n" + given + (f"tls = {{ {tls} }}\n" if tls else ""))
        config.write_text(text)

    def tls(self, name):
        at = self.certificates
        return f'ca_file = "{at}/ca.crt", cert = "{at}/{name}.crt", key = {{ file = "{at}/{name}.key" }}'

    def test_a_source_shows_its_certificate_where_it_gets_its_token_and_where_it_polls(self):
        self.configure(self.tls("client"))
        self.bridge.start()
        self.bridge.look(2)
        self.bank.records.append({"id": "P-2"})
        bridge.eventually("the payment arrives", lambda: self.bridge._alive() and self.bridge.receiver.told())
        self.assertEqual(self.bridge.receiver.told(), [("payment.created", "P-2")], self.bridge.log())
        self.assertEqual({name for name, _, _ in self.bank.asked}, {"client"})
        tokens = [asked for asked in self.bank.asked if asked[1] == "token"]
        self.assertEqual(tokens, [("client", "token", ["client_credentials"])], "one token serves all polls")
        self.assertTrue(all(good for _, what, good in self.bank.asked if what != "token"))

    def test_without_the_certificate_or_with_a_strangers_nothing_is_read(self):
        for tls in (f'ca_file = "{self.certificates}/ca.crt"', self.tls("stranger")):
            with self.subTest(tls):
                config = self.bridge.folder / "config.toml"
                before = config.read_text()
                self.configure(tls)
                ran = self.bridge.command("poll", "real/payments", "--dry-run")
                config.write_text(before)
                self.assertNotEqual(ran.returncode, 0, ran.stdout)
                self.assertEqual(self.bank.asked, [])
                self.assertNotIn("csecret", ran.stdout + ran.stderr)


if __name__ == "__main__":
    unittest.main()
