mod action;
mod connection;
mod deliver;
mod error;
mod layout;
mod matching;
mod nodes;
mod plan;
mod send;
mod server;

use std::{borrow::Cow, fmt, time::Duration};

#[cfg(doc)]
use changestream_core::Delivery;
use changestream_core::{Error, SinkSpec, Template};
use tower::service_fn;

use action::Action;
use deliver::Deliver;
use nodes::Nodes;
use server::Server;

/// Does to a Redis server or cluster, for each message, what it is told to: removes keys, writes them, publishes, appends to streams.
///
/// What there is to do goes to the server at once, in the order in which it is told here, and the message is delivered when
/// the server has answered all of it without an error. As any sink it has 10 s per attempt and three retries from 1 s,
/// which [`SinkSpec`] changes.
///
/// # Example
///
/// Removes from a cache what a change of a product made stale, and tells those who hold copies:
///
/// ```
/// use changestream_core::SinkSpec;
/// use changestream_sinks::RedisSink;
///
/// # fn sink(password: &str) -> Result<SinkSpec, changestream_core::Error> {
/// let sink = RedisSink::new(format!("redis://:{password}@cache.internal:6379/0"))?
///     .unlink([
///         "product:{document_key._id}",
///         "products:category:{full_document.category | pre_image.category}",
///     ])?
///     .unlink_matching("products:search:*")?
///     .publish("products:changed")?;
/// let sink = SinkSpec::from(sink).retries(5);
/// # Ok(sink)
/// # }
/// # sink("secret").unwrap();
/// ```
///
/// # Templates
///
/// Keys and channels are [`Template`]s, parsed here. A message about an event that has not the values for one of them is
/// rejected, and nothing of it is sent.
///
/// # Repeats
///
/// Delivery is at least once, and a repeat does all of it again. Removing and writing keys comes to the same. An
/// entry of a stream is there twice then, with the same `id`, and subscribers of a channel hear it twice.
///
/// # Connection
///
/// There is one, which the clones of a sink share: it is made at the first delivery, and anew when it is lost or nothing comes
/// back on it. Before a new one is used, the sink ends the one before it (`CLIENT KILL`), so that nothing that is still
/// on its way there is done after what is sent again. With `rediss://` it is encrypted, and the server's certificate is
/// checked against the roots that the operating system trusts; on Linux `SSL_CERT_FILE` and `SSL_CERT_DIR` name others.
///
/// # Clusters
///
/// The URL names any node of a Redis Cluster; the sink finds the others (`CLUSTER SLOTS`), sends keys to the nodes that
/// have them, and follows those that move. What is told later is begun when what was told before is done, unless one node does both. With
/// [`atomic`](Self::atomic), the keys of a message need one slot, by a hash tag as in `product:{{{document_key._id}}}:price`.
/// Messages for a node that is down wait, where [`OnSinkDown`](changestream_core::OnSinkDown) says so, and others go on.
///
/// Errors name the host, the command and the server's reason, never a key, a payload or the password.
#[derive(Clone)]
pub struct RedisSink {
    nodes: Nodes,
    settings: Settings,
}

#[derive(Clone, Debug)]
struct Settings {
    actions: Vec<Action>,
    is_atomic: bool,
    /// In milliseconds.
    ttl: Option<u64>,
    max_len: Option<u64>,
    max_matches: usize,
    response_timeout: Duration,
}

impl RedisSink {
    /// A sink to the server at `url`: `redis://user:password@host:port/database`, or `rediss://` for an encrypted
    /// connection. The port is 6379 and the database 0 where it names none. Nothing is done until it is told what.
    ///
    /// # Errors
    ///
    /// A configuration error, which does not show the URL, when it is not one of those, or when the system's trusted
    /// certificates cannot be loaded for an encrypted one.
    pub fn new(url: impl AsRef<str>) -> Result<Self, Error> {
        Ok(Self {
            nodes: Nodes::new(Server::parse(url.as_ref())?),
            settings: Settings {
                actions: Vec::new(),
                is_atomic: false,
                ttl: None,
                max_len: None,
                max_matches: 10_000,
                response_timeout: Duration::from_secs(5),
            },
        })
    }

    /// Removes these keys (`UNLINK`).
    ///
    /// # Errors
    ///
    /// A configuration error when one of them is no [`Template`], or when there is none.
    pub fn unlink<T: Into<String>>(self, keys: impl IntoIterator<Item = T>) -> Result<Self, Error> {
        let keys: Vec<_> = keys
            .into_iter()
            .map(Template::new)
            .collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(Error::configuration(
                "a Redis sink is to unlink no keys; name one, or remove `.unlink(..)`",
            ));
        }
        Ok(self.and(Action::Unlink(keys)))
    }

    /// Removes all keys that match a pattern (`SCAN` with `MATCH`, then `UNLINK`): `*` stands for any text, `?` for one
    /// character, `[abc]` for one of these. Values of the event stand for themselves, whatever they hold.
    ///
    /// The server goes through all its keys for that, 500 at a time: where it has many, name the keys instead. Since it takes
    /// several requests, it comes before everything else that the sink does. See [`max_matches`](Self::max_matches).
    ///
    /// # Errors
    ///
    /// A configuration error when it is no [`Template`], or one key instead of a pattern.
    pub fn unlink_matching(self, pattern: impl Into<String>) -> Result<Self, Error> {
        let pattern = pattern.into();
        if !pattern.contains(['*', '?', '[']) {
            return Err(Error::configuration(format!(
                "the pattern `{pattern}` matches one key; use `.unlink([..])`"
            )));
        }
        Ok(self.and(Action::UnlinkMatching(Template::new(pattern)?)))
    }

    /// Removes the keys that the message names: its payload is `{"keys": [..], "patterns": [..]}`, either of which may be left out.
    /// Any other payload is rejected. Patterns are those of [`unlink_matching`](Self::unlink_matching); what goes into one
    /// as it is goes through [`escape`](Self::escape).
    ///
    /// # Example
    ///
    /// ```
    /// use changestream_core::HandlerError;
    /// use changestream_sinks::RedisSink;
    /// use serde::Serialize;
    ///
    /// #[derive(Serialize)]
    /// struct Invalidate {
    ///     keys: Vec<String>,
    ///     patterns: Vec<String>,
    /// }
    ///
    /// async fn stale(sku: &str) -> Result<Invalidate, HandlerError> {
    ///     Ok(Invalidate {
    ///         keys: vec![format!("product:{sku}")],
    ///         patterns: vec![format!("prices:{}:*", RedisSink::escape(sku))],
    ///     })
    /// }
    ///
    /// let sink = RedisSink::new("redis://cache.internal")?.unlink_payload();
    /// # Ok::<(), changestream_core::Error>(())
    /// ```
    #[must_use]
    pub fn unlink_payload(self) -> Self {
        self.and(Action::UnlinkPayload)
    }

    /// Publishes the payload to this channel (`PUBLISH`). Nobody has to listen.
    ///
    /// # Errors
    ///
    /// A configuration error when it is no [`Template`].
    pub fn publish(self, channel: impl Into<String>) -> Result<Self, Error> {
        Ok(self.and(Action::Publish(Template::new(channel)?)))
    }

    /// Appends an entry to this stream (`XADD`), which [`max_len`](Self::max_len) keeps short.
    ///
    /// Its fields are `id` ([`Delivery::id`], by which a reader tells repeats), `event_id`, `key` (where the message has one),
    /// `content_type`, `payload`, and `header:NAME` for each header.
    ///
    /// # Errors
    ///
    /// A configuration error when it is no [`Template`].
    pub fn stream(self, key: impl Into<String>) -> Result<Self, Error> {
        Ok(self.and(Action::Stream(Template::new(key)?)))
    }

    /// Writes the payload to this key (`SET`), for as long as [`ttl`](Self::ttl) says. A delete event removes the key.
    ///
    /// # Errors
    ///
    /// A configuration error when it is no [`Template`].
    pub fn set(self, key: impl Into<String>) -> Result<Self, Error> {
        Ok(self.and(Action::Set(Template::new(key)?)))
    }

    /// Writes the fields of the payload, a JSON object, to this hash (`HSET`), for as long as [`ttl`](Self::ttl) says. A delete
    /// event removes the hash.
    ///
    /// Strings are written as they are, other values as JSON. A field that is null is removed (`HDEL`), and one that the
    /// payload has not stays. A payload that is no object, or an empty one, is rejected.
    ///
    /// # Errors
    ///
    /// A configuration error when it is no [`Template`].
    pub fn hash(self, key: impl Into<String>) -> Result<Self, Error> {
        Ok(self.and(Action::Hash(Template::new(key)?)))
    }

    fn and(mut self, action: Action) -> Self {
        self.settings.actions.push(action);
        self
    }

    /// How long what [`set`](Self::set) and [`hash`](Self::hash) write lasts, from the last time it was written. For ever
    /// by default.
    ///
    /// # Errors
    ///
    /// A configuration error when it is under a millisecond or over a thousand years.
    pub fn ttl(mut self, ttl: Duration) -> Result<Self, Error> {
        const MAX: u64 = 1000 * 365 * 24 * 3600 * 1000;
        let millis = u64::try_from(ttl.as_millis()).ok();
        let millis = millis.filter(|millis| (1..=MAX).contains(millis));
        self.settings.ttl = Some(millis.ok_or_else(|| {
            Error::configuration(format!(
                "keys of a Redis sink cannot last for {ttl:?}; say a millisecond to a thousand years"
            ))
        })?);
        Ok(self)
    }

    /// How many entries a [`stream`](Self::stream) keeps, the newest ones. Redis keeps up to about a hundred more, as that is cheaper
    /// (`MAXLEN ~`). All by default.
    ///
    /// # Errors
    ///
    /// A configuration error when it is 0.
    pub fn max_len(mut self, entries: u64) -> Result<Self, Error> {
        if entries == 0 {
            return Err(Error::configuration(
                "a stream of a Redis sink cannot keep 0 entries; say at least 1",
            ));
        }
        self.settings.max_len = Some(entries);
        Ok(self)
    }

    /// How many keys the patterns of one message may remove, 10,000 by default. A message that finds more has removed so
    /// many of them when it is rejected, and its dead letter says so: replayed, it removes further ones.
    #[must_use]
    pub fn max_matches(mut self, keys: usize) -> Self {
        self.settings.max_matches = keys;
        self
    }

    /// Has everything done at once or not at all (`MULTI`, `EXEC`), with nothing of others in between. What patterns match is
    /// removed before that.
    ///
    /// Redis undoes nothing: where a command fails for what the key holds, the others are done.
    #[must_use]
    pub fn atomic(mut self) -> Self {
        self.settings.is_atomic = true;
        self
    }

    /// How long the server may take to answer, 5 s by default. After that, the connection is held to be lost and made anew.
    #[must_use]
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.settings.response_timeout = timeout;
        self
    }

    /// A text as it is matched by itself alone in a pattern.
    ///
    /// # Example
    ///
    /// ```
    /// use changestream_sinks::RedisSink;
    ///
    /// assert_eq!(RedisSink::escape("what?"), r"what\?");
    /// ```
    pub fn escape(text: &str) -> Cow<'_, str> {
        matching::escape(text)
    }
}

impl From<RedisSink> for SinkSpec {
    fn from(sink: RedisSink) -> Self {
        let actions = sink.settings.actions.clone();
        let deliver = Deliver::new(sink);
        let spec = match actions.iter().any(Action::has_patterns) {
            // Nothing else waits while the server goes through its keys.
            true => Self::new(service_fn(move |delivery| deliver.clone().one(delivery))),
            false => Self::batched(
                Deliver::BATCH,
                service_fn(move |batch| deliver.clone().all(batch)),
            ),
        };
        spec.renders(actions.iter().flat_map(Action::templates))
    }
}

impl fmt::Debug for RedisSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSink")
            .field("host", &self.nodes.server().name)
            .field("is_encrypted", &self.nodes.server().is_encrypted())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
