//! Bytes → text: compressed payloads are unpacked within a bound, characters are read in the charset of the answer. A byte that has
//! no meaning there is an error: a record with `�` in it would be a change that never happened.

use std::borrow::Cow;
use std::io::Read;

use bytes::Bytes;
use encoding_rs::{Encoding, UTF_8};

use super::{AnswerFormat, FormatKind};

/// Bytes of an answer once it is unpacked: a small file can unpack to terabytes.
pub const UNPACKED_MAX: usize = 16 * 1024 * 1024;
/// Members of an archive.
const MEMBERS_MAX: usize = 1_000;
/// How far into an answer its XML declaration is looked for.
const DECLARATION_MAX: usize = 256;

/// A character encoding by its registered name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charset(&'static Encoding);

impl Charset {
    /// `windows-1251`, `koi8-u`, `iso-8859-2`, …; None for a name that nobody registered.
    pub fn named(name: &str) -> Option<Charset> {
        Encoding::for_label_no_replacement(name.trim().as_bytes()).map(Charset)
    }
}

/// The files in a payload: gzip holds one, a zip archive several, anything else is itself one.
pub fn unpack(body: &Bytes) -> Result<Vec<Bytes>, String> {
    if body.starts_with(&[0x1f, 0x8b]) {
        let unpacked = bounded(flate2::read::MultiGzDecoder::new(&body[..]), UNPACKED_MAX, "gzip")?;
        return Ok(vec![unpacked]);
    }
    if body.starts_with(b"PK\x03\x04") || body.starts_with(b"PK\x05\x06") {
        return unzip(body);
    }
    Ok(vec![body.clone()])
}

/// The one file in an answer.
pub(super) fn unpack_one(body: &Bytes) -> Result<Bytes, String> {
    let mut files = unpack(body)?;
    match (files.pop(), files.len()) {
        (Some(file), 0) => Ok(file),
        (None, _) => Err("the zip archive is empty".to_owned()),
        (Some(_), more) => Err(format!("the zip archive holds {} files, and one was expected", more + 1)),
    }
}

fn unzip(body: &Bytes) -> Result<Vec<Bytes>, String> {
    let broken = |error: zip::result::ZipError| format!("the zip archive cannot be read: {error}");
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&body[..])).map_err(broken)?;
    if archive.len() > MEMBERS_MAX {
        return Err(format!("the zip archive holds more than {MEMBERS_MAX} files"));
    }
    let (mut files, mut room) = (Vec::new(), UNPACKED_MAX);
    for at in 0..archive.len() {
        let member = archive.by_index(at).map_err(broken)?;
        if member.is_dir() {
            continue;
        }
        let file = bounded(member, room, "zip")?;
        room -= file.len();
        files.push(file);
    }
    Ok(files)
}

/// Reads to the end, at most so many bytes: counted while they come, whatever the archive says of its own size.
fn bounded(from: impl Read, room: usize, what: &str) -> Result<Bytes, String> {
    let mut unpacked = Vec::new();
    from.take(room as u64 + 1)
        .read_to_end(&mut unpacked)
        .map_err(|error| format!("the {what} data is broken: {error}"))?;
    if unpacked.len() > room {
        return Err(format!("the {what} data unpacks to more than {} MiB", UNPACKED_MAX >> 20));
    }
    Ok(unpacked.into())
}

/// The text of an answer. Strongest first: a byte order mark, the file's `charset`, the answer's header, its XML declaration, UTF-8.
pub(super) fn text<'b>(
    format: &AnswerFormat,
    body: &'b [u8],
    content_type: Option<&str>,
) -> Result<Cow<'b, str>, String> {
    if let Some((charset, length)) = Encoding::for_bom(body) {
        return decode(charset, &body[length..]);
    }
    let of_json = matches!(format.kind, FormatKind::Json | FormatKind::Ndjson);
    if let Some(Charset(charset)) = format.charset {
        return decode(charset, body);
    }
    // JSON is UTF-8, whatever a server writes into its header by default.
    if of_json && let Ok(text) = std::str::from_utf8(body) {
        return Ok(text.into());
    }
    let named = content_type.and_then(header_charset).or_else(|| match format.kind {
        FormatKind::Xml | FormatKind::Soap | FormatKind::Feed => declared(body),
        FormatKind::Json | FormatKind::Ndjson | FormatKind::Csv | FormatKind::Text => None,
    });
    match named {
        None => decode(UTF_8, body),
        Some(name) => match Encoding::for_label_no_replacement(name.as_bytes()) {
            Some(charset) => decode(charset, body),
            None => Err(format!("the answer says that it is written in `{name}`, which is no known charset")),
        },
    }
}

fn decode<'b>(charset: &'static Encoding, body: &'b [u8]) -> Result<Cow<'b, str>, String> {
    if charset == UTF_8 {
        return match std::str::from_utf8(body) {
            Ok(text) => Ok(text.into()),
            Err(error) => Err(format!(
                "byte {} of the answer is no UTF-8; say `charset` if it is written in another",
                error.valid_up_to() + 1
            )),
        };
    }
    let name = charset.name();
    let text = charset
        .decode_without_bom_handling_and_without_replacement(body)
        .ok_or_else(|| format!("the answer holds bytes that have no meaning in {name}; correct `charset`"))?;
    // Code pages of Windows have holes, which the web reads as control characters.
    if name.starts_with("windows-")
        && let Some(hole) = text.chars().find(|c| ('\u{80}'..='\u{9f}').contains(c))
    {
        return Err(format!(
            "the answer holds byte {:#04x}, which has no meaning in {name}; correct `charset`",
            hole as u32
        ));
    }
    Ok(text)
}

/// `text/xml; charset="windows-1251"` → `windows-1251`.
fn header_charset(content_type: &str) -> Option<String> {
    let parameters = content_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let value = parameters.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))?.1;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

/// `<?xml version="1.0" encoding="koi8-u"?>` → `koi8-u`.
fn declared(body: &[u8]) -> Option<String> {
    let head = &body[..body.len().min(DECLARATION_MAX)];
    let head: String = head.iter().map(|byte| if byte.is_ascii() { *byte as char } else { '?' }).collect();
    let declaration = head.trim_start().strip_prefix("<?xml")?.split("?>").next()?;
    let after = declaration.split_once("encoding")?.1.trim_start().strip_prefix('=')?.trim_start();
    let mark = after.chars().next().filter(|mark| "\"'".contains(*mark))?;
    after[1..].split(mark).next().map(str::to_owned)
}
