// Judges requests with the official Standard Webhooks library for Node. Reads {"packages", "secret", "requests"} from its input and
// prints how many it accepted; a request changed in one letter must be refused, or the judge itself is no judge.
const { createRequire } = require("node:module");
const input = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
const { Webhook } = createRequire(`${input.packages}/`)("standardwebhooks");

const webhook = new Webhook(input.secret);
const refuses = (request) => {
  try {
    webhook.verify(request.body, request.headers);
    return false;
  } catch {
    return true;
  }
};

for (const request of input.requests) {
  webhook.verify(request.body, request.headers);
  if (!refuses({ ...request, body: `${request.body} ` })) throw new Error("a changed body was accepted");
}
console.log(input.requests.length);
