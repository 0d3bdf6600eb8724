//! The JSON Schema of provider files: every shipped file is good by it, and its keys are exactly those that are read.

use std::collections::BTreeSet;

use ringback::provider::{self, SCHEMA};
use ringback::shape::SourceFile;
use serde_json::Value;

fn schema() -> Value {
    serde_json::from_str(SCHEMA).expect("the schema is JSON")
}

/// As much of JSON Schema as the schema uses.
fn faults(root: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let definition = root.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("{name} is not defined"));
        return faults(root, definition, value, at, found);
    }
    for all in schema["allOf"].as_array().into_iter().flatten() {
        faults(root, all, value, at, found);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let good = any.iter().any(|one| {
            let mut of_this = Vec::new();
            faults(root, one, value, at, &mut of_this);
            of_this.is_empty()
        });
        if !good {
            found.push(format!("{at}: is none of what it may be"));
        }
    }
    if schema["const"] != Value::Null && schema["const"] != *value {
        found.push(format!("{at}: must be {}", schema["const"]));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        found.push(format!("{at}: {value} is none of {words:?}"));
    }
    let is = |kind: &str| match kind {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    };
    let kinds: Vec<&str> = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    };
    if !kinds.is_empty() && !kinds.iter().any(|kind| is(kind)) {
        found.push(format!("{at}: {value} is no {kinds:?}"));
        return;
    }
    for item in value.as_array().into_iter().flatten().filter(|_| schema["items"].is_object()) {
        faults(root, &schema["items"], item, &format!("{at}[]"), found);
    }
    let Some(members) = value.as_object() else { return };
    for needed in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !members.contains_key(needed) {
            found.push(format!("{at}: {needed} is missing"));
        }
    }
    for (name, member) in members {
        let place = format!("{at}.{name}");
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(false)) => found.push(format!("{place}: is not known")),
            (Value::Null, more) if more.is_object() => faults(root, more, member, &place, found),
            (Value::Null, _) => {}
            (property, _) => faults(root, property, member, &place, found),
        }
    }
}

fn judged(text: &str) -> Vec<String> {
    let value: toml::Value = toml::from_str(text).expect("TOML");
    let (root, mut found) = (schema(), Vec::new());
    faults(&root, &root, &serde_json::to_value(value).expect("JSON"), "", &mut found);
    found
}

#[test]
fn every_shipped_file_is_good_by_the_schema() {
    let names = provider::built_in_names();
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        let file = provider::built_in(&name).expect("its file");
        assert_eq!(judged(&file.text), [""; 0], "{name}");
    }
}

#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    let good = "schema = 1\nbase_url = \"https://a.example\"\n[streams.s]\npath = \"/s\"\nkey = \".id\"\n";
    assert_eq!(judged(good), [""; 0]);
    for (added, wanted) in [
        ("detcet = \"new\"", ".streams.s.detcet: is not known"),
        ("detect = \"newest\"", "is none of"),
        ("ignore = \".a\"", "is no [\"array\"]"),
        ("enabled = \"yes\"", "is no [\"boolean\"]"),
        ("pagination = { size = 5 }", "type is missing"),
        ("cursor = { field = 5 }", "is no [\"string\"]"),
    ] {
        let found = judged(&format!("{good}{added}\n"));
        assert!(found.iter().any(|fault| fault.contains(wanted)), "{added}: {found:?}");
    }
    assert!(judged(&good.replace("schema = 1", "schema = 2"))[0].contains("must be 1"));
}

/// A place in a file: where it stands in the schema, what leads there, and keys that are known but not carried out yet.
type Place = (&'static str, &'static [&'static str], &'static [&'static str]);

const STREAM: &str = "schema = 1\nbase_url = \"https://a.example\"\n[streams.s]\npath = \"/s\"\nkey = \".id\"\n";
const SIGNED: &str = "schema = 1\n[streams.s]\nkey = \".id\"\ndetect = \"new\"\n[[webhook.messages]]\nstream = \"s\"\n[[webhook.signature]]\ntype = \"hmac\"\nheader = \"X\"\n";

/// `?` stands for the unknown key.
const PLACES: &[Place] = &[
    ("", &["?\n{SMALL}"], &[]),
    ("/properties/request", &["{STREAM}[request]\n?"], &[]),
    (
        "/properties/auth/anyOf/0",
        &[
            "{STREAM}[auth]\ntype = \"none\"\n?",
            "{STREAM}[auth]\ntype = \"basic\"\n?",
            "{STREAM}[auth]\ntype = \"bearer\"\n?",
            "{STREAM}[auth]\ntype = \"api_key\"\n?",
            "{STREAM}[auth]\ntype = \"oauth2\"\n?",
            "{STREAM}[auth]\ntype = \"oauth2\"\ngrant = \"refresh_token\"\n?",
            "{STREAM}[auth]\ntype = \"oauth2\"\ngrant = \"password\"\n?",
            "{STREAM}[auth]\ntype = \"oauth2\"\ngrant = \"jwt_bearer\"\n?",
            "{STREAM}[auth]\ntype = \"jwt\"\n?",
            "{STREAM}[auth]\ntype = \"session\"\n?",
            "{STREAM}[auth]\ntype = \"digest\"\n?",
            "{STREAM}[auth]\ntype = \"hmac\"\n?",
            "{STREAM}[auth]\ntype = \"aws_sigv4\"\n?",
        ],
        &[],
    ),
    ("/properties/limits", &["{STREAM}[limits]\n?"], &[]),
    ("/properties/csv", &["format = \"csv\"\ncsv = { ? }\n{SMALL}"], &[]),
    ("/properties/response_actions/items", &["{STREAM}[[response_actions]]\nstatus = 500\naction = \"ok\"\n?"], &[]),
    ("/properties/secrets/additionalProperties/anyOf/1", &["{STREAM}[secrets.a]\n?"], &[]),
    ("/properties/settings/additionalProperties/anyOf/1", &["{STREAM}[settings.a]\n?"], &[]),
    ("/properties/streams/additionalProperties", &["{STREAM}?"], &[]),
    ("{S}/limits", &["{STREAM}limits = { ? }"], &[]),
    ("{S}/parent", &["{STREAM}parent = { values = [1], ? }"], &[]),
    ("{S}/version/anyOf/1", &["{STREAM}version = { field = \".v\", ? }"], &[]),
    ("{S}/types", &["{STREAM}types = { ? }"], &[]),
    ("{S}/types/properties/when/items", &["{STREAM}types = { when = [{ when = \"true\", type = \"a\", ? }] }"], &[]),
    ("{S}/cursor", &["{STREAM}cursor = { field = \".a\", ? }"], &[]),
    (
        "{S}/pagination",
        &["{STREAM}pagination = { type = \"page\", ? }", "{STREAM}pagination = { type = \"token\", next = \".a\", ? }"],
        &[],
    ),
    ("{S}/deletes", &["{STREAM}deletes = { ? }"], &[]),
    ("{S}/deletes/properties/confirm", &["{STREAM}deletes = { confirm = { path = \"/{{ key }}\", ? } }"], &[]),
    ("{S}/late", &["{STREAM}cursor = { field = \".a\" }\nlate = { lag = \"1h\", ? }"], &[]),
    ("{S}/window", &["{STREAM}cursor = { field = \".a\" }\nwindow = { step = \"1h\", ? }"], &[]),
    ("{S}/mass_change", &["{STREAM}mass_change = { ? }"], &[]),
    ("{S}/active", &["{STREAM}active = { ? }"], &[]),
    ("/properties/webhook/properties/signature/anyOf/0", &["{SIGNED}?"], &[]),
    ("{G}/timestamp", &["{SIGNED}timestamp = { unit = \"s\", ? }"], &[]),
    ("{G}/tolerance/anyOf/1", &["{SIGNED}timestamp = { header = \"T\", unit = \"s\" }\ntolerance = { ? }"], &[]),
    ("{G}/body_hash", &["{SIGNED}body_hash = { query = \"q\", ? }"], &[]),
    ("{G}/algorithm/anyOf/1", &["{SIGNED}algorithm = { header = \"A\", map = { a = \"sha1\" }, ? }"], &[]),
    ("{G}/certificate", &["{SIGNED}certificate = { header = \"A\", host = \"a.example\", ? }"], &[]),
    (
        "{G}/keys",
        &[
            "{SIGNED}[[webhook.signature]]\nname = \"k\"\ntype = \"rsa\"\nheader = \"Y\"\nkeys = { url = \"https://a.example\", ? }",
        ],
        &[],
    ),
    (
        "{G}/keys/properties/id",
        &[
            "{SIGNED}[[webhook.signature]]\nname = \"k\"\ntype = \"rsa\"\nheader = \"Y\"\nkeys = { url = \"https://a.example\", id = { header = \"K\", ? } }",
        ],
        &[],
    ),
    ("/properties/webhook", &["{SIGNED}[webhook]\n?"], &[]),
    ("/properties/webhook/properties/answer", &["{SIGNED}[webhook.answer]\n?"], &[]),
    ("/properties/webhook/properties/messages/items", &["{SIGNED}[[webhook.messages]]\nstream = \"s\"\n?"], &[]),
    ("/properties/webhook/properties/handshakes/anyOf/0", &["{SIGNED}[[webhook.handshakes]]\n?"], &[]),
    (
        "/properties/webhook/properties/handshakes/anyOf/0/properties/answer",
        &["{SIGNED}[[webhook.handshakes]]\nanswer = { ? }"],
        &[],
    ),
    ("/properties/native", &["{SIGNED}[native]\n?"], &[]),
    ("/properties/tests/items", &["{STREAM}[[tests]]\nname = \"t\"\n?"], &[]),
];

/// The keys that are read beside an unknown one, as the reader itself tells them.
fn read_beside(text: &str) -> BTreeSet<String> {
    let faults = match provider::read(SourceFile::new("p.toml", text)) {
        Err(faults) => faults,
        Ok(_) => panic!("an unknown key was taken:\n{text}"),
    };
    let unknown = faults.iter().find(|fault| fault.message.contains("zzzzzzzz"));
    let help = unknown.and_then(|fault| fault.help.clone());
    let help = help.unwrap_or_else(|| panic!("{text}\n{}", ringback::shape::render(&faults, false)));
    help.trim_start_matches("known here: ").split(", ").map(str::to_owned).collect()
}

#[test]
fn the_keys_of_the_schema_are_exactly_those_that_are_read() {
    let schema = schema();
    let fill = |text: &str| {
        text.replace("{STREAM}", STREAM)
            .replace("{SMALL}", STREAM.trim_start_matches("schema = 1\n"))
            .replace("{SIGNED}", SIGNED)
            .replace("{S}", "/properties/streams/additionalProperties/properties")
            .replace("{G}", "/properties/webhook/properties/signature/anyOf/0/properties")
            .replace('?', "zzzzzzzz = 1")
    };
    let mut wrong = Vec::new();
    for (pointer, texts, later) in PLACES {
        let place = schema.pointer(&fill(pointer)).unwrap_or_else(|| panic!("{pointer} is not in the schema"));
        let said: BTreeSet<String> = place["properties"].as_object().expect("keys").keys().cloned().collect();
        let mut read: BTreeSet<String> = BTreeSet::new();
        for text in *texts {
            let text = fill(text);
            read.extend(read_beside(&if text.contains("schema = 1") { text } else { format!("schema = 1\n{text}") }));
        }
        later.iter().for_each(|key| assert!(read.remove(*key), "{pointer}: {key} is not known at all"));
        let (missing, extra): (Vec<_>, Vec<_>) = (read.difference(&said).collect(), said.difference(&read).collect());
        if !missing.is_empty() || !extra.is_empty() {
            wrong.push(format!("{pointer}: missing {missing:?}, too many {extra:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
