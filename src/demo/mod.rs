//! `ringback demo`: a made-up bank, the real daemon as a process of its own, and a handler that checks every signature. One
//! planned kill in the middle, and a verdict at the end. It runs the production code and needs no internet and no file.

mod bank;
mod receiver;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::clock::Clock;
use bank::{Bank, Made};
use receiver::{Receiver, Tally};

/// How the demo is run.
pub struct Options {
    /// None: until Ctrl-C.
    pub seconds: Option<u64>,
    pub seed: u64,
    /// A fresh signing secret (`whsec_…`).
    pub secret: String,
}

/// What the demo found.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    pub polls: u64,
    pub events: u64,
    pub delivered: u64,
    pub attempts: u64,
    pub lost: u64,
    pub doubled: u64,
    pub unknown: u64,
    pub bad_signatures: u64,
    pub out_of_order: u64,
}

impl Verdict {
    pub fn good(&self) -> bool {
        self.events > 0 && [self.lost, self.doubled, self.unknown, self.bad_signatures, self.out_of_order] == [0; 5]
    }

    fn of(bank: &Bank, tally: &Tally) -> Verdict {
        let made = bank.made();
        let arrived: Vec<&Made> = tally.accepted.values().map(|(made, _)| made).collect();
        let count = |wanted: &Made| arrived.iter().filter(|made| **made == wanted).count() as u64;
        Verdict {
            polls: bank.polls(),
            events: made.len() as u64,
            delivered: made.iter().filter(|made| count(made) > 0).count() as u64,
            attempts: tally.requests,
            lost: made.iter().filter(|made| count(made) == 0).count() as u64,
            // The same change under two ids, or the same id accepted twice.
            doubled: made.iter().map(|made| count(made).saturating_sub(1)).sum::<u64>()
                + tally.accepted.values().map(|(_, times)| times - 1).sum::<u64>(),
            unknown: arrived.iter().filter(|made| !made_has(&bank.made(), made)).count() as u64,
            bad_signatures: tally.bad_signatures,
            out_of_order: tally.out_of_order,
        }
    }
}

fn made_has(made: &[Made], wanted: &Made) -> bool {
    made.contains(wanted)
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Verdict { polls, events, delivered, attempts, lost, doubled, .. } = self;
        write!(
            f,
            "{polls} polls, {events} events, {delivered} delivered in {attempts} attempts, {lost} lost, {doubled} sent twice."
        )?;
        for (count, what) in [
            (self.unknown, "never happened"),
            (self.bad_signatures, "had a wrong signature"),
            (self.out_of_order, "came out of order"),
        ] {
            if count > 0 {
                write!(f, " {count} {what}!")?;
            }
        }
        Ok(())
    }
}

/// Runs the demo and says what it found.
pub async fn run(options: Options) -> anyhow::Result<Verdict> {
    let started = Instant::now();
    let folder = Folder::new()?;
    let say = move |word: &str, line: &str| {
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), "{:5.1}s  {word:<8} {line}", started.elapsed().as_secs_f64());
    };
    let bank = Bank::new(options.seed, Clock::system().now());
    let receiver = Receiver::new(&options.secret, say).context("read the demo's secret")?;
    let api = serve(bank.clone().router()).await?;
    let hooks = serve(receiver.clone().router()).await?;
    folder.write(&api, &hooks, &options.secret)?;
    println!("ringback demo: everything stays on this machine.");
    println!("  provider   http://{api}   a made-up bank, a change every second or two, no webhooks");
    println!("  receiver   http://{hooks}   checks every signature");
    println!("  daemon     {} run -c {}\n", program(), folder.config().display());

    let mut daemon = spawn(&folder.config(), &folder.log())?;
    first_look(&bank, &mut daemon, &folder.log()).await?;
    say("polled", "bank/payments    25 records   first look: remembered, nothing sent");
    let kill_after = Duration::from_secs(options.seconds.unwrap_or(20) / 2).max(Duration::from_secs(3));
    let mut killed = false;
    let mut next_change = Instant::now() + Duration::from_millis(500);
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            _ = &mut stop => break,
            _ = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        if options.seconds.is_some_and(|seconds| started.elapsed() >= Duration::from_secs(seconds)) {
            break;
        }
        if let Some(status) = daemon.try_wait()? {
            bail!("the daemon ended by itself ({status}); its log:\n{}", tail(&folder.log()));
        }
        // In a quiet moment, so that no answer of the receiver is lost with the process: that would be delivered again, as promised.
        let quiet = receiver.tally().last.is_some_and(|at| at.elapsed() > Duration::from_millis(300));
        if !killed && started.elapsed() >= kill_after && quiet && Verdict::of(&bank, &receiver.tally()).lost == 0 {
            killed = true;
            daemon.kill().await?;
            let made = bank.change();
            tokio::time::sleep(Duration::from_millis(200)).await;
            daemon = spawn(&folder.config(), &folder.log())?;
            say("killed", &format!("the daemon (on purpose), started again in 0.2 s; {} changed meanwhile", made.key));
        } else if Instant::now() >= next_change {
            bank.change();
            next_change = Instant::now() + Duration::from_millis(900 + 100 * (bank.polls() % 7));
        }
    }
    wait_until_quiet(&bank, &receiver).await;
    let verdict = Verdict::of(&bank, &receiver.tally());
    daemon.kill().await?;
    println!("\n{verdict}");
    if verdict.good() {
        println!("Next:  README.md, \"Ten minutes to your own API\"");
    } else {
        println!("The daemon's log:\n{}", tail(&folder.log()));
    }
    Ok(verdict)
}

async fn first_look(bank: &Bank, daemon: &mut Child, log: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(15);
    // The second request proves that the first look was stored: polls of a stream never overlap.
    while bank.polls() < 2 {
        if let Some(status) = daemon.try_wait()? {
            bail!("the daemon ended by itself ({status}); its log:\n{}", tail(log));
        }
        if Instant::now() > deadline {
            bail!("the daemon polled nothing within 15 s; its log:\n{}", tail(log));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Waits until every change has arrived, and a little longer for what should not arrive.
async fn wait_until_quiet(bank: &Bank, receiver: &Receiver) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while Verdict::of(bank, &receiver.tally()).lost > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
}

async fn serve(router: axum::Router) -> anyhow::Result<std::net::SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("listen on a free port")?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "ringback".into())
}

/// Starts the daemon as a process of its own; it ends with the demo.
fn spawn(config: &Path, log: &Path) -> anyhow::Result<Child> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
    Command::new(std::env::current_exe()?)
        .arg("run")
        .arg("-c")
        .arg(config)
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .context("start the daemon")
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// The demo's files; removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Folder> {
        let path = std::env::temp_dir().join(format!("ringback-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Folder(path))
    }

    fn config(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    fn log(&self) -> PathBuf {
        self.0.join("daemon.log")
    }

    fn write(&self, api: &std::net::SocketAddr, hooks: &std::net::SocketAddr, secret: &str) -> anyhow::Result<()> {
        std::fs::write(self.0.join("bank.toml"), PROVIDER)?;
        std::fs::write(self.0.join("password"), bank::PASSWORD)?;
        std::fs::write(self.0.join("user"), bank::USER)?;
        std::fs::write(self.0.join("handler.whsec"), secret)?;
        let config = CONFIG.replace("{api}", &api.to_string()).replace("{hooks}", &hooks.to_string());
        std::fs::write(self.config(), config)?;
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const CONFIG: &str = r#"schema = 1
[admin]
listen = "off"
[sources.bank]
provider = "./bank.toml"
base_url = "http://{api}/api"
secrets  = { user = { file = "user" }, password = { file = "password" } }
streams.payments = { every = "400ms" }
[handlers.ledger]
url    = "http://{hooks}/hooks"
secret = { file = "handler.whsec" }
retry  = { schedule = ["1s", "1s", "2s", "4s"] }
"#;

const PROVIDER: &str = r#"schema = 1
name = "demo-bank"
title = "A made-up bank"
base_url = "http://localhost/api"
secrets.user = "any"
secrets.password = "any"
auth = { type = "basic", username = "{{ secrets.user }}", password = "{{ secrets.password }}" }

[streams.payments]
path       = "/v2/payments"
query      = { updatedSince = "{{ cursor }}", page = "{{ page.number }}", pageSize = "{{ page.size }}" }
records    = ".data"
key        = ".id"
version    = ".updatedAt"
time       = ".updatedAt"
created    = ".createdAt"
order_key  = ".account"
detect     = "changed"
cursor     = { field = ".updatedAt", order = "asc", format = "%Y-%m-%dT%H:%M:%S%.3fZ", timezone = "UTC", precision = "1ms" }
pagination = { type = "page", first = 1, size = 50, total = ".total" }
types      = { created = "payment.created", updated = "payment.updated", when = [{ when = '.old.status != "SETTLED" and .new.status == "SETTLED"', type = "payment.settled" }] }
"#;
