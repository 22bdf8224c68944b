//! A simulation: the engine between a scripted source and faulty stores, in virtual time. A seed decides all that
//! happens, and an oracle, which knows what is done, judges it.
//!
//! `cargo xtask simulate` runs many seeds, and any one of them again.

mod behaviour;
mod life;
mod oracle;
mod store;
mod world;

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use oracle::{Oracle, Verdict};
use world::World;

/// Which seeds are run; those of an ordinary test run where these are not set.
const FROM: &str = "CHANGESTREAM_SIMULATE_FROM";
const SEEDS: &str = "CHANGESTREAM_SIMULATE_SEEDS";

fn number(variable: &str, default: u64) -> u64 {
    let Ok(text) = env::var(variable) else {
        return default;
    };
    text.parse()
        .unwrap_or_else(|_| panic!("{variable} is no number: {text}"))
}

/// Lets the world of a seed pass, from its first start to when all its events are done.
fn simulate(seed: u64) -> Verdict {
    let world = Arc::new(World::new(seed));
    // The backoffs draw from it.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let oracle = Arc::new(Oracle::new(Arc::clone(&world)));
        life::live_all(&world, &oracle).await;
        oracle.verdict()
    })
}

#[test]
fn simulation_of_many_seeds() {
    let (from, seeds) = (number(FROM, 0), number(SEEDS, 200));
    let next = AtomicU64::new(from);
    let began = Instant::now();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let run = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= from + seeds {
                    return;
                }
                if let Some(violation) = simulate(seed).violation {
                    // The others need not go on.
                    next.store(u64::MAX / 2, Ordering::Relaxed);
                    panic!(
                        "seed {seed}: {violation}\nagain: cargo xtask simulate --from {seed} --seeds 1"
                    );
                }
            }
        };
        for _ in 0..threads {
            scope.spawn(run);
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    println!("{seeds} seeds in {seconds:.1} s");
}

#[test]
fn simulation_of_a_seed_is_the_same_each_time() {
    for seed in 0..20 {
        let [one, other] = [simulate(seed), simulate(seed)];
        assert_eq!(one.history, other.history, "seed {seed}");
        assert!(!one.history.is_empty());
    }
}
