use super::DeadLetterSummary;

/// Which dead letters are meant: those that have all that is set here. By default every one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetterFilter {
    /// The letter of this id.
    pub id: Option<String>,
    /// Written by the runtime of this name.
    pub runtime: Option<String>,
    /// Of this handler, its deliveries included.
    pub handler: Option<String>,
    /// Of deliveries to this sink.
    pub sink: Option<String>,
    /// Of this kind of failure: `failed`, `rejection`, `timeout` or `panic`.
    pub kind: Option<String>,
    /// Whether a replay is asked for that was neither carried out nor refused.
    pub awaits_replay: bool,
}

impl DeadLetterFilter {
    /// Only the letter of this id.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Only letters of the runtime of this name.
    #[must_use]
    pub fn runtime(mut self, runtime: impl Into<String>) -> Self {
        self.runtime = Some(runtime.into());
        self
    }

    /// Only letters of this handler, its deliveries included.
    #[must_use]
    pub fn handler(mut self, handler: impl Into<String>) -> Self {
        self.handler = Some(handler.into());
        self
    }

    /// Only letters of deliveries to this sink.
    #[must_use]
    pub fn sink(mut self, sink: impl Into<String>) -> Self {
        self.sink = Some(sink.into());
        self
    }

    /// Only letters of this kind of failure: `failed`, `rejection`, `timeout` or `panic`.
    #[must_use]
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// Only letters that wait for a runtime to replay them.
    #[must_use]
    pub fn awaits_replay(mut self) -> Self {
        self.awaits_replay = true;
        self
    }

    /// Whether `letter` is meant.
    pub fn matches(&self, letter: &DeadLetterSummary) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.is_none() || wanted.as_deref() == found
        };
        is(&self.id, Some(&letter.id))
            && is(&self.runtime, Some(&letter.runtime))
            && is(&self.handler, Some(&letter.handler))
            && is(&self.sink, letter.sink.as_deref())
            && is(&self.kind, Some(&letter.kind))
            && (!self.awaits_replay || letter.awaits_replay())
    }
}
