"""What `format = "native"` sends before the providers' own SDKs: the real daemon polls and receives, and for each provider one handler
written with the official SDK for Python and one with that for Node take what it emits. Each also tries the same request changed by
one character, which the SDK must refuse.

What arrives as a real webhook is a recorded request of the provider's file, signed for this moment by `ringback sign`. What is polled
comes from a server here that answers in the shape which the provider documents.
"""

import base64
import datetime
import http.server
import json
import os
import pathlib
import subprocess
import tempfile
import threading
import time
import types
import unittest
import urllib.parse

import bridge
import native_judges
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

FIXTURES = bridge.ROOT / "providers/fixtures"
PUBLIC = "https://hooks.example.test"
# The handlers of schemes that cover the address believe that they have this one.
HANDLER_URL = "https://handler.example.test/hooks?tenant=1"


def iso(ago=0, form="%Y-%m-%dT%H:%M:%SZ"):
    return (datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=ago)).strftime(form)


def unix(ago=0):
    return int(time.time()) - ago


def whsec():
    return "whsec_" + base64.b64encode(os.urandom(32)).decode()


def ecdsa_pair():
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, base64.b64encode(public).decode()


def ed25519_pair():
    key = ed25519.Ed25519PrivateKey.generate()
    raw = serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return key.private_bytes(*raw).hex(), public.hex()


ECDSA, ED25519 = ecdsa_pair(), ed25519_pair()

# What is polled, as the providers document it: path to answer.
STRIPE = {
    "/v1/events": lambda: {"object": "list", "has_more": False, "data": [{
        "id": "evt_1", "object": "event", "type": "invoice.paid", "created": unix(60), "api_version": "2026-01-01",
        "data": {"object": {"id": "in_1", "object": "invoice", "amount_paid": 1250, "description": "№ 7 — дякуємо"}},
    }]},
}
GITHUB = {
    "/repos/octo/hello/issues": lambda: [{
        "number": 7, "title": "It \"works\"", "state": "open", "user": {"login": "octo", "id": 1}, "labels": [],
        "created_at": iso(60), "updated_at": iso(60),
    }],
}
SLACK = {
    "/conversations.history": lambda: {"ok": True, "has_more": False, "messages": [
        {"type": "message", "user": "U1", "text": "Hello <@U2> & all", "ts": f"{unix(60)}.000100"},
    ]},
}
UPDATE = {"update_id": 10, "message": {
    "message_id": 1, "date": unix(60), "text": "Привіт", "chat": {"id": 5, "type": "private"},
    "from": {"id": 5, "is_bot": False, "first_name": "Їжак"},
}}
TELEGRAM = {"/getUpdates": lambda: {"ok": True, "result": [UPDATE]}}
SHOPIFY = {
    "/admin/api/2026-07/orders.json": lambda: {"orders": [
        {"id": 1, "created_at": iso(60), "updated_at": iso(60), "total_price": "10.50", "financial_status": "paid"},
    ]},
}
TWILIO_TIME = "%a, %d %b %Y %H:%M:%S +0000"
TWILIO = {
    "/2010-04-01/Accounts/AC1/Messages.json": lambda: {"next_page_uri": None, "messages": [{
        "sid": "SM1", "account_sid": "AC1", "from": "+15005550006", "to": "+380501234567", "body": "50% & more", "num_media": "0",
        "direction": direction, "status": status, "date_created": iso(60, TWILIO_TIME), "date_sent": iso(60, TWILIO_TIME),
        "date_updated": iso(60, TWILIO_TIME),
    } | {"sid": sid} for sid, direction, status in [("SM1", "inbound", "received"), ("SM2", "outbound-api", "delivered")]]},
}
TWITCH = {
    "/token": lambda: {"access_token": "t", "expires_in": 3600, "token_type": "bearer"},
    "/streams": lambda: {"pagination": {}, "data": [{
        "id": "1", "user_id": "1337", "user_login": "cool", "user_name": "Cool", "game_id": "9", "game_name": "Chess", "type": "live",
        "title": "Hi", "language": "uk", "viewer_count": 3, "started_at": iso(60), "thumbnail_url": "",
    }]},
}
LIQPAY = {
    "/api/request": lambda: {"result": "success", "data": [
        {"payment_id": 1, "order_id": "o-1", "action": "pay", "status": "success", "amount": 42.5, "currency": "UAH",
         "create_date": unix(60) * 1000, "end_date": unix(60) * 1000},
    ]},
}
GOCARDLESS = {
    "/events": lambda: {"meta": {"cursors": {"before": None, "after": None}, "limit": 500}, "events": [
        {"id": "EV1", "created_at": iso(60), "resource_type": "payments", "action": "confirmed", "links": {"payment": "PM1"},
         "details": {"origin": "gocardless"}, "metadata": {}},
    ]},
}
SQUARE = {
    "/v2/events": lambda: {"events": [
        {"merchant_id": "M", "type": "payment.updated", "event_id": "e-1", "created_at": iso(60), "data": {"id": "P1", "object": {}}},
    ]},
}
PADDLE = {
    "/events": lambda: {"meta": {"pagination": {"per_page": 50, "next": "http://x.invalid/", "has_more": False}}, "data": [
        {"event_id": "evt_1", "event_type": "customer.created", "occurred_at": iso(60), "data": {"id": "ctm_1"}},
    ]},
}
LINEAR = {
    "/graphql": lambda: {"data": {"issues": {"pageInfo": {"hasNextPage": False, "endCursor": None}, "nodes": [
        {"id": "i1", "identifier": "ENG-1", "title": "It works", "url": "https://linear.app/x/issue/ENG-1", "createdAt": iso(60),
         "updatedAt": iso(60), "archivedAt": None, "state": {"id": "s", "name": "Todo", "type": "unstarted"}},
    ]}}},
}

# One for each provider whose SDK can judge. `received`: the recorded request that comes as a real webhook; `polled`: streams and
# answers; `tamper`: the change that the scheme must notice (without: a space after the body); `count`: events in all.
CASES = {
    "stripe": {"provider": "stripe", "secret": "whsec_test_4b3f0a1c2d5e", "secrets": ["api_key"], "python": "stripe", "node": "stripe",
               "received": "stripe/request-accept.json", "polled": STRIPE, "only": ["events"], "count": 2},
    "github": {"provider": "github", "secret": "gh-test-secret", "secrets": ["token"], "python": "github", "node": "github",
               "settings": {"owner": "octo", "repo": "hello"}, "received": "github/request-issues-opened.json",
               "polled": GITHUB, "only": ["issues"], "count": 2},
    "slack": {"provider": "slack", "secret": "8f742231b10e8888abcd99yyyzzz85a5", "secrets": ["token"], "python": "slack", "node": "slack",
              "settings": {"channel": "C1"}, "received": "slack/request-message.json", "polled": SLACK, "only": ["messages", "events"],
              "count": 2},
    "telegram": {"provider": "telegram", "secret": "Test_secret-Token_1", "secrets": ["token"], "python": "telegram", "node": "grammy",
                 "received": "telegram/request-accept.json", "count": 1,
                 "tamper": {"header": "x-telegram-bot-api-secret-token"}},
    "telegram_polled": {"provider": "telegram", "secret": "Test_secret-Token_1", "secrets": ["token"], "python": "telegram",
                        "node": "grammy", "polled": TELEGRAM, "only": ["updates"], "count": 1,
                        "tamper": {"header": "x-telegram-bot-api-secret-token"}},
    "shopify": {"provider": "shopify", "secret": "shpss_test_secret_1", "secrets": ["access_token"], "node": "shopify",
                "settings": {"shop": "my-shop.myshopify.com"}, "received": "shopify/request-order.json", "polled": SHOPIFY,
                "only": ["orders", "events"], "count": 2},
    "twilio": {"provider": "twilio", "secret": "12345", "secrets": ["auth_token"], "python": "twilio", "node": "twilio",
               "settings": {"account_sid": "AC1"}, "received": "twilio/request-message.json", "polled": TWILIO,
               "only": ["messages", "callbacks"], "signed_url": HANDLER_URL, "count": 3, "tamper": {"from": "Sid=", "to": "Sid=x"}},
    "twitch": {"provider": "twitch", "secret": "s3cre77890ab", "secrets": ["client_secret"], "node": "twitch",
               "settings": {"client_id": "c", "users": ["1337"]}, "received": "twitch/request-online.json", "polled": TWITCH,
               "only": ["live", "events"], "count": 2},
    "liqpay": {"provider": "liqpay", "secret": "sandbox_private", "secrets": ["private_key"], "python": "liqpay",
               "settings": {"public_key": "sandbox_public"}, "received": "liqpay/request-pay.json", "signature_fields": ["signature"],
               "polled": LIQPAY, "only": ["payments"], "count": 2, "tamper": {"from": "data=e", "to": "data=f"}},
    "square": {"provider": "square", "secret": "Ibxx_5AKakO-3qeNVR61Dw", "python": "square", "node": "square",
               "secrets": ["access_token"], "received": "square/request-payment.json", "polled": SQUARE, "only": ["events"],
               "signed_url": HANDLER_URL, "count": 2},
    "hubspot": {"provider": "hubspot", "secret": "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy", "python": "hubspot", "node": "hubspot",
                "received": "hubspot/request-v3.json", "signed_url": HANDLER_URL, "count": 1},
    "adyen": {"provider": "adyen", "secret": "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056", "python": "adyen",
              "node": "adyen", "received": "adyen/request-item.json", "count": 1,
              "tamper": {"from": '"success":"true"', "to": '"success":"false"'}},
    "braintree": {"provider": "braintree", "secret": "integration_private_key", "python": "braintree", "node": "braintree",
                  "settings": {"public_key": "integration_public_key"}, "received": "braintree/request-check.json",
                  "signature_fields": ["bt_signature"], "count": 1, "tamper": {"from": "bt_payload=PG5v", "to": "bt_payload=PG5w"}},
    "gocardless": {"provider": "gocardless", "secret": "ED7D658C-D8EB-4941-948B-3973214F2D49", "python": "gocardless",
                   "node": "gocardless", "secrets": ["access_token"], "received": "gocardless/request-subscription.json",
                   "polled": GOCARDLESS, "only": ["events"], "count": 2},
    "mailgun": {"provider": "mailgun", "secret": "mailgun-webhook-signing-key-1", "python": "mailgun",
                "received": "mailgun/request-opened.json", "fresh": {'"timestamp":"1760000000"': lambda: f'"timestamp":"{unix()}"'},
                "count": 1, "tamper": {"from": '"token":"', "to": '"token":"x'}},
    "paddle": {"provider": "paddle", "secret": "pdl_ntfset_01hs_test", "python": "paddle", "node": "paddle",
               "secrets": ["api_key"], "received": "paddle/request-subscription.json", "polled": PADDLE, "only": ["events"], "count": 2},
    "linear": {"provider": "linear", "secret": "lin_wh_test_1", "node": "linear", "received": "linear/request-issue.json",
               "fresh": {"1760000000000": lambda: str(unix() * 1000)}, "secrets": ["api_key"], "polled": LINEAR,
               "only": ["issues", "events"], "count": 2},
    "notion": {"provider": "notion", "secret": "secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce98V0pYn7yBl", "node": "notion",
               "received": "notion/request-page.json", "count": 1},
    "zoom": {"provider": "zoom", "secret": "zoom_secret_token_1", "node": "zoom", "received": "zoom/request-meeting.json", "count": 1,
             "tamper": {"from": "Standup", "to": "Standdown"}},
    "sendgrid": {"provider": "sendgrid", "secret": ECDSA[0], "public_key": ECDSA[1], "python": "sendgrid", "node": "sendgrid",
                 "received": "sendgrid/request-delivered.json", "count": 1},
    "discord": {"provider": "discord", "secret": ED25519[0], "public_key": ED25519[1], "python": "discord", "node": "discord",
                "received": "discord/request-event.json", "count": 1},
    "standard": {"provider": "standard-webhooks", "secret": whsec(), "python": "standardwebhooks", "node": "standardwebhooks",
                 "received": "standard-webhooks/request-accept.json", "count": 1},
    "svix": {"provider": "standard-webhooks", "scheme": "svix", "secret": whsec(), "python": "svix", "node": "svix",
             "received": "standard-webhooks/request-accept.json",
             "headers": {"svix-id": "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"}, "count": 1},
    "gitlab": {"provider": "gitlab", "scheme": "gitlab-signing-token", "secret": whsec(), "python": "standardwebhooks",
               "node": "standardwebhooks", "received": "gitlab/request-signed.json", "count": 1},
}


class Api:
    """Answers what is polled; every source has a folder of its own."""

    def __init__(self):
        class Answers(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                case, path = urllib.parse.urlsplit(self.path).path[1:].split("/", 1)
                # Telegram's token stands in the path.
                found = [page for end, page in CASES[case].get("polled", {}).items() if ("/" + path).endswith(end)]
                body = json.dumps(found[0]()).encode() if found else b"{}"
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(200 if found else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def stop(self):
        self._http.shutdown()
        self._http.server_close()


def tampered(request, tamper):
    """The same request changed by as little as the scheme is meant to notice."""
    headers, body = dict(request.headers), request.body
    if "header" in tamper:
        headers[tamper["header"]] += "x"
    elif "from" in tamper:
        assert tamper["from"].encode() in body, f"there is no {tamper['from']} to change in {body}"
        body = body.replace(tamper["from"].encode(), tamper["to"].encode(), 1)
    else:
        body += b" "
    return types.SimpleNamespace(method=request.method, path=request.path, headers=headers, body=body)


class PythonHandlers:
    """The handlers written in Python, one path for each case."""

    def __init__(self):
        judges = {name: native_judges.JUDGES[case["python"]](judged(case)) for name, case in CASES.items() if "python" in case}
        self.results = results = []

        def attempt(judge, request):
            try:
                return judge(request) is True, None
            except Exception as error:  # whatever the SDK objects to is the finding
                return False, f"{type(error).__name__}: {error}"

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = types.SimpleNamespace(method="POST", path=self.path, headers=headers, body=body)
                name = urllib.parse.urlsplit(self.path).path.split("/")[1]
                accepted, why = attempt(judges[name], request)
                changed, _ = attempt(judges[name], tampered(request, CASES[name].get("tamper", {})))
                results.append({"case": name, "accepted": accepted, "why": why, "refused": not changed, "body": body.decode(), "headers": headers})
                self.send_response(204 if accepted else 400)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def stop(self):
        self._http.shutdown()
        self._http.server_close()


class NodeHandlers:
    """The handlers written for Node, in a process of their own."""

    def __init__(self, folder):
        given = {name: judged(case) | {"judge": case["node"]} for name, case in CASES.items() if "node" in case}
        self._log = open(folder / "node.log", "w+b")
        self._process = subprocess.Popen(
            ["node", bridge.ROOT / "tests/real/native_judges.cjs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log
        )
        self._process.stdin.write(json.dumps({"packages": str(bridge.NODE_PACKAGES), "cases": given}).encode())
        self._process.stdin.close()
        port = self._process.stdout.readline().strip()
        if not port:
            self._log.seek(0)
            raise AssertionError(f"the handlers for Node did not start:\n{self._log.read().decode()[-4000:]}")
        self.url = f"http://127.0.0.1:{int(port)}"

    @property
    def results(self):
        return json.loads(bridge.ask(f"{self.url}/results")[1])

    def stop(self):
        self._process.terminate()
        self._process.wait(10)
        self._process.stdout.close()
        self._log.close()


def judged(case):
    """What a judge is told of its case."""
    settings = dict(case.get("settings", {}))
    if "public_key" in case:
        settings["public_key"] = case["public_key"]
    return {"secret": case["secret"], "settings": settings, "url": case.get("signed_url"), "tamper": case.get("tamper", {})}


class Native(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="rb-")
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)
        self.api, self.python, self.node = Api(), PythonHandlers(), NodeHandlers(self.folder)
        for part in (self.api, self.python, self.node):
            self.addCleanup(part.stop)
        self.admin, self.receive = bridge.free_port(), bridge.free_port()

    def config(self):
        text = lambda value: json.dumps(value)  # noqa: E731 — TOML writes texts, lists and numbers as JSON does
        lines = [
            "schema = 1", 'data_dir = "data"', "[log]", 'format = "text"',
            "[admin]", f'listen = "127.0.0.1:{self.admin}"',
            "[receive]", f'listen = "127.0.0.1:{self.receive}"', f"public_url = {text(PUBLIC)}",
            "[defaults.stream]", 'every = "1h"', 'first_run = "send-all"',
        ]
        for name, case in CASES.items():
            (self.folder / f"{name}.secret").write_text(case["secret"])
            secrets = "".join(f'{secret} = {{ file = "token" }}, ' for secret in case.get("secrets", []))
            given = dict(case.get("settings", {}))
            if "/token" in case.get("polled", {}):
                given["token_url"] = f"{self.api.url}/{name}/token"
            settings = ", ".join(f"{key} = {text(value)}" for key, value in given.items())
            lines += [f"[sources.{name}]", f"provider = {text(case['provider'])}", f"secrets = {{ {secrets.rstrip(', ')} }}",
                      f"settings = {{ {settings} }}"]
            if "polled" in case:
                lines += [f"base_url = {text(f'{self.api.url}/{name}')}", f"only = {text(case['only'])}"]
                lines += [f"streams.{stream} = {{ enabled = true }}" for stream in case["only"]]
            if "received" in case:
                key = f"public_key = {text(case['public_key'])}" if "public_key" in case else f'secret = {{ file = "{name}.secret" }}'
                scheme = f", scheme = {text(case['scheme'])}" if "scheme" in case else ""
                lines.append(f"webhook = {{ {key}{scheme} }}")
            for language, handlers in (("python", self.python), ("node", self.node)):
                if language in case:
                    lines += [f"[handlers.{name}_{language}]", f"url = {text(f'{handlers.url}/{name}')}", 'format = "native"',
                              f'secret = {{ file = "{name}.secret" }}', f"from = [{text(name)}]", 'retry = { schedule = ["1h"] }']
                    lines += [f"scheme = {text(case['scheme'])}"] if "scheme" in case else []
                    lines += [f"signed_url = {text(case['signed_url'])}"] if "signed_url" in case else []
        (self.folder / "token").write_text("token")
        for secret in [*self.folder.glob("*.secret"), self.folder / "token"]:
            secret.chmod(0o600)
        (self.folder / "config.toml").write_text("\n".join(lines) + "\n")

    def start(self):
        log = open(self.folder / "ringback.log", "wb")
        self.addCleanup(log.close)
        command = [bridge.BINARY, "run", "-c", self.folder / "config.toml"]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=self.folder)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)

        def ready():
            self.assertIsNone(process.poll(), self.log())
            return bridge.answers(f"http://127.0.0.1:{self.admin}/readyz")

        bridge.eventually("the daemon is ready", ready)

    def log(self):
        return (self.folder / "ringback.log").read_text(errors="replace")[-8000:]

    def post(self, name, case):
        """The recorded request as a real webhook of this moment."""
        recorded = json.loads((FIXTURES / case["received"]).read_text())
        body = recorded["body"]
        for old, new in case.get("fresh", {}).items():
            self.assertIn(old, body)
            body = body.replace(old, new())
        if dropped := case.get("signature_fields"):
            body = urllib.parse.urlencode([(field, value) for field, value in urllib.parse.parse_qsl(body) if field not in dropped])
        headers = dict(recorded["headers"]) | case.get("headers", {})
        command = [bridge.BINARY, "sign", "--provider", case["provider"], "--secret-file", self.folder / f"{name}.secret",
                   "--url", f"{PUBLIC}/webhooks/{name}", "-o", "json"]
        command += ["--scheme", case["scheme"]] if "scheme" in case else []
        for key, value in case.get("settings", {}).items():
            command += ["--setting", f"{key}={value}"]
        for key, value in headers.items():
            command += ["--header", f"{key}: {value}"]
        signed = subprocess.run(command, input=body.encode(), capture_output=True, timeout=bridge.PATIENCE)
        self.assertEqual(signed.returncode, 0, f"{name}: {signed.stderr.decode()}")
        added = json.loads(signed.stdout)
        body = added["body"] or body
        if added["form"]:
            body += "&" + urllib.parse.urlencode(added["form"])
        given = {key.lower(): value for key, value in headers.items()} | {key.lower(): value for key, value in added["headers"].items()}
        url = f"http://127.0.0.1:{self.receive}/webhooks/{name}"
        request = bridge.urllib.request.Request(url, data=body.encode(), method="POST", headers=given)
        with bridge.urllib.request.urlopen(request, timeout=10) as answer:
            self.assertLess(answer.status, 300, name)

    def test_official_sdks_accept_what_is_emitted_for_every_provider_and_refuse_it_changed(self):
        self.config()
        checked = subprocess.run([bridge.BINARY, "check", "-c", self.folder / "config.toml"], capture_output=True, text=True)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        self.start()
        for name, case in CASES.items():
            if "received" in case:
                self.post(name, case)
        expected = {
            (language, name): case["count"] for name, case in CASES.items() for language in ("python", "node") if language in case
        }

        def counted():
            found = dict.fromkeys(expected, 0)
            for language, handlers in (("python", self.python), ("node", self.node)):
                for result in handlers.results:
                    found[language, result["case"]] += 1
            return found

        try:
            bridge.eventually("every handler was called", lambda: counted() == expected)
        except AssertionError as error:
            wrong = {key: (found, expected[key]) for key, found in counted().items() if found != expected[key]}
            raise AssertionError(f"{error}; found and expected: {wrong}\n{self.log()}") from None
        for language, handlers in (("python", self.python), ("node", self.node)):
            for result in handlers.results:
                what = f"{language} {result['case']}: {result.get('why')}\n{result['headers']}\n{result['body']}"
                self.assertTrue(result["accepted"], f"refused: {what}")
                self.assertTrue(result["refused"], f"accepted although it was changed: {what}")
        self.assertGreaterEqual(len(expected), 40)


if __name__ == "__main__":
    unittest.main()
