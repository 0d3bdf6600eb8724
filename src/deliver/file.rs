//! A file as a handler: one line of JSON for each event, on disk before the delivery counts. A file that has grown too large is set aside
//! under a name with the time. What a crash left half written is taken away before the next line; its event was never counted as delivered.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{FileTarget, Format};
use crate::event_body;
use crate::model::{Event, Timestamp};

/// Read at once when looking for the end of the last whole line.
const CHUNK: u64 = 64 << 10;

/// Where a handler's lines go.
pub struct Out(Arc<Inner>);

struct Inner {
    target: FileTarget,
    /// One line at a time: two at once could not be told from a torn one.
    turn: Mutex<()>,
}

/// An event as a line.
pub fn line(event: &Event, format: Format, replay: bool) -> Vec<u8> {
    let mut line = match format {
        Format::CloudEvents => event_body::cloud_event(event),
        _ => event_body::with_id(event, replay),
    };
    // A record's own bytes may hold line breaks, between its members only: JSON has none inside text.
    line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    line.push(b'\n');
    line
}

impl Out {
    pub fn new(target: FileTarget) -> Out {
        Out(Arc::new(Inner { target, turn: Mutex::default() }))
    }

    pub fn path(&self) -> &Path {
        &self.0.target.path
    }

    /// Appends a line; when this returns, it is on disk. The answer says what had to be mended; the error is a sentence.
    pub async fn append(&self, line: Vec<u8>, now: Timestamp) -> Result<Option<String>, String> {
        let inner = self.0.clone();
        let written = tokio::task::spawn_blocking(move || inner.append(&line, now)).await;
        match written {
            Ok(Ok(mended)) => Ok(mended),
            Ok(Err(error)) => Err(format!("{} cannot be written: {error}", self.path().display())),
            Err(_) => Err(format!("{} was not written: the daemon stops", self.path().display())),
        }
    }
}

impl Inner {
    fn append(&self, line: &[u8], now: Timestamp) -> io::Result<Option<String>> {
        // Plain files are whole after any panic.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = self.open()?;
        let mended = mend(&mut file)?;
        let mut size = file.metadata()?.len();
        if size > 0 && size + line.len() as u64 > self.target.max_size {
            self.set_aside(now)?;
            file = self.open()?;
            size = 0;
        }
        if let Err(error) = file.write_all(line).and_then(|()| file.sync_data()) {
            // Half a line would be mended later; taken away now it disturbs no reader.
            let _ = file.set_len(size);
            return Err(error);
        }
        Ok(mended)
    }

    /// Opened for each line: a program that moves the file away is followed at once.
    fn open(&self) -> io::Result<File> {
        let path = &self.target.path;
        let found = OpenOptions::new().read(true).append(true).open(path);
        match found {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = OpenOptions::new().read(true).append(true).create_new(true).mode(0o640).open(path)?;
                sync_folder(path)?;
                Ok(file)
            }
            other => other,
        }
    }

    fn set_aside(&self, now: Timestamp) -> io::Result<()> {
        let path = &self.target.path;
        let stamp = now.to_utc().format("%Y%m%dT%H%M%S%3fZ").to_string();
        let mut copy = 0;
        let to = loop {
            let to = beside(path, &if copy == 0 { stamp.clone() } else { format!("{stamp}-{copy}") });
            if !to.try_exists()? {
                break to;
            }
            copy += 1;
        };
        std::fs::rename(path, to)?;
        sync_folder(path)?;
        if let Some(keep) = self.target.keep {
            for old in set_aside(path)?.into_iter().rev().skip(keep) {
                std::fs::remove_file(old)?;
            }
        }
        Ok(())
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

/// The files that were set aside, the oldest first.
fn set_aside(path: &Path) -> io::Result<Vec<PathBuf>> {
    let prefix = format!("{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder(path))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let stamp = name.strip_prefix(&prefix).map(|rest| rest.split('-').next().unwrap_or_default());
        let ours = stamp.is_some_and(|s| {
            s.len() == 19
                && s.as_bytes()[8] == b'T'
                && s.ends_with('Z')
                && s.bytes().filter(u8::is_ascii_digit).count() == 17
        });
        if ours {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file's name is on disk only once its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

/// Takes away what stands after the last line break; what is a whole document gets its line break instead.
fn mend(file: &mut File) -> io::Result<Option<String>> {
    let size = file.metadata()?.len();
    let mut last = [0];
    if size == 0 || (file.read_exact_at(&mut last, size - 1).is_ok() && last == [b'\n']) {
        return Ok(None);
    }
    let start = after_last_break(file, size)?;
    let mut torn = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(size - start).read_to_end(&mut torn)?;
    if serde_json::from_slice::<serde::de::IgnoredAny>(&torn).is_ok() {
        file.write_all(b"\n")?;
        return Ok(Some("its last line had no end and was given one".into()));
    }
    file.set_len(start)?;
    Ok(Some(format!("its last line was torn: {} bytes were taken away, and its event is written again", torn.len())))
}

fn after_last_break(file: &File, size: u64) -> io::Result<u64> {
    let mut end = size;
    while end > 0 {
        let start = end.saturating_sub(CHUNK);
        let mut chunk = vec![0; (end - start) as usize];
        file.read_exact_at(&mut chunk, start)?;
        if let Some(at) = memchr::memrchr(b'\n', &chunk) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(folder: &Path, max_size: u64, keep: Option<usize>) -> Out {
        Out::new(FileTarget { path: folder.join("events.jsonl"), max_size, keep })
    }

    async fn add(out: &Out, text: &str, at: i64) -> Option<String> {
        out.append(format!("{{\"id\":\"{text}\"}}\n").into_bytes(), Timestamp(at)).await.expect("written")
    }

    fn lines(out: &Out) -> Vec<String> {
        std::fs::read_to_string(out.path()).expect("text").lines().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn a_torn_last_line_is_mended_and_nothing_before_it_is_touched() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = out(folder.path(), 1 << 20, None);
        assert_eq!(add(&out, "a", 0).await, None);
        let whole = std::fs::read(out.path()).expect("read");
        let torn = "{\"id\":\"bbbbbb\",\"data\":{\"x".repeat(5_000);
        for (left, want) in [
            ("{\"id\":\"b", "[a][c]"),
            ("\0\0\0\0", "[a][c]"),
            ("{\"id\":\"b\"}", "[a][b][c]"),
            (torn.as_str(), "[a][c]"),
        ] {
            std::fs::write(out.path(), [&whole[..], left.as_bytes()].concat()).expect("written");
            assert!(add(&out, "c", 0).await.is_some(), "it says what it mended");
            let ids: String = lines(&out)
                .iter()
                .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("every line is JSON"))
                .map(|value| format!("[{}]", value["id"].as_str().expect("an id")))
                .collect();
            assert_eq!(ids, want);
        }
        std::fs::write(out.path(), "{\"id\":").expect("written");
        add(&out, "d", 0).await;
        assert_eq!(lines(&out), ["{\"id\":\"d\"}"]);
    }

    #[tokio::test]
    async fn a_large_file_is_set_aside_and_only_so_many_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = out(folder.path(), 25, Some(2));
        for (n, text) in ["a", "b", "c", "d", "e", "f", "g", "h"].into_iter().enumerate() {
            // Two are set aside within one millisecond: neither replaces the other.
            add(&out, text, (n as i64 / 4) * 4_000).await;
        }
        let old = set_aside(out.path()).expect("listed");
        assert_eq!(old.len(), 2, "{old:?}");
        let kept: String = old.iter().map(|path| std::fs::read_to_string(path).expect("text")).collect();
        assert_eq!(kept.lines().count(), 4);
        assert!(kept.contains("\"c\"") && kept.contains("\"f\"") && !kept.contains("\"a\""), "{kept}");
        assert_eq!(lines(&out), ["{\"id\":\"g\"}", "{\"id\":\"h\"}"]);
    }

    #[tokio::test]
    async fn a_missing_folder_is_a_sentence_and_a_moved_file_is_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let nowhere = Out::new(FileTarget { path: folder.path().join("no/where"), max_size: 99, keep: None });
        let error = nowhere.append(b"{}\n".to_vec(), Timestamp(0)).await.expect_err("refused");
        assert!(error.contains("no/where cannot be written"), "{error}");
        let out = out(folder.path(), 1 << 20, None);
        add(&out, "a", 0).await;
        std::fs::rename(out.path(), folder.path().join("taken")).expect("moved");
        add(&out, "b", 0).await;
        assert_eq!(lines(&out), ["{\"id\":\"b\"}"]);
    }
}
