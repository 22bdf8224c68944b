use std::collections::HashMap;

use super::{
    Limits, Logs, Rule, Violation,
    history::{History, Row},
};

/// Where a term stands with a key.
#[derive(Clone, Copy)]
struct Position {
    number: u64,
    attempt: u32,
    is_done: bool,
}

pub(super) fn check(logs: &Logs, history: &History<'_>, limits: Limits) -> Vec<Violation> {
    let mut violations = rows(history);
    let mut late: HashMap<usize, usize> = HashMap::new();
    let mut positions: HashMap<(usize, &str), Position> = HashMap::new();
    // By key: the newest version that was done, and the newest term that handled one.
    let mut furthest: HashMap<&str, u64> = HashMap::new();
    for version in &logs.before {
        let furthest = furthest.entry(&version.key).or_default();
        *furthest = version.number.max(*furthest);
    }
    let mut newest_term: HashMap<&str, usize> = HashMap::new();
    for handled in &history.handled {
        let key = handled.event.version.key.as_str();
        let now = Position {
            number: handled.event.version.number,
            attempt: handled.attempt,
            is_done: handled.is_done,
        };
        let mut violate = |what: String| {
            let what = format!("{key} version {} {what}", now.number);
            violations.push(Violation::at(Rule::Order, handled.entry, what));
        };
        match positions.insert((handled.term, key), now) {
            None => {
                let furthest = furthest.get(key).copied().unwrap_or_default();
                if now.number > furthest + 1 {
                    violate(format!("came when only {furthest} was done"));
                }
            }
            Some(before) if now.number == before.number => {
                // A repetition of what was done is a duplicate, and counted there.
                if !before.is_done && now.attempt <= before.attempt {
                    violate(format!("came again, not as attempt {}", before.attempt + 1));
                }
            }
            Some(before) if now.number != before.number + 1 => {
                violate(format!("came after {}", before.number));
            }
            Some(before) if !before.is_done => {
                violate(format!("came before {} was done", before.number));
            }
            Some(_) => {}
        }
        let newest = newest_term.entry(key).or_insert(handled.term);
        let woken = history.terms[handled.term].woken;
        if handled.term < *newest && woken.is_some_and(|woken| woken < handled.entry) {
            let late = late.entry(handled.term).or_default();
            *late += 1;
            if *late > limits.in_flight {
                violate("is more than what was in flight of a woken process".to_owned());
            }
        } else if handled.term < *newest {
            let session = history.terms[*newest].session;
            violate(format!(
                "came when session {session} had taken the key over"
            ));
        }
        *newest = handled.term.max(*newest);
        if handled.is_done {
            let furthest = furthest.entry(key).or_default();
            *furthest = now.number.max(*furthest);
        }
    }
    violations
}

/// Documents of a snapshot that show an older version than the stream has come to.
fn rows(history: &History<'_>) -> Vec<Violation> {
    let mut handled: HashMap<(usize, &str), Vec<(usize, u64)>> = HashMap::new();
    for event in &history.handled {
        let version = &event.event.version;
        let of_key = handled.entry((event.term, &version.key)).or_default();
        of_key.push((event.entry, version.number));
    }
    let violation = |row: &Row<'_>| {
        let key = row.version.key.as_str();
        let before = handled.get(&(row.term, key))?.iter();
        let before = before.filter(|(entry, _)| *entry < row.entry);
        let newest = before.map(|(_, number)| *number).max()?;
        let number = row.version.number;
        (number < newest).then(|| {
            let what = format!("{key} version {number} was shown after {newest} was handled");
            Violation::at(Rule::Order, row.entry, what)
        })
    };
    history.rows.iter().filter_map(violation).collect()
}
