//! What a simulated stream is, and the joined configuration of them all: one made-up provider file for each of `cast`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;

use super::cast::SHAPES;
use crate::config::{self, Config};
use crate::secret::Secret;
use crate::source::{self, Sources};

/// In which order a listing comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    ById,
    /// Oldest change first.
    Rising,
    /// Newest change first.
    Falling,
    /// A log: by number, never changed.
    Log,
}

/// How the provider tells that a record is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Nothing is ever deleted.
    Never,
    /// The record is no longer listed.
    Absent,
    /// It stays listed, with `gone` true.
    Flagged,
}

/// A simulated stream.
#[derive(Debug)]
pub struct Shape {
    pub name: &'static str,
    /// The provider file below its head.
    pub file: &'static str,
    pub order: Order,
    pub gone: Gone,
    /// The listing has pages (keyset: a page begins after the last record of the one before).
    pub paged: bool,
    /// Times of change have this precision, in milliseconds.
    pub tick: i64,
    /// A change appears in the listing so late at most, in milliseconds.
    pub lag: i64,
    /// Records are sometimes dated in the future.
    pub future: bool,
    /// Records are sometimes changed without a new revision or time.
    pub quiet_edits: bool,
    /// Real webhooks are sent, too.
    pub webhooks: bool,
    /// The webhook of a deletion carries the version that the record last had.
    pub last_words: bool,
    /// The listing is one record.
    pub document: bool,
    /// There is one listing for each parent.
    pub families: bool,
    /// A question is answered with so many records at most, without a word about the rest.
    pub cap: Option<usize>,
    /// Answers carry an ETag, and 304 says that nothing is new.
    pub tagged: bool,
    /// What the first look finds is told, too.
    pub sends_all: bool,
    /// The daemon sometimes asks from further back than its mark.
    pub looks_back: bool,
    /// A guard holds some of what it finds for a person.
    pub guarded: bool,
}

/// The parents of a stream that has some.
pub const PARENTS: [&str; 3] = ["p0", "p1", "p2"];

impl Shape {
    /// To which parent a key belongs.
    pub fn parent_of(&self, key: &str) -> &'static str {
        let sum: usize = key.bytes().map(usize::from).sum();
        PARENTS[sum % PARENTS.len()]
    }

    /// The key as events name it.
    pub fn told(&self, key: &str) -> String {
        match self {
            Shape { document: true, .. } => "document".to_owned(),
            Shape { families: true, .. } => format!("{}/{key}", self.parent_of(key)),
            _ => key.to_owned(),
        }
    }

    /// The number of the first page, where pages have numbers.
    pub fn first_page(&self) -> usize {
        usize::from(!self.file.contains("first = 0"))
    }
}

/// What every simulated record has that is no change.
const SAME: &str = r#"
    created = ".createdAt"
    ignore = [".noise", ".updatedAt", ".rev"]
    unordered = [".tags"]
"#;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Signatures have tests of their own; here webhooks enter behind the check.
const MESSAGES: &str = r#"
    [[webhook.signature]]
    type = "hmac"
    header = "X-Signature"
    [[webhook.messages]]
    stream = "items"
    records = "[.record]"
    id = ".id"
    deleted = '.type == "deleted"'
"#;

/// The joined configuration of all shapes, made once in a process.
pub struct Setting {
    pub config: Config,
    pub sources: Sources,
    /// The handlers' signing secret.
    pub secrets: Vec<Secret>,
}

/// The setting of every simulation.
pub fn setting() -> anyhow::Result<Arc<Setting>> {
    static SETTING: OnceLock<Result<Arc<Setting>, String>> = OnceLock::new();
    let made = SETTING.get_or_init(|| make().map(Arc::new).map_err(|error| format!("{error:#}")));
    made.clone().map_err(|error| anyhow::anyhow!("{error}"))
}

fn make() -> anyhow::Result<Setting> {
    let folder = std::env::temp_dir().join(format!("ringback-simulate-{}", std::process::id()));
    std::fs::create_dir_all(&folder).context("make a folder for the simulation's provider files")?;
    let made = write_and_read(&folder);
    let _ = std::fs::remove_dir_all(&folder);
    made
}

fn write_and_read(folder: &std::path::Path) -> anyhow::Result<Setting> {
    for (name, text) in files() {
        std::fs::write(folder.join(name), text)?;
    }
    let show = |faults: Vec<crate::shape::Fault>| anyhow::anyhow!("{}", crate::shape::render(&faults, false));
    let (config, _) = config::load(&folder.join("config.toml")).map_err(show)?;
    let (sources, _) = source::join_all(&config, true).map_err(show)?;
    Ok(Setting { config, sources, secrets: vec![Secret::new(SECRET)] })
}

fn files() -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    let mut config = String::from("schema = 1\n");
    for Shape { name, file, document, webhooks, families, .. } in &SHAPES {
        let key = if *document { "" } else { "key = \".id\"\nrecords = \".items\"\n" };
        let messages = if *webhooks { MESSAGES } else { "" };
        let parent = if *families { "/{{ parent.value }}" } else { "" };
        let text = format!(
            "schema = 1\nname = \"{name}\"\nbase_url = \"http://api.invalid\"\n[streams.items]\npath = \"/{name}{parent}\"\n{key}{SAME}{file}\n{messages}"
        );
        files.insert(format!("{name}.toml").into(), text);
        config.push_str(&format!(
            "[sources.{name}]\nprovider = \"./{name}.toml\"\nstreams.items = {{ every = \"10s\" }}\n"
        ));
        if *webhooks {
            config.push_str("webhook = { secret = { file = \"handler.whsec\" } }\n");
        }
    }
    // Refusals are counted, and so few that no delivery is ever given up: what is given up would be lost by agreement.
    config.push_str(
        "[handlers.ledger]\nurl = \"http://ledger.invalid/hooks\"\nsecret = { file = \"handler.whsec\" }\ntimeout = \"10s\"\n\
         retry = { schedule = [\"1s\", \"1s\", \"2s\", \"2s\", \"2s\", \"3s\", \"3s\", \"3s\", \"3s\", \"3s\", \"3s\", \"3s\"] }\n",
    );
    files.insert("config.toml".into(), config);
    files.insert("handler.whsec".into(), format!("{SECRET}\n"));
    files
}
