//! The brokers, and the properties of librdkafka.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use changestream_core::Error;
use rdkafka::{
    ClientConfig,
    error::KafkaError,
    producer::{BaseProducer, DefaultProducerContext},
};

use Rule::{Is, Never, Stays};

/// Other names of properties that have a value here.
const ALIASES: [(&str, &str); 6] = [
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("metadata.broker.list", "bootstrap.servers"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("request.required.acks", "acks"),
    ("retries", "message.send.max.retries"),
    ("sasl.mechanisms", "sasl.mechanism"),
];

/// What a user may change.
const DEFAULTS: [(&str, &str); 7] = [
    ("client.id", "changestream"),
    // A key's next message waits that long too.
    ("linger.ms", "1"),
    // With the second that it may take to be noticed, under the 10 s of a delivery.
    ("message.timeout.ms", "8000"),
    // That of the Java clients.
    ("partitioner", "murmur2_random"),
    ("reconnect.backoff.max.ms", "1000"),
    // So that a topic that is not there is told apart from a broker that does not answer.
    ("topic.metadata.propagation.max.ms", "5000"),
    // Over all that a transaction here may take: readers wait that long for one whose process has died.
    ("transaction.timeout.ms", "15000"),
];

enum Rule {
    /// One of these, which mean the same, the first of which the sink sets.
    Is(&'static [&'static str]),
    /// What it is where nobody sets it.
    Stays(&'static str),
    /// Nobody sets it, for this reason.
    Never(&'static str),
}

/// What a sink relies on.
const RULES: [(&str, Rule); 6] = [
    ("acks", Is(&["all", "-1"])),
    (
        "bootstrap.servers",
        Never("the brokers are those of `KafkaSink::new`"),
    ),
    ("delivery.report.only.error", Stays("false")),
    ("enable.gapless.guarantee", Stays("false")),
    ("enable.idempotence", Is(&["true"])),
    ("queuing.strategy", Stays("fifo")),
];

/// What librdkafka is built without here, as it says, and the feature of `rdkafka` that adds it.
const FEATURES: [(&str, &str); 5] = [
    ("OpenSSL", "ssl"),
    ("libzstd", "zstd"),
    ("zlib", "libz"),
    ("libsasl2", "gssapi"),
    ("libcurl", "curl"),
];

/// The same for logins.
const MECHANISMS: [(&str, &str, &str); 5] = [
    ("PLAIN", "sasl_plain", "sasl"),
    ("SCRAM-SHA-256", "sasl_scram", "ssl"),
    ("SCRAM-SHA-512", "sasl_scram", "ssl"),
    ("OAUTHBEARER", "sasl_oauthbearer", "ssl"),
    ("GSSAPI", "sasl_gssapi", "gssapi"),
];

/// How a producer is set up.
#[derive(Clone)]
pub(super) struct Settings {
    /// All that errors show of it.
    pub(super) brokers: String,
    properties: BTreeMap<String, String>,
    /// The names of the properties that the user set.
    set: BTreeSet<String>,
}

impl Settings {
    /// The defaults, for these brokers. Their text appears in no error before it is checked: it may hold a secret.
    pub(super) fn new(brokers: &str) -> Result<Self, Error> {
        let brokers = brokers.split(',').map(str::trim);
        let brokers = brokers.map(|broker| match is_broker(broker) {
            true => Ok(broker),
            false if broker.contains('@') => Err(Error::configuration(
                "the brokers of a Kafka sink carry a user name or password; set `sasl.username` and `sasl.password` \
                 with `.option(..)`",
            )),
            false => Err(Error::configuration(
                "the brokers of a Kafka sink are not `host:port`, several with commas between them",
            )),
        });
        let brokers = brokers.collect::<Result<Vec<_>, _>>()?.join(",");
        let fixed = RULES.iter().filter_map(|(name, rule)| match rule {
            Is(values) => Some((*name, values[0])),
            Stays(_) | Never(_) => None,
        });
        let properties = DEFAULTS.into_iter().chain(fixed);
        Ok(Self {
            brokers,
            properties: properties
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            set: BTreeSet::new(),
        })
    }

    /// Sets a property, checked by itself and together with those that are set.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let refused = |problem: &str| {
            Error::configuration(format!("the option {name:?} of a Kafka sink {problem}"))
        };
        let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
        let canonical = alias.map_or(name, |(_, canonical)| canonical);
        let rule = RULES.iter().find(|(name, _)| *name == canonical);
        let only = match rule.map(|(_, rule)| rule) {
            Some(Never(reason)) => {
                return Err(refused(&format!("cannot be set: {reason}; remove it")));
            }
            Some(Is(values)) => Some(*values),
            Some(Stays(only)) => Some(std::slice::from_ref(only)),
            None => None,
        };
        if let Some(values) = only {
            return match values.contains(&value) {
                true => Ok(()),
                false => Err(refused(&format!(
                    "cannot be other than `{}`, which order and acknowledgements rely on; remove it",
                    values[0]
                ))),
            };
        }
        if canonical == "message.timeout.ms" && value == "0" {
            return Err(refused(
                "cannot be 0, without end: what a delivery has given up would be sent some time; name a time",
            ));
        }
        if canonical == "transactional.id" && value.is_empty() {
            return Err(refused("cannot be empty; name the process by it"));
        }
        let mut alone = ClientConfig::new();
        let native = alone.set(canonical, value).create_native_config();
        let native = native.map_err(|error| refused(&problem(canonical, &error)))?;
        if canonical == "sasl.mechanism" {
            let built_in = native.get("builtin.features").unwrap_or_default();
            let mechanism = MECHANISMS.iter().find(|(name, ..)| *name == value);
            if let Some((_, needs, feature)) = mechanism
                && !built_in.split(',').any(|feature| feature == *needs)
            {
                return Err(refused(&not_built_in(feature)));
            }
        }
        self.properties
            .insert(canonical.to_owned(), value.to_owned());
        self.set.insert(canonical.to_owned());
        self.check().map_err(|problem| refused(&problem))
    }

    /// That the properties go together, but for those of logins and encryption, which may not be complete yet. No
    /// connection is made.
    fn check(&self) -> Result<(), String> {
        let mut config = ClientConfig::new();
        let properties = self.properties.iter();
        config.extend(
            properties
                .filter(|(name, _)| !is_of_security(name))
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        match config.create_with_context(DefaultProducerContext) {
            Ok::<BaseProducer, _>(_) => Ok(()),
            Err(KafkaError::ClientCreation(problem)) => {
                Err(format!("does not go with the others: {problem}"))
            }
            Err(error) => Err(format!("cannot be used: {error}")),
        }
    }

    /// All of it, as librdkafka takes it.
    pub(super) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.extend(self.properties.clone());
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    /// The same, where no two records go in one batch.
    pub(super) fn config_without_batches(&self) -> ClientConfig {
        let mut config = self.config();
        config.set("batch.num.messages", "1").set("linger.ms", "0");
        config
    }

    /// How long a record may wait for its acknowledgement.
    pub(super) fn message_timeout(&self) -> Duration {
        let millis = self.properties.get("message.timeout.ms");
        let millis = millis.and_then(|millis| millis.parse().ok());
        Duration::from_millis(millis.unwrap_or_default())
    }

    /// Whether messages are sent in transactions.
    pub(super) fn is_transactional(&self) -> bool {
        self.properties.contains_key("transactional.id")
    }

    /// The names of the properties that the user set.
    pub(super) fn names(&self) -> &BTreeSet<String> {
        &self.set
    }
}

/// Whether values of the property may be secrets.
fn is_of_security(name: &str) -> bool {
    let prefixes = ["sasl.", "ssl.", "https.", "security.", "enable.s"];
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Why librdkafka does not take a property by itself, without its value where that may be a secret.
fn problem(name: &str, error: &KafkaError) -> String {
    let KafkaError::ClientConfig(_, said, ..) = error else {
        return "has a NUL in its name or value".to_owned();
    };
    if said.starts_with("No such configuration property") {
        return "is no property of librdkafka; its `CONFIGURATION.md` lists them".to_owned();
    }
    if said.contains("not available at build time") {
        let feature = FEATURES.iter().find(|(library, _)| said.contains(library));
        return not_built_in(feature.map_or("ssl", |(_, feature)| feature));
    }
    match is_of_security(name) {
        true => "has a value that is not valid".to_owned(),
        false => format!("is not valid: {}", said.trim()),
    }
}

fn not_built_in(feature: &str) -> String {
    format!(
        "asks for what is not built in; add `rdkafka = {{ version = \"0.39\", default-features = false, features = \
         [\"{feature}\"] }}` to the dependencies of the application"
    )
}

/// Whether it is `host`, `host:port` or `[address]:port`, with or without the protocol that librdkafka lets one name.
fn is_broker(text: &str) -> bool {
    let protocols = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];
    let address = match text.split_once("://") {
        Some((protocol, address))
            if protocols
                .iter()
                .any(|known| protocol.eq_ignore_ascii_case(known)) =>
        {
            address
        }
        Some(_) => return false,
        None => text,
    };
    let (host, port) = match address
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((host, "")) => (host, None),
        Some((host, port)) => match port.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None => return false,
        },
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let is_host = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    !host.is_empty()
        && host.chars().all(is_host)
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0))
}
