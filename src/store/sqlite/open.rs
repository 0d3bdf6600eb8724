//! Opening the database: everything that must be so before the first write, and a plain sentence when it is not. A damaged or
//! missing file is never replaced by a fresh one: a new database is made under another name and moved into place whole.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{M, Migrations, SchemaVersion};

/// Why the database was not opened.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// Something that a person must change first (exit code 78).
    #[error("{0}")]
    Refused(String),
    /// Something that may be over in a moment (exit code 75).
    #[error("{0}")]
    Temporary(String),
}

impl OpenError {
    /// The exit code that a command ends with on this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            OpenError::Refused(_) => 78,
            OpenError::Temporary(_) => 75,
        }
    }
}

/// Every step of the schema, oldest first. A file that was released never changes; a change is a new file.
static STEPS: &[M<'static>] = &[
    M::up(include_str!("migrations/0001.sql")),
    M::up(include_str!("migrations/0002.sql")),
    M::up(include_str!("migrations/0003.sql")),
    M::up(include_str!("migrations/0004.sql")),
    M::up(include_str!("migrations/0005.sql")),
    M::up(include_str!("migrations/0006.sql")),
    M::up(include_str!("migrations/0007.sql")),
    M::up(include_str!("migrations/0008.sql")),
    M::up(include_str!("migrations/0009.sql")),
    M::up(include_str!("migrations/0010.sql")),
    M::up(include_str!("migrations/0011.sql")),
    M::up(include_str!("migrations/0012.sql")),
];
static MIGRATIONS: Migrations<'static> = Migrations::from_slice(STEPS);

/// Marks a database as ours in its header ("rgbk").
const APPLICATION_ID: i64 = 0x7267_626b;

/// Below this, SQLite may corrupt a write-ahead log that is reset while it is read.
const SQLITE_MIN: i32 = 3_051_003;

/// File systems whose locks and shared memory cannot be trusted between machines.
const NETWORK_FILE_SYSTEMS: [&str; 16] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ncpfs",
    "afs",
    "ceph",
    "lustre",
    "gfs2",
    "ocfs2",
    "beegfs",
    "fuse.sshfs",
    "fuse.glusterfs",
    "fuse.ceph",
    "fuse.s3fs",
];

/// The log goes into the database after so many pages (16 MiB). In a busy time the same pages are written again and again: going rarely
/// copies each of them once instead of at every thousandth page.
const WAL_PAGES: i64 = 4096;
/// Pages in memory for the writer, in KiB.
const WRITER_CACHE: i64 = 16 * 1024;
const READER_CACHE: i64 = 3 * 1024;
/// Another program (a backup, a person's shell) may hold a lock for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The write connection, and the lock that proves that it is the only one.
pub(super) fn open_writer(path: &Path) -> Result<(Connection, File), OpenError> {
    check_library()?;
    check_place(path)?;
    let lock = take_lock(path)?;
    if check_file(path)? == Found::Nothing {
        create(path)?;
    }
    let mut conn = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    check_ours(&conn, path)?;
    prepare(&conn, path)?;
    migrate(&mut conn, path)?;
    conn.set_prepared_statement_cache_capacity(160);
    Ok((conn, lock))
}

/// A new database in memory: nothing of it outlives the process, so nothing of it is synced or locked.
pub(super) fn open_memory() -> Result<Connection, OpenError> {
    check_library()?;
    let path = Path::new(":memory:");
    let mut conn = Connection::open_in_memory().map_err(|error| unusable(path, &error))?;
    conn.pragma_update(None, "foreign_keys", true).map_err(|error| unusable(path, &error))?;
    migrate(&mut conn, path)?;
    conn.set_prepared_statement_cache_capacity(400);
    Ok(conn)
}

/// A connection that only reads. Several live beside the writer; without a daemon it needs no lock.
pub(super) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let conn = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let set = || -> rusqlite::Result<()> {
        conn.pragma_update(None, "cache_size", -READER_CACHE)?;
        conn.pragma_update(None, "temp_store", "MEMORY")?;
        conn.pragma_update(None, "query_only", true)
    };
    set().map_err(|error| unusable(path, &error))?;
    conn.set_prepared_statement_cache_capacity(48);
    Ok(conn)
}

/// The checks of a command that reads while no daemon runs.
pub(super) fn check_for_reading(path: &Path) -> Result<(), OpenError> {
    check_library()?;
    if check_file(path)? == Found::Nothing {
        return Err(OpenError::Refused(format!(
            "there is no database at {}; `ringback run` makes one at its first start",
            path.display()
        )));
    }
    let conn = open_reader(path)?;
    check_ours(&conn, path)?;
    match MIGRATIONS.pending_migrations(&conn) {
        Ok(0) => Ok(()),
        Ok(n) if n > 0 => Err(OpenError::Refused(format!(
            "{} has an older schema; start the daemon of this version once to bring it up to date",
            path.display()
        ))),
        _ => Err(newer(path)),
    }
}

fn check_library() -> Result<(), OpenError> {
    let version = rusqlite::version_number();
    if version < SQLITE_MIN || version == 3_052_000 {
        return Err(OpenError::Refused(format!(
            "this build has SQLite {}, which can corrupt its log of writes; use a build with 3.51.3 or newer (not 3.52.0)",
            rusqlite::version()
        )));
    }
    Ok(())
}

fn check_place(path: &Path) -> Result<(), OpenError> {
    let folder = folder_of(path);
    let real = folder.canonicalize().map_err(|error| {
        OpenError::Refused(format!("the folder {} cannot be used for the database: {error}", folder.display()))
    })?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if let Some(kind) = file_system_of(&real, &mounts).filter(|kind| NETWORK_FILE_SYSTEMS.contains(kind)) {
        return Err(OpenError::Refused(format!(
            "{} lies on a network file system ({kind}), where SQLite can lose data; move the database to a local disk",
            path.display()
        )));
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The kind of file system that holds `folder`, from the text of `/proc/self/mountinfo`.
fn file_system_of<'a>(folder: &Path, mounts: &'a str) -> Option<&'a str> {
    let mut best: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let (Some(point), Some(kind)) = (before.split(' ').nth(4), after.split(' ').next()) else { continue };
        let point = point.replace("\\040", " ");
        // Of two mounts on one point the later hides the earlier.
        if folder.starts_with(&point) && best.is_none_or(|(length, _)| point.len() >= length) {
            best = Some((point.len(), kind));
        }
    }
    best.map(|(_, kind)| kind)
}

/// The file beside the database that `suffix` names.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn take_lock(path: &Path) -> Result<File, OpenError> {
    let lock = beside(path, ".lock");
    let unusable = |error| OpenError::Refused(format!("the lock file {} cannot be used: {error}", lock.display()));
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&lock).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only for the message: the lock itself says that there is a holder.
            let _ = file.read_to_string(&mut holder);
            return Err(OpenError::Temporary(format!(
                "{} is in use by another daemon (process {}); stop that one first",
                path.display(),
                holder.trim()
            )));
        }
        Err(TryLockError::Error(error)) => return Err(unusable(error)),
    }
    let note = |file: &mut File| -> std::io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    note(&mut file).map_err(unusable)?;
    Ok(file)
}

#[derive(PartialEq)]
enum Found {
    Nothing,
    Database,
}

/// Looks at the file before SQLite does, and touches nothing.
fn check_file(path: &Path) -> Result<Found, OpenError> {
    let shown = path.display();
    let log = std::fs::metadata(beside(path, "-wal")).map(|meta| meta.len()).unwrap_or(0);
    let refused = |text: String| Err(OpenError::Refused(text));
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && log == 0 => return Ok(Found::Nothing),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return refused(format!(
                "{shown} is missing, but its log of writes ({shown}-wal) is there; put the database back beside it, or restore a backup"
            ));
        }
        Err(error) => return refused(format!("the database {shown} cannot be read: {error}")),
    };
    if meta.is_dir() {
        return refused(format!("the database {shown} is a folder; name a file"));
    }
    if meta.permissions().readonly() {
        return refused(format!("the database {shown} is read-only; give the daemon's user the right to write it"));
    }
    if meta.len() == 0 {
        return refused(format!(
            "the database {shown} is empty, which it never is when whole; restore a backup, or remove the file to begin anew"
        ));
    }
    let mut header = [0; 100];
    let whole = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    match whole {
        Ok(()) if header.starts_with(b"SQLite format 3\0") => {}
        Ok(()) => return refused(format!("{shown} is not a database; nothing was changed in it")),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return refused(format!("{shown} is not a database, or was cut off; nothing was changed in it"));
        }
        Err(error) => return refused(format!("the database {shown} cannot be read: {error}")),
    }
    // With a log of writes beside it the header may name pages that are still in the log.
    let (named, size) = header_size(&header);
    if log == 0 && named > meta.len() {
        return refused(format!(
            "the database {shown} is cut off: {} of {named} bytes are there (pages of {size}); restore a backup",
            meta.len()
        ));
    }
    Ok(Found::Database)
}

/// Bytes that the header says the file has, and the size of a page.
fn header_size(header: &[u8; 100]) -> (u64, u64) {
    let page = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    let pages = u32::from_be_bytes([header[28], header[29], header[30], header[31]]);
    (page * u64::from(pages), page)
}

/// Makes a whole new database under another name and moves it into place: a crash leaves either none or a good one.
fn create(path: &Path) -> Result<(), OpenError> {
    let new = beside(path, ".new");
    for suffix in ["", "-wal", "-shm", "-journal"] {
        // What a crash left behind; a file that is not there is as good.
        let _ = std::fs::remove_file(beside(&new, suffix));
    }
    let make = || -> Result<(), OpenError> {
        let mut conn = connect(&new, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        prepare(&conn, &new)?;
        conn.pragma_update(None, "application_id", APPLICATION_ID).map_err(|error| unusable(&new, &error))?;
        migrate(&mut conn, &new)?;
        conn.close().map_err(|(_, error)| unusable(&new, &error))?;
        let moved = File::open(&new)
            .and_then(|file| file.sync_all())
            .and_then(|()| std::fs::rename(&new, path))
            .and_then(|()| File::open(folder_of(path)))
            .and_then(|folder| folder.sync_all());
        moved.map_err(|error| OpenError::Refused(format!("the database {} cannot be made: {error}", path.display())))
    };
    make()
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, OpenError> {
    let open = || -> rusqlite::Result<Connection> {
        let conn = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        conn.busy_timeout(BUSY_TIMEOUT)?;
        Ok(conn)
    };
    open().map_err(|error| unusable(path, &error))
}

fn check_ours(conn: &Connection, path: &Path) -> Result<(), OpenError> {
    let id: i64 =
        conn.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(|error| unusable(path, &error))?;
    if id != APPLICATION_ID {
        return Err(OpenError::Refused(format!(
            "{} is a database of another program; nothing was changed in it",
            path.display()
        )));
    }
    Ok(())
}

/// Sets what durability rests on and reads it back.
fn prepare(conn: &Connection, path: &Path) -> Result<(), OpenError> {
    let set = || -> rusqlite::Result<(String, i64, i64)> {
        let journal = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        conn.pragma_update(None, "synchronous", "FULL")?;
        conn.pragma_update(None, "foreign_keys", true)?;
        conn.pragma_update(None, "cache_size", -WRITER_CACHE)?;
        conn.pragma_update(None, "temp_store", "MEMORY")?;
        conn.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
        conn.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
        let sync = conn.query_row("PRAGMA synchronous", [], |row| row.get(0))?;
        let keys = conn.query_row("PRAGMA foreign_keys", [], |row| row.get(0))?;
        Ok((journal, sync, keys))
    };
    let (journal, sync, keys) = set().map_err(|error| unusable(path, &error))?;
    if journal != "wal" || sync != 2 || keys != 1 {
        return Err(OpenError::Refused(format!(
            "{} does not take the settings that keep data safe (journal_mode {journal}, synchronous {sync}, foreign_keys {keys})",
            path.display()
        )));
    }
    Ok(())
}

fn migrate(conn: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let version = MIGRATIONS.current_version(conn);
    if matches!(version, Ok(SchemaVersion::Outside(_))) {
        return Err(newer(path));
    }
    MIGRATIONS.to_latest(conn).map_err(|error| {
        OpenError::Refused(format!("the schema of {} cannot be brought up to date: {error}", path.display()))
    })
}

fn newer(path: &Path) -> OpenError {
    OpenError::Refused(format!(
        "{} was written by a newer version; start that version, or restore a backup from before the upgrade",
        path.display()
    ))
}

/// The sentence for an error of SQLite's own at opening.
fn unusable(path: &Path, error: &rusqlite::Error) -> OpenError {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull, ReadOnly};
    let shown = path.display();
    match error.sqlite_error_code() {
        Some(DatabaseBusy | DatabaseLocked) => {
            OpenError::Temporary(format!("the database {shown} is locked by another program; try again"))
        }
        Some(DiskFull) => OpenError::Temporary(format!("the disk that holds the database {shown} is full")),
        Some(ReadOnly) => OpenError::Refused(format!(
            "the database {shown} or its folder is read-only; give the daemon's user the right to write both"
        )),
        _ => OpenError::Refused(format!(
            "the database {shown} cannot be used: {error}; nothing was changed in it, restore a backup if it is damaged"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_nearest_to_the_folder_says_its_file_system() {
        let mounts = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                      30 21 0:40 / /srv rw,relatime shared:2 - nfs4 server:/export rw\n\
                      31 30 8:2 / /srv/my\\040disk rw - xfs /dev/sdb1 rw\n\
                      broken line";
        let check = |folder: &str, kind| assert_eq!(file_system_of(Path::new(folder), mounts), Some(kind), "{folder}");
        check("/var/lib/ringback", "ext4");
        check("/srv/ringback", "nfs4");
        check("/srv/my disk/ringback", "xfs");
        check("/srvother", "ext4");
    }
}
