use std::env;

use changestream_core::Error;

/// Where the values of `${NAME}` are from.
pub(super) struct Environment(fn(&str) -> Option<String>);

impl Environment {
    pub(super) fn of_process() -> Self {
        Self(|name| env::var(name).ok())
    }

    #[cfg(test)]
    pub(super) fn of(values: fn(&str) -> Option<String>) -> Self {
        Self(values)
    }

    /// `text` with the values of its variables.
    pub(super) fn expand(&self, text: &str) -> Result<String, Error> {
        let wrong = |problem: String| Error::configuration(format!("in `{text}`, {problem}"));
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            expanded.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                expanded.push('$');
                rest = after;
                continue;
            }
            let variable = after
                .strip_prefix('{')
                .and_then(|after| after.split_once('}'));
            let (name, after) = variable.ok_or_else(|| {
                wrong("a `$` begins no `${NAME}`; write `$$` for a dollar sign".into())
            })?;
            let value = self.0(name)
                .filter(|value| !value.is_empty())
                .ok_or_else(|| {
                    wrong(format!(
                        "the environment variable `{name}` is not set, or is empty or no text"
                    ))
                })?;
            expanded.push_str(&value);
            rest = after;
        }
        expanded.push_str(rest);
        Ok(expanded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Result<String, String> {
        let environment = Environment::of(|name| match name {
            "TOKEN" => Some("s3cret$".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        });
        environment.expand(text).map_err(|error| error.to_string())
    }

    #[test]
    fn variables_have_their_values() {
        assert_eq!(expand("Bearer ${TOKEN}!"), Ok("Bearer s3cret$!".into()));
        assert_eq!(expand("${TOKEN}${TOKEN}"), Ok("s3cret$s3cret$".into()));
        assert_eq!(expand("5 $$ ${TOKEN}"), Ok("5 $ s3cret$".into()));
        assert_eq!(expand("nothing"), Ok("nothing".into()));
    }

    #[test]
    fn what_is_not_set_is_named_and_no_value_is_shown() {
        for text in [
            "${TOKEN} ${MISSING}",
            "${TOKEN} ${EMPTY}",
            "${TOKEN} $x",
            "${TOKEN} ${x",
        ] {
            let error = expand(text).expect_err(text);
            assert!(error.starts_with(&format!("in `{text}`, ")), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        assert!(
            expand("${MISSING}")
                .expect_err("not set")
                .contains("`MISSING` is not set")
        );
    }
}
