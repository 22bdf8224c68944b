//! Text with values of an event in it, as sinks make keys and subjects of.

use std::{borrow::Cow, fmt};

use bson::RawBsonRef;

use crate::{
    error::Error,
    handler::HandlerError,
    json::Json,
    sink::{Delivery, Place},
};

/// A text with values of the delivery in braces: `product:{document_key._id}`.
///
/// | in braces | is |
/// | --- | --- |
/// | `document_key.a.b` | a field of the document key, as `_id` |
/// | `full_document.a.b`, `pre_image.a.b` | a field of the document after or before the change, which the server is asked for |
/// | `message.a.b` | a field of the message's payload, where that is JSON |
/// | `database`, `collection`, `operation` | of the event |
/// | `event_id` | the same on every attempt and after every restart |
/// | `key` | of the message, by default the event's key |
/// | `handler` | the name of the handler that returned the message |
/// | `"text"` | the text |
///
/// Several in one pair of braces stand for the first that is there: `{full_document.category | pre_image.category |
/// "none"}`. A value that is missing, null or empty is not there, and where none is, the delivery is rejected: no key is ever
/// made of nothing. Strings stand as they are, other values as [plain JSON](Json::plain) without quotes. `{{` and `}}` are
/// braces.
///
/// # Example
///
/// ```
/// use changestream_core::Template;
///
/// assert!(Template::new("products:category:{full_document.category | pre_image.category}").is_ok());
/// let error = Template::new("product:{documentKey._id}").unwrap_err();
/// assert!(error.to_string().contains("`documentKey._id` is nothing of a delivery"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The first that is there.
    AnyOf(Vec<Value>),
}

#[derive(Clone, PartialEq, Eq)]
enum Value {
    Field(Place),
    Database,
    Collection,
    Operation,
    EventId,
    Key,
    Handler,
    Text(String),
}

const VALUES: &str = "`document_key.`, `full_document.`, `pre_image.` or `message.` and a path, `database`, \
                      `collection`, `operation`, `event_id`, `key`, `handler`, or a text in quotes";

impl Template {
    /// A template from its text.
    ///
    /// # Errors
    ///
    /// A configuration error that shows the template, when it is empty, when a brace has no partner, or when what is
    /// in braces is nothing of a delivery.
    pub fn new(text: impl Into<String>) -> Result<Self, Error> {
        let text = text.into();
        match parse(&text) {
            Ok(parts) => Ok(Self { text, parts }),
            Err(problem) => Err(Error::configuration(format!(
                "the template `{text}`: {problem}"
            ))),
        }
    }

    /// The text for a delivery.
    ///
    /// # Errors
    ///
    /// A rejection, without the values, when one of them is not there.
    pub fn render(&self, delivery: &Delivery) -> Result<String, HandlerError> {
        self.render_with(delivery, |value| Ok(value.into()))
    }

    /// The same, with each value as `escape` has it for the place where the text is used; a literal text stands as it is.
    ///
    /// # Errors
    ///
    /// A rejection, without the values, when one of them is not there, or when `escape` refuses it with a reason.
    ///
    /// # Example
    ///
    /// ```
    /// use changestream_core::{Delivery, HandlerError, Template};
    ///
    /// fn subject(template: &Template, delivery: &Delivery) -> Result<String, HandlerError> {
    ///     template.render_with(delivery, |value| match value.contains(['.', '*', '>', ' ']) {
    ///         true => Err("it holds what parts a subject"),
    ///         false => Ok(value.into()),
    ///     })
    /// }
    /// ```
    pub fn render_with<E>(&self, delivery: &Delivery, escape: E) -> Result<String, HandlerError>
    where
        E: for<'a> Fn(&'a str) -> Result<Cow<'a, str>, &'static str>,
    {
        let mut rendered = String::new();
        for part in &self.parts {
            let values = match part {
                Part::Text(text) => {
                    rendered.push_str(text);
                    continue;
                }
                Part::AnyOf(values) => values,
            };
            let mut there = values.iter().filter_map(|value| value.of(delivery));
            let value = there.next().ok_or_else(|| {
                let values: Vec<_> = values.iter().map(ToString::to_string).collect();
                self.rejection(format!("the event has no {}", values.join(" and no ")))
            })?;
            let escaped = escape(&value).map_err(|problem| {
                let values: Vec<_> = values.iter().map(ToString::to_string).collect();
                self.rejection(format!(
                    "the value of {} is refused: {problem}",
                    values.join(" or ")
                ))
            })?;
            rendered.push_str(&escaped);
        }
        Ok(rendered)
    }

    fn rejection(&self, problem: String) -> HandlerError {
        HandlerError::reject(format!("the template `{}`: {problem}", self.text))
    }

    fn values(&self) -> impl Iterator<Item = &Value> {
        let values = self.parts.iter().map(|part| match part {
            Part::Text(_) => &[],
            Part::AnyOf(values) => values.as_slice(),
        });
        values.flatten()
    }

    /// Where in the event and the message its values are.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        self.values().filter_map(|value| match value {
            Value::Field(place) => Some(place),
            _ => None,
        })
    }
}

impl Value {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(literal) = text.strip_prefix('"') {
            let literal = literal.strip_suffix('"').filter(|text| !text.is_empty());
            return literal
                .map(|text| Self::Text(text.to_owned()))
                .ok_or_else(|| format!("`{text}` is no text in quotes, or an empty one"));
        }
        match text {
            "database" => Ok(Self::Database),
            "collection" => Ok(Self::Collection),
            "operation" => Ok(Self::Operation),
            "event_id" => Ok(Self::EventId),
            "key" => Ok(Self::Key),
            "handler" => Ok(Self::Handler),
            text => match Place::parse(text) {
                Some(place) => place.map(Self::Field).map_err(|error| error.to_string()),
                None => Err(format!("`{text}` is nothing of a delivery; write {VALUES}")),
            },
        }
    }

    fn of<'a>(&'a self, delivery: &'a Delivery) -> Option<Cow<'a, str>> {
        let change = delivery.change();
        let value = match self {
            Self::Field(place) => place.value(delivery, text)?.into(),
            Self::Database => change.database().into(),
            Self::Collection => change.collection()?.into(),
            Self::Operation => change.operation().as_str().into(),
            Self::EventId => delivery.event_id().to_string().into(),
            Self::Key => delivery.message().get_key()?.into(),
            Self::Handler => delivery.handler().into(),
            Self::Text(text) => text.into(),
        };
        Some(value).filter(|value: &Cow<'_, str>| !value.is_empty())
    }
}

/// A value of BSON as text.
fn text(value: RawBsonRef<'_>) -> Option<String> {
    match value {
        RawBsonRef::Null | RawBsonRef::Undefined => None,
        RawBsonRef::String(text) => Some(text.to_owned()),
        value => match serde_json::to_value(Json::plain(value)).ok()? {
            serde_json::Value::String(text) => Some(text),
            value => Some(value.to_string()),
        },
    }
}

fn parse(text: &str) -> Result<Vec<Part>, String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        literal.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            literal.push_str(brace);
            rest = after;
            continue;
        }
        let end = rest.find('}').filter(|_| brace == "{").ok_or_else(|| {
            format!("a `{brace}` has no partner; write `{brace}{brace}` for a brace")
        })?;
        let values = rest[..end].split('|').map(str::trim).map(Value::parse);
        if !literal.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut literal)));
        }
        parts.push(Part::AnyOf(values.collect::<Result<_, _>>()?));
        rest = &rest[end + 1..];
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Text(literal));
    }
    Ok(parts)
}

/// As it is written, in backticks.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(place) => write!(f, "`{place}`"),
            Self::Database => f.write_str("`database`"),
            Self::Collection => f.write_str("`collection`"),
            Self::Operation => f.write_str("`operation`"),
            Self::EventId => f.write_str("`event_id`"),
            Self::Key => f.write_str("`key`"),
            Self::Handler => f.write_str("`handler`"),
            Self::Text(text) => write!(f, "`\"{text}\"`"),
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({:?})", self.text)
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use bson::{DateTime, doc};

    use super::*;
    use crate::{
        event::RawChange,
        message::Message,
        testing::{change, delivery_of},
    };

    fn template(text: &str) -> Template {
        Template::new(text).expect(text)
    }

    fn render(text: &str, change: impl Into<RawChange>) -> Result<String, String> {
        let message = Message::new("m", "text/plain").key("k");
        let rendered = template(text).render(&delivery_of(change, message));
        rendered.map_err(|error| error.to_string())
    }

    fn product() -> change::ChangeBuilder {
        let product = doc! { "_id": 7, "category": "toys", "none": null, "empty": "", "at": DateTime::from_millis(0),
        "price": { "net": 1.5 } };
        change::insert("products").id(7).full_document(&product)
    }

    #[test]
    fn values_take_the_place_of_their_names() {
        let rendered = |text| render(text, product());
        assert_eq!(
            rendered("product:{document_key._id}"),
            Ok("product:7".into())
        );
        assert_eq!(rendered("{ full_document.price.net }"), Ok("1.5".into()));
        assert_eq!(
            rendered("{full_document.at}"),
            Ok("1970-01-01T00:00:00Z".into())
        );
        assert_eq!(
            rendered("{database}.{collection}.{operation}/{handler}/{key}"),
            Ok("test.products.insert/handler/k".into())
        );
        assert_eq!(rendered("{{{key}}}"), Ok("{k}".into()));
        assert_eq!(rendered("no value"), Ok("no value".into()));
        assert_eq!(rendered("{event_id}").expect("an id").len(), 32);
    }

    #[test]
    fn the_first_value_that_is_there_counts() {
        let text = "{full_document.none | full_document.empty | pre_image.category | \"any\"}";
        assert_eq!(render(text, product()), Ok("any".into()));
        let before = doc! { "category": "books" };
        let deleted = change::delete("products").pre_image(&before);
        assert_eq!(render(text, deleted), Ok("books".into()));
    }

    #[test]
    fn what_is_not_there_is_rejected_by_name_and_nothing_is_made_of_it() {
        for text in [
            "a:{full_document.none}",
            "a:{full_document.empty}",
            "a:{full_document.x.y}",
        ] {
            let error = render(text, product()).expect_err(text);
            assert!(
                error.starts_with(&format!(
                    "the template `{text}`: the event has no `full_document."
                )),
                "{error}"
            );
        }
        let error = render("{pre_image.a | pre_image.b}", product()).expect_err("no pre-image");
        assert!(
            error.ends_with("has no `pre_image.a` and no `pre_image.b`"),
            "{error}"
        );
    }

    #[test]
    fn a_refused_value_is_not_shown() {
        let delivery = delivery_of(product(), Message::new("m", "text/plain"));
        fn refuse(value: &str) -> Result<Cow<'_, str>, &'static str> {
            match value {
                "toys" => Err("it is toys"),
                _ => Ok(Cow::Owned(format!("<{value}>"))),
            }
        }
        let rendered = |text: &str| template(text).render_with(&delivery, refuse);
        assert_eq!(rendered("a{document_key._id}b").expect("text"), "a<7>b");
        let error = rendered("{full_document.category}").expect_err("refused");
        assert_eq!(
            error.to_string(),
            "the template `{full_document.category}`: the value of `full_document.category` is refused: it is toys"
        );
    }

    #[test]
    fn what_cannot_be_rendered_is_no_template() {
        for (text, problem) in [
            ("", "it is empty"),
            ("a{key", "a `{` has no partner"),
            ("a}b", "a `}` has no partner"),
            ("{}", "`` is nothing of a delivery; write `document_key.`"),
            (
                "{documentKey._id}",
                "`documentKey._id` is nothing of a delivery",
            ),
            (
                "{full_document}",
                "`full_document` is nothing of a delivery",
            ),
            ("{full_document.}", "`` is not a field path"),
            ("{full_document.$x}", "`$x` is not a field path"),
            ("{key | }", "`` is nothing of a delivery"),
            ("{\"\"}", "`\"\"` is no text in quotes, or an empty one"),
            ("{\"a}", "`\"a` is no text in quotes"),
        ] {
            let error = Template::new(text).expect_err(text);
            assert!(error.is_configuration());
            let expected = format!("the template `{text}`: {problem}");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn a_message_has_values_where_it_is_json() {
        let of = |payload: &'static str| {
            let delivery = delivery_of(product(), Message::new(payload, "application/json"));
            template("{message.a.b}")
                .render(&delivery)
                .map_err(|error| error.to_string())
        };
        assert_eq!(
            of(r#"{"a":{"b":{"$oid":"010101010101010101010101"}}}"#),
            Ok("01".repeat(12))
        );
        assert!(of(r#"{"a":1}"#).is_err());
        assert!(of("no JSON").is_err());
    }
}
