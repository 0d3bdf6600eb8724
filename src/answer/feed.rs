//! Atom 1.0, RSS 2.0 and RSS 1.0 → one shape, so that a feed that changes its dialect changes no record:
//!
//! `{ title, id, link, next, updated, entries: [{ id, title, link, links, published, updated, summary, content, author, categories,
//! enclosures, more }] }`. Times become RFC 3339 where they can be read. `more` holds the elements of other namespaces.

use super::xml::{Members, Node, groups, write, write_group};
use super::{ListElement, quote};

/// Elements that have a place of their own in an entry.
const PLACED: [&str; 20] = [
    "id",
    "guid",
    "title",
    "link",
    "published",
    "issued",
    "pubDate",
    "date",
    "updated",
    "modified",
    "summary",
    "description",
    "content",
    "encoded",
    "author",
    "creator",
    "category",
    "subject",
    "enclosure",
    "source",
];

/// Reads a feed.
pub fn read(root: &Node, lists: &[ListElement]) -> Result<String, String> {
    let (about, entries): (&Node, Vec<&Node>) = match root.name.as_str() {
        "feed" => (root, named(root, "entry").collect()),
        "rss" => {
            let channel = root.child("channel").ok_or("the feed has no channel")?;
            (channel, named(channel, "item").collect())
        }
        // RSS 1.0: the items stand beside the channel.
        "RDF" => (root.child("channel").ok_or("the feed has no channel")?, named(root, "item").collect()),
        other => return Err(format!("the answer is no feed: its root element is `{other}`, neither Atom nor RSS")),
    };
    let mut json = String::new();
    let mut members = Members::begin(&mut json);
    members.text("title", first(about, &["title"]));
    members.text("id", first(about, &["id"]));
    members.text("link", link(about, "alternate"));
    members.text("next", link_of(about, "next"));
    members.text("updated", first(about, &["updated", "lastBuildDate", "pubDate", "date"]).map(time).as_deref());
    let out = members.named("entries");
    out.push('[');
    for (n, entry) in entries.into_iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        write_entry(out, entry, lists);
    }
    out.push(']');
    members.end();
    Ok(json)
}

fn named<'n>(node: &'n Node, name: &'static str) -> impl Iterator<Item = &'n Node> {
    node.children.iter().filter(move |child| child.name == name)
}

fn first<'n>(node: &'n Node, names: &[&str]) -> Option<&'n str> {
    names.iter().find_map(|name| node.children.iter().filter(|child| child.name == *name).find_map(Node::trimmed))
}

/// The address of a link of this kind; RSS writes its only one as text.
fn link<'n>(node: &'n Node, rel: &str) -> Option<&'n str> {
    let plain = || named(node, "link").find_map(Node::trimmed);
    link_of(node, rel)
        .or_else(|| named(node, "link").find(|link| link.attribute("rel").is_none())?.attribute("href"))
        .or_else(plain)
}

fn link_of<'n>(node: &'n Node, rel: &str) -> Option<&'n str> {
    named(node, "link").find(|link| link.attribute("rel") == Some(rel))?.attribute("href")
}

fn write_entry(out: &mut String, entry: &Node, lists: &[ListElement]) {
    let address = link(entry, "alternate");
    let mut members = Members::begin(out);
    // What identifies an entry that has no id is where it leads.
    members.text("id", first(entry, &["id", "guid"]).or(address));
    members.text("title", first(entry, &["title"]));
    members.text("link", address);
    objects(
        &mut members,
        "links",
        named(entry, "link").filter(|link| link.attribute("href").is_some()),
        &["rel", "href", "type"],
    );
    members.text("published", first(entry, &["published", "issued", "pubDate", "date"]).map(time).as_deref());
    members.text("updated", first(entry, &["updated", "modified"]).map(time).as_deref());
    members.text("summary", first(entry, &["summary", "description"]));
    if let Some(content) = entry.children.iter().find(|child| matches!(child.name.as_str(), "content" | "encoded")) {
        // XHTML content is a tree of elements.
        if content.children.is_empty() {
            members.text("content", content.trimmed());
        } else {
            write(members.named("content"), content, lists);
        }
    }
    let author =
        entry.child("author").and_then(|author| first(author, &["name", "email"]).or_else(|| author.trimmed()));
    members.text("author", author.or_else(|| first(entry, &["creator"])));
    texts(&mut members, "categories", entry);
    objects(&mut members, "enclosures", named(entry, "enclosure"), &["url", "type", "length"]);
    let others: Vec<&Node> = entry.children.iter().filter(|child| !PLACED.contains(&child.name.as_str())).collect();
    if !others.is_empty() {
        let mut more = Members::begin(members.named("more"));
        for (name, group) in groups(others) {
            write_group(more.named(name), &group, group.len() > 1, lists);
        }
        more.end();
    }
    members.end();
}

fn objects<'n>(members: &mut Members<'_>, name: &str, nodes: impl Iterator<Item = &'n Node>, attributes: &[&str]) {
    let nodes: Vec<&Node> = nodes.collect();
    if nodes.is_empty() {
        return;
    }
    let out = members.named(name);
    out.push('[');
    for (n, node) in nodes.into_iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        let mut object = Members::begin(out);
        attributes.iter().for_each(|attribute| object.text(attribute, node.attribute(attribute)));
        object.end();
    }
    out.push(']');
}

/// Atom names a category in an attribute, RSS in its text.
fn texts(members: &mut Members<'_>, name: &str, entry: &Node) {
    let categories = entry.children.iter().filter(|child| matches!(child.name.as_str(), "category" | "subject"));
    let categories: Vec<&str> =
        categories.filter_map(|category| category.attribute("term").or_else(|| category.trimmed())).collect();
    if categories.is_empty() {
        return;
    }
    let out = members.named(name);
    out.push('[');
    for (n, category) in categories.into_iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        quote(out, category);
    }
    out.push(']');
}

/// RSS writes times as mail does; what is neither stays as it was sent.
fn time(text: &str) -> String {
    let read = chrono::DateTime::parse_from_rfc3339(text).or_else(|_| chrono::DateTime::parse_from_rfc2822(text));
    read.map_or_else(|_| text.to_owned(), |time| time.to_utc().to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}
