//! Removing the keys that match a pattern.

use std::{borrow::Cow, time::Duration};

use changestream_core::HandlerError;

use super::connection::Connection;

/// How many keys the server looks at for one request.
const PAGE: usize = 500;

/// A text as a pattern that matches nothing else.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    const SPECIAL: [char; 7] = ['*', '?', '[', ']', '\\', '^', '-'];
    if !text.contains(SPECIAL) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if SPECIAL.contains(&character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped.into()
}

/// Removes the keys that match, as they are found, but no more than `room`; `None` where more are left.
pub(super) async fn unlink(
    connection: &Connection,
    pattern: &str,
    room: usize,
    patience: Duration,
) -> Result<Option<usize>, HandlerError> {
    let mut removed = 0;
    let mut cursor = 0;
    loop {
        let mut scan = ::redis::cmd("SCAN");
        scan.arg(cursor);
        scan.arg("MATCH").arg(pattern).arg("COUNT").arg(PAGE);
        let (next, mut keys): (u64, Vec<Vec<u8>>) = connection.ask(scan, patience).await?;
        let are_too_many = keys.len() > room - removed;
        keys.truncate(room - removed);
        if !keys.is_empty() {
            let mut unlink = ::redis::cmd("UNLINK");
            unlink.arg(keys);
            let count: usize = connection.ask(unlink, patience).await?;
            removed += count.min(room - removed);
        }
        if are_too_many {
            return Ok(None);
        }
        if next == 0 {
            return Ok(Some(removed));
        }
        cursor = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pattern_means_something_else_by_is_escaped() {
        assert_eq!(escape("toys"), "toys");
        assert_eq!(escape(r"a*b?[c-d]^\"), r"a\*b\?\[c\-d\]\^\\");
    }
}
