use std::collections::BTreeSet;

use serde::Deserialize;

use super::probe;
use crate::filter::FieldPath;

/// Which top-level fields of an event's documents an extractor reads, for
/// [`Projection::Fields`](crate::Projection::Fields).
///
/// # Example
///
/// ```
/// use changestream_core::{ChangeRequest, FromChange, Need, Needs, Reads, Rejection};
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Priced {
///     total: f64,
/// }
///
/// /// Whether an order is large.
/// struct IsLarge(bool);
///
/// impl<S> FromChange<S> for IsLarge {
///     const NEEDS: Needs = Needs::NONE.full_document(Need::Required);
///
///     fn reads() -> Reads {
///         Reads::NONE.full_document::<Priced>()
///     }
///
///     fn from_change(request: &ChangeRequest, _state: &S) -> Result<Self, Rejection> {
///         let order = request.change().full_document();
///         let order = order.ok_or_else(|| Rejection::absent("the event has no full document"))?;
///         let total = order.get_f64("total");
///         Ok(Self(total.is_ok_and(|total| total > 1_000.0)))
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reads {
    pub(crate) full_document: Fields,
    pub(crate) pre_image: Fields,
}

/// Top-level fields of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fields {
    /// All that there are.
    Whole,
    /// These alone.
    Named(BTreeSet<String>),
}

impl Reads {
    /// Every field of both documents.
    pub const WHOLE: Self = Self {
        full_document: Fields::Whole,
        pre_image: Fields::Whole,
    };

    /// No field of either document.
    pub const NONE: Self = Self {
        full_document: Fields::NONE,
        pre_image: Fields::NONE,
    };

    /// These, and of the document after the change all that decoding it as `T` looks at.
    ///
    /// Of a struct with a derived `Deserialize` that is its fields, and each of them whole, whatever is nested in it.
    /// Of what is no such struct, flattens another one or denies unknown fields, it is every field.
    #[must_use]
    pub fn full_document<'de, T: Deserialize<'de>>(mut self) -> Self {
        self.full_document = self.full_document.and(Fields::of::<T>());
        self
    }

    /// The same of the document before the change.
    #[must_use]
    pub fn pre_image<'de, T: Deserialize<'de>>(mut self) -> Self {
        self.pre_image = self.pre_image.and(Fields::of::<T>());
        self
    }

    /// What either reads.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            full_document: self.full_document.and(other.full_document),
            pre_image: self.pre_image.and(other.pre_image),
        }
    }

    /// These, and of both documents what `path` leads through.
    pub(crate) fn and_path(mut self, path: &FieldPath) -> Self {
        for fields in [&mut self.full_document, &mut self.pre_image] {
            if let Fields::Named(names) = fields {
                names.insert(path.first_segment().to_owned());
            }
        }
        self
    }
}

impl Fields {
    pub(crate) const NONE: Self = Self::Named(BTreeSet::new());

    fn of<'de, T: Deserialize<'de>>() -> Self {
        match probe::fields::<T>() {
            Some(names) if names.iter().all(|name| is_plain(name)) => {
                Self::Named(names.iter().map(|name| (*name).to_owned()).collect())
            }
            _ => Self::Whole,
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Named(mut names), Self::Named(others)) => {
                names.extend(others);
                Self::Named(names)
            }
            _ => Self::Whole,
        }
    }
}

/// Whether an expression of the server's can name the field.
fn is_plain(name: &str) -> bool {
    !name.contains('.') && FieldPath::new(name).is_ok()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Order {
        status: String,
        total: f64,
    }

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Buyer {
        customer: String,
        status: String,
    }

    macro_rules! odd {
        ($name:literal) => {{
            #[derive(Deserialize)]
            #[allow(dead_code)]
            struct Odd {
                #[serde(rename = $name)]
                field: i32,
            }
            Fields::of::<Odd>()
        }};
    }

    fn named(names: &[&str]) -> Fields {
        Fields::Named(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn of_two_types_both_are_read() {
        let reads = Reads::NONE.full_document::<Order>().pre_image::<Buyer>();
        assert_eq!(reads.full_document, named(&["status", "total"]));
        assert_eq!(reads.pre_image, named(&["customer", "status"]));
        let both = reads.clone().and(Reads::NONE.full_document::<Buyer>());
        assert_eq!(both.full_document, named(&["customer", "status", "total"]));
        assert_eq!(both.pre_image, reads.pre_image);
        assert_eq!(reads.and(Reads::WHOLE), Reads::WHOLE);
    }

    #[test]
    fn of_a_path_its_first_field_is_read() {
        let path = FieldPath::new("payment.status").expect("a path");
        let reads = Reads::NONE
            .full_document::<bson::Document>()
            .and_path(&path);
        assert_eq!(reads.full_document, Fields::Whole);
        assert_eq!(reads.pre_image, named(&["payment"]));
    }

    #[test]
    fn a_field_that_no_expression_can_name_is_had_with_all_others() {
        assert_eq!(odd!("a.b"), Fields::Whole);
        assert_eq!(odd!("$a"), Fields::Whole);
        assert_eq!(odd!(""), Fields::Whole);
        assert_eq!(odd!("a\0"), Fields::Whole);
        assert_eq!(odd!("a$b"), named(&["a$b"]));
        assert_eq!(odd!("7"), named(&["7"]));
        assert_eq!(odd!("ein Wort, größer"), named(&["ein Wort, größer"]));
    }
}
