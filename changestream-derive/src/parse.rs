//! The syntax of the annotation. A bad entry is reported and skipped; those after it are still read.
//!
//! Plain syn rather than darling: an entry that is no `Meta` does not end the reading, and each message can
//! show how its key is written.

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Error, Ident, Lit, LitInt, LitStr, Result, Token, bracketed,
    ext::IdentExt,
    parenthesized,
    parse::{ParseStream, Parser},
    token,
};

use crate::{
    model::{Annotation, BATCH_KEYS, Batch, KEYS, Setting, usage},
    suggest::suggest,
};

const NOT_YET: [(&str, &str); 1] = [("when", "test the condition in the handler and return early")];

/// Reads what stands in the parentheses of `#[on_change(..)]`.
pub(crate) fn annotation(tokens: TokenStream, errors: &mut Vec<Error>) -> Annotation {
    let mut annotation = Annotation::default();
    let mut nested = Vec::new();
    entries(tokens, errors, |input| {
        entry(input, &mut annotation, &mut nested)
    });
    errors.append(&mut nested);
    annotation
}

fn entries(
    tokens: TokenStream,
    errors: &mut Vec<Error>,
    mut entry: impl FnMut(ParseStream<'_>) -> Result<()>,
) {
    let mut found = Vec::new();
    let read = |input: ParseStream<'_>| {
        while !input.is_empty() {
            if let Err(error) = entry(input) {
                found.push(error);
                rest_of_entry(input);
            }
            if let Err(error) = comma(input) {
                found.push(error);
                let entry_follows = input.peek(Ident::peek_any)
                    && (input.peek2(Token![=]) || input.peek2(token::Paren));
                if !entry_follows {
                    rest_of_entry(input);
                    comma(input)?;
                }
            }
        }
        Ok(())
    };
    let read = read.parse2(tokens);
    errors.append(&mut found);
    errors.extend(read.err());
}

fn entry(
    input: ParseStream<'_>,
    annotation: &mut Annotation,
    errors: &mut Vec<Error>,
) -> Result<()> {
    let key = Ident::parse_any(input).map_err(|error| {
        Error::new(error.span(), r#"expected a key, such as `coll = "orders"`"#)
    })?;
    let name = key.to_string();
    if let Some((_, instead)) = NOT_YET.iter().find(|(not_yet, _)| *not_yet == name) {
        let message = format!("`{name}` is not supported yet: {instead}");
        return Err(Error::new(key.span(), message));
    }
    match name.as_str() {
        "coll" => set_once(&mut annotation.coll, key, input, strings),
        "db" => set_once(&mut annotation.db, key, input, string),
        "op" => set_once(&mut annotation.op, key, input, strings),
        "field" => set_once(&mut annotation.field, key, input, strings),
        "to" => set_once(&mut annotation.to, key, input, strings),
        "name" => set_once(&mut annotation.name, key, input, string),
        "key" => set_once(&mut annotation.key, key, input, string),
        "timeout" => set_once(&mut annotation.timeout, key, input, string),
        "retries" => set_once(&mut annotation.retries, key, input, integer),
        "backoff" => set_once(&mut annotation.backoff, key, input, string),
        "batch" => batch(&mut annotation.batch, key, input, errors),
        _ => {
            let suggestion = suggest(&name, "the keys", KEYS.iter().map(|(key, _)| *key));
            Err(Error::new(
                key.span(),
                format!("unknown key `{name}`: {suggestion}"),
            ))
        }
    }
}

/// `batch(..)`, whose mistakes are reported as those of the annotation are.
fn batch(
    slot: &mut Option<Setting<Batch>>,
    key: Ident,
    input: ParseStream<'_>,
    errors: &mut Vec<Error>,
) -> Result<()> {
    let wrong = |problem: &str| {
        let message = format!("`{key}` {problem}: write {}", usage(&key));
        Error::new(key.span(), message)
    };
    if slot.is_some() {
        return Err(wrong("is given twice"));
    }
    let mut value = Batch::default();
    let before = errors.len();
    if input.peek(token::Paren) {
        let limits;
        parenthesized!(limits in input);
        entries(limits.parse()?, errors, |input| limit(input, &mut value));
    } else {
        errors.push(wrong("has its limits in parentheses"));
        rest_of_entry(input);
    }
    if errors.len() == before {
        if value.max.is_none() {
            errors.push(wrong("needs `max`"));
        }
        if value.within.is_none() {
            errors.push(wrong("needs `within`"));
        }
    }
    *slot = Some(Setting { key, value });
    Ok(())
}

fn limit(input: ParseStream<'_>, batch: &mut Batch) -> Result<()> {
    let key = Ident::parse_any(input)
        .map_err(|error| Error::new(error.span(), "expected `max` or `within`"))?;
    match key.to_string().as_str() {
        "max" => set_once(&mut batch.max, key, input, integer),
        "within" => set_once(&mut batch.within, key, input, string),
        name => {
            let known = BATCH_KEYS.iter().map(|(key, _)| *key);
            let suggestion = suggest(name, "the keys of `batch`", known);
            let message = format!("unknown key `{name}` of `batch`: {suggestion}");
            Err(Error::new(key.span(), message))
        }
    }
}

fn set_once<T>(
    slot: &mut Option<Setting<T>>,
    key: Ident,
    input: ParseStream<'_>,
    value: impl FnOnce(&Ident, ParseStream<'_>) -> Result<T>,
) -> Result<()> {
    if slot.is_some() {
        let message = format!("`{key}` is given twice: write one {}", usage(&key));
        return Err(Error::new(key.span(), message));
    }
    if input.parse::<Option<Token![=]>>()?.is_none() {
        let message = format!("`{key}` needs a value: {}", usage(&key));
        return Err(Error::new(key.span(), message));
    }
    let value = value(&key, input)?;
    *slot = Some(Setting { key, value });
    Ok(())
}

fn strings(key: &Ident, input: ParseStream<'_>) -> Result<Vec<LitStr>> {
    if !input.peek(token::Bracket) {
        return Ok(vec![string(key, input)?]);
    }
    let list;
    let bracket = bracketed!(list in input);
    if list.is_empty() {
        let message = format!(
            "the list is empty: write {}, or leave `{key}` out",
            usage(key)
        );
        return Err(Error::new(bracket.span.join(), message));
    }
    let mut strings = Vec::new();
    let mut errors: Option<Error> = None;
    while !list.is_empty() {
        match string(key, &list).and_then(|string| comma(&list).map(|()| string)) {
            Ok(string) => strings.push(string),
            Err(error) => {
                match &mut errors {
                    Some(errors) => errors.combine(error),
                    None => errors = Some(error),
                }
                rest_of_entry(&list);
                comma(&list)?;
            }
        }
    }
    errors.map_or(Ok(strings), Err)
}

fn string(key: &Ident, input: ParseStream<'_>) -> Result<LitStr> {
    match literal(input)? {
        Some(Lit::Str(string)) if string.suffix().is_empty() => Ok(string),
        other => Err(mistaken(key, other, input)),
    }
}

fn integer(key: &Ident, input: ParseStream<'_>) -> Result<LitInt> {
    match literal(input)? {
        Some(Lit::Int(integer)) => Ok(integer),
        other => Err(mistaken(key, other, input)),
    }
}

fn literal(input: ParseStream<'_>) -> Result<Option<Lit>> {
    let literal = input.peek(Lit) && !input.peek(Token![-]);
    if literal {
        input.parse().map(Some)
    } else {
        Ok(None)
    }
}

fn mistaken(key: &Ident, literal: Option<Lit>, input: ParseStream<'_>) -> Error {
    let message = format!("not a value for `{key}`: write {}", usage(key));
    match literal {
        Some(literal) => Error::new_spanned(literal, message),
        None => {
            let value = rest_of_entry(input);
            if value.is_empty() {
                Error::new(key.span(), format!("`{key}` needs a value: {}", usage(key)))
            } else {
                Error::new_spanned(value, message)
            }
        }
    }
}

fn comma(input: ParseStream<'_>) -> Result<()> {
    if input.is_empty() {
        return Ok(());
    }
    match input.parse::<Option<Token![,]>>()? {
        Some(_) => Ok(()),
        None => Err(input.error("expected `,`")),
    }
}

fn rest_of_entry(input: ParseStream<'_>) -> TokenStream {
    let mut rest = TokenStream::new();
    while !input.is_empty() && !input.peek(Token![,]) {
        match input.parse::<TokenTree>() {
            Ok(token) => rest.extend([token]),
            Err(_) => break,
        }
    }
    rest
}
