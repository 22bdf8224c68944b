//! The subject of a message.

use std::borrow::Cow;

use changestream_core::{Delivery, Error, HandlerError, Template};

/// A server takes 4,096 bytes for subject, reply subject and sizes, and closes the connection over more.
const MAX_BYTES: usize = 1024;

#[derive(Clone, Debug)]
pub(super) struct Subject {
    template: Template,
    /// The template itself begins with what the server keeps for itself.
    is_of_the_server: bool,
}

impl Subject {
    pub(super) fn new(text: String) -> Result<Self, Error> {
        let template = Template::new(text)?;
        let text = template.to_string();
        let sample = sample(&text);
        if let Some(problem) = problem(&sample) {
            return Err(Error::configuration(format!(
                "the subject `{text}` of a NATS sink {problem}"
            )));
        }
        Ok(Self {
            template,
            is_of_the_server: is_of_the_server(&sample),
        })
    }

    pub(super) fn template(&self) -> &Template {
        &self.template
    }

    /// The subject for a delivery, or why there is none, without the values.
    pub(super) fn render(&self, delivery: &Delivery) -> Result<String, HandlerError> {
        let subject = self.template.render_with(delivery, token)?;
        let rejection = |problem: String| {
            HandlerError::reject(format!("the template `{}`: {problem}", self.template))
        };
        if subject.len() > MAX_BYTES {
            let length = subject.len();
            return Err(rejection(format!(
                "the subject has {length} bytes; it may have {MAX_BYTES}"
            )));
        }
        if is_of_the_server(&subject) && !self.is_of_the_server {
            return Err(rejection(
                "the subject begins with what the server keeps for itself, `$` or `_INBOX.`".into(),
            ));
        }
        Ok(subject)
    }
}

/// A value as a part of a token.
fn token(value: &str) -> Result<Cow<'_, str>, &'static str> {
    match value.chars().any(is_special) {
        true => Err("a part of a subject holds no `.`, `*`, `>`, white space or control character"),
        false => Ok(value.into()),
    }
}

fn is_special(c: char) -> bool {
    matches!(c, '.' | '*' | '>') || c.is_whitespace() || c.is_control()
}

/// What is wrong with a subject, its values aside.
fn problem(sample: &str) -> Option<&'static str> {
    if sample.split('.').any(str::is_empty) {
        return Some("has an empty part; remove the `.` beside it");
    }
    let is_wrong = |c| c != '.' && is_special(c);
    sample.contains(is_wrong).then_some(
        "holds a wildcard, white space or a control character; a message has one subject",
    )
}

fn is_of_the_server(subject: &str) -> bool {
    subject.starts_with('$') || subject.starts_with("_INBOX.")
}

/// A template's text with a letter for each value.
fn sample(text: &str) -> String {
    let mut sample = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, brace) = rest.split_at(at);
        sample.push_str(before);
        let doubled = ["{{", "}}"]
            .iter()
            .any(|doubled| brace.starts_with(doubled));
        let end = brace.find('}').map_or(brace.len(), |end| end + 1);
        sample.push('v');
        rest = &brace[if doubled { 2 } else { end }..];
    }
    sample + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_that_makes_no_subject_is_refused() {
        for text in [
            "shop",
            "shop.{collection}.{operation}",
            "{database}-{collection}.x",
            "a.{full_document.a.b | \"none\"}.{{x}}",
            "$KV.prices.{key}",
        ] {
            assert!(Subject::new(text.into()).is_ok(), "{text}");
        }
        for (text, message) in [
            ("", "the template ``: it is empty"),
            (
                "shop.",
                "the subject `shop.` of a NATS sink has an empty part; remove the `.` beside it",
            ),
            (
                ".{key}",
                "the subject `.{key}` of a NATS sink has an empty part; remove the `.` beside it",
            ),
            (
                "a..{key}",
                "the subject `a..{key}` of a NATS sink has an empty part; remove the `.` beside it",
            ),
            (
                "shop.*",
                "the subject `shop.*` of a NATS sink holds a wildcard, white space or a control character; a message \
                 has one subject",
            ),
            (
                "shop.{key}.>",
                "the subject `shop.{key}.>` of a NATS sink holds a wildcard, white space or a control character; a \
                 message has one subject",
            ),
            (
                "shop {key}",
                "the subject `shop {key}` of a NATS sink holds a wildcard, white space or a control character; a \
                 message has one subject",
            ),
        ] {
            let error = Subject::new(text.into()).expect_err(text);
            assert_eq!(error.to_string(), message);
        }
    }
}
