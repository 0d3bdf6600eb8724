//! Certificates that will not hold much longer: those in the files that the configuration names, and those that servers show. Each is one
//! problem while it stands so. Files are read again when they change; time is the store's clock.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tracing::warn;

use crate::certificate::{self, Presented, Term};
use crate::config::{self, Config, ListenTls};
use crate::fresh::Fresh;
use crate::metrics::Metrics;
use crate::model::{ProblemKind, Timestamp};
use crate::shape::{Fault, Level, SourceFile};
use crate::store::{Result, Store};

/// What stays wrong is noted again so often, so that it is known when it was seen last.
const AGAIN: Duration = Duration::from_secs(24 * 60 * 60);
/// A server that showed nothing for so long is not called any more; some streams are polled once a week.
const FORGET: Duration = Duration::from_secs(8 * 24 * 60 * 60);
/// So long before its end a person hears of a certificate in a file. Of a server's it is soon enough later: few can do anything about it.
const WARN_OURS: Duration = Duration::from_secs(21 * 24 * 60 * 60);
const WARN_THEIRS: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const OURS: &str = "Put a renewed one in the file's place: it is read without a restart.";
const THEIRS: &str =
    "Whoever runs the server must renew it; once it is over, nothing more is asked of it or sent to it.";

/// The certificates of one configuration.
pub struct Certificates {
    files: Vec<File>,
    presented: Presented,
    /// The problems that are open, and when each was noted last. None: not known.
    open: Mutex<Option<HashMap<String, Noted>>>,
}

struct File {
    path: PathBuf,
    /// The keys of the configuration that name it.
    keys: Vec<String>,
    terms: Fresh<Vec<Term>>,
}

struct Noted {
    message: String,
    at: Timestamp,
}

impl Certificates {
    /// Those that this configuration names, as far as they can be read, and what servers show from now on.
    pub fn new(config: &Config, presented: Presented) -> Certificates {
        let file = |(path, keys): (PathBuf, Vec<String>)| {
            let of = path.clone();
            let terms = Fresh::new(vec![path.clone()], move || Ok(certificate::terms(&certificate::read(&of)?)));
            // What is in use and cannot be read was refused before; what is not in use may be missing.
            Some(File { path, keys, terms: terms.ok()? })
        };
        let files = named(config).into_iter().filter_map(file).collect();
        Certificates { files, presented, open: Mutex::default() }
    }

    /// Opens a problem for each that does not hold, or not much longer, and closes those of which that is over. Writes only what changed.
    /// One call at a time.
    pub async fn look(&self, store: &dyn Store, now: Timestamp, metrics: &Metrics) -> Result<()> {
        // Whoever fails on the way leaves nothing here, and the next one reads what is open.
        let known = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut open = match known {
            Some(open) => open,
            None => open_in(store).await?,
        };
        let shown = self.presented.look(now, FORGET);
        let found = self.found(&shown, now, metrics);
        for (subject, message) in &found {
            let noted = open.get(subject).filter(|noted| noted.message == *message);
            if noted.is_some_and(|noted| now.since(noted.at) < AGAIN) {
                continue;
            }
            if noted.is_none() {
                warn!(problem.kind = "certificate.expiring", problem.subject = subject, "{subject}: {message}");
            }
            store.open_problem(ProblemKind::CertificateExpiring, subject, message).await?;
            open.insert(subject.clone(), Noted { message: message.clone(), at: now });
        }
        // A server that was not called since the start may still show what it showed before.
        let unseen = |subject: &str, at: Timestamp| {
            is_server(subject) && !shown.iter().any(|(place, _)| place == subject) && now.since(at) <= FORGET
        };
        let over = open.extract_if(|subject, noted| !found.contains_key(subject) && !unseen(subject, noted.at));
        for (subject, _) in over.collect::<Vec<_>>() {
            store.close_problem(ProblemKind::CertificateExpiring, &subject).await?;
        }
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(open);
        Ok(())
    }

    /// What a person must hear of now, by the file or the server; and the dates for the metrics.
    fn found(&self, shown: &[(String, Term)], now: Timestamp, metrics: &Metrics) -> BTreeMap<String, String> {
        for file in &self.files {
            if let Some(first) = file.terms.get().iter().map(|term| term.not_after).min() {
                file.keys.iter().for_each(|key| metrics.certificate_expiry(key, first));
            }
        }
        let of_files = self.files.iter().filter_map(|file| Some((file.path.display().to_string(), file.trouble(now)?)));
        let of_servers = shown.iter().filter_map(|(place, term)| Some((place.clone(), of_server(term, now)?)));
        of_files.chain(of_servers).collect()
    }

    /// What is wrong with the files now, as warnings of `check`.
    pub fn faults(&self, now: Timestamp) -> Vec<Fault> {
        let fault = |file: &File| {
            Some(Fault {
                level: Level::Warning,
                file: SourceFile::new(&file.path, ""),
                span: 0..0,
                message: file.wrong(now)?,
                help: Some(OURS.to_owned()),
            })
        };
        self.files.iter().filter_map(fault).collect()
    }
}

impl File {
    /// What is wrong with it now, and for which keys.
    fn wrong(&self, now: Timestamp) -> Option<String> {
        let wrong: Vec<String> = self.terms.get().iter().filter_map(|term| term.trouble(now, WARN_OURS)).collect();
        let keys: Vec<String> = self.keys.iter().map(|key| format!("`{key}`")).collect();
        (!wrong.is_empty()).then(|| format!("{} ({})", wrong.join("; "), keys.join(", ")))
    }

    fn trouble(&self, now: Timestamp) -> Option<String> {
        self.wrong(now).map(|wrong| format!("{wrong}. {OURS}"))
    }
}

/// What an earlier process, or an earlier configuration, left open.
async fn open_in(store: &dyn Store) -> Result<HashMap<String, Noted>> {
    let open = store.problems().await?.into_iter().filter(|problem| problem.kind == ProblemKind::CertificateExpiring);
    Ok(open.map(|problem| (problem.subject, Noted { message: problem.message, at: problem.last_seen_at })).collect())
}

fn of_server(term: &Term, now: Timestamp) -> Option<String> {
    term.trouble(now, WARN_THEIRS).map(|wrong| format!("as this server shows it, {wrong}. {THEIRS}"))
}

/// Whether a problem is about a server, `host:port`, and not about a file.
fn is_server(subject: &str) -> bool {
    let port = subject.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    !subject.contains('/') && matches!(port, Some(Ok(_)))
}

/// Every file with certificates that the configuration names, with the keys that do.
fn named(config: &Config) -> BTreeMap<PathBuf, Vec<String>> {
    let mut found: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    let mut note = |path: &Path, key: String| found.entry(path.to_owned()).or_default().push(key);
    let listeners = [("receive", &config.receive.tls), ("pull", &config.pull.tls), ("admin", &config.admin.tls)];
    for (table, tls) in listeners {
        let Some(ListenTls { cert, client_ca, .. }) = tls else { continue };
        note(cert, format!("{table}.tls.cert"));
        client_ca.iter().for_each(|file| note(file, format!("{table}.tls.client_ca")));
    }
    config.network.ca_files.iter().for_each(|file| note(file, "network.ca_file".to_owned()));
    let sources = config.sources.values().filter(|source| source.enabled);
    let sources = sources.map(|source| (format!("sources.{}", source.name), &source.tls));
    let handlers = config.handlers.values().filter(|handler| handler.enabled);
    let handlers = handlers.map(|handler| (format!("handlers.{}", handler.name), &handler.tls));
    for (table, config::Tls { ca_files, cert, .. }) in sources.chain(handlers) {
        cert.iter().for_each(|file| note(file, format!("{table}.tls.cert")));
        ca_files.iter().for_each(|file| note(file, format!("{table}.tls.ca_file")));
    }
    found
}
