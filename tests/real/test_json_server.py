"""A listing of json-server (npm), read whole and in pages that its Link header names."""

import json
import unittest

import bridge

PROVIDER = """
schema = 1
base_url = "{{ settings.url }}"
settings.url = "where json-server listens"

[streams.payments]
path        = "/payments"
query       = { _page = 1, _limit = "{{ page.size }}" }
records     = "."
key         = ".id"
detect      = "snapshot"
pagination  = { type = "link_header", size = 2 }
ignore      = [".readAt"]
deletes     = { confirm_after = 2 }
types       = { created = "payment.created", updated = "payment.updated", deleted = "payment.deleted" }
"""

AT_FIRST = [
    {"id": "P-1", "status": "PENDING", "amount": "10.00"},
    {"id": "P-2", "status": "PENDING", "amount": "20.50", "payer": {"name": "Оля", "iban": "UA21"}},
    {"id": "P-3", "status": "SETTLED", "amount": "30.00"},
    {"id": "P-4", "status": "SETTLED", "amount": "40.00"},
    {"id": "P-5", "status": "SETTLED", "amount": "50.00"},
]


class JsonServer(unittest.TestCase):
    def setUp(self):
        port = bridge.free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.bridge = bridge.Bridge(PROVIDER, {"url": self.url})
        self.addCleanup(self.bridge.close)
        (self.bridge.folder / "db.json").write_text(json.dumps({"payments": AT_FIRST}))
        program = bridge.NODE_PACKAGES / "json-server/lib/cli/bin.js"
        server = bridge.Server(["node", program, "--quiet", "--host", "127.0.0.1", "--port", str(port), "db.json"], f"{self.url}/payments", self.bridge.folder)
        self.addCleanup(server.stop)

    def change(self, method, path, body=None):
        status, text = bridge.ask(f"{self.url}{path}", method, body)
        self.assertLess(status, 300, text)

    def wait_for(self, expected):
        told = lambda: len(self.bridge.receiver.told()) >= len(expected)
        bridge.eventually(f"{expected} arrive", lambda: self.bridge._alive() and told())
        self.assertEqual(self.bridge.receiver.told(), expected, self.bridge.log())

    def test_changes_made_at_the_server_arrive_signed_and_once(self):
        self.bridge.start()
        self.bridge.look(2)
        self.assertEqual(self.bridge.receiver.told(), [], "the first look remembers and says nothing")

        self.change("POST", "/payments", {"id": "P-6", "status": "PENDING", "amount": "60.00"})
        self.wait_for([("payment.created", "P-6")])

        self.change("PATCH", "/payments/P-2", {"status": "SETTLED", "payer": {"name": "Оля", "iban": "UA33"}})
        self.wait_for([("payment.created", "P-6"), ("payment.updated", "P-2")])

        self.change("PATCH", "/payments/P-3", {"readAt": "2026-11-20T09:00:00Z"})
        self.change("DELETE", "/payments/P-4")
        self.wait_for([("payment.created", "P-6"), ("payment.updated", "P-2"), ("payment.deleted", "P-4")])

        self.bridge.look(3)
        created, updated, deleted = self.bridge.receiver.accepted()
        self.assertEqual(self.bridge.receiver.faults, [])
        self.assertEqual(created["data"], {"id": "P-6", "status": "PENDING", "amount": "60.00"})
        self.assertEqual((created["source"], created["stream"], created["revision"]), ("real", "payments", 1))
        self.assertNotIn("previous", created)
        self.assertEqual(sorted(updated["changed"]), ["/payer/iban", "/status"])
        self.assertEqual(updated["previous"], {"status": "PENDING", "payer": {"iban": "UA21"}})
        self.assertEqual(updated["data"]["payer"], {"name": "Оля", "iban": "UA33"})
        self.assertEqual(deleted["data"], AT_FIRST[3], "a deleted record is told as it was last known")
        self.assertEqual(len({created["id"], updated["id"], deleted["id"]}), 3)
        for event in (created, updated, deleted):
            self.assertRegex(event["id"], r"^evt_[a-z2-7]{26}$")
            self.assertEqual(event["seen"]["by"], "poll")
        self.assertEqual(self.bridge.stop(), 0)

    def test_a_dry_run_stores_and_sends_nothing(self):
        ran = self.bridge.command("poll", "real/payments", "--dry-run")
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.bridge.start()
        self.bridge.look(2)
        self.assertEqual(self.bridge.receiver.requests, [])


if __name__ == "__main__":
    unittest.main()
