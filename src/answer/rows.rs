//! CSV → a list: of objects by the names in the first row, or of lists where there is no such row. Fields stay text, exactly as
//! sent. A row with too many or too few fields is set aside.

use csv::{ReaderBuilder, StringRecord};

use super::xml::Members;
use super::{BadRecord, CsvShape, Decoded, quote};

/// Reads the rows.
pub fn read(text: &str, shape: &CsvShape) -> Result<Decoded, String> {
    let mut builder = ReaderBuilder::new();
    builder.has_headers(false).flexible(true).delimiter(shape.delimiter);
    match shape.quote {
        Some(quote) => builder.quote(quote),
        None => builder.quoting(false),
    };
    let mut reader = builder.from_reader(text.as_bytes());
    let mut row = StringRecord::new();
    let mut names = None;
    let mut json = String::with_capacity(text.len() * 2);
    let (mut bad, mut width, mut last) = (Vec::new(), None, "");
    json.push('[');
    loop {
        let begins = reader.position().byte();
        let more = reader.read_record(&mut row).map_err(|error| format!("the answer is no CSV: {error}"))?;
        if !more {
            break;
        }
        let raw = slice(text, begins, reader.position().byte());
        last = raw;
        if shape.header && names.is_none() {
            names = Some(columns(&row)?);
            width = Some(row.len());
            continue;
        }
        if row.len() != *width.get_or_insert(row.len()) {
            let reason = format!("the row has {} fields, and {} were expected", row.len(), width.unwrap_or_default());
            bad.push(BadRecord { raw: raw.trim().as_bytes().to_vec().into(), reason });
            continue;
        }
        if json.len() > 1 {
            json.push(',');
        }
        write(&mut json, &row, names.as_deref());
    }
    if ends_quoted(last, shape) {
        return Err("the answer is cut off inside a quoted field, or its last quotation mark is missing".to_owned());
    }
    if shape.header && names.is_none() {
        return Err("the answer is empty: there is not even a row with the names of the columns".to_owned());
    }
    json.push(']');
    Ok(Decoded { json: json.into(), bad, fault: None })
}

fn slice(text: &str, from: u64, to: u64) -> &str {
    let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX);
    text.get(at(from)..at(to)).unwrap_or_default()
}

/// The names of the columns; one without a name is called by its number.
fn columns(row: &StringRecord) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::with_capacity(row.len());
    for (n, name) in row.iter().enumerate() {
        let name = if name.trim().is_empty() { (n + 1).to_string() } else { name.trim().to_owned() };
        if names.contains(&name) {
            return Err(format!("two columns of the answer are called `{name}`"));
        }
        names.push(name);
    }
    Ok(names)
}

fn write(out: &mut String, row: &StringRecord, names: Option<&[String]>) {
    let Some(names) = names else {
        out.push('[');
        for (n, field) in row.iter().enumerate() {
            if n > 0 {
                out.push(',');
            }
            quote(out, field);
        }
        out.push(']');
        return;
    };
    let mut members = Members::begin(out);
    names.iter().zip(row.iter()).for_each(|(name, field)| quote(members.named(name), field));
    members.end();
}

/// Whether the last row ends inside a quoted field: then everything behind an open quotation mark was taken for one field.
fn ends_quoted(raw: &str, shape: &CsvShape) -> bool {
    #[derive(PartialEq)]
    enum In {
        Start,
        Bare,
        Quoted,
        /// Behind a mark that ends the field, or is the first of a doubled one.
        Closed,
    }
    let Some(mark) = shape.quote else { return false };
    let mut place = In::Start;
    for byte in raw.bytes() {
        let ends = byte == shape.delimiter || byte == b'\n' || byte == b'\r';
        place = match (place, byte == mark) {
            (In::Start | In::Closed, true) => In::Quoted,
            (In::Quoted, true) => In::Closed,
            (In::Quoted, false) => In::Quoted,
            // Inside a bare field a mark is a character like any other.
            (In::Bare, true) => In::Bare,
            (In::Start | In::Bare | In::Closed, false) if ends => In::Start,
            (In::Start | In::Bare | In::Closed, false) => In::Bare,
        };
    }
    place == In::Quoted
}
