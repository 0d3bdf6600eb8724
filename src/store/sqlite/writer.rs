//! The one thread that writes. It takes every use case that is waiting, runs all of them in one transaction, commits once,
//! and only then answers (group commit): an answer means that the change is on disk.
//!
//! A use case that refuses writes nothing, so it needs no undoing of its own: each checks everything before its first write.
//! An error of the database itself fails everything that waits and everything that comes after; nothing is tried again.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use super::book::Book;
use crate::store::{Result, StoreError};

/// Why a use case did not do its work.
#[derive(Debug)]
pub(super) enum Fault {
    /// It refuses; nothing was written.
    Refused(StoreError),
    /// The database failed.
    Sql(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Fault {
        Fault::Sql(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Fault {
        Fault::Refused(error)
    }
}

pub(super) type Outcome<T> = std::result::Result<T, Fault>;

/// Which queue a use case waits in. Bulk work never stands before an acknowledgement, a claim or a real webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Quick,
    Bulk,
    /// Nobody waits for it: it joins the next transaction, or has one of its own after [`LATE`].
    Late,
}

/// Use cases of one transaction at most.
const BATCH_MAX: usize = 4096;
/// No further use case joins a transaction that is this old: those who wait for it want their answer.
const BATCH_TIME: Duration = Duration::from_millis(20);

/// What is in no hurry waits so long for another transaction to join: each one of its own is one more for the disk.
const LATE: Duration = Duration::from_millis(5);

trait Job: Send {
    fn run(&mut self, conn: &Connection, book: &mut Book) -> rusqlite::Result<()>;
    fn answer(self: Box<Self>, end: Result<()>);
}

struct UseCase<T, F> {
    work: Option<F>,
    result: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Job for UseCase<T, F>
where
    T: Send,
    F: FnOnce(&Connection, &mut Book) -> Outcome<T> + Send,
{
    fn run(&mut self, conn: &Connection, book: &mut Book) -> rusqlite::Result<()> {
        let Some(work) = self.work.take() else { return Ok(()) };
        match work(conn, book) {
            Ok(value) => self.result = Some(Ok(value)),
            Err(Fault::Refused(error)) => self.result = Some(Err(error)),
            Err(Fault::Sql(error)) => return Err(error),
        }
        Ok(())
    }

    fn answer(self: Box<Self>, end: Result<()>) {
        let UseCase { result, reply, .. } = *self;
        let nothing = || Err(StoreError::Broken("the writer did not run this".into()));
        let answer = end.and_then(|()| result.unwrap_or_else(nothing));
        // If nobody waits any more, what was written stays, as if the answer had been lost on its way.
        let _ = reply.send(answer);
    }
}

type Message = (Lane, Box<dyn Job>);

/// The way to the writer thread; dropping it lets the thread finish what waits, close the database and end.
pub(super) struct Writer {
    queue: Option<Sender<Message>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread. `lock` is let go when the connection is closed.
    pub(super) fn start(
        conn: Connection,
        book: Book,
        lock: File,
        broken: watch::Sender<Option<String>>,
    ) -> std::io::Result<Writer> {
        let (sender, receiver) = channel();
        let desk = Desk {
            conn,
            book,
            queue: receiver,
            bulk: VecDeque::new(),
            late: VecDeque::new(),
            late_until: None,
            broken,
            _lock: lock,
        };
        let thread = std::thread::Builder::new().name("store-writer".into()).spawn(move || desk.work())?;
        Ok(Writer { queue: Some(sender), thread: Some(thread) })
    }

    /// Runs a use case in the next transaction and gives its answer once that is on disk.
    pub(super) async fn run<T, F>(&self, lane: Lane, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &mut Book) -> Outcome<T> + Send + 'static,
    {
        let gone = || StoreError::Broken("the writer has ended".into());
        let (reply, answer) = oneshot::channel();
        let job = Box::new(UseCase { work: Some(work), result: None, reply });
        self.queue.as_ref().ok_or_else(gone)?.send((lane, job)).map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // It has told of its end through `broken` if it panicked.
            let _ = thread.join();
        }
    }
}

struct Desk {
    conn: Connection,
    book: Book,
    queue: Receiver<Message>,
    bulk: VecDeque<Box<dyn Job>>,
    late: VecDeque<Box<dyn Job>>,
    /// Until when the first of `late` waits for another transaction to join.
    late_until: Option<Instant>,
    broken: watch::Sender<Option<String>>,
    _lock: File,
}

impl Drop for Desk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.broken.send_if_modified(|reason| {
                reason.get_or_insert_with(|| "the writer stopped on a fault of its own".into());
                true
            });
        }
    }
}

impl Desk {
    fn work(mut self) {
        while let Some(first) = self.first() {
            if let Err(reason) = self.batch(first) {
                self.refuse_all(reason);
                return;
            }
        }
    }

    fn first(&mut self) -> Option<Box<dyn Job>> {
        if self.late_until.is_some_and(|until| until <= Instant::now()) {
            // However much else there is: a stream whose poll has no end is not polled again.
            return self.next_late();
        }
        match self.bulk.pop_front() {
            // Quick work that arrived meanwhile joins this batch behind one piece of bulk work at most.
            Some(job) => Some(job),
            None => self.wait(),
        }
    }

    /// The next use case that comes, or one that waited long enough. None: none will come.
    fn wait(&mut self) -> Option<Box<dyn Job>> {
        loop {
            let message = match self.late_until {
                None => self.queue.recv().ok(),
                Some(until) => self.queue.recv_timeout(until.saturating_duration_since(Instant::now())).ok(),
            };
            match message {
                Some((Lane::Late, job)) => self.put_off(job),
                Some((Lane::Quick | Lane::Bulk, job)) => return Some(job),
                None => return self.next_late(),
            }
        }
    }

    fn put_off(&mut self, job: Box<dyn Job>) {
        self.late_until.get_or_insert_with(|| Instant::now() + LATE);
        self.late.push_back(job);
    }

    fn next_late(&mut self) -> Option<Box<dyn Job>> {
        let job = self.late.pop_front();
        if self.late.is_empty() {
            self.late_until = None;
        }
        job
    }

    /// The next use case that joins the open transaction: quick ones first, bulk ones while there is time.
    fn next(&mut self, taken: usize, since: Instant) -> Option<Box<dyn Job>> {
        if taken >= BATCH_MAX || since.elapsed() > BATCH_TIME {
            return None;
        }
        while let Ok((lane, job)) = self.queue.try_recv() {
            match lane {
                Lane::Quick => return Some(job),
                Lane::Bulk => self.bulk.push_back(job),
                Lane::Late => self.put_off(job),
            }
        }
        self.bulk.pop_front().or_else(|| self.next_late())
    }

    /// One transaction. An error is the reason why the database can no longer be trusted.
    fn batch(&mut self, first: Box<dyn Job>) -> std::result::Result<(), String> {
        if let Err(error) = self.conn.execute_batch("BEGIN IMMEDIATE") {
            if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) {
                first.answer(Err(StoreError::Busy("another program holds the database's write lock".into())));
                return Ok(());
            }
            return self.fail(vec![first], format!("cannot begin a transaction: {error}"));
        }
        let since = Instant::now();
        let mut taken: Vec<Box<dyn Job>> = Vec::new();
        let mut next = Some(first);
        while let Some(mut job) = next {
            let ran = job.run(&self.conn, &mut self.book);
            taken.push(job);
            if let Err(error) = ran {
                return self.fail(taken, format!("a write failed: {error}"));
            }
            next = self.next(taken.len(), since);
        }
        if let Err(error) = self.book.flush(&self.conn) {
            return self.fail(taken, format!("a write failed: {error}"));
        }
        if let Err(error) = self.conn.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([])) {
            return self.fail(taken, format!("a commit failed: {error}"));
        }
        self.book.ring();
        for job in taken {
            job.answer(Ok(()));
        }
        Ok(())
    }

    fn fail(&mut self, waiting: Vec<Box<dyn Job>>, reason: String) -> std::result::Result<(), String> {
        self.broken.send_replace(Some(reason.clone()));
        // The process ends; the next start reads what the last good commit left. A failing rollback changes nothing about that.
        let _ = self.conn.execute_batch("ROLLBACK");
        for job in waiting {
            job.answer(Err(StoreError::Broken(reason.clone())));
        }
        Err(reason)
    }

    fn refuse_all(mut self, reason: String) {
        for job in self.bulk.drain(..).chain(self.late.drain(..)) {
            job.answer(Err(StoreError::Broken(reason.clone())));
        }
        while let Ok((_, job)) = self.queue.recv() {
            job.answer(Err(StoreError::Broken(reason.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::super::book::Bells;
    use super::super::claims::Claims;
    use super::super::open;
    use super::*;
    use crate::clock::Clock;
    use crate::model::Timestamp;

    /// Writes its name down when it is run.
    struct Named(&'static str, Arc<Mutex<Vec<&'static str>>>);

    impl Job for Named {
        fn run(&mut self, _: &Connection, _: &mut Book) -> rusqlite::Result<()> {
            self.1.lock().expect("whole").push(self.0);
            Ok(())
        }

        fn answer(self: Box<Self>, end: Result<()>) {
            assert!(end.is_ok());
        }
    }

    fn desk() -> (Sender<Message>, Desk) {
        let (sender, queue) = channel();
        let conn = open::open_memory().expect("opens");
        let clock = Clock::manual(Timestamp(0));
        let book = Book::open(&conn, clock, Claims::new(), Arc::new(Bells::new()), Default::default()).expect("reads");
        let (bulk, late, broken) = (VecDeque::new(), VecDeque::new(), watch::Sender::new(None));
        let lock = tempfile::tempfile().expect("a file");
        (sender, Desk { conn, book, queue, bulk, late, late_until: None, broken, _lock: lock })
    }

    /// What each transaction ran, until nothing waits any more.
    fn transactions(mut desk: Desk, ran: &Mutex<Vec<&'static str>>) -> Vec<Vec<&'static str>> {
        let mut found = Vec::new();
        while let Some(first) = desk.first() {
            desk.batch(first).expect("commits");
            found.push(std::mem::take(&mut *ran.lock().expect("whole")));
        }
        found
    }

    #[test]
    fn what_is_in_no_hurry_joins_the_next_transaction_or_has_its_own_in_the_end() {
        let ran = Arc::new(Mutex::new(Vec::new()));
        let (sender, desk) = desk();
        for (lane, name) in [(Lane::Late, "late"), (Lane::Quick, "quick"), (Lane::Late, "later")] {
            sender.send((lane, Box::new(Named(name, ran.clone())))).expect("sent");
        }
        drop(sender);
        assert_eq!(transactions(desk, &ran), [["quick", "late", "later"]]);
        let (sender, mut desk) = self::desk();
        sender.send((Lane::Late, Box::new(Named("alone", ran.clone())))).expect("sent");
        let first = desk.first().expect("its time is over, and the queue is open");
        drop(sender);
        desk.batch(first).expect("commits");
        assert_eq!(*ran.lock().expect("whole"), ["alone"]);
    }

    #[test]
    fn what_waited_its_time_goes_before_any_flood() {
        let ran = Arc::new(Mutex::new(Vec::new()));
        let (sender, mut desk) = desk();
        desk.put_off(Box::new(Named("late", ran.clone())));
        desk.bulk.push_back(Box::new(Named("bulk", ran.clone())));
        desk.late_until = Some(Instant::now());
        drop(sender);
        assert_eq!(transactions(desk, &ran), [["late", "bulk"]]);
    }
}
