// A handler for each provider, written with its official SDK for Node (for Telegram and Twitch, which publish none, with the
// frameworks that their developers use). Every request that arrives is given to the SDK as it came, and then once more changed by
// one character, which the SDK must refuse, or the judge itself is no judge.
//
// Reads {"packages": folder of node_modules, "cases": {name: {judge, secret, settings, url, tamper}}} from its input, listens on a
// port that the system chose, prints it, and answers GET /results with what was judged.
const { createServer } = require("node:http");
const { createRequire } = require("node:module");
const { pathToFileURL } = require("node:url");

const input = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
const load = createRequire(`${input.packages}/`);
// Packages that are modules alone.
const module_ = (name) => import(pathToFileURL(`${input.packages}/${name}`));
const form = (body) => Object.fromEntries(new URLSearchParams(body));

// For libraries that throw when they refuse.
const noObjection = () => true;

// Each gives a function that says whether the SDK accepts a request {method, path, headers, body}; it may also throw.
const judges = {
  stripe: ({ secret }) => {
    const stripe = new (load("stripe"))("sk_test_x");
    return ({ body, headers }) => stripe.webhooks.constructEvent(body, headers["stripe-signature"], secret).object === "event";
  },
  github: async ({ secret }) => {
    const { Webhooks } = await module_("@octokit/webhooks/dist-bundle/index.js");
    const { verify } = await module_("@octokit/webhooks-methods/dist-node/index.js");
    const webhooks = new Webhooks({ secret });
    let heard;
    webhooks.onAny(({ name }) => (heard = name));
    return async ({ body, headers }) => {
      if (!(await verify(secret, body, headers["x-hub-signature-256"]))) return false;
      heard = undefined;
      await webhooks.verifyAndReceive({
        id: headers["x-github-delivery"],
        name: headers["x-github-event"],
        payload: body,
        signature: headers["x-hub-signature-256"],
      });
      return heard === headers["x-github-event"];
    };
  },
  slack: ({ secret }) => {
    const { verifySlackRequest } = load("@slack/bolt");
    return ({ body, headers }) => {
      const timestamp = Number(headers["x-slack-request-timestamp"]);
      const given = { "x-slack-signature": headers["x-slack-signature"], "x-slack-request-timestamp": timestamp };
      verifySlackRequest({ signingSecret: secret, body, headers: given });
      return JSON.parse(body).type === "event_callback";
    };
  },
  twilio: ({ secret, url }) => {
    const twilio = load("twilio");
    return ({ body, headers }) => twilio.validateRequest(secret, headers["x-twilio-signature"], url, form(body));
  },
  shopify: ({ secret }) => {
    load("@shopify/shopify-api/adapters/node");
    const { shopifyApi, LogSeverity } = load("@shopify/shopify-api");
    const shopify = shopifyApi({
      apiKey: "key", apiSecretKey: secret, hostName: "app.example", apiVersion: "2026-07", isEmbeddedApp: false,
      logger: { level: LogSeverity.Error },
    });
    return async ({ method, path, body, headers }) => {
      const raw = { method, url: path, headers };
      return (await shopify.webhooks.validate({ rawBody: body, rawRequest: raw, rawResponse: {} })).valid;
    };
  },
  grammy: ({ secret }) => {
    const { Bot, webhookCallback } = load("grammy");
    const bot = new Bot("1:token", { botInfo: { id: 1, is_bot: true, first_name: "b", username: "b" } });
    let heard;
    bot.use((context) => { heard = context.update.update_id; });
    const handle = webhookCallback(bot, "std/http", { secretToken: secret });
    return async ({ body, headers }) => {
      heard = undefined;
      const answer = await handle(new Request("http://bot.example/", { method: "POST", headers, body }));
      return answer.status === 200 && heard === JSON.parse(body).update_id;
    };
  },
  twitch: ({ secret }) => {
    const { EventSubMiddleware } = load("@twurple/eventsub-http");
    // Its calls to the API: nothing is subscribed yet, and a new subscription is pending.
    const pending = { id: "s", status: "pending", _status: "pending", _transport: { method: "webhook", callback: "" } };
    const eventSub = {
      getSubscriptionsPaginated: () => ({ getAll: async () => [] }),
      subscribeToStreamOnlineEvents: async () => pending,
      deleteSubscription: async () => {},
    };
    const apiClient = { eventSub, _authProvider: { clientId: "c" } };
    const middleware = new EventSubMiddleware({ apiClient, hostName: "hooks.example", secret, strictHostCheck: false, managed: true });
    let heard, handle;
    middleware.apply({
      post: (path, handler) => { if (path.includes("event")) handle = handler; },
      get: () => {}, use: () => {},
    });
    middleware.onStreamOnline("1337", (event) => { heard = event.broadcasterId; });
    return async ({ headers, body, path }) => {
      heard = undefined;
      const request = require("node:stream").Readable.from([Buffer.from(body)]);
      Object.assign(request, { headers, params: { id: "stream.online.1337" }, socket: { remoteAddress: "127.0.0.1" }, url: path });
      let status;
      const answer = { setHeader() {}, writeHead(code) { status = code; }, end() {} };
      await handle(request, answer, (error) => { throw error; });
      return status === 202 && heard === "1337";
    };
  },
  square: ({ secret, url }) => {
    const { WebhooksHelper } = load("square");
    return ({ body, headers }) => WebhooksHelper.verifySignature({
      requestBody: body, signatureHeader: headers["x-square-hmacsha256-signature"], signatureKey: secret, notificationUrl: url,
    });
  },
  hubspot: ({ secret, url }) => {
    const { Signature } = load("@hubspot/api-client");
    return ({ method, body, headers }) => Signature.isValid({
      signature: headers["x-hubspot-signature-v3"], signatureVersion: "v3", method, clientSecret: secret, requestBody: body, url,
      timestamp: Number(headers["x-hubspot-request-timestamp"]),
    });
  },
  adyen: ({ secret }) => {
    const validator = new (load("@adyen/api-library").hmacValidator)();
    return ({ body }) => {
      const items = JSON.parse(body).notificationItems.map((item) => item.NotificationRequestItem);
      return items.length > 0 && items.every((item) => validator.validateHMAC(item, secret));
    };
  },
  braintree: ({ secret, settings }) => {
    const braintree = load("braintree");
    const environment = braintree.Environment.Sandbox;
    const gateway = new braintree.BraintreeGateway({ environment, merchantId: "m", publicKey: settings.public_key, privateKey: secret });
    return async ({ body }) => {
      const { bt_signature, bt_payload } = form(body);
      return (await gateway.webhookNotification.parse(bt_signature, bt_payload)).kind === "check";
    };
  },
  gocardless: ({ secret }) => {
    const { parse } = load("gocardless-nodejs/webhooks");
    return ({ body, headers }) => parse(body, secret, headers["webhook-signature"]).length > 0;
  },
  paddle: ({ secret }) => {
    const { Paddle } = load("@paddle/paddle-node-sdk");
    const paddle = new Paddle("key");
    // Its own bound on the age: five seconds.
    return ({ body, headers }) => paddle.webhooks.isSignatureValid(body, secret, headers["paddle-signature"]);
  },
  linear: async ({ secret }) => {
    const { LinearWebhookClient, LINEAR_WEBHOOK_SIGNATURE_HEADER } = await module_("@linear/sdk/dist/webhooks/index.mjs");
    const client = new LinearWebhookClient(secret);
    return ({ body, headers }) => Boolean(client.parseData(Buffer.from(body), headers[LINEAR_WEBHOOK_SIGNATURE_HEADER]));
  },
  notion: ({ secret }) => {
    const { verifyWebhookSignature } = load("@notionhq/client");
    return ({ body, headers }) => verifyWebhookSignature({ body, signature: headers["x-notion-signature"], verificationToken: secret });
  },
  zoom: ({ secret }) => {
    const { AwsLambdaReceiver, MeetingsS2SAuthClient } = load("@zoom/rivet/meetings");
    const receiver = new AwsLambdaReceiver({ webhooksSecretToken: secret });
    const client = new MeetingsS2SAuthClient({ clientId: "c", clientSecret: "s", accountId: "a", receiver });
    let heard;
    client.webEventConsumer.event("meeting.started", ({ event }) => { heard = event; });
    const started = client.start();
    return async ({ body, headers }) => {
      heard = undefined;
      const answer = await (await started)({ body, headers, isBase64Encoded: false }, {});
      return answer.statusCode === 200 && heard === "meeting.started";
    };
  },
  sendgrid: ({ settings }) => {
    const { EventWebhook } = load("@sendgrid/eventwebhook");
    const judge = new EventWebhook();
    const key = judge.convertPublicKeyToECDSA(settings.public_key);
    const name = (end) => `x-twilio-email-event-webhook-${end}`;
    return ({ body, headers }) => judge.verifySignature(key, body, headers[name("signature")], headers[name("timestamp")]);
  },
  discord: ({ settings }) => {
    const { verifyKey } = load("discord-interactions");
    return ({ body, headers }) => verifyKey(body, headers["x-signature-ed25519"], headers["x-signature-timestamp"], settings.public_key);
  },
  standardwebhooks: ({ secret }) => {
    const webhook = new (load("standardwebhooks").Webhook)(secret);
    return ({ body, headers }) => noObjection(webhook.verify(body, headers));
  },
  svix: ({ secret }) => {
    const webhook = new (load("svix").Webhook)(secret);
    return ({ body, headers }) => noObjection(webhook.verify(body, headers));
  },
};

// The same request changed by as little as the scheme is meant to notice.
const tampered = (request, { header, from, to }) => {
  if (header) return { ...request, headers: { ...request.headers, [header]: `${request.headers[header]}x` } };
  if (from) {
    if (!request.body.includes(from)) throw new Error(`there is no ${from} to change in ${request.body}`);
    return { ...request, body: request.body.replace(from, to) };
  }
  return { ...request, body: `${request.body} ` };
};

const attempt = async (judge, request) => {
  try {
    return { accepted: (await judge(request)) === true };
  } catch (error) {
    return { accepted: false, why: `${error?.name}: ${error?.message}` };
  }
};

(async () => {
  const ready = {};
  for (const [name, one] of Object.entries(input.cases)) ready[name] = await judges[one.judge](one);
  const results = [];
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    if (request.method === "GET") return response.end(JSON.stringify(results));
    const name = request.url.split(/[/?]/)[1];
    const given = { method: request.method, path: request.url, headers: request.headers, body: Buffer.concat(chunks).toString() };
    const first = await attempt(ready[name], given);
    const changed = await attempt(ready[name], tampered(given, input.cases[name].tamper ?? {}));
    results.push({ case: name, accepted: first.accepted, why: first.why, refused: !changed.accepted, body: given.body, headers: given.headers });
    response.writeHead(first.accepted ? 204 : 400).end();
  });
  server.listen(0, "127.0.0.1", () => console.log(server.address().port));
})();
