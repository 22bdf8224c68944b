use std::fmt;

/// A dotted path to a field: `status`, `payment.status`, `items.0.quantity`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldPath(String);

/// Why a text is not a field path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is not a field path: {problem}")]
pub struct InvalidPath {
    path: String,
    problem: &'static str,
}

impl FieldPath {
    /// A path from its text.
    ///
    /// # Errors
    ///
    /// [`InvalidPath`] when the path or a segment of it is empty, starts with `$`, or holds a NUL.
    pub fn new(path: impl Into<String>) -> Result<Self, InvalidPath> {
        let path = path.into();
        match problem(&path) {
            Some(problem) => Err(InvalidPath { path, problem }),
            None => Ok(Self(path)),
        }
    }

    /// The path's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn first_segment(&self) -> &str {
        self.0.split('.').next().unwrap_or_default()
    }

    /// The paths of the fields that hold this one, shortest first.
    pub(crate) fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('.').map(|(dot, _)| &self.0[..dot])
    }

    /// The longest parent, or the path itself, that no array index is needed for.
    pub(crate) fn without_index(&self) -> &str {
        let is_index = |segment: &str| segment.bytes().all(|byte| byte.is_ascii_digit());
        let end = self
            .0
            .match_indices('.')
            .find(|(dot, _)| is_index(self.0[dot + 1..].split('.').next().unwrap_or_default()))
            .map_or(self.0.len(), |(dot, _)| dot);
        &self.0[..end]
    }
}

fn problem(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        Some("it is empty")
    } else if path.contains('\0') {
        Some("it holds a NUL")
    } else if path.split('.').any(str::is_empty) {
        Some("a segment is empty")
    } else if path.split('.').any(|segment| segment.starts_with('$')) {
        Some("a segment starts with `$`")
    } else {
        None
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_path_is_named_with_its_problem() {
        for (path, problem) in [
            ("", "it is empty"),
            (".a", "a segment is empty"),
            ("a..b", "a segment is empty"),
            ("$a", "a segment starts with `$`"),
            ("a.$b", "a segment starts with `$`"),
            ("a\0", "it holds a NUL"),
        ] {
            let error = FieldPath::new(path).expect_err(path);
            assert_eq!(
                error.to_string(),
                format!("`{path}` is not a field path: {problem}")
            );
        }
    }

    #[test]
    fn an_index_ends_what_is_compared() {
        let compared = |path: &str| {
            FieldPath::new(path)
                .expect("a path")
                .without_index()
                .to_owned()
        };
        assert_eq!(compared("items.3.quantity"), "items");
        assert_eq!(compared("payment.status"), "payment.status");
        assert_eq!(compared("7"), "7");
    }

    #[test]
    fn parents_are_the_paths_above() {
        let path = FieldPath::new("a.b.c").expect("a path");
        assert_eq!(path.parents().collect::<Vec<_>>(), ["a", "a.b"]);
    }
}
