//! What reaches a handler: the rule of the changed field, and scopes, on a real server.

use std::future::ready;

use bson::{Bson, Document, doc};
use changestream::prelude::*;
use futures::TryStreamExt;

use crate::support::shop::{Seen, Shop};

fn order(id: &str) -> Document {
    doc! {
        "_id": id, "status": "new", "statusCode": 1,
        "payment": { "status": "open", "card": { "last": 1 } },
        "items": [{ "sku": "a", "quantity": 1 }, { "sku": "b", "quantity": 2 }, { "sku": "c", "quantity": 3 }],
    }
}

/// Which updates, each named and made on an order of its own, reach a handler of `field`.
async fn updates_seen_by_field<const N: usize>(
    field: &str,
    updates: [(&str, Bson); N],
) -> Vec<String> {
    let shop = Shop::open().await;
    let orders = updates.iter().map(|(name, _)| order(name));
    shop.orders().insert_many(orders).await.expect("orders");
    let annotate = |spec: HandlerSpec<()>| {
        let spec = spec.collections(["orders"]).fields([field]);
        spec.operations([Operation::Update, Operation::Replace])
    };
    let during = async {
        for (name, update) in updates {
            let update =
                doc! { "update": "orders", "updates": [{ "q": { "_id": name }, "u": update }] };
            let reply = shop.database.run_command(update).await.expect("an update");
            assert!(!reply.contains_key("writeErrors"), "{reply}");
        }
    };
    shop.seen_by(annotate, during).await
}

fn set(fields: Document) -> Bson {
    doc! { "$set": fields }.into()
}

#[tokio::test]
async fn a_dotted_set_a_whole_parent_and_a_part_change_the_field() {
    let seen = updates_seen_by_field(
        "payment.card",
        [
            ("dotted", set(doc! { "payment.card": 7 })),
            ("parent", set(doc! { "payment": 7 })),
            ("part", set(doc! { "payment.card.last": 7 })),
            ("new part", set(doc! { "payment.card.first": 7 })),
            ("sibling", set(doc! { "payment.status": "paid" })),
            ("longer name", set(doc! { "payment.cards": 7 })),
            ("other", set(doc! { "status": "paid" })),
        ],
    );
    assert_eq!(
        seen.await,
        [
            "update dotted",
            "update parent",
            "update part",
            "update new part"
        ]
    );
}

#[tokio::test]
async fn removing_the_field_or_a_parent_or_a_part_changes_it() {
    let unset = |path: &str| Bson::from(doc! { "$unset": { path: "" } });
    let seen = updates_seen_by_field(
        "payment.card",
        [
            ("itself", unset("payment.card")),
            ("parent", unset("payment")),
            ("part", unset("payment.card.last")),
            ("sibling", unset("payment.status")),
        ],
    );
    assert_eq!(
        seen.await,
        ["update itself", "update parent", "update part"]
    );
}

#[tokio::test]
async fn renaming_changes_both_names() {
    let rename = |from: &str, to: &str| Bson::from(doc! { "$rename": { from: to } });
    let seen = updates_seen_by_field(
        "status",
        [
            ("from", rename("status", "state")),
            ("to", rename("statusCode", "status")),
            ("other", rename("statusCode", "code")),
        ],
    );
    assert_eq!(seen.await, ["update from", "update to"]);
}

#[tokio::test]
async fn every_way_to_change_an_array_changes_it() {
    let push = doc! { "$push": { "items": { "sku": "d" } } };
    let push_slice = doc! { "$push": { "items": { "$each": [{ "sku": "d" }], "$slice": -2 } } };
    let seen = updates_seen_by_field(
        "items",
        [
            ("push", push.into()),
            ("push and slice", push_slice.into()),
            ("pop", doc! { "$pop": { "items": 1 } }.into()),
            ("pull", doc! { "$pull": { "items": { "sku": "a" } } }.into()),
            ("element", set(doc! { "items.1.quantity": 9 })),
            ("other", set(doc! { "status": "paid" })),
        ],
    );
    assert_eq!(
        seen.await,
        [
            "update push",
            "update push and slice",
            "update pop",
            "update pull",
            "update element"
        ]
    );
}

#[tokio::test]
async fn a_path_with_an_index_is_of_that_element() {
    let seen = updates_seen_by_field(
        "items.1.quantity",
        [
            ("itself", set(doc! { "items.1.quantity": 9 })),
            (
                "element",
                set(doc! { "items.1": { "sku": "b", "quantity": 9 } }),
            ),
            ("array", set(doc! { "items": [] })),
            ("other element", set(doc! { "items.10.quantity": 9 })),
            ("other field", set(doc! { "items.1.sku": "x" })),
        ],
    );
    assert_eq!(
        seen.await,
        ["update itself", "update element", "update array"]
    );
}

/// MongoDB 4.4 reports an update by a pipeline as a replace, later versions as an update with
/// `truncatedArrays`.
#[tokio::test]
async fn an_array_cut_by_a_pipeline_is_changed() {
    let slice = vec![doc! { "$set": { "items": { "$slice": ["$items", 1] } } }];
    let seen = updates_seen_by_field("items", [("cut", slice.into())]).await;
    let [cut] = seen.as_slice() else {
        panic!("{seen:?}")
    };
    assert!(cut == "update cut" || cut == "replace cut");
}

/// Only the pre-image could tell a parent that is set to the same from a change.
#[tokio::test]
async fn a_rewritten_parent_counts_as_changed_but_an_identical_write_makes_no_event() {
    let same = doc! { "status": "open", "card": { "last": 1 } };
    let reordered = doc! { "card": { "last": 1 }, "status": "open" };
    let seen = updates_seen_by_field(
        "payment.status",
        [
            ("identical", set(doc! { "payment": same })),
            ("reordered", set(doc! { "payment": reordered })),
        ],
    );
    assert_eq!(seen.await, ["update reordered"]);
}

#[tokio::test]
async fn find_and_modify_is_an_update_and_an_upsert_may_be_an_insert() {
    let shop = Shop::open().await;
    let orders = shop.orders();
    let of_status = |spec: HandlerSpec<()>| spec.collections(["orders"]).fields(["status"]);
    let writes = async || {
        orders.delete_many(doc! {}).await.expect("a delete");
        shop.insert(order("there")).await;
        for id in ["there", "new"] {
            let paid = doc! { "$set": { "status": "paid" } };
            let upsert = orders.update_one(doc! { "_id": id }, paid).upsert(true);
            upsert.await.expect("an upsert");
        }
        let sent = doc! { "$set": { "status": "sent" } };
        let modified = orders
            .find_one_and_update(doc! { "_id": "new" }, sent)
            .await;
        modified.expect("an update");
    };
    let updated = shop.seen_by(
        |spec| of_status(spec).operations([Operation::Update]),
        writes(),
    );
    assert_eq!(updated.await, ["update there", "update new"]);
    let inserted = shop.seen_by(
        |spec| of_status(spec).operations([Operation::Insert]),
        writes(),
    );
    assert_eq!(inserted.await, ["insert there", "insert new"]);
}

#[tokio::test]
async fn other_operations_are_not_held_to_the_field() {
    let shop = Shop::open().await;
    let during = async {
        shop.insert(order("1")).await;
        shop.update("1", doc! { "$set": { "other": 1 } }).await;
        shop.delete("1").await;
    };
    let annotate = |spec: HandlerSpec<()>| spec.collections(["orders"]).fields(["status"]);
    assert_eq!(
        shop.seen_by(annotate, during).await,
        ["insert 1", "delete 1"]
    );
}

/// In aggregation expressions a missing field is not null.
#[tokio::test]
async fn an_untouched_field_fools_the_filter_that_is_often_published_and_not_ours() {
    let shop = Shop::open().await;
    shop.insert(order("1")).await;
    let from = shop.now().await;
    let annotate = |spec: HandlerSpec<()>| {
        let spec = spec.collections(["orders"]).fields(["status"]);
        spec.operations([Operation::Update])
    };
    let untouched = shop.update("1", doc! { "$set": { "statusCode": 2 } });
    assert!(shop.seen_by(annotate, untouched).await.is_empty());

    let published = doc! { "$match": {
        "operationType": "update",
        "$expr": { "$ne": ["$updateDescription.updatedFields.status", null] },
    } };
    let stream = doc! { "$changeStream": { "startAtOperationTime": from.0 } };
    let fooled = shop.orders().aggregate([stream, published]).await;
    let event = fooled.expect("a stream").try_next().await;
    assert!(event.expect("a stream").is_some());
}

#[tokio::test]
async fn a_replace_is_compared_with_its_pre_image_where_there_is_one() {
    let shop = Shop::open().await;
    let has_images = shop.record_images().await;
    let annotate = |spec: HandlerSpec<()>| {
        let spec = spec.collections(["orders"]).fields(["payment.status"]);
        spec.operations([Operation::Replace])
    };
    let writes = async || {
        shop.orders().delete_many(doc! {}).await.expect("a delete");
        for id in ["status", "code", "same"] {
            shop.insert(order(id)).await;
        }
        let mut paid = order("status");
        paid.insert("payment", doc! { "status": "paid" });
        shop.replace("status", paid).await;
        let mut coded = order("code");
        coded.insert("statusCode", 2);
        shop.replace("code", coded).await;
        shop.replace("same", order("same")).await;
    };
    let every_replace = ["replace status", "replace code"];
    assert_eq!(
        shop.seen_by(annotate, writes()).await,
        every_replace,
        "no pre-image was asked for"
    );

    let seen = Seen::default();
    let seen_by_handler = seen.clone();
    let with_pre_image = move |change: RawChange, _before: Option<PreImage<Document>>| {
        seen_by_handler.push(&change);
        ready(Ok::<(), HandlerError>(()))
    };
    let spec = annotate(HandlerSpec::new("compares", with_pre_image));
    shop.run(shop.runtime().handler(spec), writes()).await;
    let compared = if has_images {
        &every_replace[..1]
    } else {
        &every_replace[..]
    };
    assert_eq!(seen.take(), compared);
}
