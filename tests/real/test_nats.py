"""Events into NATS JetStream: the server is Debian's, what lies in its streams is read by the official client."""

import asyncio
import json
import pathlib
import shutil
import socket
import ssl
import tempfile
import unittest

import nats
from standardwebhooks import Webhook

import bridge
import brokers

SERVER = shutil.which("nats-server") or "/usr/sbin/nats-server"


class Jetstream:
    """A server that can be stopped, killed and started again over the same store."""

    def __init__(self, test, more="", options=None):
        folder = tempfile.TemporaryDirectory(prefix="rb-nats-")
        test.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.port = bridge.free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.options = options or {}
        (self.folder / "nats.conf").write_text(f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{self.folder}/store" }}\n{more}\n')
        self.server = None
        self.start()
        test.addCleanup(lambda: self.server.stop())

    def start(self):
        self.server = bridge.Server([SERVER, "-c", "nats.conf"], self.url, self.folder, self._listens)

    def _listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return "Server is ready" in (self.folder / "server.log").read_text()
        except OSError:
            return False

    def kill(self):
        self.server.process.kill()
        self.server.process.wait()

    def ask(self, what):
        """Carries out `what(jetstream)` over a connection of its own."""
        async def talk():
            client = await nats.connect(**{"servers": self.url, **self.options})
            try:
                return await what(client.jetstream())
            finally:
                await client.close()
        return asyncio.run(talk())

    def add_stream(self, *subjects, **more):
        self.ask(lambda stream: stream.add_stream(name="EVENTS", subjects=list(subjects), **more))

    def messages(self):
        """All that the stream holds, in its order: subject, headers, body."""
        async def read(stream):
            last = (await stream.stream_info("EVENTS")).state.last_seq
            return [await stream.get_msg("EVENTS", seq) for seq in range(1, last + 1)]
        return [(message.subject, message.headers, message.data) for message in self.ask(read)]

    def arrive(self, count):
        return bridge.eventually(f"{count} messages are stored", lambda: (found := self.messages())[count - 1 :] and found)


class Nats(unittest.TestCase):
    def publisher(self, server, more="", subject="bank.{{ event.stream }}.{{ event.key }}"):
        return brokers.Publisher(self, f'nats = {{ url = "{server.url}", subject = "{subject}"{more} }}')

    def test_an_event_arrives_with_its_id_its_headers_and_a_signature(self):
        server = Jetstream(self)
        server.add_stream("bank.>")
        daemon = self.publisher(server)
        daemon.begin()
        daemon.payments.put("P-1", amount="10.50")
        daemon.payments.put("odd > * key", amount="Оля")
        events = {event["key"]: event for event in daemon.told(2)}
        found = {subject: (headers, body) for subject, headers, body in server.arrive(2)}
        self.assertEqual(set(found), {"bank.payments.P-1", "bank.payments.odd%20%3E%20%2A%20key"})
        for subject, key in (("bank.payments.P-1", "P-1"), ("bank.payments.odd%20%3E%20%2A%20key", "odd > * key")):
            headers, body = found[subject]
            self.assertEqual(headers["Nats-Msg-Id"], events[key]["id"])
            self.assertEqual(headers["content-type"], "application/json")
            event = Webhook(daemon.receiver.secret).verify(body, headers)
            self.assertEqual((event["type"], event["key"], event["data"]), ("payment.created", key, events[key]["data"]))
        last = daemon.delivered(events["P-1"]["id"])[-1]
        self.assertEqual(last["target"], f"{server.url}/bank.payments.P-1")
        self.assertEqual(json.loads(last["answer"])["stream"], "EVENTS")

    def test_what_is_sent_twice_is_stored_once(self):
        server = Jetstream(self)
        server.add_stream("bank.>")
        daemon = self.publisher(server)
        daemon.begin()
        daemon.payments.put("P-1")
        event = daemon.told(1)[0]["id"]
        daemon.delivered(event)
        again = daemon.command("replay", event, "--to", "broker", "--yes")
        self.assertEqual(again.returncode, 0, again.stderr)

        def answers():
            _, text = bridge.ask(f"http://127.0.0.1:{daemon.admin}/api/v1/events/{event}")
            attempts = [a for d in json.loads(text)["deliveries"] if d["handler"] == "broker" for a in d["attempts"]]
            return [json.loads(attempt["answer"])["duplicate"] for attempt in attempts]
        bridge.eventually("the replay is acknowledged", lambda: sorted(answers()) == [False, True])
        self.assertEqual(len(server.messages()), 1)

    def test_a_server_that_is_away_or_killed_gets_everything_once_and_in_order(self):
        server = Jetstream(self)
        server.add_stream("bank.>")
        daemon = self.publisher(server)
        daemon.begin()
        wanted = []

        def change(n):
            for key in ("A", "B"):
                daemon.payments.put(key, n=n)
                wanted.append((key, n))
            daemon.told(len(wanted))
        change(1)
        server.arrive(2)
        server.kill()
        change(2)
        change(3)
        waiting = daemon.told(6)[-1]["id"]
        daemon.attempts(daemon.told(4)[-1]["id"], lambda attempt: attempt["result"] in ("unreachable", "broken"))
        server.start()
        daemon.delivered(waiting)
        # The daemon itself dies between publishing and remembering, as often as chance has it.
        for n in range(4, 8):
            for key in ("A", "B"):
                daemon.payments.put(key, n=n)
                wanted.append((key, n))
            bridge.eventually("it is published", lambda: len(server.messages()) >= len(wanted) - 1)
            daemon.kill()
            daemon.start()
            server.arrive(len(wanted))
        daemon.look(1)
        stored = server.messages()
        ids = [headers["Nats-Msg-Id"] for _, headers, _ in stored]
        self.assertEqual(len(ids), len(set(ids)), "stored once each")
        events = [json.loads(body) for _, _, body in stored]
        for key in ("A", "B"):
            self.assertEqual([(e["key"], e["data"]["n"]) for e in events if e["key"] == key], [w for w in wanted if w[0] == key])

    def test_a_wrong_password_costs_no_attempt_and_the_right_one_is_taken_at_a_reload(self):
        login = {"user": "ringback", "password": "right"}
        server = Jetstream(self, 'authorization { user: "ringback", password: "right" }', login)
        server.add_stream("bank.>")
        daemon = self.publisher(server, ', user = "ringback", password = { file = "nats.password" }')
        password = daemon.folder / "nats.password"
        password.write_text("wrong")
        password.chmod(0o600)
        daemon.begin()
        daemon.payments.put("P-1")
        event = daemon.told(1)[0]["id"]
        first = daemon.attempts(event, lambda attempt: attempt.get("error_class") == "broker")[0]
        self.assertEqual(first["result"], "unreachable")
        self.assertIn("does not let us in", first["error"])
        self.assertEqual(daemon.delivery(event)["counted"], 0)
        password.write_text("right")
        self.assertEqual(daemon.command("reload").returncode, 0)
        daemon.delivered(event)
        self.assertEqual(len(server.messages()), 1)
        self.assertNotIn("wrong", daemon.log())

    def test_a_subject_that_no_stream_takes_is_told_and_waited_for(self):
        server = Jetstream(self)
        daemon = self.publisher(server)
        daemon.begin()
        daemon.payments.put("P-1")
        event = daemon.told(1)[0]["id"]
        first = daemon.attempts(event, lambda attempt: attempt.get("error_class") == "broker")[0]
        self.assertIn("no stream of", first["error"])
        self.assertEqual((first["result"], first["status"], daemon.delivery(event)["counted"]), ("refused", 503, 0))
        server.add_stream("bank.>")
        daemon.delivered(event)

    def test_a_message_that_is_too_large_is_the_messages_fault(self):
        server = Jetstream(self, "max_payload: 2000")
        server.add_stream("bank.>", max_msg_size=1500)
        daemon = self.publisher(server)
        daemon.begin()
        sizes = {"over the server's": (4000, 413), "over the stream's": (1300, 400)}
        for key, (size, _) in sizes.items():
            daemon.payments.put(key, text="x" * size)
        for key, (_, status) in sizes.items():
            event = bridge.eventually("it is seen", lambda: [e["id"] for e in daemon.receiver.accepted() if e["key"] == key])[0]
            attempts = daemon.attempts(event, lambda attempt: attempt.get("error_class") == "broker")
            self.assertEqual((attempts[0]["result"], attempts[0]["status"]), ("refused", status), attempts[0])
            bridge.eventually("it is counted", lambda: daemon.delivery(event)["counted"] > 0)

    def test_a_private_authority_and_a_client_certificate(self):
        folder = tempfile.TemporaryDirectory(prefix="rb-ca-")
        self.addCleanup(folder.cleanup)
        pems = pathlib.Path(folder.name)
        brokers.authority(pems)
        tls = f'tls {{ cert_file: "{pems}/server.pem", key_file: "{pems}/server.key", ca_file: "{pems}/ca.pem", verify: true }}'
        context = ssl.create_default_context(cafile=pems / "ca.pem")
        context.load_cert_chain(pems / "client.pem", pems / "client.key")
        server = Jetstream(self, tls, {"tls": context, "tls_hostname": "localhost"})
        server.add_stream("bank.>")
        # A key each: the streams of all these daemons have one name, so the same change would have one id, and be stored once.
        for number, (names, keys, wanted) in enumerate((
            ("localhost", f'ca_file = "{pems}/ca.pem", cert = "{pems}/client.pem", key = {{ file = "{pems}/client.key" }}', None),
            ("127.0.0.1", f'ca_file = "{pems}/ca.pem", cert = "{pems}/client.pem", key = {{ file = "{pems}/client.key" }}, server_name = "broker.bank.example"', None),
            ("127.0.0.1", f'ca_file = "{pems}/ca.pem", cert = "{pems}/client.pem", key = {{ file = "{pems}/client.key" }}', "tls"),
            ("localhost", f'ca_file = "{pems}/ca.pem"', "tls"),
            ("localhost", f'cert = "{pems}/client.pem", key = {{ file = "{pems}/client.key" }}', "tls"),
        )):
            with self.subTest(names=names, keys=keys):
                before = len(server.messages())
                daemon = brokers.Publisher(self, f'nats = {{ url = "tls://{names}:{server.port}", subject = "bank.x" }}\ntls = {{ {keys} }}')
                daemon.begin()
                daemon.payments.put(f"P-{number}")
                event = daemon.told(1)[0]["id"]
                if wanted is None:
                    daemon.delivered(event)
                    self.assertEqual(len(server.messages()), before + 1)
                else:
                    first = daemon.attempts(event, lambda attempt: attempt.get("error_class"))[0]
                    self.assertEqual((first["result"], first["error_class"]), ("unreachable", wanted), first["error"])
                daemon.kill()

    def test_a_server_that_may_not_be_called_is_refused_before_anything_runs(self):
        server = Jetstream(self)
        daemon = self.publisher(server)
        config = daemon.folder / "config.toml"
        config.write_text('network = { allow = ["10.0.0.0/8"] }\n' + config.read_text())
        checked = daemon.command("check")
        self.assertEqual(checked.returncode, 78)
        self.assertIn("handler `broker`: `network.allow` shuts out `127.0.0.1`", checked.stderr)


if __name__ == "__main__":
    unittest.main()
