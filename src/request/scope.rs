//! What a template may name in its place: a name that is not there is found while the file is read, with what was meant.

use crate::shape::{Value, nearest};
use crate::template::Template;

/// Variables with their members.
pub type Variables = [(&'static str, &'static [&'static str])];

/// Any member.
pub const ANY: &[&str] = &[];

/// The names of one place.
pub struct Scope<'a> {
    pub variables: &'a Variables,
    /// Tables whose members the author named: `secrets`, `settings`.
    pub given: &'a [(&'a str, &'a [String])],
    /// Of what the given ones are: `file`, `handler`.
    pub of: &'a str,
    /// How one is given, for the remedy: `"what it is"`.
    pub naming: &'a str,
}

impl Scope<'_> {
    /// A value as a template in which every name is known; a fault at the value when it is none.
    pub fn template(&self, value: &Value<'_, '_>) -> Option<Template> {
        let text = value.text()?;
        let template = match Template::parse(&text) {
            Ok(template) => template,
            Err(error) => {
                value.fault(format!("`{}` is no template: {error}", value.name), None);
                return None;
            }
        };
        let mut good = true;
        for (message, help) in template.names().iter().filter_map(|name| self.unknown(name)) {
            value.fault(message, help.as_deref());
            good = false;
        }
        good.then_some(template)
    }

    /// What is wrong with a name in a template, and what was meant.
    pub fn unknown(&self, name: &str) -> Option<(String, Option<String>)> {
        let (root, member) = name.split_once('.').map_or((name, None), |(root, rest)| (root, rest.split('.').next()));
        let mean = |near: Option<&str>| near.map(|near| format!("did you mean `{near}`?"));
        let Some((_, members)) = self.variables.iter().find(|(variable, _)| *variable == root) else {
            let known = self.variables.iter().map(|(variable, _)| *variable);
            let list = known.clone().collect::<Vec<_>>().join(", ");
            let help = mean(nearest(root, known)).unwrap_or_else(|| format!("known here: {list}"));
            return Some((format!("`{name}` is not known in this template"), Some(help)));
        };
        let Some((_, given)) = self.given.iter().find(|(table, _)| *table == root) else {
            let member = member.filter(|member| !members.is_empty() && !members.contains(member))?;
            let near = nearest(member, members.iter().copied()).map(|near| format!("{root}.{near}"));
            let help = mean(near.as_deref()).unwrap_or_else(|| format!("known: {}", members.join(", ")));
            return Some((format!("`{name}` is not known in this template"), Some(help)));
        };
        let member = member.filter(|member| !given.iter().any(|name| name == member))?;
        let near = nearest(member, given.iter().map(String::as_str)).map(|near| format!("{root}.{near}"));
        let help = mean(near.as_deref()).unwrap_or_else(|| format!("name it: {root}.{member} = {}", self.naming));
        Some((format!("`{name}` is not among the {root} of this {}", self.of), Some(help)))
    }
}
