//! Secrets: loaded from a systemd credential, a file or an environment variable, and never shown.

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

/// A secret's value. Prints as `***`; wiped from memory when dropped.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    pub fn new(value: impl Into<String>) -> Secret {
        Secret(SecretString::from(value.into()))
    }

    /// The value itself: for signing and sending, never for printing.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Every writing in which it may stand in the text of a request: as it is, in a form, in a path, as a template encodes it.
    pub fn writings(&self) -> Vec<String> {
        let secret = self.expose();
        let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        // As an address keeps what stands in its path unencoded.
        let path = url::Url::parse("http://x/").ok().map(|mut url| {
            url.set_path(secret);
            url.path().trim_start_matches('/').to_owned()
        });
        let segment = crate::template::percent_encoded(secret);
        let json = serde_json::Value::from(secret).to_string();
        let json = json.trim_matches('"').to_owned();
        [Some(secret.to_owned()), Some(form), path, Some(segment), Some(json)].into_iter().flatten().collect()
    }
}

/// Text in which none of these secrets stands any more, in no writing.
pub fn mask<'s>(text: &str, secrets: impl Iterator<Item = &'s Secret>) -> String {
    let mut words: Vec<String> = secrets.flat_map(Secret::writings).filter(|word| !word.is_empty()).collect();
    // Longest first: a secret that holds another must go as a whole.
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    words.iter().fold(text.to_owned(), |text, word| text.replace(word.as_str(), "***"))
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a secret is kept, as `config.toml` says it. Loading is a step of its own: `check` needs no values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SecretRef {
    /// A systemd credential: a file below `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    File(PathBuf),
    Env(String),
}

/// Why a secret could not be had. The message names the place and never the value.
#[derive(Debug, Clone, thiserror::Error, PartialEq)]
#[error("{place} {reason}")]
pub struct SecretError {
    pub place: String,
    pub reason: String,
}

impl SecretRef {
    /// Reads the value; one trailing newline is removed, an empty value is an error.
    pub fn load(&self) -> Result<Secret, SecretError> {
        let value = match self {
            SecretRef::Credential(name) => match std::env::var_os("CREDENTIALS_DIRECTORY") {
                Some(folder) => self.read(&PathBuf::from(folder).join(name))?,
                None => return Err(self.error("cannot be read: the service has no credentials (LoadCredential=)")),
            },
            SecretRef::File(path) => self.read(path)?,
            SecretRef::Env(name) => std::env::var(name).map_err(|_| self.error("is not set, or is not UTF-8 text"))?,
        };
        let value = value.strip_suffix('\n').map(|v| v.strip_suffix('\r').unwrap_or(v)).unwrap_or(&value);
        if value.is_empty() {
            return Err(self.error("is empty"));
        }
        Ok(Secret::new(value))
    }

    /// The file that holds it, where one does.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            SecretRef::Credential(name) => Some(PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(name)),
            SecretRef::File(path) => Some(path.clone()),
            SecretRef::Env(_) => None,
        }
    }

    fn read(&self, path: &std::path::Path) -> Result<String, SecretError> {
        std::fs::read_to_string(path).map_err(|error| self.error(&format!("cannot be read: {error}")))
    }

    fn error(&self, reason: &str) -> SecretError {
        SecretError { place: self.to_string(), reason: reason.to_owned() }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretRef::Credential(name) => write!(f, "credential `{name}`"),
            SecretRef::File(path) => write!(f, "file {}", path.display()),
            SecretRef::Env(name) => write!(f, "environment variable {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_trailing_newline_is_removed_and_an_empty_file_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s");
        for (text, want) in
            [("abc\n", Some("abc")), ("abc\n\n", Some("abc\n")), (" a ", Some(" a ")), ("\n", None), ("", None)]
        {
            std::fs::write(&path, text).expect("written");
            let secret = SecretRef::File(path.clone()).load();
            assert_eq!(secret.as_ref().ok().map(Secret::expose), want, "{text:?}");
        }
    }

    #[test]
    fn a_secret_never_prints_its_value() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
    }
}
