//! What a builder refuses.

use std::{collections::HashSet, sync::Arc, time::Duration};

use crate::{
    config::Config,
    error::Error,
    event::Operation,
    handler::BoundHandler,
    partition,
    sink::{self, BoundRoute, SinkSpec},
    snapshot::Snapshot,
    source::OnLostHistory,
};

type Sinks = [(Arc<str>, SinkSpec)];

/// Of the runtime.
pub(super) fn name(name: &str) -> Result<(), Error> {
    match partition::split(name) {
        None => Ok(()),
        Some((runtime, index)) => Err(Error::configuration(format!(
            "`{name}` names partition {index} of a runtime `{runtime}`; let the name not end in a slash and a number"
        ))),
    }
}

pub(super) fn all(config: &Config, handlers: &[BoundHandler], sinks: &Sinks) -> Result<(), Error> {
    let counts = [
        ("concurrency", config.concurrency),
        ("bound of the events in flight", config.in_flight_events),
        ("bound of the bytes in flight", config.in_flight_bytes),
        ("number of snapshot readers", config.snapshot_readers),
        ("size of a snapshot's chunks", config.snapshot_chunk),
    ];
    for (what, count) in counts {
        not_zero(what, count == 0)?;
    }
    let durations = [
        ("timeout", config.policy.timeout),
        ("checkpoint interval", config.checkpoint_interval),
        ("reply timeout", config.reply_timeout),
        ("retention of processed events", config.processed_retention),
    ];
    for (what, duration) in durations {
        positive(what, duration)?;
    }
    lease(config.lease)?;
    partitions(config, handlers)?;
    names(handlers, sinks)?;
    lost_history(config, handlers)?;
    for handler in handlers {
        let timeout = handler.policy.timeout.unwrap_or(config.policy.timeout);
        positive(&format!("timeout of handler `{}`", handler.name), timeout)?;
        batch(handler, config.in_flight_events)?;
    }
    for (sink, spec) in sinks {
        let timeout = spec.policy.timeout.unwrap_or(config.policy.timeout);
        positive(&format!("timeout of sink `{sink}`"), timeout)?;
        not_zero(
            &format!("concurrency of sink `{sink}`"),
            spec.concurrency == 0,
        )?;
    }
    Ok(())
}

fn positive(what: &str, duration: Duration) -> Result<(), Error> {
    not_zero(what, duration.is_zero())
}

fn not_zero(what: &str, is_zero: bool) -> Result<(), Error> {
    match is_zero {
        true => Err(Error::configuration(format!("the {what} is zero"))),
        false => Ok(()),
    }
}

fn lease(time: Duration) -> Result<(), Error> {
    const BOUNDS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(24 * 60 * 60)];
    match BOUNDS[0] <= time && time <= BOUNDS[1] {
        true => Ok(()),
        false => Err(Error::configuration(format!(
            "the lease is {time:?}; give it a second at least and a day at most"
        ))),
    }
}

fn partitions(config: &Config, handlers: &[BoundHandler]) -> Result<(), Error> {
    let partitions = config.partitions;
    not_zero("number of partitions", partitions == 0)?;
    if partitions > partition::MAX {
        return Err(Error::configuration(format!(
            "there are {partitions} partitions; let there be {} at most",
            partition::MAX
        )));
    }
    if partitions > 1 && config.snapshot != Snapshot::Never {
        return Err(Error::configuration(format!(
            "there are {partitions} partitions, and snapshots are taken with 1 only; take the snapshot first, or in a \
             runtime of its own"
        )));
    }
    let mut handlers = handlers.iter().filter(|_| partitions > 1);
    let obstacle = handlers.find_map(|handler| Some((handler, partition::obstacle(handler)?)));
    match obstacle {
        Some((handler, path)) => Err(Error::configuration(format!(
            "handler `{}` has the key `{path}`, which updates and deletes do not carry for all partitions alike; let \
             it be within `_id`, let the handler receive inserts and replaces only, or have 1 partition",
            handler.name
        ))),
        None => Ok(()),
    }
}

/// What is to come again must have someone to come to.
fn lost_history(config: &Config, handlers: &[BoundHandler]) -> Result<(), Error> {
    if config.stream.lost_history != OnLostHistory::Snapshot {
        return Ok(());
    }
    let receives = |handler: &BoundHandler| handler.selection.selects(&Operation::Snapshot);
    let obstacle = if config.partitions > 1 {
        "snapshots are taken with 1 partition only; have 1 partition"
    } else if config.snapshot == Snapshot::Never {
        "snapshots are never taken; add `.snapshot(Snapshot::Initial)`"
    } else if !handlers.iter().any(receives) {
        "no handler receives snapshots; add one that receives inserts, or whose operations name `snapshot`"
    } else {
        return Ok(());
    };
    Err(Error::configuration(format!(
        "`OnLostHistory::Snapshot` was chosen, and {obstacle}, or choose another `OnLostHistory`"
    )))
}

fn batch(handler: &BoundHandler, in_flight: usize) -> Result<(), Error> {
    match handler.batch {
        Some(limits) if limits.max > in_flight => Err(Error::configuration(format!(
            "handler `{}` takes batches of up to {} events, and {in_flight} may be in flight; lower its `max`, or \
             raise `.in_flight_events(..)`",
            handler.name, limits.max
        ))),
        _ => Ok(()),
    }
}

fn names(handlers: &[BoundHandler], sinks: &Sinks) -> Result<(), Error> {
    if handlers.is_empty() {
        return Err(Error::configuration(
            "the runtime has no handlers; add some with `.handlers(handlers![..])`",
        ));
    }
    let mut seen = HashSet::new();
    if let Some((name, _)) = sinks.iter().find(|(name, _)| !seen.insert(name)) {
        return Err(Error::configuration(format!(
            "two sinks are named `{name}`; give each its own name"
        )));
    }
    let mut seen = HashSet::new();
    for handler in handlers {
        let name = &handler.name;
        if !seen.insert(name) {
            return Err(Error::configuration(format!(
                "two handlers are named `{name}`; set `name = \"..\"` on one of them"
            )));
        }
        sinks_are_there(&format!("handler `{name}` sends"), &handler.sinks, sinks)?;
    }
    Ok(())
}

fn sinks_are_there(who: &str, to: &[String], sinks: &Sinks) -> Result<(), Error> {
    let unknown = |to: &&String| !sinks.iter().any(|(sink, _)| **sink == ***to);
    let Some(to) = to.iter().find(unknown) else {
        return Ok(());
    };
    let names: Vec<_> = sinks.iter().map(|(name, _)| name).collect();
    let known = match names.as_slice() {
        [] => "there are none".to_owned(),
        names => format!("there are {}", sink::list(names)),
    };
    Err(Error::configuration(format!(
        "{who} to sink `{to}`, which is not there; {known}. Add it with `.sink(\"{to}\", ..)`"
    )))
}

pub(super) fn routes(
    routes: &[BoundRoute],
    handlers: &[BoundHandler],
    sinks: &Sinks,
) -> Result<(), Error> {
    for route in routes {
        let to = route.sinks();
        sinks_are_there("a route leads", to, sinks)?;
        let wrong = |problem: String| {
            Error::configuration(format!("the route to {}: {problem}", sink::list(to)))
        };
        let unknown = |name: &&String| !handlers.iter().any(|handler| *handler.name == ***name);
        if let Some(name) = route.handlers().iter().find(unknown) {
            let names: Vec<_> = handlers.iter().map(|handler| &handler.name).collect();
            return Err(wrong(format!(
                "there is no handler `{name}`; there are {}",
                sink::list(&names)
            )));
        }
        let concerns = |handler: &BoundHandler| {
            handler.batch.is_none() && route.concerns(&handler.name, &handler.selection)
        };
        if !handlers.iter().any(concerns) {
            return Err(wrong(
                "no handler watches what it is about, so that it leads nothing; mend it, or add a handler".into(),
            ));
        }
    }
    Ok(())
}

/// Of a table.
pub(super) fn services(services: &[Arc<str>], handlers: &[BoundHandler]) -> Result<(), Error> {
    let is_unused = |name: &&Arc<str>| !handlers.iter().any(|handler| handler.may_send_to(name));
    match services.iter().find(is_unused) {
        None => Ok(()),
        Some(name) => Err(Error::configuration(format!(
            "nothing leads to service `{name}`; add a route to it, or remove it"
        ))),
    }
}
