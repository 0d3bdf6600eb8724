//! Handlers that come with a replay to an address and end with it: made when one is asked for, taken up again at every start and reload.
//! One that the configuration does not allow any more is not sent to, and says why; it never keeps a daemon from starting.

use std::sync::Arc;

use tracing::{info, warn};
use url::Url;

use super::{Daemon, Parts, parts};
use crate::admin::{ControlError, shape, view};
use crate::config::{self, Config};
use crate::deliver::Handler;
use crate::model::HandlerName;
use crate::source::Sources;
use crate::store::{self, Replay, ReplayTo, Store, StoreError, Temporary};

impl Parts {
    /// Finds in the store what is under way to addresses, and makes handlers of it as this configuration says.
    pub(super) async fn take_up(&mut self, store: &dyn Store, config: &Config) -> store::Result<()> {
        self.temporaries = store.temporaries().await?;
        for temporary in &mut self.temporaries {
            match made_again(config, &self.sources, temporary) {
                Ok((like, handler)) => {
                    (temporary.like, temporary.refused) = (like, None);
                    self.temporary_handlers.insert(temporary.name.clone(), Arc::new(handler));
                }
                Err(reason) => {
                    warn!(handler.name = %temporary.name, "the deliveries of handler {} are held: {reason}", temporary.name);
                    temporary.refused = Some(reason);
                }
            }
        }
        Ok(())
    }
}

/// The handler, and the name of now of the one whose manner it has.
fn made_again(config: &Config, sources: &Sources, temporary: &Temporary) -> Result<(HandlerName, Handler), String> {
    let Temporary { name, like, url, .. } = temporary;
    let renamed = || config.handlers.values().find(|handler| handler.renamed_from.as_ref() == Some(like));
    let found =
        config.handlers.get(like).or_else(renamed).ok_or_else(|| {
            format!("the configuration no longer has handler `{like}`, in whose manner it is sent to")
        })?;
    let pattern = config::like(config, Some(found.name.as_str()))?;
    let url = config::ad_hoc(url, &config.network)?;
    let handler = parts::one_handler(config, &pattern.at(name.clone(), url), sources)?;
    Ok((pattern.name.clone(), handler))
}

impl Daemon {
    /// Starts a replay to an address. Whatever is wrong is found before anything is stored.
    pub(super) async fn send_again_to(
        &self,
        order: shape::ReplayOrder,
        by: &str,
    ) -> Result<shape::ReplayPlan, ControlError> {
        let _turn = self.turn.lock().await;
        let (config, sources) = (self.config.load_full(), self.sources.load_full());
        let (url, pattern) = aim(&config, &order).map_err(ControlError::Wrong)?;
        let given = pattern.at(pattern.name.clone(), url.clone());
        let mut handler = parts::one_handler(&config, &given, &sources).map_err(ControlError::Wrong)?;
        let asked = shape::ReplayOrder { to: None, like: None, ..order };
        let replay = view::replay(&asked, by).map_err(ControlError::Wrong)?;
        let to = ReplayTo::Address { like: pattern.name.clone(), url: url.to_string() };
        let plan = self.store.replay(Replay { to, ..replay }).await.map_err(|error| match error {
            StoreError::Busy(_) | StoreError::Conflict | StoreError::Stale => ControlError::Busy(error.to_string()),
            StoreError::Broken(_) => ControlError::Failed(error.to_string()),
        })?;
        let (address, like) = (view::shown(&url), pattern.name.to_string());
        if let Some(name) = &plan.temporary {
            info!(handler.name = %name, "stored events go to {address} in the manner of handler {like}, asked for by {by}");
            handler.config.name = name.clone();
            self.deliverer.add(handler);
        }
        let plan = view::replay_plan(plan, asked.dry_run);
        Ok(shape::ReplayPlan { address: Some(address), like: Some(like), ..plan })
    }
}

/// The address that is meant, and the handler in whose manner it is sent to: the one named, that of the query, or the only one.
fn aim<'c>(config: &'c Config, order: &shape::ReplayOrder) -> Result<(Url, &'c config::Handler), String> {
    let url = config::ad_hoc(order.to.as_deref().unwrap_or_default(), &config.network)?;
    let of_query = order.events.handler.as_deref().filter(|name| config::like(config, Some(name)).is_ok());
    Ok((url, config::like(config, order.like.as_deref().or(of_query))?))
}
