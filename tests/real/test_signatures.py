"""Events of the real binary before two independent judges: the official Standard Webhooks libraries for Python and for Node.

The Python one sits in the receiver and judges every request of every test here; this test adds Node and awkward content.
"""

import json
import subprocess
import unittest

from standardwebhooks import Webhook

import bridge

PROVIDER = """
schema = 1
base_url = "{{ settings.url }}"
settings.url = "where json-server listens"
[streams.notes]
path    = "/notes"
records = "."
key     = ".id"
detect  = "snapshot"
"""

# Content that tempts a sender to write the body anew: other alphabets, escapes, big and long numbers, empty things.
AWKWARD = [
    {"id": "n-1", "text": "Оплата № 42 — дякуємо 🙂 / Ґанна Їжак"},
    {"id": "n-2", "text": "line\nbreak\ttab \"quote\" back\\slash \u0001", "html": "<b>&amp;</b>"},
    {"id": "n-3", "amount": 9007199254740991, "rate": 0.1, "small": 1e-7, "list": [], "object": {}, "nothing": None},
    {"id": "n-4", "text": "x" * 20000},
    {"id": "n-5/with.odd key?&", "text": "\u2028\u2029\u00a0"},
]


class Signatures(unittest.TestCase):
    def test_two_official_libraries_accept_every_event_and_refuse_it_changed(self):
        port = bridge.free_port()
        url = f"http://127.0.0.1:{port}"
        between = bridge.Bridge(PROVIDER, {"url": url})
        self.addCleanup(between.close)
        (between.folder / "db.json").write_text(json.dumps({"notes": [{"id": "n-0", "text": "there before"}]}))
        program = bridge.NODE_PACKAGES / "json-server/lib/cli/bin.js"
        server = bridge.Server(["node", program, "--quiet", "--host", "127.0.0.1", "--port", str(port), "db.json"], f"{url}/notes", between.folder)
        self.addCleanup(server.stop)
        between.start()
        between.look(2)
        for note in AWKWARD:
            self.assertLess(bridge.ask(f"{url}/notes", "POST", note)[0], 300)
        bridge.eventually("five events", lambda: between._alive() and len(between.receiver.told()) >= len(AWKWARD))

        accepted = between.receiver.accepted()
        self.assertEqual(between.receiver.faults, [], "the Python library")
        self.assertEqual({event["key"]: event["data"] for event in accepted}, {note["id"]: note for note in AWKWARD})
        for request in between.receiver.requests:
            with self.assertRaises(Exception):
                Webhook(between.receiver.secret).verify(request["body"] + " ", request["headers"])

        judged = subprocess.run(
            ["node", bridge.ROOT / "tests/real/judge.cjs"],
            input=json.dumps({"packages": str(bridge.NODE_PACKAGES), "secret": between.receiver.secret, "requests": between.receiver.requests}),
            capture_output=True, text=True, timeout=bridge.PATIENCE,
        )
        self.assertEqual((judged.returncode, judged.stdout.strip()), (0, str(len(AWKWARD))), judged.stderr)


if __name__ == "__main__":
    unittest.main()
