//! "Did you mean ..?"

/// What people call the keys elsewhere, too far from our names for a measure of likeness.
const SYNONYMS: [(&str, &str); 8] = [
    ("database", "db"),
    ("delay", "backoff"),
    ("event", "op"),
    ("operation", "op"),
    ("operations", "op"),
    ("path", "field"),
    ("sink", "to"),
    ("sinks", "to"),
];

/// How like two names must be (Jaro-Winkler, 0 to 1) for one to be suggested for the other.
const LIKENESS: f64 = 0.8;

/// The tail of a message about the unknown `name`: the one that was probably meant, or all there are.
pub(crate) fn suggest(
    name: &str,
    what: &str,
    known: impl Iterator<Item = &'static str> + Clone,
) -> String {
    match closest(name, known.clone()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => {
            let all: Vec<_> = known.map(|name| format!("`{name}`")).collect();
            format!("{what} are {}", all.join(", "))
        }
    }
}

fn closest(name: &str, known: impl Iterator<Item = &'static str> + Clone) -> Option<&'static str> {
    let name = snake_case(name);
    if let Some((_, meant)) = SYNONYMS.iter().find(|(synonym, _)| *synonym == name)
        && known.clone().any(|known| known == *meant)
    {
        return Some(meant);
    }
    known
        .map(|known| (strsim::jaro_winkler(&name, known), known))
        .filter(|(likeness, _)| *likeness > LIKENESS)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 1);
    let mut after_lower = false;
    for c in name.trim().chars() {
        if c.is_uppercase() && after_lower {
            snake.push('_');
        }
        after_lower = c.is_lowercase();
        snake.extend(c.to_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{KEYS, Operation};

    #[test]
    fn keys() {
        let meant = |name| closest(name, KEYS.iter().map(|(key, _)| *key));
        for (name, key) in [
            ("col", "coll"),
            ("cll", "coll"),
            ("collection", "coll"),
            ("database", "db"),
            ("ops", "op"),
            ("operation", "op"),
            ("feild", "field"),
            ("retry", "retries"),
            ("sink", "to"),
            ("Timeout", "timeout"),
        ] {
            assert_eq!(meant(name), Some(key), "{name}");
        }
        assert_eq!(meant("zebra"), None);
        assert_eq!(meant(""), None);
    }

    #[test]
    fn operations() {
        let meant = |name| closest(name, Operation::ALL.iter().map(|(name, _)| *name));
        for (name, operation) in [
            ("updated", "update"),
            ("UPDATE", "update"),
            ("inserts", "insert"),
            ("dropDatabase", "drop_database"),
            ("DropDatabase", "drop_database"),
        ] {
            assert_eq!(meant(name), Some(operation), "{name}");
        }
        assert_eq!(meant("create"), None);
    }
}
