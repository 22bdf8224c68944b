use std::{fmt, sync::Arc};

use bson::{Bson, RawBson};

use super::{Delivery, Place, SinkSpec};
use crate::{
    error::Error,
    event::Operation,
    filter::{FieldPath, Filter, Selection, equal},
    handler::HandlerError,
    message::Message,
};

/// Which messages also go to some sinks, beside those that their handlers name with `to`.
///
/// All that is said of a message must hold; a route of which nothing is said is for every message. However many routes
/// lead a message to a sink, it goes there once.
///
/// # Example
///
/// ```
/// use changestream_core::Route;
///
/// let cancelled = Route::to(["alert-service"])
///     .collections(["orders"])
///     .equals("full_document.status", "cancelled");
/// let urgent = Route::to(["alert-service"]).equals("message.urgency", "high");
/// ```
#[derive(Clone)]
pub struct Route {
    to: Vec<String>,
    handlers: Vec<String>,
    collections: Vec<String>,
    operations: Vec<Operation>,
    fields: Vec<String>,
    equals: Vec<(String, Bson)>,
    when: Option<Predicate>,
}

type Predicate = Arc<dyn Fn(&Delivery) -> bool + Send + Sync>;

impl Route {
    /// A route to these sinks.
    #[must_use]
    pub fn to<N: Into<String>>(sinks: impl IntoIterator<Item = N>) -> Self {
        Self {
            to: sinks.into_iter().map(Into::into).collect(),
            handlers: Vec::new(),
            collections: Vec::new(),
            operations: Vec::new(),
            fields: Vec::new(),
            equals: Vec::new(),
            when: None,
        }
    }

    /// Of what these handlers return, and no others.
    #[must_use]
    pub fn handlers<N: Into<String>>(mut self, handlers: impl IntoIterator<Item = N>) -> Self {
        self.handlers = handlers.into_iter().map(Into::into).collect();
        self
    }

    /// About events of these collections.
    #[must_use]
    pub fn collections<N: Into<String>>(
        mut self,
        collections: impl IntoIterator<Item = N>,
    ) -> Self {
        self.collections = collections.into_iter().map(Into::into).collect();
        self
    }

    /// About these operations.
    #[must_use]
    pub fn operations(mut self, operations: impl IntoIterator<Item = Operation>) -> Self {
        self.operations = operations.into_iter().collect();
        self
    }

    /// Of updates and replaces, about those that changed one of these fields; see [`Filter::Changed`].
    #[must_use]
    pub fn fields<P: Into<String>>(mut self, fields: impl IntoIterator<Item = P>) -> Self {
        self.fields = fields.into_iter().map(Into::into).collect();
        self
    }

    /// Where the value at `field` is this one, numbers of all types compared by value. `field` is `full_document.`,
    /// `pre_image.`, `document_key.` or `message.` (of a payload of JSON) and a path; the server is asked for the document.
    #[must_use]
    pub fn equals(mut self, field: impl Into<String>, value: impl Into<Bson>) -> Self {
        self.equals.push((field.into(), value.into()));
        self
    }

    /// Where `predicate` says so.
    ///
    /// It should say the same of an event that comes again, and sees of the event's documents what handlers and sinks ask for.
    #[must_use]
    pub fn when(mut self, predicate: impl Fn(&Delivery) -> bool + Send + Sync + 'static) -> Self {
        self.when = Some(Arc::new(predicate));
        self
    }

    pub(crate) fn bind(self) -> Result<BoundRoute, Error> {
        let wrong = |problem: String| {
            Error::configuration(format!("the route to {}: {problem}", list(&self.to)))
        };
        if self.to.is_empty() {
            return Err(Error::configuration("a route leads to no sink; name one"));
        }
        let fields = self.fields.iter().map(FieldPath::new);
        let fields = fields
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| wrong(error.to_string()))?;
        let mut all = Vec::new();
        if !self.collections.is_empty() {
            all.push(Filter::Collection(self.collections.clone()));
        }
        if !self.operations.is_empty() {
            all.push(Filter::Operation(self.operations.clone()));
        }
        if !fields.is_empty() {
            all.push(Filter::Changed(fields.clone()));
        }
        let equals = self.equals.iter().map(|(field, value)| {
            let place = Place::parse(field).ok_or_else(|| {
                wrong(format!(
                    "`{field}` is nothing of a delivery; write `full_document.`, `pre_image.`, `document_key.` or \
                     `message.` and a path"
                ))
            })?;
            let place = place.map_err(|error| wrong(error.to_string()))?;
            let value = RawBson::try_from(value.clone()).map_err(|_| {
                wrong(format!("the value that `{field}` is to equal is no BSON"))
            })?;
            Ok((place, value))
        });
        Ok(BoundRoute {
            equals: equals.collect::<Result<_, Error>>()?,
            fields,
            filter: Filter::And(all),
            route: self,
        })
    }
}

/// `a`, `b`.
pub(crate) fn list<T: AsRef<str>>(names: &[T]) -> String {
    let names: Vec<_> = names
        .iter()
        .map(|name| format!("`{}`", name.as_ref()))
        .collect();
    names.join(", ")
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("to", &self.to)
            .field("handlers", &self.handlers)
            .field("collections", &self.collections)
            .field("operations", &self.operations)
            .field("fields", &self.fields)
            .field("equals", &self.equals)
            .finish_non_exhaustive()
    }
}

/// A route, checked.
#[derive(Clone, Debug)]
pub(crate) struct BoundRoute {
    route: Route,
    fields: Vec<FieldPath>,
    filter: Filter,
    equals: Vec<(Place, RawBson)>,
}

impl BoundRoute {
    pub(crate) fn sinks(&self) -> &[String] {
        &self.route.to
    }

    pub(crate) fn handlers(&self) -> &[String] {
        &self.route.handlers
    }

    pub(crate) fn is_to(&self, sink: &str) -> bool {
        self.route.to.iter().any(|to| to == sink)
    }

    /// Whether anything that this handler returns may be led by it.
    pub(crate) fn concerns(&self, handler: &str, selection: &Selection) -> bool {
        let Route {
            handlers,
            collections,
            operations,
            ..
        } = &self.route;
        let is_one_of =
            |names: &[String], name: &str| names.is_empty() || names.iter().any(|n| n == name);
        let watched = &selection.collections;
        let mut watched_too = watched.iter().filter(|name| is_one_of(collections, name));
        is_one_of(handlers, handler)
            && (watched.is_empty() || watched_too.next().is_some())
            && (operations.is_empty()
                || operations
                    .iter()
                    .any(|operation| selection.selects(operation)))
    }

    pub(crate) fn leads(&self, delivery: &Delivery) -> bool {
        let is_equal = |(place, expected): &(Place, RawBson)| {
            let is_equal = place.value(delivery, |value| {
                Some(equal(value, expected.as_raw_bson_ref()))
            });
            is_equal.unwrap_or(false)
        };
        self.filter.matches(delivery.change())
            && self.equals.iter().all(is_equal)
            && self.route.when.as_ref().is_none_or(|when| when(delivery))
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        self.equals.iter().map(|(place, _)| place)
    }

    /// The fields whose change it asks for.
    pub(crate) fn fields(&self) -> &[FieldPath] {
        &self.fields
    }
}

/// A table of services, and of which messages go to each: sinks and routes that are given to a runtime together.
///
/// # Example
///
/// ```
/// use changestream_core::{Route, Routes};
/// # use changestream_core::{Delivery, HandlerError};
/// # use tower::service_fn;
/// # let [inventory, search, alerts] = [(); 3].map(|()| service_fn(|_: Delivery| async { Ok::<_, HandlerError>(()) }));
///
/// let routes = Routes::default()
///     .service("inventory-service", inventory)
///     .service("search-service", search)
///     .service("alert-service", alerts)
///     .route(Route::to(["inventory-service", "search-service"]).collections(["products"]))
///     .route(Route::to(["alert-service"]).equals("message.urgency", "high"));
/// ```
#[derive(Debug, Default)]
pub struct Routes {
    pub(crate) services: Vec<(Arc<str>, SinkSpec)>,
    pub(crate) routes: Vec<Route>,
}

impl Routes {
    /// Adds a service, which is a sink that a route or a handler must lead to.
    #[must_use]
    pub fn service(mut self, name: impl Into<String>, sink: impl Into<SinkSpec>) -> Self {
        self.services.push((name.into().into(), sink.into()));
        self
    }

    /// Adds a route.
    #[must_use]
    pub fn route(mut self, route: Route) -> Self {
        self.routes.push(route);
        self
    }

    /// Sends to a service what `map` makes of each message, as [`SinkSpec::map`] does: a payload of its own for a service of a
    /// table that was read from a file. What else the table says of the service, such as an envelope, comes after it.
    ///
    /// # Errors
    ///
    /// A configuration error when there is no such service.
    pub fn map<F>(mut self, service: &str, map: F) -> Result<Self, Error>
    where
        F: Fn(&Delivery) -> Result<Option<Message>, HandlerError> + Clone + Send + Sync + 'static,
    {
        let named = self
            .services
            .iter_mut()
            .find(|(name, _)| &**name == service);
        let Some((_, sink)) = named else {
            let names: Vec<_> = self
                .services
                .iter()
                .map(|(name, _)| format!("`{name}`"))
                .collect();
            return Err(Error::configuration(format!(
                "the table of routes has no service `{service}` to map the messages of; it has {}",
                names.join(", ")
            )));
        };
        sink.map_first(map);
        Ok(self)
    }
}
