//! Which handlers an event goes to: by namespace through a table, then by what the table leaves of the exact filter.

use std::collections::BTreeSet;

use ahash::{HashMap, HashMapExt as _};

use crate::{
    event::RawChange,
    filter::{Candidate, Filter, Selection},
};

/// The table of handlers. A handler costs nothing to the events of namespaces that it does not watch.
#[derive(Debug)]
pub(crate) struct Router {
    databases: HashMap<Vec<u8>, Database>,
    /// Events that name no database.
    nameless: Vec<Route>,
}

#[derive(Debug, Default)]
struct Database {
    collections: HashMap<Vec<u8>, Vec<Route>>,
    /// Events of other collections.
    others: Vec<Route>,
    /// Events of no collection.
    nameless: Vec<Route>,
}

#[derive(Clone, Debug)]
struct Route {
    handler: usize,
    filter: Filter,
}

impl Router {
    /// A table of what each handler, by its place, selects.
    pub(crate) fn new<'a>(
        selections: impl IntoIterator<Item = &'a Selection>,
        default_database: &str,
    ) -> Self {
        let mut router = Self {
            databases: HashMap::new(),
            nameless: Vec::new(),
        };
        for (handler, selection) in selections.into_iter().enumerate() {
            let database = selection.database.as_deref().unwrap_or(default_database);
            let selection = Selection {
                database: Some(database.to_owned()),
                ..selection.clone()
            };
            let route = Route {
                handler,
                filter: selection.filter(),
            };
            router.nameless.push(route.clone());
            let database = router.databases.entry(database.into()).or_default();
            database.add(route, &selection);
        }
        router
    }

    /// The places of the handlers that `change` goes to, in the order in which they were registered.
    pub(crate) fn route<'a>(&'a self, change: &'a RawChange) -> impl Iterator<Item = usize> + 'a {
        let candidate = Candidate::new(change);
        self.routes(&candidate)
            .iter()
            .filter(move |route| route.filter.selects(&candidate))
            .map(|route| route.handler)
    }

    fn routes(&self, candidate: &Candidate<'_>) -> &[Route] {
        if candidate.database.is_empty() {
            return &self.nameless;
        }
        let Some(database) = self.databases.get(candidate.database) else {
            return &[];
        };
        match candidate.collection {
            Some(name) => database.collections.get(name).unwrap_or(&database.others),
            None => &database.nameless,
        }
    }
}

impl Database {
    fn add(&mut self, route: Route, selection: &Selection) {
        for collection in selection.collections.iter().collect::<BTreeSet<_>>() {
            let others = &self.others;
            let routes = self.collections.entry(collection.clone().into_bytes());
            routes.or_insert_with(|| others.clone()).push(Route {
                handler: route.handler,
                filter: selection.filter_within_collections(),
            });
        }
        if selection.collections.is_empty() {
            let named = self.collections.values_mut();
            named.for_each(|routes| routes.push(route.clone()));
            self.others.push(route.clone());
        }
        self.nameless.push(route);
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;
    use crate::event::Operation;

    fn selection(collections: &[&str], operations: &[Operation]) -> Selection {
        Selection {
            collections: collections.iter().map(|name| name.to_string()).collect(),
            operations: operations.to_vec(),
            ..Selection::default()
        }
    }

    fn routed(router: &Router, operation: &str, namespace: bson::RawDocumentBuf) -> Vec<usize> {
        let event = rawdoc! {
            "_id": { "_data": "82" }, "operationType": operation, "ns": namespace,
        };
        let change = RawChange::new(event.into_bytes()).expect("an event");
        router.route(&change).collect()
    }

    #[test]
    fn an_event_goes_to_its_handlers_in_their_order() {
        let insert = [Operation::Insert];
        let selections = [
            selection(&["orders"], &insert),
            selection(&[], &insert),
            selection(&["products", "orders"], &insert),
            selection(&["orders"], &[Operation::Delete]),
        ];
        let router = Router::new(&selections, "shop");
        assert_eq!(
            routed(
                &router,
                "insert",
                rawdoc! { "db": "shop", "coll": "orders" }
            ),
            [0, 1, 2]
        );
        assert_eq!(
            routed(
                &router,
                "insert",
                rawdoc! { "db": "shop", "coll": "products" }
            ),
            [1, 2]
        );
        assert_eq!(
            routed(
                &router,
                "insert",
                rawdoc! { "db": "shop", "coll": "customers" }
            ),
            [1]
        );
        assert!(routed(&router, "insert", rawdoc! { "db": "crm", "coll": "orders" }).is_empty());
    }

    #[test]
    fn a_collection_that_is_named_twice_is_watched_once() {
        let selections = [selection(&["orders", "orders"], &[Operation::Insert])];
        let router = Router::new(&selections, "shop");
        let namespace = rawdoc! { "db": "shop", "coll": "orders" };
        assert_eq!(routed(&router, "insert", namespace), [0]);
    }

    #[test]
    fn events_of_no_collection_go_to_whoever_asked_for_them() {
        let selections = [
            selection(
                &["orders"],
                &[Operation::DropDatabase, Operation::Invalidate],
            ),
            selection(&[], &[Operation::Insert]),
        ];
        let router = Router::new(&selections, "shop");
        assert_eq!(
            routed(&router, "dropDatabase", rawdoc! { "db": "shop" }),
            [0]
        );
        assert_eq!(routed(&router, "invalidate", rawdoc! {}), [0]);
    }

    #[test]
    fn a_handler_of_everything_does_not_see_the_runtimes_own_writes() {
        let router = Router::new(&[selection(&[], &[Operation::Update])], "shop");
        let namespace = rawdoc! { "db": "shop", "coll": "changestream.checkpoints" };
        assert!(routed(&router, "update", namespace).is_empty());
    }
}
