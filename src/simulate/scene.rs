//! One seed: two times of trouble, each followed by a calm in which everything must come right.

use std::sync::Arc;
use std::time::Duration;

use super::cast::SHAPES;
use super::daemon::Daemon;
use super::dice::Dice;
use super::provider::Model;
use super::receiver::Receiver;
use super::shapes::{Setting, Shape};
use super::trace::Trace;
use super::world::{Shared, Stream, World};
use super::{Options, START, Story};
use crate::clock::Clock;
use crate::source::Source;
use crate::store::sqlite::Memory;

/// Times of trouble in a story.
const ERAS: u32 = 2;
/// Good looks after which a calm may end, and after which it must have come right.
const LOOKS_MIN: u32 = 4;
const LOOKS_MAX: u32 = 14;
/// Turns of a whole story at most: a daemon that never rests is broken, too.
const TURNS_MAX: u32 = 60_000;

/// Plays a seed.
pub async fn play(memory: &Memory, setting: &Arc<Setting>, seed: u64, options: &Options) -> anyhow::Result<Story> {
    memory.wipe()?;
    let mut dice = Dice::new(seed);
    let clock = Clock::manual(START);
    let shapes = cast(&mut dice, options);
    let streams =
        shapes.iter().map(|shape| Stream { model: Model::new(shape, &mut dice, START.0), live: None }).collect();
    let mut world = World {
        dice,
        trace: Trace::new(options.lines),
        streams,
        receiver: Receiver::default(),
        calm: false,
        fault: None,
        changes: 0,
        asked: 0,
    };
    let names: Vec<&str> = shapes.iter().map(|shape| shape.name).collect();
    world.trace.say(START, format_args!("seed {seed}: {names:?}"));
    let shared = Shared::new(world, clock);
    let daemon = Daemon::start(memory, setting, &names, &shared).await?;
    let mut scene = Scene { memory, setting, names, shared, daemon: Some(daemon), crashes: 0, turns: 0 };
    let played = scene.play(options.steps).await;
    if let Some(daemon) = scene.daemon.take() {
        daemon.crash().await;
    }
    settle().await;
    let (crashes, shared) = (scene.crashes, scene.shared);
    let mut world = shared.into_world().ok_or_else(|| anyhow::anyhow!("seed {seed}: a task outlived its daemon"))?;
    let fault = played?.or(world.fault.take());
    let (asked, changes, events) = (world.asked, world.changes, world.receiver.accepted);
    if let Some(fault) = &fault {
        world.trace.say(START, format_args!("BROKEN: {fault}"));
    }
    let hash = world.trace.hash();
    Ok(Story { seed, hash, fault, asked, changes, events, crashes, lines: world.trace.into_lines() })
}

/// One or two streams.
fn cast(dice: &mut Dice, options: &Options) -> Vec<&'static Shape> {
    if let Some(name) = &options.shape {
        return SHAPES.iter().filter(|shape| shape.name == name).collect();
    }
    let first = dice.below(SHAPES.len());
    let mut shapes = vec![&SHAPES[first]];
    if dice.chance(300) {
        let second = dice.below(SHAPES.len());
        shapes.extend((second != first).then(|| &SHAPES[second]));
    }
    shapes
}

/// Lets every task come to rest: each waits for its turn, for the clock or for a ring.
async fn settle() {
    for _ in 0..6 {
        tokio::task::yield_now().await;
    }
}

struct Scene<'a> {
    memory: &'a Memory,
    setting: &'a Arc<Setting>,
    names: Vec<&'static str>,
    shared: Shared,
    daemon: Option<Daemon>,
    crashes: u64,
    turns: u32,
}

impl Scene<'_> {
    /// Some: the promise that was broken.
    async fn play(&mut self, steps: u32) -> anyhow::Result<Option<String>> {
        for era in 0..ERAS {
            self.shared.say(format_args!("era {era}"));
            self.shared.world().calm = false;
            let end = self.turns + steps;
            while self.turns < end {
                if let Some(fault) = self.turn().await? {
                    return Ok(Some(fault));
                }
            }
            if let Some(fault) = self.calm().await? {
                return Ok(Some(fault));
            }
        }
        Ok(None)
    }

    /// Nothing changes and nothing fails any more: some looks later, everything must have come right.
    async fn calm(&mut self) -> anyhow::Result<Option<String>> {
        self.shared.say(format_args!("calm"));
        {
            let mut world = self.shared.world();
            world.calm = true;
            world.streams.iter_mut().for_each(|stream| stream.model.looks = 0);
        }
        let mut judged = 0;
        loop {
            if let Some(fault) = self.turn().await? {
                return Ok(Some(fault));
            }
            let looks = {
                let world = self.shared.world();
                let posted = world.streams.iter().any(|stream| !stream.model.posts.is_empty());
                if posted { 0 } else { world.streams.iter().map(|stream| stream.model.looks).min().unwrap_or(0) }
            };
            if looks < LOOKS_MIN || looks == judged || self.shared.stage.len() > 0 {
                continue;
            }
            judged = looks;
            let verdict = self.shared.world().judge();
            match verdict {
                Ok(()) => return Ok(None),
                Err(fault) if looks >= LOOKS_MAX => return Ok(Some(fault)),
                Err(_) => {}
            }
        }
    }

    /// One thing happens: somebody's turn, a change, a crash, or time goes on.
    async fn turn(&mut self) -> anyhow::Result<Option<String>> {
        self.turns += 1;
        settle().await;
        self.webhooks();
        self.look().await?;
        if let Some(fault) = self.broken() {
            return Ok(Some(fault));
        }
        let waiting = self.shared.stage.len();
        let (calm, what) = {
            let mut world = self.shared.world();
            (world.calm, world.dice.below(1000))
        };
        match what {
            0..8 if !calm && waiting > 0 => self.crash().await?,
            8..40 if !calm && waiting > 0 => self.change(),
            40..80 if waiting > 0 => self.pass(300),
            990..993 if !calm => self.reload().await?,
            993..1000 if !calm => self.decide().await?,
            940..1000 if calm => self.decide().await?,
            0..400 if !calm && waiting == 0 => self.change(),
            _ if waiting == 0 => self.pass(if calm { 5_000 } else { 3_000 }),
            _ => {
                let choice = self.shared.world().dice.below(waiting);
                self.shared.stage.open(choice);
            }
        }
        Ok(None)
    }

    fn broken(&mut self) -> Option<String> {
        if self.turns > TURNS_MAX {
            return Some("stuck: the daemon never came to rest".into());
        }
        let fault = self.shared.world().fault.clone();
        fault.or_else(|| self.daemon.as_mut().and_then(Daemon::panicked))
    }

    /// Notes when a stream's first look has ended.
    async fn look(&mut self) -> anyhow::Result<()> {
        for (n, name) in self.names.iter().enumerate() {
            if self.shared.world().streams[n].live.is_some() {
                continue;
            }
            if let Some(daemon) = &self.daemon
                && daemon.is_live(name).await?
            {
                let now = self.shared.clock.now();
                let stream = &mut self.shared.world().streams[n];
                (stream.live, stream.model.known) = (Some(now.0), true);
            }
        }
        Ok(())
    }

    fn change(&mut self) {
        let now = self.shared.clock.now();
        let mut world = self.shared.world();
        let World { dice, trace, streams, changes, .. } = &mut *world;
        let which = dice.below(streams.len());
        let said = streams[which].model.change(now.0, dice);
        *changes += 1;
        trace.say(now, format_args!("{}: {said}", streams[which].model.shape.name));
    }

    async fn reload(&mut self) -> anyhow::Result<()> {
        self.shared.say(format_args!("reload"));
        match &self.daemon {
            Some(daemon) => daemon.reload(self.setting, &self.names).await,
            None => Ok(()),
        }
    }

    /// A person looks at what is held; when all is calm, each is approved.
    async fn decide(&mut self) -> anyhow::Result<()> {
        let Some(daemon) = &self.daemon else { return Ok(()) };
        let approved = {
            let mut world = self.shared.world();
            let calm = world.calm;
            world.dice.chance(700) || calm
        };
        for held in daemon.decide(approved).await? {
            self.shared.say(format_args!("{}: {held}", if approved { "approved" } else { "rejected" }));
        }
        Ok(())
    }

    fn pass(&mut self, most: i64) {
        let millis = self.shared.world().dice.between(1, most);
        self.shared.clock.advance(Duration::from_millis(u64::try_from(millis).unwrap_or(1)));
    }

    async fn crash(&mut self) -> anyhow::Result<()> {
        self.crashes += 1;
        self.shared.say(format_args!("crash"));
        if let Some(daemon) = self.daemon.take() {
            daemon.crash().await;
        }
        settle().await;
        let down = self.shared.world().dice.between(0, 5_000);
        self.shared.clock.advance(Duration::from_millis(u64::try_from(down).unwrap_or(0)));
        self.post_again();
        self.daemon = Some(Daemon::start(self.memory, self.setting, &self.names, &self.shared).await?);
        Ok(())
    }

    /// What was not answered with 2xx is sent again.
    fn post_again(&self) {
        let due = self.shared.clock.now().0 + 1_000;
        let mut world = self.shared.world();
        for post in world.streams.iter_mut().flat_map(|stream| &mut stream.model.posts).filter(|post| post.sent) {
            (post.sent, post.due) = (false, due);
        }
    }

    /// Real webhooks that are due arrive.
    fn webhooks(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        let now = self.shared.clock.now().0;
        for (n, name) in self.names.iter().enumerate() {
            let due: Vec<_> = {
                let mut world = self.shared.world();
                let posts = world.streams[n].model.posts.iter_mut().filter(|post| !post.sent && post.due <= now);
                posts
                    .map(|post| {
                        post.sent = true;
                        post.clone()
                    })
                    .collect()
            };
            let source: Option<&Arc<Source>> = self.setting.sources.get(&crate::model::SourceName::from(*name));
            for post in due {
                source.iter().for_each(|source| daemon.receive(n, source, &post));
            }
        }
    }
}
