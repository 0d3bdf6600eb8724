"""Events in both modes of CloudEvents over HTTP, read and judged by the official SDK for Python."""

import http.server
import json
import threading
import unittest

from cloudevents.core.bindings.http import HTTPMessage, from_http_event

import bridge

PROVIDER = """
schema = 1
base_url = "{{ settings.url }}"
settings.url = "where the list stands"

[streams.payments]
path    = "/payments"
records = "."
key     = ".id"
time    = ".updated_at"
detect  = "snapshot"
types   = { created = "payment.created", updated = "payment.updated" }
"""

HANDLERS = """
[handlers.structured]
url = "{structured}"
secret = {{ file = "structured.whsec" }}
format = "cloudevents"
[handlers.binary]
url = "{binary}"
secret = {{ file = "binary.whsec" }}
format = "cloudevents-binary"
"""


class CloudEvents(unittest.TestCase):
    def setUp(self):
        self.records = [{"id": "P-1", "status": "PENDING", "updated_at": "2026-01-01T08:00:00Z"}]
        test = self

        class List(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps(test.records).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), List)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.bridge = bridge.Bridge(PROVIDER, {"url": f"http://127.0.0.1:{server.server_address[1]}"})
        self.addCleanup(self.bridge.close)
        self.receivers = {name: bridge.Receiver() for name in ("structured", "binary")}
        for name, receiver in self.receivers.items():
            self.addCleanup(receiver.stop)
            (self.bridge.folder / f"{name}.whsec").write_text(receiver.secret)
            (self.bridge.folder / f"{name}.whsec").chmod(0o600)
        with open(self.bridge.folder / "config.toml", "a") as config:
            config.write(HANDLERS.format(**{name: receiver.url for name, receiver in self.receivers.items()}))

    def events(self, name, count):
        """What arrived there, as the SDK reads it."""
        receiver = self.receivers[name]
        bridge.eventually(f"{count} events", lambda: self.bridge._alive() and len(receiver.requests) >= count)
        self.assertEqual(receiver.faults, [], "every body is signed")
        return [from_http_event(HTTPMessage(request["headers"], request["body"].encode())) for request in receiver.requests]

    def test_the_official_sdk_reads_every_event_in_both_modes(self):
        self.bridge.start()
        self.bridge.look(2)
        settled = {"id": "P-1", "status": "SETTLED", "updated_at": "2026-01-01T09:30:00Z"}
        odd = {"id": 'Їжак "100%"', "status": "PENDING", "updated_at": "2026-01-01T09:30:01Z"}
        self.records = [settled, odd]
        for name in self.receivers:
            by_subject = {event.get_subject(): event for event in self.events(name, 2)}
            self.assertEqual(set(by_subject), {"P-1", odd["id"]})
            event = by_subject["P-1"]
            self.assertEqual((event.get_type(), event.get_source(), event.get_specversion()), ("payment.updated", "/real/payments", "1.0"))
            self.assertEqual(event.get_time().isoformat(), "2026-01-01T09:30:00+00:00")
            self.assertEqual((event.get_extension("revision"), event.get_extension("seenby")), ("1", "poll"))
            self.assertEqual(event.get_extension("changed"), "/status /updated_at")
            self.assertEqual(event.get_data(), settled)
            self.assertEqual(by_subject[odd["id"]].get_data(), odd)
            ids = {request["headers"]["webhook-id"] for request in self.receivers[name].requests}
            self.assertEqual({event.get_id() for event in by_subject.values()}, ids)
        structured = {event.get_subject(): event for event in self.events("structured", 2)}["P-1"]
        self.assertEqual(json.loads(structured.get_extension("previous"))["status"], "PENDING")
        self.assertEqual(self.bridge.stop(), 0)


if __name__ == "__main__":
    unittest.main()
