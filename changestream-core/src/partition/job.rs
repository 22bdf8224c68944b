use std::{pin::pin, sync::Arc};

use tokio::sync::watch;

use super::Slot;
use crate::{
    error::Error,
    runtime::{Runtime, epoch_of},
    shutdown::{shutdown_signal, stopped},
};

/// What a replica does for as long as it has the lease of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Job {
    /// It sits on its seat, for others to know that it lives.
    Seat,
    /// It does the work of a partition.
    Partition(u32),
}

/// How a job ended.
pub(super) type Ended = (Job, Result<(), Error>);

/// The name of a seat's lease.
pub(super) fn seat(runtime: &str, index: u32) -> String {
    format!("{runtime}/replica/{index}")
}

/// Holds the seat of `slot`, if it is free, until it is told to stop.
pub(super) async fn sit(
    runtime: Arc<Runtime>,
    slot: Slot,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    let mut replica = runtime.replica(&slot);
    let tenure = tokio::select! {
        biased;
        () = stopped(&mut stop) => Ok(None),
        tenure = replica.try_acquire(0) => tenure,
    };
    let Ok(Some(mut tenure)) = tenure else {
        replica.withdraw().await;
        return tenure.map(drop);
    };
    let sitting = async {
        stopped(&mut stop).await;
        Ok(())
    };
    let result = replica.hold(&mut tenure, sitting).await;
    replica.release(tenure).await;
    result
}

/// Does the work of the partition of `slot`, if it is free, until it is told to stop.
pub(super) async fn serve(
    runtime: Arc<Runtime>,
    slot: Slot,
    mut stop: watch::Receiver<bool>,
    mut is_shutting_down: watch::Receiver<bool>,
) -> Result<(), Error> {
    let mut replica = runtime.replica(&slot);
    let mut stop = pin!(stopped(&mut stop));
    let acquiring = async {
        let stored = runtime.checkpoint(&slot.name).await?;
        replica.try_acquire(epoch_of(stored.as_ref())).await
    };
    let tenure = tokio::select! {
        biased;
        () = &mut stop => Ok(None),
        tenure = acquiring => tenure,
    };
    let Ok(Some(mut tenure)) = tenure else {
        replica.withdraw().await;
        return tenure.map(drop);
    };
    crate::crash_point!("partition.acquired");
    // A signal aborts a shutdown, not what gives a partition to another replica.
    let abort = async {
        stopped(&mut is_shutting_down).await;
        shutdown_signal().await;
    };
    let work = runtime.work(&slot, tenure.epoch(), None, stop, abort);
    let result = replica.hold(&mut tenure, work).await;
    crate::crash_point!("partition.given_up");
    replica.release(tenure).await;
    crate::crash_point!("partition.released");
    result
}
