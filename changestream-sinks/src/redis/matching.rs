//! Removing the keys that match a pattern.

use std::{borrow::Cow, time::Duration};

use changestream_core::HandlerError;

use super::{connection::Connection, nodes::Nodes, plan::Plan};

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
    nodes: &Nodes,
    pattern: &str,
    room: usize,
    patience: Duration,
) -> Result<Option<usize>, HandlerError> {
    let mut left = room;
    let layout = nodes.layout(patience).await?;
    for node in layout.primaries() {
        let mut cursor = 0;
        loop {
            let page = scan(node, pattern, cursor, patience).await;
            let (next, mut keys) = match page {
                Ok(page) => page,
                Err(error) => {
                    nodes.doubt(&layout).await;
                    return Err(error);
                }
            };
            let are_too_many = keys.len() > left;
            keys.truncate(left);
            left -= keys.len();
            remove(nodes, keys, patience).await?;
            if are_too_many {
                return Ok(None);
            }
            if next == 0 {
                break;
            }
            cursor = next;
        }
    }
    Ok(Some(room - left))
}

/// Where to go on, and the keys that were found.
async fn scan(
    node: &Connection,
    pattern: &str,
    cursor: u64,
    patience: Duration,
) -> Result<(u64, Vec<Vec<u8>>), HandlerError> {
    let mut scan = ::redis::cmd("SCAN");
    scan.arg(cursor);
    scan.arg("MATCH").arg(pattern).arg("COUNT").arg(PAGE);
    node.ask(scan, patience).await
}

async fn remove(nodes: &Nodes, keys: Vec<Vec<u8>>, patience: Duration) -> Result<(), HandlerError> {
    let mut plan = Plan::default();
    for key in keys {
        let mut unlink = ::redis::cmd("UNLINK");
        unlink.arg(key);
        plan.add([unlink]);
    }
    nodes.send_one(plan.parts, patience).await
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
