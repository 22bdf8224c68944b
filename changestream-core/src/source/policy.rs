//! What the user chooses for what a stream cannot give: nothing of it moves the stream by default.

/// What to do when the oplog no longer holds the place to go on from (error 286,
/// `ChangeStreamHistoryLost`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnLostHistory {
    /// The runtime ends with an error ([`Error::is_history_lost`](crate::Error::is_history_lost)); the
    /// checkpoint stays. The default.
    #[default]
    Fail,
    /// The stream goes on with the changes from now on. What lies between is given up: it is written down as a
    /// [`Gap`](crate::Gap), durably, before the stream moves.
    StartNow,
    /// As [`StartNow`](Self::StartNow), and then the documents that are there come again, as
    /// [`Operation::Snapshot`](crate::Operation::Snapshot), to every handler that receives
    /// [snapshots](crate::Snapshot): whatever was inserted or changed in between arrives as it is by then. What was
    /// deleted does not, and handlers that receive no snapshots miss what lies between.
    ///
    /// The runtime finishes what is in flight and starts over, as when another replica takes over. It needs a
    /// [`Snapshot`](crate::Snapshot) other than `Never`.
    Snapshot,
}

/// What to do with an event that is larger than the 16 MB that the server sends in one piece (error 10334,
/// `BSONObjectTooLarge`), as of a large document with its pre-image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnOversizeEvent {
    /// The server splits it and the runtime puts it together again, where the server can (MongoDB 6.0.9 and
    /// later, not 6.1 to 6.3); else as [`Fail`](Self::Fail), also for an event one field of which alone is too
    /// large. The default.
    ///
    /// The stream is split from the first such event on: it would cost the server more for every event.
    ///
    /// Such an event takes up to 48 MB of memory beside the batches that are held. One that its handler fails on is
    /// dead-lettered without its documents, which no store could hold. Where it has become small enough meanwhile not to be split, its
    /// images expired, it and those behind it come again under other [`EventId`](crate::EventId)s.
    #[default]
    Split,
    /// It becomes a dead letter of each handler that would take it, of kind `oversize` and without its
    /// documents: the event's header, and the names of the fields that changed. The field `omittedFields` says
    /// what is missing. The stream is not split.
    ///
    /// A replace whose handler names a `field` counts as one that changed it: the images that would tell are what
    /// is left out.
    DeadLetter,
    /// The runtime ends with an error ([`Error::is_stream`](crate::Error::is_stream)); the checkpoint stays
    /// before the event.
    Fail,
}

/// What to do with an event that lacks an image which its handler requires: the pre-image of an update, replace
/// or delete, or the post-image of an update where post-images are asked for.
///
/// A collection may not have recorded images when the change was made, and images expire. A handler requires an
/// image by its signature, `PreImage<T>` or `FullDocument<T>`; `Option` of these takes a missing image as `None`,
/// whatever the policy. A document that is gone when the server looks it up is no missing image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnMissingImage {
    /// The runtime ends with an error that names handler, namespace and event
    /// ([`Error::is_missing_image`](crate::Error::is_missing_image)); the checkpoint stays before the event. The
    /// default.
    #[default]
    Fail,
    /// The event becomes a dead letter of the handler, of kind `rejection`.
    DeadLetter,
    /// Images are taken as they come: the runtime also starts where a collection records none, or the server has
    /// none. Who can take `None` gets it; an event whose handler cannot becomes a dead letter, as with
    /// [`DeadLetter`](Self::DeadLetter).
    PassNone,
}

/// What to do when what the stream watches was dropped or renamed (the event `invalidate`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnInvalidate {
    /// The stream goes on with whatever takes the name. The default.
    #[default]
    Restart,
    /// The runtime finishes everything up to there, saves its checkpoint after it, and ends with an error
    /// ([`Error::is_invalidated`](crate::Error::is_invalidated)). The next start goes on with whatever has
    /// taken the name.
    Stop,
}

/// The policies of a runtime's stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StreamPolicy {
    pub(crate) lost_history: OnLostHistory,
    pub(crate) oversize_event: OnOversizeEvent,
    pub(crate) missing_image: OnMissingImage,
    pub(crate) invalidate: OnInvalidate,
}
