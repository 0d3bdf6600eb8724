//! Files in place of an API: what a drop folder holds is read once, file by file, oldest first; each file is a listing of its own and
//! takes the same way as an answer. A file that may still be written waits; one that cannot be read takes nothing from the others.
//!
//! Which files were read is committed with what they held (as the stream's mark), and kept in the stream's memory from the end of
//! the poll on: a crash in between reads none of them twice.

use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::run::{Asked, Outcome, Pause, Run, Stop, outcome};
use super::sink::{Mode, Sink, SinkRun};
use super::verdict::{Cause, Failure};
use crate::answer::{UNPACKED_MAX, unpack};
use crate::glob::{self, FileGlob, FoundFile};
use crate::ingest::{CursorValue, IngestError, PageAnswer, RunReport};
use crate::model::{ProblemKind, Timestamp};
use crate::store::{Phase, StoreError, StreamClaim};

/// A file that nobody has touched for so long is written; a younger one is when two looks show it alike.
const SETTLED: Duration = Duration::from_secs(60);
/// Files of one poll; the rest goes with the next one, at once.
const FILES_MAX: usize = 200;
/// Files that went away are remembered for a while: a folder that is empty for an hour is often a share that is not mounted.
const GONE_KEPT: usize = 10_000;

/// What is remembered of a stream's files, each by a short hash of its name, size and time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct FilesMemory {
    /// In the order in which they were read.
    pub read: Vec<String>,
    /// As they were seen at the last look, perhaps still being written.
    pub waiting: Vec<String>,
}

/// What a look at files begins with.
pub(super) struct Opening<'a> {
    pub sink: &'a dyn Sink,
    pub claim: StreamClaim,
    pub mode: Mode,
}

/// The files of a stream as far as they are known.
struct Known {
    memory: FilesMemory,
    /// Read since the memory was stored: the mark carries them.
    unsaved: Vec<String>,
}

impl Known {
    fn of(memory: FilesMemory, mark: Option<&str>) -> Known {
        // Without a mark nothing was ever read, or all of it was forgotten by a person's order.
        let Some(mark) = mark else { return Known { memory: FilesMemory::default(), unsaved: Vec::new() } };
        let mut known = Known { memory, unsaved: Vec::new() };
        if let Some(CursorValue::Text(carried)) = CursorValue::from_stored(mark) {
            carried.split(' ').filter(|id| !id.is_empty()).for_each(|id| known.read(id.to_owned()));
        }
        known
    }

    fn read(&mut self, id: String) {
        if !self.memory.read.contains(&id) {
            self.memory.read.push(id.clone());
            self.unsaved.push(id);
        }
    }

    /// Those to be read now, oldest first; the others that are new wait. Forgets what went away long ago.
    fn choose(&mut self, mut found: Vec<FoundFile>, now: Timestamp) -> Vec<FoundFile> {
        let read: std::collections::HashSet<&str> = self.memory.read.iter().map(String::as_str).collect();
        let there: std::collections::HashSet<String> = found.iter().map(id_of).collect();
        found.retain(|file| !read.contains(id_of(file).as_str()));
        let gone = self.memory.read.iter().filter(|id| !there.contains(*id)).count();
        let mut forgotten = gone.saturating_sub(GONE_KEPT);
        self.memory.read.retain(|id| {
            let forget = forgotten > 0 && !there.contains(id);
            forgotten -= usize::from(forget);
            !forget
        });
        let before = std::mem::take(&mut self.memory.waiting);
        let (mut ready, waiting): (Vec<FoundFile>, Vec<FoundFile>) = found
            .into_iter()
            .partition(|file| file.other.is_some() || before.contains(&id_of(file)) || settled(file, now));
        self.memory.waiting = waiting.iter().map(id_of).collect();
        ready.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
        ready
    }
}

fn id_of(file: &FoundFile) -> String {
    let modified = file.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let mut hash = Sha256::new();
    hash.update(file.path.as_os_str().as_encoded_bytes());
    hash.update(format!("\0{}\0{modified}", file.size));
    hex::encode(&hash.finalize()[..8])
}

fn settled(file: &FoundFile, now: Timestamp) -> bool {
    let now = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(u64::try_from(now.0).unwrap_or(0)));
    now.and_then(|now| now.duration_since(file.touched).ok()).is_some_and(|age| age >= SETTLED)
}

impl Run<'_> {
    /// Reads every file that is new and written. Each is begun and ended as a run of its own.
    pub async fn poll_files(&mut self, mut opening: Opening<'_>, deadline: Duration) -> Outcome {
        self.deadline = deadline;
        let Some(glob) = self.polled.stream.files.clone() else {
            return outcome(
                unreadable("`files` does not stand for file names with this source's settings".to_owned()).into(),
            );
        };
        let (single, pattern) = (glob.is_single(), glob.clone());
        let found = match in_background(move || pattern.find()).await {
            Ok(found) => found,
            Err(reason) => return outcome(unreadable(reason).into()),
        };
        let mut known = Known::of(self.files.take().unwrap_or_default(), opening.claim.state.mark.as_deref());
        let ready = known.choose(found, self.clock.now());
        // The first look is over when all files that are there were looked at.
        let first_look = opening.claim.state.phase == Phase::Baseline && !single && opening.mode == Mode::Normal;
        let mut tally = Tally::default();
        let went = self.take_files(&mut opening, &ready, &mut known, &mut tally, first_look).await;
        let went = match went {
            Ok(None) if first_look || tally.files == 0 => {
                self.close_look(opening, &known, first_look, &mut tally).await
            }
            other => other,
        };
        self.files = Some(known.memory);
        tally.outcome(went, ready.len(), &glob)
    }

    /// Ok(Some): it stops before its last file, and why.
    async fn take_files(
        &mut self,
        opening: &mut Opening<'_>,
        ready: &[FoundFile],
        known: &mut Known,
        tally: &mut Tally,
        first_look: bool,
    ) -> Result<Option<Pause>, Stop> {
        for (n, file) in ready.iter().enumerate() {
            if n >= FILES_MAX || (n > 0 && self.overdue()) {
                return Ok(Some(Pause::Time));
            }
            let looked = file.clone();
            let begun = tokio::time::Instant::now();
            let pages = match in_background(move || read_file(&looked)).await {
                Ok(Some(pages)) => pages,
                // Somebody writes it at this moment.
                Ok(None) => {
                    known.memory.waiting.push(id_of(file));
                    continue;
                }
                Err(reason) => {
                    tally.failures.push((file.path.display().to_string(), unreadable(reason)));
                    continue;
                }
            };
            let sink = opening.begin(self).await?;
            if sink.progress().releasing {
                // What an earlier run found goes out first.
                tally.add(&sink.put_off().await?);
                return Ok(Some(Pause::Cap));
            }
            let mut marks = known.unsaved.clone();
            marks.push(id_of(file));
            match self.take_file(sink, file, pages, &marks, first_look, begun).await {
                Ok(report) => {
                    known.read(id_of(file));
                    tally.files += 1;
                    tally.add(&report);
                    if report.deferred {
                        return Ok(Some(Pause::Cap));
                    }
                }
                Err(Stop::Failed(failure)) if matches!(failure.cause, Cause::Lasting(_)) => {
                    tally.failures.push((file.path.display().to_string(), failure));
                }
                Err(stop) => return Err(stop),
            }
        }
        Ok(None)
    }

    async fn take_file(
        &mut self,
        mut sink: Box<dyn SinkRun>,
        file: &FoundFile,
        pages: Vec<Bytes>,
        marks: &[String],
        first_look: bool,
        begun: tokio::time::Instant,
    ) -> Result<RunReport, Stop> {
        sink.told(&marks.join(" "));
        if first_look {
            sink.incomplete();
        }
        for body in pages {
            let bytes = body.len();
            let asked = Asked {
                method: "READ".to_owned(),
                url: file.path.display().to_string(),
                status: None,
                records: None,
                bytes,
                took: begun.elapsed(),
            };
            self.asked.push(asked);
            match sink.page(PageAnswer { body, headers: headers(file), date: None }).await {
                Ok(end) => self.read(end.records),
                Err(error) => {
                    let stop = Stop::from(error);
                    return match sink.abandon().await {
                        Err(IngestError::Store(StoreError::Stale)) => Err(Stop::Stale),
                        // Why the file could not be read says more than that its remains could not be cleared.
                        _ => Err(stop),
                    };
                }
            }
        }
        Ok(sink.finish(None).await?)
    }

    /// Ends a look that read nothing, or the first one.
    async fn close_look(
        &mut self,
        mut opening: Opening<'_>,
        known: &Known,
        first_look: bool,
        tally: &mut Tally,
    ) -> Result<Option<Pause>, Stop> {
        let mut sink = opening.begin(self).await?;
        if sink.progress().releasing {
            tally.add(&sink.put_off().await?);
            return Ok(Some(Pause::Cap));
        }
        if !first_look {
            sink.abandon().await?;
            return if tally.failures.is_empty() { Err(Stop::NotModified) } else { Ok(None) };
        }
        sink.told(&known.unsaved.join(" "));
        tally.add(&sink.finish(None).await?);
        tally.files += 1;
        Ok(None)
    }
}

impl Opening<'_> {
    /// Begins the next run under the same lease, with what is stored by now.
    async fn begin(&mut self, run: &Run<'_>) -> Result<Box<dyn SinkRun>, Stop> {
        let name = &self.claim.lease.stream;
        if let Some(state) = run.store.stream(name).await.map_err(IngestError::Store)? {
            self.claim.state = state;
        }
        Ok(self.sink.begin(&run.polled.stream, self.claim.clone(), self.mode).await?)
    }
}

/// What a look at files came to so far.
#[derive(Default)]
struct Tally {
    files: usize,
    report: RunReport,
    failures: Vec<(String, Failure)>,
}

impl Tally {
    fn add(&mut self, other: &RunReport) {
        let sum = &mut self.report;
        sum.records += other.records;
        sum.created += other.created;
        sum.updated += other.updated;
        sum.deleted += other.deleted;
        sum.unreadable += other.unreadable;
        sum.silent += other.silent;
        sum.events += other.events;
        sum.again |= other.again;
        sum.moved |= other.moved;
        sum.deferred |= other.deferred;
        sum.owed |= other.owed;
        sum.ahead = sum.ahead.max(other.ahead);
        sum.lag = sum.lag.max(other.lag);
        sum.change_number = sum.change_number.max(other.change_number);
    }

    fn outcome(self, went: Result<Option<Pause>, Stop>, of: usize, glob: &FileGlob) -> Outcome {
        let failure = match went {
            Err(Stop::Failed(failure)) => Some(failure),
            Err(stop) => return outcome(stop),
            Ok(Some(pause)) => return Outcome::Paused(self.report, pause),
            Ok(None) => some_failed(&self.failures, of, glob),
        };
        match failure {
            None => Outcome::Done(self.report),
            Some(failure) if self.files > 0 => Outcome::Partly(self.report, failure),
            Some(failure) => Outcome::Failed(failure),
        }
    }
}

/// One sentence for all files that could not be read.
fn some_failed(failures: &[(String, Failure)], of: usize, glob: &FileGlob) -> Option<Failure> {
    let (path, first) = failures.first()?;
    let message = format!(
        "{} of {of} new files of `{}` could not be read and are tried again; correct them or move them away. The first, {path}: {}",
        failures.len(),
        glob.text,
        first.message
    );
    Some(Failure::new(first.cause, message))
}

fn unreadable(reason: String) -> Failure {
    Failure::new(Cause::Lasting(ProblemKind::AnswerUnreadable), reason)
}

/// What jq sees as `$headers`.
fn headers(file: &FoundFile) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let name = file.path.file_name().map(|name| name.as_encoded_bytes()).unwrap_or_default();
    if let Ok(value) = HeaderValue::from_bytes(name) {
        headers.insert("file-name", value);
    }
    headers
}

/// The pages of a file: itself, or the members of an archive. None: it is not as it was a moment ago.
fn read_file(looked: &FoundFile) -> Result<Option<Vec<Bytes>>, String> {
    if let Some(other) = looked.other {
        return Err(format!("it is {other}, which is not read"));
    }
    let failed = |error: std::io::Error| format!("it cannot be read: {error}");
    // What was a file a moment ago may be a link or a pipe now: the one is not followed, the other not waited for.
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0);
    let opened = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(&looked.path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let same = |file: &std::fs::File| -> Result<bool, String> {
        let now = file.metadata().and_then(|metadata| glob::found(&looked.path, &metadata)).map_err(failed)?;
        Ok(now.other.is_none() && id_of(&now) == id_of(looked))
    };
    if !same(&file)? {
        return Ok(None);
    }
    if looked.size > UNPACKED_MAX as u64 {
        return Err(format!("it is larger than {} MiB; split it", UNPACKED_MAX >> 20));
    }
    let mut body = Vec::new();
    (&mut file).take(UNPACKED_MAX as u64 + 1).read_to_end(&mut body).map_err(failed)?;
    if body.len() as u64 != looked.size || !same(&file)? {
        return Ok(None);
    }
    let pages = unpack(&Bytes::from(body))?;
    if pages.is_empty() {
        return Err("the zip archive is empty".to_owned());
    }
    Ok(Some(pages))
}

/// Disks and shares may be slow: nobody else waits for them.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|_| "reading the files broke off".to_owned())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, size: u64, modified: u64) -> FoundFile {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(modified);
        FoundFile { path: name.into(), size, modified: at, touched: at, other: None }
    }

    fn names(files: &[FoundFile]) -> Vec<&str> {
        files.iter().map(|file| file.path.to_str().expect("a name")).collect()
    }

    #[test]
    fn a_file_waits_until_it_stands_still_and_is_read_once() {
        let mut known = Known::of(FilesMemory::default(), None);
        let now = Timestamp(1_000_000);
        let old = file("/in/old", 1, 900);
        assert_eq!(names(&known.choose(vec![file("/in/young", 1, 990), old.clone()], now)), ["/in/old"]);
        known.read(id_of(&old));
        assert_eq!(names(&known.choose(vec![file("/in/young", 2, 995), old.clone()], now)), [""; 0], "it grew");
        let young = file("/in/young", 2, 995);
        assert_eq!(names(&known.choose(vec![young.clone(), old.clone()], now)), ["/in/young"]);
        known.read(id_of(&young));
        assert_eq!(
            names(&known.choose(vec![young, file("/in/old", 3, 901)], now)),
            ["/in/old"],
            "it is another one now"
        );
    }

    #[test]
    fn files_are_read_by_time_and_then_by_name() {
        let mut known = Known::of(FilesMemory::default(), None);
        let found = vec![file("/c", 1, 5), file("/b", 1, 7), file("/a", 1, 7)];
        assert_eq!(names(&known.choose(found, Timestamp(1_000_000))), ["/c", "/a", "/b"]);
    }

    #[test]
    fn what_the_mark_carries_was_read_also_when_the_memory_does_not_know() {
        let one = file("/one", 1, 5);
        let mark = CursorValue::Text(format!(" {}", id_of(&one))).to_stored();
        let mut known = Known::of(FilesMemory::default(), Some(&mark));
        assert_eq!(names(&known.choose(vec![one.clone(), file("/two", 1, 5)], Timestamp(1_000_000))), ["/two"]);
        assert_eq!(known.unsaved, [id_of(&one)], "the next mark carries it on");
        let memory = FilesMemory { read: vec![id_of(&one)], waiting: vec![] };
        let known = Known::of(memory.clone(), Some(&mark));
        assert_eq!(known.unsaved, [""; 0]);
        let mut forgotten = Known::of(memory, None);
        assert_eq!(names(&forgotten.choose(vec![one], Timestamp(1_000_000))), ["/one"], "a reset reads all again");
    }
}
