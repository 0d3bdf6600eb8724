//! Which scheme of signing `sign`, `verify` and `listen` mean, and with which secrets.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Map, Value};

use super::exit::{Exit, Failure};
use crate::provider::{self, Provider};
use crate::secret::{Secret, SecretRef};
use crate::shape::nearest;
use crate::signature::{Scheme, standard, standard_asymmetric};

/// What is signed how.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// A built-in provider or a provider file; without it Standard Webhooks, as handlers get by default
    #[arg(long, value_name = "NAME|FILE")]
    pub provider: Option<String>,
    /// One of the provider's schemes; without it the first
    #[arg(long, value_name = "NAME")]
    pub scheme: Option<String>,
    /// A setting of the provider
    #[arg(long = "setting", value_name = "KEY=VALUE", value_parser = setting)]
    pub settings: Vec<(String, Value)>,
}

/// A scheme with the settings that it may use.
pub struct Chosen {
    pub scheme: Arc<Scheme>,
    pub settings: Map<String, Value>,
}

impl Choice {
    /// Like `find`; without a provider, keys for `v1a` mean that scheme.
    pub fn find_for(&self, keys: &[Secret], color: bool) -> Result<Chosen, Failure> {
        let mut chosen = self.find(color)?;
        let asymmetric = |key: &Secret| ["whsk_", "whpk_"].iter().any(|start| key.expose().starts_with(start));
        if self.provider.is_none() && keys.first().is_some_and(asymmetric) {
            chosen.scheme = Arc::new(standard_asymmetric());
        }
        Ok(chosen)
    }

    pub fn find(&self, color: bool) -> Result<Chosen, Failure> {
        let Some(name) = &self.provider else {
            let scheme = Arc::new(standard());
            if self.scheme.as_ref().is_some_and(|wanted| *wanted != scheme.name) {
                return Err(Failure::usage("`--scheme` names a scheme of a provider: give `--provider` as well"));
            }
            return Ok(Chosen { scheme, settings: self.settings.iter().cloned().collect() });
        };
        let provider = find_provider(name, color)?;
        let schemes = provider.webhook.as_ref().map_or(&[][..], |webhook| &webhook.schemes);
        let scheme = match &self.scheme {
            None => schemes.first(),
            Some(wanted) => schemes.iter().find(|scheme| scheme.name == *wanted),
        };
        let scheme = scheme.cloned().ok_or_else(|| self.no_scheme(&provider, schemes))?;
        let defaults = provider.settings.iter().filter_map(|spec| Some((spec.name.clone(), spec.default.clone()?)));
        let mut settings: Map<String, Value> = defaults.collect();
        settings.extend(self.settings.iter().cloned());
        Ok(Chosen { scheme, settings })
    }

    fn no_scheme(&self, provider: &Provider, schemes: &[Arc<Scheme>]) -> Failure {
        let names: Vec<&str> = schemes.iter().map(|scheme| scheme.name.as_str()).collect();
        if names.is_empty() {
            return Failure::new(Exit::Nothing, format!("provider `{}` signs no webhooks", provider.name));
        }
        let wanted = self.scheme.as_deref().unwrap_or_default();
        Failure::new(Exit::Nothing, format!("provider `{}` has no scheme `{wanted}`", provider.name))
            .help(format!("it has: {}", names.join(", ")))
    }
}

/// A built-in provider by name, or a provider file by path.
pub fn find_provider(name: &str, color: bool) -> Result<Provider, Failure> {
    let read = match provider::built_in(name) {
        Some(file) => provider::read(file),
        None if name.contains('/') || name.ends_with(".toml") || Path::new(name).exists() => {
            provider::load(Path::new(name))
        }
        None => {
            let names = provider::built_in_names();
            let failure = Failure::new(Exit::Nothing, format!("there is no built-in provider `{name}`"));
            return Err(match nearest(name, names.iter().map(String::as_str)) {
                Some(near) => failure.help(format!("did you mean `{near}`? a file is given by its path")),
                None => failure.help("`ringback provider list` shows them; a file is given by its path"),
            });
        }
    };
    read.map(|(provider, _)| provider).map_err(|faults| Failure::faults(&faults, color))
}

/// Reads secrets from their files; one trailing newline is removed.
pub fn secrets(files: &[PathBuf]) -> Result<Vec<Secret>, Failure> {
    let load = |file: &PathBuf| SecretRef::File(file.clone()).load();
    files.iter().map(|file| load(file).map_err(|error| Failure::new(Exit::Configuration, error.to_string()))).collect()
}

/// `k=v`; a value that is JSON (a number, true, false) is taken as such, any other as text.
fn setting(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not KEY=VALUE"))?;
    let scalar = serde_json::from_str(value).ok().filter(|value: &Value| value.is_number() || value.is_boolean());
    Ok((key.to_owned(), scalar.unwrap_or_else(|| Value::String(value.to_owned()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_the_named_one_else_the_first_else_standard_webhooks() {
        let named = |provider: &str, scheme: Option<&str>| {
            let choice =
                Choice { provider: Some(provider.into()), scheme: scheme.map(str::to_owned), settings: Vec::new() };
            choice.find(false).map(|chosen| chosen.scheme.name.clone())
        };
        assert_eq!(Choice::default().find(false).expect("found").scheme.name, "standard-webhooks");
        let first = named("standard-webhooks", None).expect("found");
        assert_eq!(named("standard-webhooks", Some(&first)).expect("found"), first);
        let failure = named("standard-webhooks", Some("v9")).expect_err("unknown");
        assert!(failure.exit == Exit::Nothing && failure.help.is_some_and(|help| help.contains(&first)));
        let failure = named("standard-webhoks", None).expect_err("unknown");
        assert!(failure.help.is_some_and(|help| help.contains("did you mean `standard-webhooks`")));
        assert_eq!(named("./no/such.toml", None).expect_err("no file").exit, Exit::Configuration);
    }

    #[test]
    fn settings_are_numbers_truths_or_text() {
        for (text, want) in [("a=5", Value::from(5)), ("a=true", Value::from(true)), ("a=b=c", Value::from("b=c"))] {
            assert_eq!(setting(text), Ok(("a".into(), want)));
        }
        assert!(setting("a").is_err());
    }
}
