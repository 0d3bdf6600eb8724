//! `ringback secret new` and `rotate`: fresh signing secrets. An existing one is never printed, and never replaced without its copy.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use clap::Subcommand;

use super::exit::{Exit, Failure, Outcome};
use super::output::{Format, Out};

#[derive(Subcommand, Clone, Debug, PartialEq)]
pub enum Command {
    /// Make a signing secret: `whsec_` and 32 random bytes
    New {
        /// Write it here, readable by you alone, instead of printing it
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// A pair instead: `whsk_` signs, `whpk_` (printed, and beside the file as FILE.pub) verifies and may be known to all
        #[arg(long)]
        asymmetric: bool,
    },
    /// Put a fresh secret in a file's place; the old one stays beside it
    Rotate {
        /// The file that holds the secret now
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Keep the old one as FILE.old, so that both sign until it is taken out of the configuration
        #[arg(long)]
        overlap: bool,
    },
}

pub fn run(command: &Command, out: &mut Out) -> Outcome {
    match command {
        Command::New { file, asymmetric: false } => show(file.as_deref(), &fresh()?, out),
        Command::New { file, asymmetric: true } => pair(file.as_deref(), out),
        Command::Rotate { file, overlap } => rotate(file, *overlap, out),
    }
}

fn fresh_pair() -> Result<(String, String), Failure> {
    crate::signature::fresh_pair().ok_or_else(|| Failure::new(Exit::Failed, "the system gives no random bytes"))
}

fn pair(file: Option<&Path>, out: &mut Out) -> Outcome {
    let (private, public) = fresh_pair()?;
    match file {
        Some(path) => {
            store(path, &private)?;
            std::fs::write(with_ending(path, "pub"), format!("{public}\n"))?;
            out.remark(format!("a new private key is in {} (mode 0600); this verifies what it signs:", path.display()));
            match out.format {
                Format::Table => out.line(public)?,
                _ => out.json(&serde_json::json!({ "public": public }))?,
            }
        }
        None if out.format != Format::Table => out.json(&serde_json::json!({ "secret": private, "public": public }))?,
        None => {
            out.line(private)?;
            out.line(public)?;
        }
    }
    Ok(Exit::Done)
}

/// The new secret is there before the old one's name is taken from it: at no moment is there a file without a secret.
fn rotate(file: &Path, overlap: bool, out: &mut Out) -> Outcome {
    let old = std::fs::read_to_string(file)
        .map_err(|error| Failure::new(Exit::Failed, format!("{}: cannot be read: {error}", file.display())))?;
    if !overlap {
        return Err(Failure::usage(
            "without --overlap every request would be refused until the handler has the new secret",
        )
        .help("ringback secret rotate FILE --overlap keeps the old one beside it, and both sign"));
    }
    let asymmetric = old.trim_start().starts_with("whsk_");
    let (secret, public) = match asymmetric {
        true => fresh_pair().map(|(private, public)| (private, Some(public)))?,
        false => (fresh()?, None),
    };
    let (kept, next) = (with_ending(file, "old"), with_ending(file, "new"));
    if kept.try_exists()? {
        return Err(Failure::new(Exit::Failed, format!("{} is still there", kept.display()))
            .help("the last rotation has not ended: take it out of the configuration, reload, and remove the file"));
    }
    // Its copy first: a crash in between leaves the old secret where it was.
    store(&kept, old.trim_end_matches(['\r', '\n']))?;
    let _ = std::fs::remove_file(&next);
    store(&next, &secret)?;
    std::fs::rename(&next, file)?;
    if let Some(public) = public {
        std::fs::write(with_ending(file, "pub"), format!("{public}\n"))?;
    }
    let (file, kept) = (file.display(), kept.display());
    out.remark(format!("{file} holds a new secret and {kept} the old one. Now:"));
    out.remark(format!(
        "  1. secret = [{{ file = \"{file}\" }}, {{ file = \"{kept}\" }}], then ringback reload: both sign"
    ));
    out.remark("  2. give the handler the new secret");
    out.remark(format!("  3. take {kept} out again, reload, and remove it"));
    Ok(Exit::Done)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

fn show(file: Option<&Path>, secret: &str, out: &mut Out) -> Outcome {
    match file {
        Some(path) => {
            store(path, secret)?;
            out.remark(format!("a new secret is in {} (mode 0600)", path.display()));
        }
        None if out.format != Format::Table => out.json(&serde_json::json!({ "secret": secret }))?,
        None => out.line(secret)?,
    }
    Ok(Exit::Done)
}

/// `whsec_` and the base64 of 32 bytes from the system's random source.
pub fn fresh() -> Result<String, Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::new(Exit::Failed, format!("the system gives no random bytes: {error}")))?;
    Ok(format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(bytes)))
}

fn store(path: &Path, secret: &str) -> Result<(), Failure> {
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
            let failure = Failure::new(Exit::Failed, format!("{}: cannot be made: {error}", path.display()));
            match error.kind() {
                std::io::ErrorKind::AlreadyExists => {
                    failure.help("an existing secret is not overwritten; choose another name")
                }
                _ => failure,
            }
        })?;
    writeln!(file, "{secret}")?;
    file.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::output::capture;
    use super::*;

    #[test]
    fn a_secret_is_long_random_and_of_the_form_that_handlers_expect() {
        let (one, other) = (fresh().expect("a secret"), fresh().expect("a secret"));
        assert_ne!(one, other);
        let text = one.strip_prefix("whsec_").expect("the prefix");
        assert_eq!(base64::engine::general_purpose::STANDARD.decode(text).expect("base64").len(), 32);
    }

    #[test]
    fn a_rotated_secret_leaves_its_predecessor_beside_it_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("billing.whsec");
        let (mut out, _) = capture::out(Format::Table);
        run(&Command::New { file: Some(path.clone()), asymmetric: true }, &mut out).expect("made");
        let first = std::fs::read_to_string(&path).expect("written");
        let public = std::fs::read_to_string(folder.path().join("billing.whsec.pub")).expect("written");
        let half = crate::signature::public_half(&crate::secret::Secret::new(first.trim()));
        assert_eq!(half.as_deref(), Some(public.trim()), "the pair is one");
        let rotate = |overlap| Command::Rotate { file: path.clone(), overlap };
        assert_eq!(run(&rotate(false), &mut out).expect_err("refused").exit, Exit::Usage);
        run(&rotate(true), &mut out).expect("rotated");
        let (new, old) =
            (std::fs::read_to_string(&path), std::fs::read_to_string(folder.path().join("billing.whsec.old")));
        let (new, old) = (new.expect("there"), old.expect("there"));
        assert!(new.starts_with("whsk_") && new != first && old == first);
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(run(&rotate(true), &mut out).expect_err("not twice").exit, Exit::Failed);
        assert_eq!(std::fs::read_to_string(&path).expect("there"), new);
    }

    #[test]
    fn in_a_file_it_is_for_its_owner_alone_and_never_overwrites() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("billing.whsec");
        let (mut out, captured) = capture::out(Format::Table);
        let command = Command::New { file: Some(path.clone()), asymmetric: false };
        assert_eq!(run(&command, &mut out), Ok(Exit::Done));
        let first = std::fs::read_to_string(&path).expect("written");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(run(&command, &mut out).expect_err("it is there").exit, Exit::Failed);
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), first);
        assert_eq!(captured.text(), "", "a stored secret is not shown");
    }
}
