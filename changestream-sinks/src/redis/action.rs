//! What a delivery does, as commands.

use std::collections::BTreeMap;

use ::redis::{Cmd, ToRedisArgs};
use changestream_core::{Delivery, HandlerError, Operation, Template};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Settings, matching, plan::Plan};

#[derive(Clone, Debug)]
pub(super) enum Action {
    Unlink(Vec<Template>),
    UnlinkMatching(Template),
    UnlinkPayload,
    Publish(Template),
    Stream(Template),
    Set(Template),
    Hash(Template),
}

/// What [`Action::UnlinkPayload`] takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invalidation {
    keys: Option<Vec<String>>,
    patterns: Option<Vec<String>>,
}

impl Action {
    pub(super) fn templates(&self) -> &[Template] {
        match self {
            Self::Unlink(templates) => templates,
            Self::UnlinkMatching(template)
            | Self::Publish(template)
            | Self::Stream(template)
            | Self::Set(template)
            | Self::Hash(template) => std::slice::from_ref(template),
            Self::UnlinkPayload => &[],
        }
    }

    /// Whether it may remove what matches a pattern.
    pub(super) fn has_patterns(&self) -> bool {
        matches!(self, Self::UnlinkMatching(_) | Self::UnlinkPayload)
    }

    /// Adds what it does for a delivery.
    pub(super) fn plan(
        &self,
        delivery: &Delivery,
        settings: &Settings,
        plan: &mut Plan,
    ) -> Result<(), HandlerError> {
        let payload = &**delivery.message().payload();
        match self {
            Self::Unlink(keys) => {
                for key in keys {
                    plan.add([command("UNLINK", key.render(delivery)?)]);
                }
            }
            Self::UnlinkMatching(pattern) => {
                let pattern = pattern.render_with(delivery, |value| Ok(matching::escape(value)))?;
                plan.patterns.push(pattern);
            }
            Self::UnlinkPayload => {
                let Invalidation { keys, patterns } = Invalidation::parse(payload)?;
                plan.patterns.extend(patterns.unwrap_or_default());
                for key in keys.unwrap_or_default() {
                    plan.add([command("UNLINK", key)]);
                }
            }
            Self::Publish(channel) => {
                plan.add([command("PUBLISH", (channel.render(delivery)?, payload))]);
            }
            Self::Stream(key) => {
                plan.add([entry(key.render(delivery)?, settings.max_len, delivery)]);
            }
            Self::Set(key) | Self::Hash(key) if is_deleted(delivery) => {
                plan.add([command("UNLINK", key.render(delivery)?)]);
            }
            Self::Set(key) => {
                let mut set = command("SET", (key.render(delivery)?, payload));
                if let Some(ttl) = settings.ttl {
                    set.arg("PX").arg(ttl);
                }
                plan.add([set]);
            }
            Self::Hash(key) => {
                let key = key.render(delivery)?;
                let expire = settings.ttl.map(|ttl| command("PEXPIRE", (&*key, ttl)));
                plan.add(hash(&key, payload)?.chain(expire));
            }
        }
        Ok(())
    }
}

fn command(name: &str, arguments: impl ToRedisArgs) -> Cmd {
    let mut command = ::redis::cmd(name);
    command.arg(arguments);
    command
}

impl Invalidation {
    /// Errors do not say what is in the payload.
    fn parse(payload: &[u8]) -> Result<Self, HandlerError> {
        let parsed: Self = serde_json::from_slice(payload).map_err(|_| {
            HandlerError::reject(
                "the payload is not `{\"keys\": [..], \"patterns\": [..]}`, lists of strings",
            )
        })?;
        let Self { keys, patterns } = &parsed;
        if keys.is_none() && patterns.is_none() {
            return Err(HandlerError::reject(
                "the payload has neither `keys` nor `patterns`",
            ));
        }
        if [keys, patterns]
            .into_iter()
            .flatten()
            .flatten()
            .any(String::is_empty)
        {
            return Err(HandlerError::reject(
                "one of the payload's `keys` or `patterns` is empty",
            ));
        }
        Ok(parsed)
    }
}

fn is_deleted(delivery: &Delivery) -> bool {
    *delivery.change().operation() == Operation::Delete
}

/// An entry for a stream.
fn entry(key: String, max_len: Option<u64>, delivery: &Delivery) -> Cmd {
    let message = delivery.message();
    let mut entry = command("XADD", key);
    if let Some(max_len) = max_len {
        entry.arg("MAXLEN").arg("~").arg(max_len);
    }
    entry.arg("*");
    entry.arg("id").arg(delivery.id());
    entry.arg("event_id").arg(delivery.event_id().to_string());
    if let Some(key) = message.get_key() {
        entry.arg("key").arg(key);
    }
    entry.arg("content_type").arg(message.content_type());
    entry.arg("payload").arg(&**message.payload());
    for (name, value) in message.headers() {
        entry.arg(format!("header:{name}")).arg(value);
    }
    entry
}

/// Writes the fields of an object, and removes those that are null.
fn hash(key: &str, payload: &[u8]) -> Result<impl Iterator<Item = Cmd>, HandlerError> {
    let wrong =
        || HandlerError::reject("the payload is no JSON object with fields, which `hash` writes");
    let fields: BTreeMap<String, &RawValue> =
        serde_json::from_slice(payload).map_err(|_| wrong())?;
    if fields.is_empty() {
        return Err(wrong());
    }
    let (mut set, mut remove) = (command("HSET", key), command("HDEL", key));
    let (mut sets, mut removes) = (false, false);
    for (name, value) in fields {
        match value.get() {
            "null" => {
                remove.arg(name);
                removes = true;
                continue;
            }
            text if text.starts_with('"') => {
                let text: String = serde_json::from_str(text).map_err(|_| wrong())?;
                set.arg(name).arg(text);
            }
            text => {
                set.arg(name).arg(text);
            }
        }
        sets = true;
    }
    let set = sets.then_some(set);
    Ok(set.into_iter().chain(removes.then_some(remove)))
}
