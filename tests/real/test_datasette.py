"""A table served by Datasette (PyPI): a filter by date of change, next-URL pages, and a daemon that is killed meanwhile."""

import sqlite3
import sys
import unittest

import bridge

PROVIDER = """
schema = 1
base_url = "{{ settings.url }}"
settings.url = "where Datasette listens"

[streams.payments]
path       = "/bank/payments.json"
query      = { _shape = "objects", _size = "{{ page.size }}", _sort = "updated_at", updated_at__gte = "{{ cursor }}" }
records    = ".rows"
key        = ".id"
version    = ".updated_at"
time       = ".updated_at"
created    = ".created_at"
order_key  = ".account"
detect     = "changed"
cursor     = { field = ".updated_at", order = "asc", start = "all", lookback = "10m" }
pagination = { type = "next_url", size = 3, next = ".next_url", total = ".filtered_table_rows_count" }
deletes    = { when = ".deleted == 1" }
types      = { created = "payment.created", updated = "payment.updated", deleted = "payment.deleted", when = [{ when = '.old.status != "SETTLED" and .new.status == "SETTLED"', type = "payment.settled" }] }
"""

WRITE = """
insert into payments (id, account, status, amount, created_at, updated_at)
values (?, ?, 'PENDING', '10.00', strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
"""
SETTLE = "update payments set status = 'SETTLED', updated_at = strftime('%Y-%m-%dT%H:%M:%SZ', 'now') where id = ?"
DELETE = "update payments set deleted = 1, updated_at = strftime('%Y-%m-%dT%H:%M:%SZ', 'now') where id = ?"


class Datasette(unittest.TestCase):
    def setUp(self):
        port = bridge.free_port()
        url = f"http://127.0.0.1:{port}"
        self.bridge = bridge.Bridge(PROVIDER, {"url": url})
        self.addCleanup(self.bridge.close)
        file = self.bridge.folder / "bank.db"
        self.table = sqlite3.connect(file, isolation_level=None)
        self.addCleanup(self.table.close)
        self.table.execute(
            "create table payments (id text primary key, account text, status text, amount text, created_at text, updated_at text, deleted int default 0)"
        )
        self.table.execute("create index by_date on payments (updated_at)")
        for number in range(1, 11):
            when = f"2026-01-01T08:{number:02}:00Z"
            self.table.execute("insert into payments values (?, 'A-1', 'PENDING', '1.00', ?, ?, 0)", (f"old-{number}", when, when))
        command = [sys.executable, "-m", "datasette", "serve", file, "--host", "127.0.0.1", "--port", str(port)]
        server = bridge.Server(command, f"{url}/bank/payments.json", self.bridge.folder)
        self.addCleanup(server.stop)

    def arrive(self, expected):
        """Waits for exactly these events; several of different accounts may come in any order."""
        bridge.eventually(f"{len(expected)} events", lambda: self.bridge._alive() and len(self.bridge.receiver.told()) >= len(expected))
        self.bridge.look(2)
        self.assertEqual(sorted(self.bridge.receiver.told()), sorted(expected), self.bridge.log())
        self.assertEqual(self.bridge.receiver.faults, [])

    def test_what_changes_while_the_daemon_is_dead_is_told_after_its_restart_and_nothing_twice(self):
        self.bridge.start()
        self.bridge.look(2)
        self.assertEqual(self.bridge.receiver.told(), [], "ten records in four pages: remembered, not told")

        for number in range(1, 6):
            self.table.execute(WRITE, (f"P-{number}", f"A-{number}"))
        expected = [("payment.created", f"P-{number}") for number in range(1, 6)]
        self.arrive(expected)

        self.bridge.kill()
        self.table.execute(SETTLE, ("P-1",))
        self.table.execute(SETTLE, ("old-7",))
        self.table.execute(DELETE, ("P-2",))
        self.table.execute(WRITE, ("P-6", "A-6"))
        self.bridge.start()
        expected += [("payment.settled", "P-1"), ("payment.settled", "old-7"), ("payment.deleted", "P-2"), ("payment.created", "P-6")]
        self.arrive(expected)

        settled = next(event for event in self.bridge.receiver.accepted() if event["key"] == "old-7")
        self.assertEqual(settled["previous"]["status"], "PENDING")
        self.assertEqual(sorted(settled["changed"]), ["/status", "/updated_at"])
        self.assertEqual(settled["timestamp"], settled["data"]["updated_at"], "the provider's own time of the change")
        ids = [event["id"] for event in self.bridge.receiver.accepted()]
        self.assertEqual(len(ids), len(set(ids)))
        self.assertEqual(self.bridge.stop(), 0)

    def test_a_refused_event_is_sent_again_with_its_id_and_later_ones_of_its_account_wait(self):
        self.bridge.start()
        self.bridge.look(2)
        self.bridge.receiver.answer_next(500, 500)
        self.table.execute(WRITE, ("P-1", "A-1"))
        self.table.execute(WRITE, ("P-2", "A-1"))
        expected = [("payment.created", "P-1"), ("payment.created", "P-2")]
        self.arrive(expected)
        self.assertEqual(self.bridge.receiver.told(), expected, "one account: in order, although the first was refused twice")
        attempts = [request for request in self.bridge.receiver.requests if '"P-1"' in request["body"]]
        self.assertEqual([attempt["status"] for attempt in attempts], [500, 500, 204])
        self.assertEqual(len({attempt["headers"]["webhook-id"] for attempt in attempts}), 1)
        self.assertEqual(len({attempt["body"] for attempt in attempts}), 1)
        self.assertEqual(self.bridge.stop(), 0)


if __name__ == "__main__":
    unittest.main()
