//! NDJSON: one JSON value a line → a list. A line that is none is set aside; a last one that breaks off shows that the answer did.

use serde_json::value::RawValue;

use super::{BadRecord, Decoded};

/// Reads the lines.
pub fn read(text: &str) -> Result<Decoded, String> {
    let mut json = String::with_capacity(text.len() + 2);
    let mut bad = Vec::new();
    json.push('[');
    for piece in text.split_inclusive('\n') {
        let line = piece.trim();
        if line.is_empty() {
            continue;
        }
        match serde_json::from_str::<&RawValue>(line) {
            Ok(_) => {
                if json.len() > 1 {
                    json.push(',');
                }
                json.push_str(line);
            }
            Err(error) if error.is_eof() && !piece.ends_with('\n') => {
                return Err("the answer is cut off in its last line".to_owned());
            }
            Err(error) => {
                let raw = line.as_bytes().to_vec().into();
                bad.push(BadRecord { raw, reason: format!("the line is not JSON: {error}") });
            }
        }
    }
    json.push(']');
    Ok(Decoded { json: json.into(), bad, fault: None })
}
