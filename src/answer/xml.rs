//! XML → JSON. An element with nothing but text is that text, exactly as sent; any other is an object: attributes as `@name`, its
//! own text as `#text`, its elements by name, a name that comes several times as a list. Prefixes of namespaces are chance and are
//! left out. Document types are refused, and with them every entity but the five of XML itself.

use std::collections::HashMap;

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};

use super::{ListElement, quote};

/// Elements within elements.
const DEPTH_MAX: usize = 64;

/// An element.
#[derive(Debug, Default, PartialEq)]
pub struct Node {
    pub name: String,
    pub attributes: Vec<(String, String)>,
    pub children: Vec<Node>,
    /// Its own text, without that of its children.
    pub text: String,
}

impl Node {
    /// The first child of this name.
    pub fn child(&self, name: &str) -> Option<&Node> {
        self.children.iter().find(|child| child.name == name)
    }

    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Its own text without the space around it; None when there is none.
    pub fn trimmed(&self) -> Option<&str> {
        Some(self.text.trim()).filter(|text| !text.is_empty())
    }
}

/// Reads a document into its root element.
pub fn parse(text: &str) -> Result<Node, String> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Node> = Vec::new();
    let mut root = None;
    loop {
        let at = reader.buffer_position();
        let event = reader.read_event().map_err(|error| broken(text, at, &error.to_string()))?;
        let fault = |reason: &str| broken(text, at, reason);
        match event {
            Event::Start(start) => {
                if root.is_some() {
                    return Err(fault("a second root element"));
                }
                if open.len() >= DEPTH_MAX {
                    return Err(fault(&format!("more than {DEPTH_MAX} elements within one another")));
                }
                open.push(element(&start).map_err(|reason| fault(&reason))?);
            }
            Event::Empty(start) => {
                let node = element(&start).map_err(|reason| fault(&reason))?;
                if root.is_some() {
                    return Err(fault("a second root element"));
                }
                close(node, &mut open, &mut root);
            }
            Event::End(_) => {
                let node = open.pop().ok_or_else(|| fault("an element ends that was not begun"))?;
                close(node, &mut open, &mut root);
            }
            Event::Text(piece) => {
                let piece = piece.xml_content().map_err(|error| fault(&error.to_string()))?;
                own_text(&mut open, &piece).map_err(|reason| fault(&reason))?;
            }
            Event::CData(piece) => {
                let piece = piece.decode().map_err(|error| fault(&error.to_string()))?;
                own_text(&mut open, &piece).map_err(|reason| fault(&reason))?;
            }
            Event::GeneralRef(reference) => {
                let character = entity(&reference).map_err(|reason| fault(&reason))?;
                own_text(&mut open, character.encode_utf8(&mut [0; 4])).map_err(|reason| fault(&reason))?;
            }
            Event::DocType(_) => return Err(fault("it has a document type (`<!DOCTYPE`), which is refused")),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof => break,
        }
    }
    if let Some(unended) = open.last() {
        return Err(format!("the answer is no XML: `<{}>` does not end: it is cut off", unended.name));
    }
    root.ok_or_else(|| "the answer is no XML: it holds no element".to_owned())
}

fn broken(text: &str, at: u64, reason: &str) -> String {
    let before = usize::try_from(at).ok().and_then(|at| text.as_bytes().get(..at)).unwrap_or_default();
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    format!("the answer is no XML that can be read: line {line}: {reason}")
}

fn element(start: &BytesStart<'_>) -> Result<Node, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut node = Node { name: text(start.local_name().as_ref()), ..Node::default() };
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let full = text(attribute.key.as_ref());
        if full == "xmlns" || full.starts_with("xmlns:") {
            continue;
        }
        let local = text(attribute.key.local_name().as_ref());
        // Two attributes that differ in their prefix alone keep it.
        let name = if node.attribute(&local).is_some() { full } else { local };
        let value = attribute.unescape_value().map_err(|error| error.to_string())?;
        node.attributes.push((name, value.into_owned()));
    }
    Ok(node)
}

fn entity(reference: &BytesRef<'_>) -> Result<char, String> {
    if let Some(character) = reference.resolve_char_ref().map_err(|error| error.to_string())? {
        return Ok(character);
    }
    let name = reference.decode().map_err(|error| error.to_string())?;
    match &*name {
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "amp" => Ok('&'),
        "apos" => Ok('\''),
        "quot" => Ok('"'),
        other => Err(format!("`&{other};` is not known: entities of its own are refused")),
    }
}

fn own_text(open: &mut [Node], piece: &str) -> Result<(), String> {
    match open.last_mut() {
        Some(node) => node.text.push_str(piece),
        None if piece.trim().is_empty() => {}
        None => return Err("text stands outside of the root element".to_owned()),
    }
    Ok(())
}

fn close(node: Node, open: &mut [Node], root: &mut Option<Node>) {
    match open.last_mut() {
        Some(parent) => parent.children.push(node),
        None => *root = Some(node),
    }
}

/// The document: an object with the root element as its one member.
pub fn write_root(out: &mut String, root: &Node, lists: &[ListElement]) {
    out.push('{');
    quote(out, &root.name);
    out.push(':');
    write(out, root, lists);
    out.push('}');
}

/// What an element is in JSON.
pub fn write(out: &mut String, node: &Node, lists: &[ListElement]) {
    let empty: Vec<&str> = lists
        .iter()
        .filter(|list| list.parent.as_ref() == Some(&node.name) && node.child(&list.name).is_none())
        .map(|list| list.name.as_str())
        .collect();
    if node.attributes.is_empty() && node.children.is_empty() && empty.is_empty() {
        // Space alone is how an empty element is laid out.
        quote(out, if node.text.trim().is_empty() { "" } else { &node.text });
        return;
    }
    let mut members = Members::begin(out);
    for (name, value) in &node.attributes {
        quote(members.named(&format!("@{name}")), value);
    }
    if !node.text.trim().is_empty() {
        quote(members.named("#text"), node.text.trim());
    }
    for (name, group) in groups(&node.children) {
        let listed = group.len() > 1 || lists.iter().any(|list| list.name == name && at(list, &node.name));
        write_group(members.named(name), &group, listed, lists);
    }
    for name in empty {
        members.named(name).push_str("[]");
    }
    members.end();
}

fn at(list: &ListElement, parent: &str) -> bool {
    list.parent.as_deref().is_none_or(|name| name == parent)
}

/// Elements of one name: a list, or the one there is.
pub fn write_group(out: &mut String, group: &[&Node], listed: bool, lists: &[ListElement]) {
    if !listed {
        group.iter().for_each(|child| write(out, child, lists));
        return;
    }
    out.push('[');
    for (n, child) in group.iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        write(out, child, lists);
    }
    out.push(']');
}

/// Children by name, in the order in which the names first come.
pub fn groups<'n>(children: impl IntoIterator<Item = &'n Node>) -> Vec<(&'n str, Vec<&'n Node>)> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut groups: Vec<(&str, Vec<&Node>)> = Vec::new();
    for child in children {
        let place = *places.entry(&child.name).or_insert_with(|| {
            groups.push((&child.name, Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(child);
    }
    groups
}

/// Writes the members of an object.
pub struct Members<'o> {
    out: &'o mut String,
    any: bool,
}

impl<'o> Members<'o> {
    pub fn begin(out: &'o mut String) -> Members<'o> {
        out.push('{');
        Members { out, any: false }
    }

    /// The place where the value of this member is to be written.
    pub fn named(&mut self, name: &str) -> &mut String {
        if std::mem::replace(&mut self.any, true) {
            self.out.push(',');
        }
        quote(self.out, name);
        self.out.push(':');
        self.out
    }

    pub fn text(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            quote(self.named(name), value);
        }
    }

    pub fn end(self) {
        self.out.push('}');
    }
}
