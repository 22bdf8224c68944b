//! A command to the server, and its reply.

use std::collections::HashSet;

use bson::{Bson, Document, RawArrayBuf, RawDocumentBuf, cstr, doc, rawdoc};
use changestream_core::{Delivery, HandlerError, server};
use futures::TryStreamExt;
use mongodb::options::{ReadConcern, ReadPreference, SelectionCriteria};

use super::{
    Mode, Target,
    batch::Write,
    error,
    statement::{Kind, OWN},
};

/// The statements of a command that were not done, by their index.
struct Refused<'a> {
    failed: Vec<(usize, HandlerError)>,
    /// Inserts whose document is there already, which may be their own.
    there: Vec<(usize, &'a Document)>,
}

impl Target {
    /// Runs one command: which of its statements failed, by their index.
    ///
    /// # Errors
    ///
    /// When it is not known which of them are done.
    pub(super) async fn run(
        &self,
        writes: &[Write],
        deliveries: &[Delivery],
    ) -> Result<Vec<(usize, HandlerError)>, HandlerError> {
        let client = self.collection.client();
        let database = client.database(&self.collection.namespace().db);
        let reply = match database.run_raw_command(self.command(writes)).await {
            Ok(reply) => reply,
            Err(error) => {
                server::close_if_unauthorized(client, &error).await;
                return Err(error::of_command(&self.namespace, &error));
            }
        };
        let Refused { mut failed, there } = self.refused(&reply, writes.len())?;
        if !there.is_empty() {
            let writes = there.iter().map(|(index, _)| &writes[*index]);
            let strangers = self.strangers(writes, deliveries).await?;
            let strangers = there.iter().zip(strangers).filter(|(_, is)| *is);
            failed.extend(
                strangers.map(|((index, error), _)| {
                    (*index, error::of_statement(&self.namespace, error))
                }),
            );
        }
        Ok(failed)
    }

    /// Reads the reply to a command of so many statements.
    fn refused<'a>(
        &self,
        reply: &'a Document,
        statements: usize,
    ) -> Result<Refused<'a>, HandlerError> {
        if let Ok(error) = reply.get_document("writeConcernError") {
            return Err(error::of_write_concern(&self.namespace, error));
        }
        let mut failed = Vec::new();
        let mut there = Vec::new();
        for error in reply.get_array("writeErrors").into_iter().flatten() {
            let error = error.as_document();
            let index = error.and_then(|error| error.get_i32("index").ok()?.try_into().ok());
            let (Some(error), Some(index)) = (error, index.filter(|index| *index < statements))
            else {
                let problem = format!("an answer to a write to `{}` is none", self.namespace);
                return Err(HandlerError::retry(problem));
            };
            match (error::is_of_id(error), self.mode) {
                (true, Mode::Insert) => there.push((index, error)),
                // Another client was a moment ahead.
                (true, _) => failed.push((index, self.to_come_again())),
                (false, _) => failed.push((index, error::of_statement(&self.namespace, error))),
            }
        }
        Ok(Refused { failed, there })
    }

    fn command(&self, writes: &[Write]) -> RawDocumentBuf {
        let mut statements = RawArrayBuf::new();
        for write in writes {
            statements.push(&*write.statement.body);
        }
        let collection = self.collection.name();
        let mut command = match writes.first().map(|write| write.statement.kind) {
            Some(Kind::Update) => rawdoc! { "update": collection, "updates": statements },
            Some(Kind::Delete) => rawdoc! { "delete": collection, "deletes": statements },
            Some(Kind::Insert) | None => rawdoc! { "insert": collection, "documents": statements },
        };
        command.append(cstr!("ordered"), false);
        let mut concern = rawdoc! { "w": "majority" };
        let own = self.collection.write_concern();
        if let Some(timeout) = own.and_then(|own| own.w_timeout) {
            let millis = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
            concern.append(cstr!("wtimeout"), millis);
        }
        command.append(cstr!("writeConcern"), concern);
        command
    }

    /// Whether the document that is there in place of each is of another delivery.
    async fn strangers<'a>(
        &self,
        writes: impl Iterator<Item = &'a Write>,
        deliveries: &[Delivery],
    ) -> Result<Vec<bool>, HandlerError> {
        let mut known = HashSet::new();
        let mut asked = Vec::new();
        let writes: Vec<_> = writes
            .map(|write| (write, deliveries[write.place].id()))
            .collect();
        for (write, delivery) in &writes {
            let id = write.statement.id.get("_id").ok().flatten();
            match id.and_then(|id| id.as_str()) == Some(delivery) {
                // It says itself of which delivery it is.
                true => drop(known.insert(delivery.clone())),
                false => asked.extend(id.and_then(|id| Bson::try_from(id).ok())),
            }
        }
        if !asked.is_empty() {
            let failed = |error| error::of_command(&self.namespace, &error);
            let ids = doc! { "_id": { "$in": asked } };
            let found = self.collection.find(ids).projection(doc! { OWN: 1 });
            let primary = SelectionCriteria::ReadPreference(ReadPreference::Primary);
            let found = found.read_concern(ReadConcern::local());
            let found = found.selection_criteria(primary).await.map_err(failed)?;
            let found: Vec<RawDocumentBuf> = found.try_collect().await.map_err(failed)?;
            let own = found.iter().filter_map(|found| {
                let own = found.get_document(OWN).ok()?;
                own.get_str("delivery").ok()
            });
            known.extend(own.map(str::to_owned));
        }
        let writes = writes.iter();
        Ok(writes
            .map(|(_, delivery)| !known.contains(delivery))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use changestream_core::Disposition;
    use mongodb::{Client, options::ClientOptions};

    use super::*;
    use crate::MongoSink;

    #[tokio::test]
    async fn an_upsert_that_another_client_was_ahead_of_comes_again() {
        let nobody = Client::with_options(ClientOptions::default()).unwrap();
        let collection = nobody.database("a").collection::<Document>("b");
        let reply = doc! { "writeErrors": [
            { "index": 1, "code": 11000, "keyPattern": { "_id": 1 }, "errmsg": "secret" },
            { "index": 2, "code": 11000, "keyPattern": { "sku": 1 }, "errmsg": "secret" },
        ] };
        for sink in [
            MongoSink::upsert(&collection),
            MongoSink::merge(&collection),
        ] {
            let Refused { failed, there } = sink.target.refused(&reply, 3).unwrap();
            assert!(there.is_empty());
            let failed = failed.iter();
            let failed =
                failed.map(|(index, error)| (*index, error.disposition(), error.to_string()));
            let ahead = "another write to the same document of `a.b` was under way".to_owned();
            let taken = "`a.b` does not take the document: another one has its `sku`".to_owned();
            assert_eq!(
                failed.collect::<Vec<_>>(),
                [
                    (1, Disposition::Retry, ahead),
                    (2, Disposition::Reject, taken)
                ]
            );
        }
        let insert = MongoSink::insert(&collection).target;
        let Refused { failed, there } = insert.refused(&reply, 3).unwrap();
        assert_eq!((failed.len(), there[0].0), (1, 1));
        assert!(
            insert.refused(&reply, 2).is_err(),
            "there was no such statement"
        );
    }
}
