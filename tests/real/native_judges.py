"""A handler for each provider, written with its official SDK for Python.

GitHub and Telegram publish none: there stand gidgethub and aiogram, with which their developers work. LiqPay's checks a callback by
making its signature again, as its documentation shows it.

Each function gives a judge: whether the SDK accepts a request (`method`, `path`, `headers` in small letters, `body` as bytes).
"""

import json
import types
import urllib.parse

import Adyen.util
import braintree
import discord_interactions
import gidgethub.sansio
import gocardless_pro.webhooks
import standardwebhooks
import stripe
import svix
from aiogram import Bot, Dispatcher
from aiogram.types import Update
from aiogram.webhook.aiohttp_server import SimpleRequestHandler
from hubspot.utils.signature import Signature
from liqpay import LiqPay
from mailgun.security import SecurityGuard
from paddle_billing.Notifications import Secret, Verifier
from sendgrid.helpers.eventwebhook import EventWebhook
from slack_sdk.signature import SignatureVerifier
from square.utils.webhooks_helper import verify_signature
from twilio.request_validator import RequestValidator


def no_objection(_):
    """For libraries that raise when they refuse."""
    return True


def form(body):
    return dict(urllib.parse.parse_qsl(body.decode(), keep_blank_values=True))


def of_stripe(case):
    return lambda r: stripe.Webhook.construct_event(r.body, r.headers["stripe-signature"], case["secret"]).object == "event"


def of_github(case):
    def judge(r):
        event = gidgethub.sansio.Event.from_http(r.headers, r.body, secret=case["secret"])
        return event.event == r.headers["x-github-event"] and event.delivery_id == r.headers["x-github-delivery"]

    return judge


def of_slack(case):
    verifier = SignatureVerifier(case["secret"])
    return lambda r: verifier.is_valid_request(r.body, r.headers) and json.loads(r.body)["type"] == "event_callback"


def of_twilio(case):
    validator = RequestValidator(case["secret"])
    return lambda r: validator.validate(case["url"], form(r.body), r.headers["x-twilio-signature"])


def of_telegram(case):
    bot = Bot("1:token")
    handler = SimpleRequestHandler(Dispatcher(), bot, secret_token=case["secret"])

    def judge(r):
        right = handler.verify_secret(r.headers["x-telegram-bot-api-secret-token"], bot)
        return right and Update.model_validate_json(r.body).update_id > 0

    return judge


def of_liqpay(case):
    liqpay = LiqPay(case["settings"]["public_key"], case["secret"])

    def judge(r):
        fields = form(r.body)
        signature = liqpay.str_to_sign(case["secret"] + fields["data"] + case["secret"])
        return signature == fields["signature"] and liqpay.decode_data_from_str(fields["data"])["status"] == "success"

    return judge


def of_square(case):
    return lambda r: verify_signature(
        request_body=r.body.decode(),
        signature_header=r.headers["x-square-hmacsha256-signature"],
        signature_key=case["secret"],
        notification_url=case["url"],
    )


def of_hubspot(case):
    return lambda r: Signature.is_valid(
        signature=r.headers["x-hubspot-signature-v3"],
        client_secret=case["secret"],
        request_body=r.body.decode(),
        http_uri=case["url"],
        http_method=r.method,
        signature_version="v3",
        timestamp=r.headers["x-hubspot-request-timestamp"],
    )


def of_adyen(case):
    return lambda r: Adyen.util.is_valid_hmac_notification(json.loads(r.body), case["secret"])


def of_adyen_header(case):
    return lambda r: Adyen.util.is_valid_hmac_payload(r.headers["hmacsignature"], case["secret"], r.body)


def of_braintree(case):
    environment = braintree.Environment.Sandbox
    public = case["settings"]["public_key"]
    gateway = braintree.BraintreeGateway(
        braintree.Configuration(environment, merchant_id="m", public_key=public, private_key=case["secret"])
    )

    def judge(r):
        fields = form(r.body)
        return gateway.webhook_notification.parse(fields["bt_signature"], fields["bt_payload"]).kind == "check"

    return judge


def of_gocardless(case):
    return lambda r: len(gocardless_pro.webhooks.parse(r.body, case["secret"], r.headers["webhook-signature"])) > 0


def of_mailgun(case):
    def judge(r):
        signed = json.loads(r.body)["signature"]
        return SecurityGuard.verify_webhook(case["secret"], signed["token"], signed["timestamp"], signed["signature"])

    return judge


def of_paddle(case):
    # Its own bound on the age: five seconds.
    def judge(r):
        headers = {"Paddle-Signature": r.headers["paddle-signature"]}
        return Verifier().verify(types.SimpleNamespace(headers=headers, body=r.body), Secret(case["secret"]))

    return judge


def of_sendgrid(case):
    judge = EventWebhook(case["settings"]["public_key"])
    name = "x-twilio-email-event-webhook-"
    return lambda r: judge.verify_signature(r.body.decode(), r.headers[name + "signature"], r.headers[name + "timestamp"])


def of_discord(case):
    return lambda r: discord_interactions.verify_key(
        r.body, r.headers["x-signature-ed25519"], r.headers["x-signature-timestamp"], case["settings"]["public_key"]
    )


def of_standardwebhooks(case):
    webhook = standardwebhooks.Webhook(case["secret"])
    return lambda r: no_objection(webhook.verify(r.body, r.headers))


def of_svix(case):
    webhook = svix.Webhook(case["secret"])
    return lambda r: no_objection(webhook.verify(r.body, r.headers))


JUDGES = {name.removeprefix("of_"): judge for name, judge in list(globals().items()) if name.startswith("of_")}
