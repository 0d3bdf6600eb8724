//! Names of files with wildcards (`/in/camt/*.xml`), and which files they match. `*`, `?` and `[…]` stand for what lies between two
//! slashes, never for a slash. What a wildcard finds is never followed elsewhere: symbolic links are told and left alone.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use globset::{GlobBuilder, GlobMatcher};

/// Files that one pattern may match.
const FILES_MAX: usize = 100_000;

/// A pattern of absolute file names.
#[derive(Clone, Debug)]
pub struct FileGlob {
    pub text: String,
    /// The folder before the first wildcard, or the file's own.
    base: PathBuf,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Plain(String),
    Wild(GlobMatcher),
}

/// A file as a folder shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundFile {
    pub path: PathBuf,
    pub size: u64,
    /// Last time its content was written.
    pub modified: SystemTime,
    /// Last time that anything of it was changed, which no copying program can set.
    pub touched: SystemTime,
    /// A symbolic link, a folder, a pipe: what it is, when it is no file.
    pub other: Option<&'static str>,
}

impl FileGlob {
    /// Reads a pattern; the error is a sentence with its remedy.
    pub fn parse(text: &str) -> Result<FileGlob, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("`{text}` must begin with `/`: files are named by their whole path"));
        };
        let words: Vec<&str> = rest.split('/').collect();
        let (mut base, mut parts) = (PathBuf::from("/"), Vec::new());
        for (n, word) in words.iter().enumerate() {
            match *word {
                "" if n + 1 == words.len() => {
                    return Err(format!(
                        "`{text}` names a folder; add what its files are called, such as `{text}*.xml`"
                    ));
                }
                "" | "." | ".." => {
                    return Err(format!("`{text}` holds an empty part, `.` or `..`; write the path straight"));
                }
                word if word.contains("**") => {
                    return Err(format!("`{text}`: `**` is not known; write one `*` for each level of folders"));
                }
                word if word.contains(['*', '?', '[', ']', '{', '}']) => {
                    let built = GlobBuilder::new(word).literal_separator(true).backslash_escape(false).build();
                    let glob = built.map_err(|error| format!("`{text}` is no pattern: {error}"))?;
                    parts.push(Part::Wild(glob.compile_matcher()));
                }
                word if parts.is_empty() && n + 1 < words.len() => base.push(word),
                word => parts.push(Part::Plain(word.to_owned())),
            }
        }
        Ok(FileGlob { text: text.to_owned(), base, parts })
    }

    /// Whether it names one file.
    pub fn is_single(&self) -> bool {
        !self.parts.iter().any(|part| matches!(part, Part::Wild(_)))
    }

    /// What matches at this moment, in no order. The error names the folder that cannot be read.
    pub fn find(&self) -> Result<Vec<FoundFile>, String> {
        let mut folders = vec![self.base.clone()];
        let Some((last, between)) = self.parts.split_last() else { return Ok(Vec::new()) };
        for part in between {
            let mut inner = Vec::new();
            for folder in &folders {
                inner.extend(entries(folder, part)?.into_iter().filter(|path| is_folder(path)));
            }
            folders = inner;
        }
        let mut found = Vec::new();
        for folder in &folders {
            for path in entries(folder, last)? {
                match look(&path) {
                    Ok(file) if file.other == Some("a folder") => {}
                    Ok(file) => found.push(file),
                    // It went away between two glances.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(format!("{} cannot be looked at: {error}", path.display())),
                }
                if found.len() > FILES_MAX {
                    return Err(format!("`{}` matches more than {FILES_MAX} files; move old ones away", self.text));
                }
            }
        }
        Ok(found)
    }
}

/// Two patterns with one text are one.
impl PartialEq for FileGlob {
    fn eq(&self, other: &FileGlob) -> bool {
        self.text == other.text
    }
}

fn entries(folder: &Path, part: &Part) -> Result<Vec<PathBuf>, String> {
    let wild = match part {
        Part::Plain(name) => return Ok(vec![folder.join(name)]),
        Part::Wild(wild) => wild,
    };
    let unreadable = |error: io::Error| format!("the folder {} cannot be read: {error}", folder.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        // As in a shell: what begins with a dot is hidden, and often still being written.
        let hidden = name.as_encoded_bytes().starts_with(b".") && !wild.glob().glob().starts_with('.');
        if !hidden && wild.is_match(Path::new(&name)) {
            paths.push(folder.join(name));
        }
    }
    Ok(paths)
}

fn is_folder(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// Looks at a file without following it.
pub fn look(path: &Path) -> io::Result<FoundFile> {
    let metadata = std::fs::symlink_metadata(path)?;
    found(path, &metadata)
}

/// What an open file shows.
pub fn found(path: &Path, metadata: &std::fs::Metadata) -> io::Result<FoundFile> {
    let kind = metadata.file_type();
    let other = match (kind.is_symlink(), kind.is_dir(), kind.is_file()) {
        (true, _, _) => Some("a symbolic link"),
        (_, true, _) => Some("a folder"),
        (_, _, true) => None,
        _ => Some("no ordinary file"),
    };
    let modified = metadata.modified()?;
    Ok(FoundFile { path: path.to_owned(), size: metadata.len(), modified, touched: touched(metadata, modified), other })
}

#[cfg(unix)]
fn touched(metadata: &std::fs::Metadata, modified: SystemTime) -> SystemTime {
    use std::os::unix::fs::MetadataExt as _;
    let since = std::time::Duration::new(u64::try_from(metadata.ctime()).unwrap_or(0), 0);
    SystemTime::UNIX_EPOCH.checked_add(since).map_or(modified, |changed| changed.max(modified))
}

#[cfg(not(unix))]
fn touched(_: &std::fs::Metadata, modified: SystemTime) -> SystemTime {
    modified
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_whole_paths_and_say_what_is_wrong_with_them() {
        for (text, single) in [
            ("/in/a.xml", true),
            ("/a.xml", true),
            ("/in/*.xml", false),
            ("/in/*/a.xml", false),
            ("/in/a?[0-9].{xml,gz}", false),
        ] {
            assert_eq!(FileGlob::parse(text).map(|glob| glob.is_single()), Ok(single), "{text}");
        }
        for (text, reason) in [
            ("in/*.xml", "begin with `/`"),
            ("", "begin with `/`"),
            ("/in/", "names a folder"),
            ("/", "names a folder"),
            ("/in/../x/*.xml", "`..`"),
            ("/in//*.xml", "empty part"),
            ("/in/**/*.xml", "`**`"),
            ("/in/[a", "no pattern"),
        ] {
            let error = FileGlob::parse(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn what_matches_is_found_and_links_are_told_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["one", "two", "one/a.xml", "one/b.csv", "one/.hidden.xml", "two/c.xml"] {
            match name.contains('.') {
                true => std::fs::write(at(name), "x").expect("written"),
                false => std::fs::create_dir(at(name)).expect("made"),
            }
        }
        std::fs::create_dir(at("one/folder.xml")).expect("made");
        std::os::unix::fs::symlink(at("two/c.xml"), at("one/link.xml")).expect("linked");
        std::os::unix::fs::symlink(at("two"), at("three")).expect("linked");
        let find = |pattern: &str| {
            let glob = FileGlob::parse(&format!("{}/{pattern}", folder.path().display())).expect("a pattern");
            let mut names: Vec<String> = glob
                .find()
                .expect("read")
                .into_iter()
                .map(|file| {
                    let name = file.path.strip_prefix(folder.path()).expect("inside").display().to_string();
                    format!("{name}{}", file.other.map(|other| format!(" is {other}")).unwrap_or_default())
                })
                .collect();
            names.sort();
            names
        };
        assert_eq!(find("one/*.xml"), ["one/a.xml", "one/link.xml is a symbolic link"]);
        assert_eq!(find("*/?.xml"), ["one/a.xml", "two/c.xml"], "the link `three` is not followed");
        assert_eq!(find("one/.*.xml"), ["one/.hidden.xml"]);
        assert_eq!(find("one/a.xml"), ["one/a.xml"]);
        assert_eq!(find("one/none.xml"), Vec::<String>::new());
        let gone = FileGlob::parse(&format!("{}/none/*", folder.path().display())).expect("a pattern");
        assert!(gone.find().expect_err("no such folder").contains("cannot be read"));
    }
}
