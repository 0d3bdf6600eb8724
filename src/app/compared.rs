//! What a configuration that was read again changed, as lines for a person.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};

use crate::config::{Config, Handler, Source};
use crate::source::Sources;

/// A configuration, and its sources as they work.
pub struct Side<'a> {
    pub config: &'a Config,
    pub sources: &'a Sources,
}

/// One line for each source and handler that came, went or is another, and one for everything else.
pub fn changes(before: &Side<'_>, after: &Side<'_>) -> Vec<String> {
    let (was, is) = (before.config, after.config);
    let mut lines = Vec::new();
    let same = |old: &Source, new: &Source| {
        alike(&Source { place: new.place.clone(), ..old.clone() }, new) && works_alike(before, after, old)
    };
    let formerly = |source: &Source| source.renamed_from.clone();
    compare("source", &was.sources, &is.sources, formerly, same, &mut lines);
    let same = |old: &Handler, new: &Handler| alike(&Handler { place: new.place.clone(), ..old.clone() }, new);
    let formerly = |handler: &Handler| handler.renamed_from.clone();
    compare("handler", &was.handlers, &is.handlers, formerly, same, &mut lines);
    if !alike(&rest(was), &rest(is)) {
        lines.push("settings outside of sources and handlers changed".into());
    }
    lines
}

fn compare<N: Ord + Clone + Display, T>(
    what: &str,
    was: &BTreeMap<N, T>,
    is: &BTreeMap<N, T>,
    formerly: impl Fn(&T) -> Option<N>,
    same: impl Fn(&T, &T) -> bool,
    lines: &mut Vec<String>,
) {
    let mut renamed = Vec::new();
    for (name, new) in is {
        let former = formerly(new).filter(|former| was.contains_key(former) && !is.contains_key(former));
        match (was.get(name), former) {
            (Some(old), _) if same(old, new) => {}
            (Some(_), _) => lines.push(format!("{what} `{name}` changed")),
            (None, Some(former)) => {
                lines.push(format!("{what} `{former}` is called `{name}` now"));
                renamed.push(former);
            }
            (None, None) => lines.push(format!("{what} `{name}` added")),
        }
    }
    let gone = was.keys().filter(|name| !is.contains_key(name) && !renamed.contains(name));
    lines.extend(gone.map(|name| format!("{what} `{name}` removed")));
}

/// The provider file and the values of secrets stand elsewhere.
fn works_alike(before: &Side<'_>, after: &Side<'_>, source: &Source) -> bool {
    match (before.sources.get(&source.name), after.sources.get(&source.name)) {
        (Some(old), Some(new)) => {
            let mut values = old.secrets.iter().zip(&new.secrets);
            let kept = values.all(|((name, one), (other, two))| name == other && one.expose() == two.expose());
            alike(&old.provider, &new.provider) && old.secrets.len() == new.secrets.len() && kept
        }
        (None, None) => true,
        _ => false,
    }
}

/// Everything that a configuration says takes part in how it is printed, but for the values of secrets.
fn alike(one: &impl Debug, other: &impl Debug) -> bool {
    format!("{one:?}") == format!("{other:?}")
}

fn rest(config: &Config) -> Config {
    Config { sources: BTreeMap::new(), handlers: BTreeMap::new(), ..config.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const HANDLERS: &str = "[handlers.a]\nurl = \"http://127.0.0.1:1/a\"\nsecret = { env = \"A\" }\n\
                            [handlers.b]\nurl = \"http://127.0.0.1:1/b\"\nsecret = { env = \"A\" }\n";

    fn lines(before: &str, after: &str) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a folder");
        let read = |text: &str| {
            let path = folder.path().join("config.toml");
            std::fs::write(&path, format!("schema = 1\n{text}")).expect("written");
            let shown = |faults: Vec<_>| crate::shape::render(&faults, false);
            config::load(&path).map_err(shown).expect("a configuration").0
        };
        let (was, is, none) = (read(before), read(after), Sources::new());
        changes(&Side { config: &was, sources: &none }, &Side { config: &is, sources: &none })
    }

    #[test]
    fn what_came_went_or_is_another_is_said_in_a_line_each() {
        let source = "[sources.core]\nprovider = \"json-list\"\n";
        let nothing: [String; 0] = [];
        assert_eq!(lines(HANDLERS, HANDLERS), nothing);
        assert_eq!(lines(HANDLERS, &format!("# a remark\n\n{HANDLERS}")), nothing, "only lines moved");
        assert_eq!(lines(HANDLERS, &format!("{source}{HANDLERS}")), ["source `core` added"]);
        assert_eq!(lines(&format!("{source}{HANDLERS}"), HANDLERS), ["source `core` removed"]);
        assert_eq!(lines(HANDLERS, &HANDLERS.replace(":1/b", ":2/b")), ["handler `b` changed"]);
        let other = HANDLERS.replace("[handlers.b]", "[handlers.c]\nrenamed_from = \"b\"");
        assert_eq!(lines(HANDLERS, &other), ["handler `b` is called `c` now"]);
        let other = HANDLERS.replace("[handlers.b]", "[handlers.c]");
        assert_eq!(lines(HANDLERS, &other), ["handler `c` added", "handler `b` removed"]);
        let other = format!("keep = \"7d\"\n{HANDLERS}");
        assert!(lines(HANDLERS, &other)[0].starts_with("settings outside of sources and handlers changed"));
    }
}
