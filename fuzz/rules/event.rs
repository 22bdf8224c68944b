//! Any bytes are an event or an error. An event answers all questions, its document decodes as bson decodes it, and it is the same
//! event after it was stored in a dead letter, or was split and put together again.

use std::{collections::HashMap, fmt::Write as _};

use bson::{Bson, DateTime, Document, RawDocumentBuf, Timestamp, doc, oid::ObjectId};
use changestream_core::{
    Change, FieldPath, FromChange, FullDocument, Message, PreImage, RawChange, internals,
};
use serde::{Deserialize, Serialize};

/// What a handler takes documents as.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    #[serde(flatten)]
    known: Known,
    #[serde(flatten)]
    others: HashMap<String, Bson>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Known {
    #[serde(rename = "_id")]
    id: Bson,
    status: Option<Status>,
    total: Option<f64>,
    #[serde(default)]
    items: Vec<Item>,
    customer: Option<Box<Customer>>,
    placed: Option<DateTime>,
    seen: Option<Timestamp>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Placed,
    Paid,
    Shipped { at: DateTime },
}

#[derive(Debug, Serialize, Deserialize)]
struct Item {
    sku: String,
    quantity: u32,
    price: Option<f32>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Customer {
    id: ObjectId,
    name: Option<String>,
    referred_by: Option<Box<Customer>>,
}

pub(crate) fn check(data: &[u8]) {
    let Ok(change) = RawChange::new(data.to_vec()) else {
        return;
    };
    look_at(&change);
    decode(&change);

    let stored = RawChange::new(internals::stored(&change)).expect("what is stored is an event");
    assert_same(&stored, &change);
    for at in 0..4 {
        split_and_assemble(&change, at);
    }
}

/// Asks for everything that there is to ask.
fn look_at(change: &RawChange) {
    let mut text = format!("{change:?} {:?}", change.as_raw());
    let _ = (change.operation(), change.namespace(), change.event_id());
    let _ = (change.cluster_time(), change.wall_time(), change.size());
    let _ = (change.token().cluster_time(), change.is_header_only());
    if let Some(key) = change.document_key() {
        let _ = (key.id(), key.get::<Bson>("_id"), key.get::<ObjectId>("_id"));
        write!(text, "{key:?}").expect("a string takes all");
    }
    let Some(update) = change.update_description() else {
        return;
    };
    write!(text, "{update:?}").expect("a string takes all");
    let updated = update.updated_fields().iter_elements().flatten();
    let updated = updated.map(|element| element.key().as_str());
    let truncated = update.truncated_arrays().map(|array| array.field);
    for path in updated.chain(update.removed_fields()).chain(truncated) {
        assert!(update.changed(path), "{path:?}");
        let _ = (update.get::<Bson>(path), update.get::<Order>(path));
        let _ = update.get::<DateTime>(&format!("{path}.at"));
    }
}

/// Takes the documents in the ways that handlers do, and sends them on.
fn decode(change: &RawChange) {
    let request = internals::request(change.clone());
    let order = FullDocument::<Order>::from_change(&request, &());
    if let Ok(FullDocument(order)) = &order {
        let _ = Message::json(order);
    }
    for rejection in [
        order.err(),
        PreImage::<Order>::from_change(&request, &()).err(),
        Change::<Order>::from_change(&request, &()).err(),
        Change::<RawDocumentBuf>::from_change(&request, &()).err(),
    ] {
        let _ = rejection.map(|rejection| rejection.to_string());
    }
    if let Some(document) = change.full_document()
        && Document::try_from(document).is_ok()
    {
        let known = FullDocument::<Known>::from_change(&request, &());
        let known = known.ok().map(|FullDocument(known)| format!("{known:?}"));
        let of_bson = bson::deserialize_from_slice::<Known>(document.as_bytes());
        assert_eq!(known, of_bson.ok().map(|known| format!("{known:?}")));
    }
    if let Ok(Some(change)) = Option::<Change<Document>>::from_change(&request, &()) {
        let _ = change.full_document().map(Message::json);
    }
    for path in ["customer.id", "items", "_id"] {
        let path = FieldPath::new(path).expect("a path");
        internals::key(change, Some(&path));
    }
    internals::key(change, None);
}

/// Splits the event before its field number `at`, as the server would.
fn split_and_assemble(change: &RawChange, at: usize) {
    let mut fragments = [(); 2].map(|()| RawDocumentBuf::new());
    for (place, field) in change.as_raw().into_iter().enumerate() {
        let Ok((key, value)) = field else {
            return;
        };
        match key.as_str() {
            "splitEvent" => return,
            "_id" => {}
            _ => fragments[usize::from(place >= at)].append(key, value),
        }
    }
    for (number, fragment) in (1..).zip(&mut fragments) {
        fragment.append(bson::cstr!("_id"), change.raw_token().to_owned());
        let split = doc! { "fragment": number, "of": 2 };
        let split = RawDocumentBuf::try_from(&split).expect("a document");
        fragment.append(bson::cstr!("splitEvent"), split);
    }
    let whole = internals::assemble(&[&fragments[0], &fragments[1]]);
    let whole = whole.expect("both are there").expect("it is whole");
    assert_same(&whole, change);
}

fn assert_same(one: &RawChange, other: &RawChange) {
    assert_eq!(one.operation(), other.operation());
    assert_eq!(one.event_id(), other.event_id());
    assert_eq!(one.namespace(), other.namespace());
    assert_eq!(one.cluster_time(), other.cluster_time());
    assert_eq!(one.raw_document_key(), other.raw_document_key());
    assert_eq!(one.raw_update_description(), other.raw_update_description());
    assert_eq!(one.full_document(), other.full_document());
    assert_eq!(one.pre_image(), other.pre_image());
}
