use std::{
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mongodb::{Client, ClientSession, Database};

use super::{FromChange, Needs, Reads, Rejection};
use crate::handler::ChangeRequest;

/// A MongoDB transaction that commits what the handler writes in it together with the event's id: effects
/// that happen exactly once.
///
/// Each attempt has a transaction of its own. The runtime starts it, records in it that this handler
/// processed this event, and calls the handler. When the handler returned `Ok`, the runtime commits; when
/// it failed, timed out or panicked, it aborts. An event that comes again, as after a crash, finds its id
/// recorded: the handler is not called, and the event is done.
///
/// Take part with [`session`](Self::session) in every operation that belongs to the effect, and return every
/// error of the driver: the server ends a transaction at its first error. What is done without the session
/// (another database client, an HTTP call) stays at least once. Leave starting, committing and aborting to
/// the runtime.
///
/// # Retries
///
/// The server refuses one of two transactions that write the same document at once (`TransientTransactionError`).
/// The attempt is then made again within the handler's timeout, counted from its first start, before it
/// counts as failed. So the handler may run several times for one attempt, and once for the effect. A commit of
/// which the reply is lost is sent again until its outcome is known.
///
/// A crash leaves its transaction open on the server. The next runtime of this name has the server end it
/// (`killSessions`) when it starts; where that is not possible, the event that was being handled waits until the server
/// gives the transaction up, after `transactionLifetimeLimitSeconds` (60 s by default). The wait counts as no attempt.
///
/// # Messages
///
/// What the handler returns to its sinks is recorded in the same transaction and sent after the commit, at least
/// once: a redelivered event sends the same messages again, with the same
/// [`Delivery::id`](crate::Delivery::id).
///
/// # Layers
///
/// The transaction surrounds an attempt's timeout and the layers of
/// [`RuntimeBuilder::layer`](crate::RuntimeBuilder::layer) and
/// [`HandlerSpec::layer`](crate::HandlerSpec::layer): it is committed or aborted by the outcome of the attempt as a
/// whole, and neither is cut short by the timeout. A layer that calls the handler twice is refused, for the first call's
/// writes would be committed with the second's.
///
/// # Limits
///
/// Ids are kept in [`MongoProcessed::COLLECTION`](crate::MongoProcessed::COLLECTION) of the runtime's database for
/// [`RuntimeBuilder::processed_retention`](crate::RuntimeBuilder::processed_retention), under the names of the runtime
/// and of the handler: an event is new to a handler that was renamed. A transaction lasts at most
/// `transactionLifetimeLimitSeconds`, and its messages and id fit into one document of 16 MB.
///
/// # Example
///
/// ```
/// use changestream_core::{FullDocument, HandlerError, Transaction};
/// use mongodb::bson::{Document, doc};
///
/// async fn order_placed(
///     FullDocument(order): FullDocument<Document>,
///     mut transaction: Transaction,
/// ) -> Result<(), HandlerError> {
///     let totals = transaction.database().collection::<Document>("totals");
///     let update = doc! { "$inc": { "orders": 1 } };
///     totals
///         .update_one(doc! { "_id": order.get_str("customer")? }, update)
///         .upsert(true)
///         .session(transaction.session())
///         .await?;
///     Ok(())
/// }
/// ```
pub struct Transaction {
    /// There until it is dropped.
    session: Option<ClientSession>,
    slot: TransactionSlot,
}

impl Transaction {
    /// The session to give to each operation that belongs to the effect.
    pub fn session(&mut self) -> &mut ClientSession {
        self.session.as_mut().expect("there until it is dropped")
    }

    /// The runtime's database, whose collections take the session.
    pub fn database(&self) -> &Database {
        &self.slot.database
    }

    /// The runtime's client. The driver refuses the session for a database of any other.
    pub fn client(&self) -> &Client {
        self.slot.database.client()
    }
}

impl<S> FromChange<S> for Transaction {
    const NEEDS: Needs = Needs::NONE.transaction();

    fn reads() -> Reads {
        Reads::NONE
    }

    fn from_change(request: &ChangeRequest, _state: &S) -> Result<Self, Rejection> {
        let slot = request.transaction.as_ref().ok_or_else(|| {
            Rejection::new(
                "there is no transaction; an extractor that takes one says so in its `NEEDS`",
            )
        })?;
        slot.take().ok_or_else(|| {
            Rejection::new(
                "this attempt's transaction was taken before; take one `Transaction`, and leave retries to the runtime",
            )
        })
    }
}

/// Hands the session back.
impl Drop for Transaction {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            *self.slot.lock() = Place::Back(session);
        }
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transaction")
    }
}

/// Where an attempt's session lies for the handler to take it, and where it is when the handler is done.
#[derive(Clone)]
pub(crate) struct TransactionSlot {
    place: Arc<Mutex<Place>>,
    database: Database,
}

enum Place {
    Ready(ClientSession),
    Taken,
    Back(ClientSession),
}

impl TransactionSlot {
    pub(crate) fn new(session: ClientSession, database: Database) -> Self {
        Self {
            place: Arc::new(Mutex::new(Place::Ready(session))),
            database,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Transaction> {
        let mut place = self.lock();
        match mem::replace(&mut *place, Place::Taken) {
            Place::Ready(session) => Some(Transaction {
                session: Some(session),
                slot: self.clone(),
            }),
            taken => {
                *place = taken;
                None
            }
        }
    }

    /// The session once the handler is done with it; `None` where it lives on elsewhere.
    pub(crate) fn close(&self) -> Option<ClientSession> {
        match mem::replace(&mut *self.lock(), Place::Taken) {
            Place::Ready(session) | Place::Back(session) => Some(session),
            Place::Taken => None,
        }
    }
}

impl fmt::Debug for TransactionSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TransactionSlot")
    }
}
