use std::collections::HashMap;

use super::{Rule, Violation, history::History};

/// Where a term stands with a key.
#[derive(Clone, Copy)]
struct Position {
    number: u64,
    attempt: u32,
    is_done: bool,
}

pub(super) fn check(history: &History<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut positions: HashMap<(usize, &str), Position> = HashMap::new();
    // By key: the newest version that was done, and the newest term that handled one.
    let mut furthest: HashMap<&str, u64> = HashMap::new();
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
        if handled.term < *newest {
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
