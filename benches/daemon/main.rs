//! The whole program, measured from outside: polled change → stored → signed → accepted; an unchanged snapshot; the time until it is
//! ready; the memory of an idle one; how late single events are; a backlog. Each figure stands beside a raw limit measured in the same run.
//! `cargo bench --bench daemon`; a word after `--` (pipeline, snapshot, ready, idle, latency, backlog) runs that part alone.

mod delivery;
mod parts;
mod program;
mod server;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    runtime.block_on(async {
        if "ready".contains(&wanted) {
            parts::ready().await;
        }
        if "idle".contains(&wanted) {
            parts::idle().await;
        }
        if "pipeline".contains(&wanted) {
            parts::pipeline().await;
        }
        if "snapshot".contains(&wanted) {
            parts::snapshot().await;
        }
        if "latency".contains(&wanted) {
            delivery::latency().await;
        }
        if "backlog".contains(&wanted) {
            delivery::backlog().await;
        }
    });
}
