//! Effects in transactions that show when they happen twice, or by half.

use changestream::Transaction;
use futures::TryStreamExt;
use mongodb::{
    Database,
    bson::{Document, doc},
    error::TRANSIENT_TRANSACTION_ERROR,
    options::ReadConcern,
};

/// What an effect is: a counter and a document, neither of which bears doing twice.
pub(crate) async fn effect(
    transaction: &mut Transaction,
    order: i64,
) -> mongodb::error::Result<()> {
    let database = transaction.database().clone();
    database
        .collection::<Document>("totals")
        .update_one(doc! { "_id": "all" }, doc! { "$inc": { "orders": 1_i64 } })
        .upsert(true)
        .session(transaction.session())
        .await?;
    database
        .collection::<Document>("effects")
        .insert_one(doc! { "order": order })
        .session(transaction.session())
        .await?;
    Ok(())
}

/// The orders that effects were made of. The counter has to agree, at any moment.
pub(crate) async fn effects(database: &Database) -> Vec<i64> {
    loop {
        match read_effects(database).await {
            Ok(effects) => return effects,
            // As where a collection has just been created.
            Err(error) if error.contains_label(TRANSIENT_TRANSACTION_ERROR) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

async fn read_effects(database: &Database) -> mongodb::error::Result<Vec<i64>> {
    let collection = |name| database.collection::<Document>(name);
    let mut snapshot = database.client().start_session().await?;
    snapshot
        .start_transaction()
        .read_concern(ReadConcern::snapshot())
        .await?;
    let totals = collection("totals");
    let total = totals.find_one(doc! {}).session(&mut snapshot).await?;
    // Where the collection is not there yet, the snapshot has not begun: what came later would be seen alone.
    let Some(total) = total else {
        return Ok(Vec::new());
    };
    let effects = collection("effects");
    let mut effects = effects.find(doc! {}).session(&mut snapshot).await?;
    let effects: Vec<_> = effects.stream(&mut snapshot).try_collect().await?;
    snapshot.commit_transaction().await?;
    let order = |effect: &Document| effect.get_i64("order").expect("an order");
    let mut orders: Vec<_> = effects.iter().map(order).collect();
    orders.sort_unstable();
    let total = total.get_i64("orders").expect("a number");
    assert_eq!(usize::try_from(total).expect("a count"), orders.len());
    Ok(orders)
}
