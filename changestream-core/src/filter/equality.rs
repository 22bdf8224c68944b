//! Equality of BSON values as the server's aggregation expressions see it.
//!
//! Numbers compare by value over all numeric types, strings equal symbols, documents compare field by
//! field in order, a missing field differs from null (MongoDB manual, *Comparison/Sort Order*).

use bson::{RawBsonRef, RawDocument};

/// What a path leads to: through an array, the list of what its documents hold there; arrays in an array
/// are not looked into.
enum Found<'a> {
    Missing,
    Value(RawBsonRef<'a>),
    Collected(Vec<Found<'a>>),
}

/// Whether the two documents hold the same at `path`.
pub(super) fn equal_at(a: &RawDocument, b: &RawDocument, path: &str) -> bool {
    same(&find(a, path), &find(b, path))
}

fn find<'a>(document: &'a RawDocument, path: &str) -> Found<'a> {
    let (first, rest) = match path.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    match (document.get(first), rest) {
        (Ok(Some(value)), None) => Found::Value(value),
        (Ok(Some(value)), Some(rest)) => within(value, rest),
        _ => Found::Missing,
    }
}

fn within<'a>(value: RawBsonRef<'a>, path: &str) -> Found<'a> {
    match value {
        RawBsonRef::Document(document) => find(document, path),
        RawBsonRef::Array(array) => Found::Collected(
            array
                .into_iter()
                .flatten()
                .filter_map(RawBsonRef::as_document)
                .map(|item| find(item, path))
                .filter(|found| !matches!(found, Found::Missing))
                .collect(),
        ),
        _ => Found::Missing,
    }
}

fn same(a: &Found<'_>, b: &Found<'_>) -> bool {
    match (a, b) {
        (Found::Missing, Found::Missing) => true,
        (Found::Value(a), Found::Value(b)) => equal(*a, *b),
        (Found::Collected(a), Found::Collected(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Found::Collected(collected), Found::Value(RawBsonRef::Array(array)))
        | (Found::Value(RawBsonRef::Array(array)), Found::Collected(collected)) => {
            let mut items = array.into_iter().flatten().map(Found::Value);
            collected
                .iter()
                .all(|found| items.next().is_some_and(|item| same(found, &item)))
                && items.next().is_none()
        }
        _ => false,
    }
}

pub(crate) fn equal(a: RawBsonRef<'_>, b: RawBsonRef<'_>) -> bool {
    use RawBsonRef::{Array, Document, Double, String, Symbol};
    match (a, b) {
        (Document(a), Document(b)) => {
            let (mut a, mut b) = (a.iter().flatten(), b.iter().flatten());
            loop {
                match (a.next(), b.next()) {
                    (None, None) => return true,
                    (Some((key_a, a)), Some((key_b, b))) if key_a == key_b && equal(a, b) => {}
                    _ => return false,
                }
            }
        }
        (Array(a), Array(b)) => {
            let (mut a, mut b) = (a.into_iter().flatten(), b.into_iter().flatten());
            loop {
                match (a.next(), b.next()) {
                    (None, None) => return true,
                    (Some(a), Some(b)) if equal(a, b) => {}
                    _ => return false,
                }
            }
        }
        (String(a) | Symbol(a), String(b) | Symbol(b)) => a == b,
        (Double(a), Double(b)) => a == b || (a.is_nan() && b.is_nan()),
        (a, b) => match (Number::of(a), Number::of(b)) {
            (Some(a), Some(b)) => a == b,
            _ => a == b,
        },
    }
}

/// A number by its value: `digits` times ten to the `exponent`, or a name such as `Infinity`.
#[derive(PartialEq)]
enum Number {
    Finite { digits: i128, exponent: i32 },
    Named(String),
}

impl Number {
    fn of(value: RawBsonRef<'_>) -> Option<Self> {
        match value {
            RawBsonRef::Int32(value) => Some(Self::normal(value.into(), 0)),
            RawBsonRef::Int64(value) => Some(Self::normal(value.into(), 0)),
            RawBsonRef::Double(value) => Some(Self::parse(&as_decimal(value))),
            RawBsonRef::Decimal128(value) => Some(Self::parse(&value.to_string())),
            _ => None,
        }
    }

    /// From a sign, digits with or without a point, and an exponent.
    fn parse(text: &str) -> Self {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        match (
            format!("{whole}{fraction}").parse(),
            exponent.parse::<i32>(),
        ) {
            (Ok(digits), Ok(exponent)) => Self::normal(digits, exponent - fraction.len() as i32),
            _ => Self::Named(
                text.trim_start_matches('+')
                    .to_lowercase()
                    .replace("inity", ""),
            ),
        }
    }

    fn normal(mut digits: i128, mut exponent: i32) -> Self {
        if digits == 0 {
            return Self::Finite {
                digits,
                exponent: 0,
            };
        }
        while digits % 10 == 0 {
            digits /= 10;
            exponent += 1;
        }
        Self::Finite { digits, exponent }
    }
}

/// The value in the 34 significant digits of a decimal, as the server compares the two: 0.1 is not
/// exactly a tenth.
fn as_decimal(value: f64) -> String {
    format!("{value:.33e}")
}

#[cfg(test)]
mod tests {
    use bson::{RawBson, RawDocumentBuf, rawdoc};

    use super::*;

    fn at(path: &str, a: RawDocumentBuf, b: RawDocumentBuf) -> bool {
        equal_at(&a, &b, path)
    }

    #[test]
    fn numbers_compare_by_value() {
        let decimal = |text: &str| RawBson::Decimal128(text.parse().expect("a decimal"));
        assert!(at("a", rawdoc! { "a": 1 }, rawdoc! { "a": 1.0 }));
        assert!(at(
            "a",
            rawdoc! { "a": 1_i64 },
            rawdoc! { "a": decimal("1.00") }
        ));
        assert!(at(
            "a",
            rawdoc! { "a": decimal("1E+2") },
            rawdoc! { "a": decimal("100") }
        ));
        assert!(at(
            "a",
            rawdoc! { "a": f64::NAN },
            rawdoc! { "a": f64::NAN }
        ));
        assert!(at(
            "a",
            rawdoc! { "a": f64::INFINITY },
            rawdoc! { "a": decimal("Infinity") }
        ));
        assert!(!at(
            "a",
            rawdoc! { "a": i64::MAX },
            rawdoc! { "a": i64::MAX as f64 }
        ));
        assert!(!at(
            "a",
            rawdoc! { "a": 0.1 },
            rawdoc! { "a": decimal("0.1") }
        ));
        assert!(at(
            "a",
            rawdoc! { "a": 0.5 },
            rawdoc! { "a": decimal("0.5") }
        ));
        assert!(!at("a", rawdoc! { "a": 1 }, rawdoc! { "a": "1" }));
    }

    #[test]
    fn missing_is_not_null() {
        assert!(!at("a", rawdoc! {}, rawdoc! { "a": null }));
        assert!(at("a.b", rawdoc! {}, rawdoc! { "a": 1 }));
    }

    #[test]
    fn a_path_goes_through_arrays() {
        let one = rawdoc! { "items": [{ "sku": "a", "n": 1 }, { "n": 2 }, 7] };
        let other = rawdoc! { "items": [{ "sku": "a", "n": 9 }] };
        assert!(equal_at(&one, &other, "items.sku"));
        assert!(!equal_at(&one, &other, "items.n"));
        let nested = rawdoc! { "items": [{ "sku": "a" }, [{ "sku": "b" }]] };
        assert!(equal_at(&one, &nested, "items.sku"));
    }

    #[test]
    fn documents_compare_in_order() {
        assert!(!at(
            "a",
            rawdoc! { "a": { "x": 1, "y": 2 } },
            rawdoc! { "a": { "y": 2, "x": 1 } }
        ));
        assert!(at(
            "a",
            rawdoc! { "a": [{ "x": 1 }] },
            rawdoc! { "a": [{ "x": 1.0 }] }
        ));
    }
}
