"""The handlers shown in docs/delivery.md: they are run as printed, and must take a signed event and refuse a changed one."""

import base64
import datetime
import os
import pathlib
import re
import socket
import sys
import tempfile
import unittest
import urllib.error
import urllib.request

from standardwebhooks import Webhook

import bridge

DOCUMENT = bridge.ROOT / "docs/delivery.md"


def printed(language):
    """The one program in that language that the document shows."""
    found = re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT.read_text(), re.M | re.S)
    assert len(found) == 1, f"{DOCUMENT} shows {len(found)} programs in {language}"
    return found[0]


class Documents(unittest.TestCase):
    def judge(self, program, command, environment):
        secret = "whsec_" + base64.b64encode(os.urandom(32)).decode()
        port = bridge.free_port()
        with tempfile.TemporaryDirectory(prefix="rb-") as name:
            folder = pathlib.Path(name)
            (folder / "billing.whsec").write_text(secret + "\n")
            self.assertIn("9000", program)
            (folder / "handler").write_text(program.replace("9000", str(port)))
            os.environ.update(environment)
            server = bridge.Server([*command, "handler"], f"http://127.0.0.1:{port}/", folder, ready=lambda: listens(port))
            try:
                body = '{"type":"order.paid","key":"1001","changed":["/status"],"data":{"name":"Оля"}}'
                self.assertEqual(post(port, secret, body, body), 204)
                self.assertEqual(post(port, secret, body, body.replace("1001", "1002")), 401)
            finally:
                server.stop()

    def test_the_python_handler(self):
        self.judge(printed("python"), [sys.executable], {})

    def test_the_node_handler(self):
        self.judge(printed("js"), ["node"], {"NODE_PATH": str(bridge.NODE_PACKAGES)})


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def post(port, secret, signed, sent):
    now = datetime.datetime.now(datetime.timezone.utc)
    headers = {
        "Content-Type": "application/json",
        "webhook-id": "evt_abcdefghijklmnopqrstuvwxyz",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("evt_abcdefghijklmnopqrstuvwxyz", now, signed),
    }
    request = urllib.request.Request(f"http://127.0.0.1:{port}/hooks", sent.encode(), headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


if __name__ == "__main__":
    unittest.main()
