//! What is made of files (certificates and their keys) and made again when one of them changes, without a restart. While what the
//! files hold now is of no use, what they held before goes on.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tracing::{info, warn};

/// Between two looks at the files there is at least this.
const EVERY: Duration = Duration::from_secs(1);

/// What a file looks like from outside: time of change in nanoseconds, size, inode.
type Mark = Option<(i64, i64, u64, u64)>;
type Make<T> = Box<dyn Fn() -> Result<T, String> + Send + Sync>;

/// Something made of files.
pub struct Fresh<T> {
    files: Vec<PathBuf>,
    make: Make<T>,
    made: ArcSwap<T>,
    looked: Mutex<(Instant, Vec<Mark>)>,
}

impl<T> Fresh<T> {
    /// Makes it for the first time; the error is a sentence for a person.
    pub fn new(
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Fresh<T>, String> {
        // Before the files are read: a change in between is then seen as one.
        let marks = marks(&files);
        let made = ArcSwap::from_pointee(make()?);
        Ok(Fresh { files, make: Box::new(make), made, looked: Mutex::new((Instant::now(), marks)) })
    }

    /// What the files hold now, as far as it is of use.
    pub fn get(&self) -> Arc<T> {
        self.look(EVERY);
        self.made.load_full()
    }

    fn look(&self, every: Duration) {
        if self.files.is_empty() {
            return;
        }
        // Whoever finds the lock taken goes on with what there is.
        let Ok(mut looked) = self.looked.try_lock() else { return };
        if looked.0.elapsed() < every {
            return;
        }
        let marks = marks(&self.files);
        looked.0 = Instant::now();
        if looked.1 == marks {
            return;
        }
        looked.1 = marks;
        let names: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
        let names = names.join(", ");
        match (self.make)() {
            Ok(made) => {
                self.made.store(Arc::new(made));
                info!("certificates changed and were read again: {names}");
            }
            Err(error) => warn!("certificates changed, and what they were before goes on ({names}): {error}"),
        }
    }
}

fn marks(files: &[PathBuf]) -> Vec<Mark> {
    let mark = |file: &PathBuf| {
        let found = std::fs::metadata(file).ok()?;
        Some((found.mtime(), found.mtime_nsec(), found.len(), found.ino()))
    };
    files.iter().map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_read_again_and_a_useless_one_leaves_what_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("cert.pem");
        let write = |text: &str| std::fs::write(&file, text).expect("written");
        write("one");
        let read = file.clone();
        let fresh = Fresh::new(vec![file.clone()], move || match std::fs::read_to_string(&read) {
            Ok(text) if text.is_empty() => Err("it is empty".into()),
            Ok(text) => Ok(text),
            Err(error) => Err(error.to_string()),
        })
        .expect("made");
        let now = || {
            fresh.look(Duration::ZERO);
            fresh.made.load_full().to_string()
        };
        assert_eq!(now(), "one");
        write("second");
        assert_eq!(fresh.get().as_str(), "one", "not before a second is over");
        assert_eq!(now(), "second");
        write("");
        assert_eq!(now(), "second");
        std::fs::remove_file(&file).expect("removed");
        assert_eq!(now(), "second");
        write("the third");
        assert_eq!(now(), "the third");
    }

    #[test]
    fn what_cannot_be_made_at_all_is_an_error() {
        let made = Fresh::<()>::new(Vec::new(), || Err("no".into()));
        assert_eq!(made.err().as_deref(), Some("no"));
    }
}
