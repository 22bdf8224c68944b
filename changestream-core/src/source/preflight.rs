//! What is asked of the deployment before the stream opens, so that what cannot work is said at once.

use std::collections::HashMap;

use bson::doc;
use futures::TryStreamExt;
use mongodb::{
    Client,
    error::{Error as DriverError, ErrorKind},
    results::CollectionType,
};

use super::{DocumentModes, OnMissingImage, modes::FullDocumentMode};
use crate::{
    error::{BoxError, Error, Kind},
    extract::Need,
    handler::BoundHandler,
};

/// The wire version of MongoDB 4.4, the oldest that is supported.
const WIRE_VERSION_4_4: i32 = 9;
/// The wire version of MongoDB 6.0, the first that records pre- and post-images.
const WIRE_VERSION_6_0: i32 = 17;
const COMMAND_NOT_FOUND: i32 = 59;

/// Checks that the deployment can do what the handlers ask, and chooses the document modes.
pub(crate) async fn preflight(
    client: &Client,
    default_database: &str,
    handlers: &[BoundHandler],
    on_missing_image: OnMissingImage,
) -> Result<DocumentModes, Error> {
    let insists = on_missing_image != OnMissingImage::PassNone;
    let Deployment {
        wire_version,
        is_sharded,
    } = deployment(client).await?;
    let modes = if wire_version < WIRE_VERSION_6_0 {
        modes_without_images(handlers, insists)?
    } else {
        let images = Images::of(client, default_database, handlers).await?;
        choose_modes(handlers, &images, insists)?
    };
    // Over the shards of a cluster, `_id` alone may be of several documents.
    Ok(match is_sharded {
        true => modes,
        false => modes.looked_up_here(),
    })
}

/// Whether the server knows `$changeStreamSplitLargeEvent`: from 6.0.9 and from 7.0 on. Where it does not say what it is,
/// it is asked for nothing new.
pub(super) async fn splits_events(client: &Client) -> Result<bool, Error> {
    let admin = client.database("admin");
    let info = admin.run_command(doc! { "buildInfo": 1 }).await;
    let info = unless_refused(info)?.unwrap_or_default();
    let version = info.get_array("versionArray").ok();
    let part = |index: usize| version.and_then(|version| version.get(index)?.as_i32());
    Ok(match [0, 1, 2].map(part) {
        [Some(6), Some(0), Some(patch)] => patch >= 9,
        [Some(major), ..] => major >= 7,
        _ => false,
    })
}

/// An answer that not every user gets and not every server has: `None` where it is refused.
///
/// An answer that is lost is none. Taken for a refusal, it would make the stream another one than before.
fn unless_refused<T>(answer: Result<T, DriverError>) -> Result<Option<T>, Error> {
    const UNAUTHORIZED: i32 = 13;
    const API_STRICT_ERROR: i32 = 323;
    match answer {
        Err(error)
            if [UNAUTHORIZED, COMMAND_NOT_FOUND, API_STRICT_ERROR]
                .map(Some)
                .contains(&code(&error)) =>
        {
            tracing::debug!(%error, "the server does not say what it can do; asking for nothing more");
            Ok(None)
        }
        answer => answer.map(Some).map_err(unreachable),
    }
}

pub(crate) fn unreachable(error: impl Into<BoxError>) -> Error {
    let message = "no MongoDB server answers; check that the deployment of the connection string runs, can be \
                   reached from here, and accepts these credentials";
    Error::new(Kind::Unreachable, message).caused_by(error)
}

/// What the server says of itself.
struct Deployment {
    wire_version: i32,
    is_sharded: bool,
}

async fn deployment(client: &Client) -> Result<Deployment, Error> {
    let hello = client
        .database("admin")
        .run_command(doc! { "hello": 1 })
        .await;
    let hello = match hello {
        Err(error) if is_unknown_command(&error) => {
            let is_master = doc! { "isMaster": 1 };
            client.database("admin").run_command(is_master).await
        }
        hello => hello,
    };
    let hello = hello.map_err(unreachable)?;
    let is_sharded = hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid");
    if !is_sharded && !hello.contains_key("setName") {
        return Err(Error::new(
            Kind::UnsupportedServer,
            "the MongoDB server is not of a replica set, and only those have change streams; start mongod with \
             `--replSet rs0` and run `rs.initiate()` once",
        ));
    }
    let wire_version = hello.get_i32("maxWireVersion").unwrap_or_default();
    if wire_version < WIRE_VERSION_4_4 {
        return Err(Error::new(
            Kind::UnsupportedServer,
            format!(
                "the MongoDB server is too old (wire version {wire_version}); 4.4 is the oldest supported"
            ),
        ));
    }
    Ok(Deployment {
        wire_version,
        is_sharded,
    })
}

fn is_unknown_command(error: &DriverError) -> bool {
    code(error) == Some(COMMAND_NOT_FOUND)
}

fn code(error: &DriverError) -> Option<i32> {
    match *error.kind {
        ErrorKind::Command(ref error) => Some(error.code),
        _ => None,
    }
}

/// Before 6.0 there are no images: they are not asked for where a handler can do without.
fn modes_without_images(handlers: &[BoundHandler], insists: bool) -> Result<DocumentModes, Error> {
    if let Some(handler) = handlers
        .iter()
        .find(|handler| insists && handler.needs.pre_image == Need::Required)
    {
        return Err(Error::new(
            Kind::UnsupportedServer,
            format!(
                "handler `{}` requires pre-images, which MongoDB has from 6.0 on, and the server is older; upgrade it, \
                 or take `Option<PreImage<_>>`",
                handler.name
            ),
        ));
    }
    Ok(DocumentModes {
        pre_image: false,
        ..needed(handlers)
    })
}

fn needed(handlers: &[BoundHandler]) -> DocumentModes {
    let needs = handlers.iter().map(|handler| handler.needs);
    DocumentModes::of(needs.fold(Default::default(), crate::extract::Needs::and))
}

fn choose_modes(
    handlers: &[BoundHandler],
    images: &Images,
    insists: bool,
) -> Result<DocumentModes, Error> {
    for handler in handlers {
        if !insists || handler.needs.pre_image != Need::Required {
            continue;
        }
        if let Some((database, collection)) = images.missing_for(handler) {
            return Err(Error::new(
                Kind::UnsupportedServer,
                format!(
                    "handler `{}` requires pre-images, but `{database}.{collection}` does not record them; run \
                     `db.runCommand({{collMod: \"{collection}\", changeStreamPreAndPostImages: {{enabled: true}}}})`, \
                     or take `Option<PreImage<_>>`",
                    handler.name
                ),
            ));
        }
    }
    let mut modes = needed(handlers);
    let mut wanting = handlers
        .iter()
        .filter(|handler| handler.needs.full_document != Need::No);
    if modes.full_document == FullDocumentMode::UpdateLookup
        && wanting.all(|handler| images.recorded_for(handler))
    {
        modes.full_document = FullDocumentMode::PostImage;
    }
    Ok(modes)
}

/// Which collections record pre- and post-images, as far as it can be known.
struct Images {
    default_database: String,
    recorded: HashMap<(String, String), bool>,
}

impl Images {
    async fn of(
        client: &Client,
        default_database: &str,
        handlers: &[BoundHandler],
    ) -> Result<Self, Error> {
        let mut images = Self {
            default_database: default_database.to_owned(),
            recorded: HashMap::new(),
        };
        let mut databases: Vec<_> = handlers
            .iter()
            .filter(|handler| handler.needs != Default::default())
            .map(|handler| images.database_of(handler).to_owned())
            .collect();
        databases.sort();
        databases.dedup();
        for database in databases {
            images.read(client, database).await?;
        }
        Ok(images)
    }

    async fn read(&mut self, client: &Client, database: String) -> Result<(), Error> {
        let collections = async {
            let handle = client.database(&database);
            handle
                .list_collections()
                .await?
                .try_collect::<Vec<_>>()
                .await
        };
        // Where they are not told, none is taken to record images.
        let collections = unless_refused(collections.await)?.unwrap_or_default();
        for collection in collections {
            if collection.collection_type != CollectionType::Collection {
                continue;
            }
            let images = collection.options.change_stream_pre_and_post_images;
            let recorded = images.is_some_and(|images| images.enabled);
            self.recorded
                .insert((database.clone(), collection.name), recorded);
        }
        Ok(())
    }

    fn database_of<'a>(&'a self, handler: &'a BoundHandler) -> &'a str {
        let database = handler.selection.database.as_deref();
        database.unwrap_or(&self.default_database)
    }

    fn namespaces(&self, handler: &BoundHandler) -> Vec<(String, String)> {
        let database = self.database_of(handler);
        let collections = handler.selection.collections.iter();
        collections
            .map(|collection| (database.to_owned(), collection.clone()))
            .collect()
    }

    /// A collection of `handler` that exists and records no images.
    fn missing_for(&self, handler: &BoundHandler) -> Option<(String, String)> {
        let mut namespaces = self.namespaces(handler).into_iter();
        namespaces.find(|namespace| self.recorded.get(namespace) == Some(&false))
    }

    /// Whether every collection of `handler` is known to record images.
    fn recorded_for(&self, handler: &BoundHandler) -> bool {
        let namespaces = self.namespaces(handler);
        !namespaces.is_empty()
            && namespaces
                .iter()
                .all(|namespace| self.recorded.get(namespace) == Some(&true))
    }
}
