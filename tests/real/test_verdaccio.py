"""Both ways in against Verdaccio (npm), a package registry that can be polled and sends a webhook for every publication. The way of
its webhooks is cut and restored, and the daemon is killed meanwhile: every version is told once."""

import base64
import hashlib
import json
import socket
import threading
import unittest

import bridge

PROVIDER = """
schema = 1
base_url = "{{ settings.url }}"
settings.url = "where the registry listens"

[streams.packages]
path    = "/-/verdaccio/data/packages"
records = "."
key     = ".name"
version = { field = '.version / "." | map(tonumber) | .[0] * 1000000 + .[1] * 1000 + .[2]', type = "number", same = [".name", ".version"] }
detect  = "snapshot"
only    = [".name", ".version"]
types   = { created = "package.created", updated = "package.updated" }

[[webhook.signature]]
type   = "token"
header = "X-Registry-Token"

[[webhook.messages]]
stream     = "packages"
on_webhook = "merge"
"""

TOKEN = "a token that only the registry knows"

REGISTRY = """
storage: ./storage
auth: {{}}
uplinks: {{}}
packages:
  '**':
    access: $all
    publish: $anonymous
web: {{ enable: true }}
notify:
  method: POST
  headers: [{{ "Content-Type": "application/json" }}, {{ "X-Registry-Token": "{token}" }}]
  endpoint: http://127.0.0.1:{port}/webhooks/real
  content: '{{ "name": "{{{{ name }}}}", "version": "{{{{ dist-tags.latest }}}}" }}'
log: {{ type: stdout, format: pretty, level: warn }}
"""


class Path:
    """A way for TCP connections that can be cut: those under way break, new ones are accepted and closed at once."""

    def __init__(self, port):
        self._to, self._cut, self._open, self.lost = port, False, [], 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                inner, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(inner,), daemon=True).start()

    def cut(self):
        self._cut = True
        for end in self._open:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def restore(self):
        self._cut, self._open = False, []

    def _carry(self, inner):
        with inner:
            if self._cut:
                self.lost += 1
                return
            try:
                with socket.create_connection(("127.0.0.1", self._to), 10) as outer:
                    self._open += [inner, outer]
                    back = threading.Thread(target=self._pump, args=(outer, inner), daemon=True)
                    back.start()
                    self._pump(inner, outer)
                    back.join(10)
            except OSError:
                self.lost += 1

    @staticmethod
    def _pump(one, other):
        try:
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self._listener.close()


class Verdaccio(unittest.TestCase):
    def setUp(self):
        registry, receive = bridge.free_port(), bridge.free_port()
        self.url = f"http://127.0.0.1:{registry}"
        self.path = Path(receive)
        self.addCleanup(self.path.close)
        self.bridge = bridge.Bridge(PROVIDER, {"url": self.url})
        self.addCleanup(self.bridge.close)
        (self.bridge.folder / "registry.token").write_text(TOKEN)
        config = self.bridge.folder / "config.toml"
        text = config.read_text().replace('provider = "./provider.toml"\n', 'provider = "./provider.toml"\nwebhook = { secret = { file = "registry.token" } }\n')
        config.write_text(text.replace("schema = 1\n", f'schema = 1\nreceive.listen = "127.0.0.1:{receive}"\n'))
        (self.bridge.folder / "registry.yaml").write_text(REGISTRY.format(token=TOKEN, port=self.path.port))
        program = bridge.NODE_PACKAGES / "verdaccio/bin/verdaccio"
        command = ["node", program, "--config", "registry.yaml", "--listen", f"127.0.0.1:{registry}"]
        server = bridge.Server(command, f"{self.url}/-/ping", self.bridge.folder)
        self.addCleanup(server.stop)

    def publish(self, name, version):
        """What `npm publish` sends."""
        data = f"{name} {version}".encode()
        manifest = {
            "name": name,
            "version": version,
            "description": "a package",
            "dist": {"shasum": hashlib.sha1(data).hexdigest(), "tarball": f"{self.url}/{name}/-/{name}-{version}.tgz"},
        }
        document = {
            "_id": name,
            "name": name,
            "dist-tags": {"latest": version},
            "versions": {version: manifest},
            "readme": "none",
            "_attachments": {
                f"{name}-{version}.tgz": {"content_type": "application/octet-stream", "data": base64.b64encode(data).decode(), "length": len(data)}
            },
        }
        status, text = bridge.ask(f"{self.url}/{name}", "PUT", document)
        self.assertLess(status, 300, text)

    def arrive(self, expected):
        """Waits for exactly these events, and for two more looks to say nothing else."""
        told = lambda: [(event["type"], event["key"], event["data"]["version"]) for event in self.bridge.receiver.accepted()]
        bridge.eventually(f"{expected} arrive", lambda: self.bridge._alive() and len(told()) >= len(expected))
        self.bridge.look(2)
        self.assertEqual(told(), expected, self.bridge.log())
        self.assertEqual(self.bridge.receiver.faults, [])
        return [event["seen"]["by"] for event in self.bridge.receiver.accepted()]

    def test_every_version_is_told_once_whichever_way_it_came_and_also_while_one_way_is_cut(self):
        self.publish("old", "1.0.0")
        self.bridge.start()
        self.bridge.look(2)
        self.arrive([])

        self.publish("alpha", "1.0.0")
        expected = [("package.created", "alpha", "1.0.0")]
        self.arrive(expected)
        self.publish("old", "1.1.0")
        expected.append(("package.updated", "old", "1.1.0"))
        self.assertIn("webhook", self.arrive(expected), "the registry's webhooks are faster than a poll each second")

        self.path.cut()
        for package, version, kind in [("alpha", "1.1.0", "updated"), ("beta", "1.0.0", "created"), ("alpha", "1.2.0", "updated")]:
            self.publish(package, version)
            expected.append((f"package.{kind}", package, version))
            ways = self.arrive(expected)
            self.assertEqual(ways[-1], "poll", "no webhook came through")
        self.assertGreaterEqual(self.path.lost, 1, "the registry tried")

        self.path.restore()
        self.publish("beta", "2.0.0")
        expected.append(("package.updated", "beta", "2.0.0"))
        self.arrive(expected)

        # Published while nobody looks: the next look finds it, and its webhook was lost.
        self.bridge.kill()
        self.publish("gamma", "0.1.0")
        self.bridge.start()
        expected.append(("package.created", "gamma", "0.1.0"))
        self.assertEqual(self.arrive(expected)[-1], "poll")

        ids = [event["id"] for event in self.bridge.receiver.accepted()]
        self.assertEqual(len(ids), len(set(ids)), "one id for each change")
        self.assertEqual(self.bridge.stop(), 0)


if __name__ == "__main__":
    unittest.main()
