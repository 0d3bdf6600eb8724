//! SOAP 1.1 and 1.2: what stands in the envelope's body is the answer. A fault looks alike in both versions: `Fault.code`,
//! `Fault.subcode`, `Fault.message`, and what was sent beside them.

use super::xml::{Members, Node, groups, write, write_group};
use super::{Decoded, ListElement};

/// Reads an envelope.
pub fn read(root: &Node, lists: &[ListElement]) -> Result<Decoded, String> {
    if root.name != "Envelope" {
        return Err(format!("the answer is no SOAP envelope: its root element is `{}`", root.name));
    }
    let body = root.child("Body").ok_or("the SOAP envelope has no body")?;
    let (mut json, mut told) = (String::new(), None);
    let mut members = Members::begin(&mut json);
    if let Some(header) = root.child("Header").filter(|header| !header.children.is_empty()) {
        write(members.named("Header"), header, lists);
    }
    for (name, group) in groups(&body.children) {
        let out = members.named(name);
        match group.as_slice() {
            [fault] if name == "Fault" => told = Some(write_fault(out, fault, lists)),
            several => write_group(out, several, several.len() > 1, lists),
        }
    }
    members.end();
    Ok(Decoded { json: json.into(), bad: Vec::new(), fault: told })
}

/// Gives the fault in one sentence.
fn write_fault(out: &mut String, fault: &Node, lists: &[ListElement]) -> String {
    let of = |path: &[&str]| {
        let found = path.iter().try_fold(fault, |node, name| node.child(name))?;
        found.trimmed().map(str::to_owned)
    };
    // The prefix of a code stands for a namespace and is chance.
    let plain = |code: String| code.rsplit(':').next().unwrap_or_default().to_owned();
    let code = of(&["faultcode"]).or_else(|| of(&["Code", "Value"])).map(plain);
    let subcode = of(&["Code", "Subcode", "Value"]).map(plain);
    let message = of(&["faultstring"]).or_else(|| of(&["Reason", "Text"]));
    let mut members = Members::begin(out);
    members.text("code", code.as_deref());
    members.text("subcode", subcode.as_deref());
    members.text("message", message.as_deref());
    for child in &fault.children {
        if !["code", "subcode", "message"].contains(&child.name.as_str()) {
            write(members.named(&child.name), child, lists);
        }
    }
    members.end();
    let parts: Vec<String> = [code, subcode, message].into_iter().flatten().collect();
    let mut sentence = String::from("the provider answered with a SOAP fault");
    if !parts.is_empty() {
        sentence.push_str(": ");
        sentence.push_str(&parts.join(": ").chars().take(300).collect::<String>());
    }
    sentence
}
