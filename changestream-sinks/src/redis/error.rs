//! What the server's refusals mean.

use ::redis::{Pipeline, ServerError, Value};
use changestream_core::HandlerError;

use super::{plan::name, server::Address};

/// That the server, or the cluster of it, does not work for now: the same for other messages.
const UNAVAILABLE: [&str; 10] = [
    "BUSY",
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "NOAUTH",
    "NOREPLICAS",
    "READONLY",
    "TRYAGAIN",
    "WRONGPASS",
];

/// What may pass or can be mended too, but for other messages may never have been. Everything else is the message's own fault.
const MAY_PASS: [&str; 4] = ["ASK", "MOVED", "NOPERM", "OOM"];

/// Whether the commands from the `first` on were done that these are the replies to, or the transaction that they are. Of several errors, one that may pass counts: what
/// can be done is done before the message is given up.
pub(super) fn of(
    host: &str,
    commands: &Pipeline,
    first: usize,
    replies: &[Value],
) -> Result<(), HandlerError> {
    let mut errors = replies.iter().enumerate().flat_map(|(place, reply)| {
        let within = match reply {
            // Of `EXEC`, with what the commands before it came to.
            Value::Array(replies) => replies.as_slice(),
            _ => &[],
        };
        let first = place.saturating_sub(within.len());
        let within = (first..).zip(within);
        within
            .chain([(place, reply)])
            .filter_map(|(place, reply)| match reply {
                Value::ServerError(error) => Some((place, error)),
                _ => None,
            })
    });
    let Some(earliest) = errors.next() else {
        return Ok(());
    };
    let passing = [earliest]
        .into_iter()
        .chain(errors)
        .find(|(_, error)| may_pass(error));
    let (place, error) = passing.unwrap_or(earliest);
    let name = commands.cmd_iter().nth(first + place).and_then(name);
    let reason = without_arguments(error.details().unwrap_or_default());
    let message = format!(
        "`{host}` refused {}: {} {reason}",
        name.unwrap_or("a command"),
        error.code()
    );
    Err(match error.code() {
        code if UNAVAILABLE.contains(&code) => HandlerError::unavailable(message),
        code if MAY_PASS.contains(&code) => HandlerError::retry(message),
        _ => HandlerError::reject(message),
    })
}

/// Where what was sent is to be sent instead.
pub(super) struct Redirect {
    pub(super) to: Address,
    /// Whether that node is only about to have the key.
    pub(super) is_asking: bool,
}

/// That of a node at `host` that has not the key.
pub(super) fn redirect(replies: &[Value], host: &str) -> Option<Redirect> {
    replies.iter().find_map(|reply| {
        let Value::ServerError(error) = reply else {
            return None;
        };
        let is_asking = match error.code() {
            "ASK" => true,
            "MOVED" => false,
            _ => return None,
        };
        let (_slot, address) = error.details()?.split_once(' ')?;
        let (name, port) = address.rsplit_once(':')?;
        let to = Address::of_node(name, host, port.parse().ok()?)?;
        Some(Redirect { to, is_asking })
    })
}

/// Whether the server has become a replica.
pub(super) fn is_read_only(replies: &[Value]) -> bool {
    let is =
        |reply: &Value| matches!(reply, Value::ServerError(error) if error.code() == "READONLY");
    replies.iter().any(is)
}

fn may_pass(error: &ServerError) -> bool {
    UNAVAILABLE.contains(&error.code()) || MAY_PASS.contains(&error.code())
}

/// The server's words, less the keys and values that it repeats of a command that it does not know.
fn without_arguments(details: &str) -> &str {
    details.split(", with args").next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use changestream_core::Disposition;

    use super::*;

    /// What becomes of a pipeline of these commands with these replies, as the server sends them.
    fn outcome(commands: &[&str], replies: &[&str]) -> Result<(), (Disposition, String)> {
        let mut pipeline = Pipeline::new();
        for command in commands {
            pipeline.cmd(command).arg("s3cret");
        }
        let replies = replies.iter().map(|reply| {
            let reply = reply.replace('\n', "\r\n") + "\r\n";
            ::redis::parse_redis_value(reply.as_bytes()).expect("a reply")
        });
        let replies: Vec<_> = replies.collect();
        of("h:1", &pipeline, 0, &replies).map_err(|error| (error.disposition(), error.to_string()))
    }

    #[test]
    fn what_passes_or_can_be_mended_is_retried() {
        for code in UNAVAILABLE.into_iter().chain(MAY_PASS) {
            let (disposition, message) =
                outcome(&["SET"], &[&format!("-{code} some words")]).expect_err(code);
            assert_eq!(disposition, Disposition::Retry, "{code}");
            let expected = format!("`h:1` refused SET: {code} some words");
            assert_eq!(message, expected);
        }
        for code in [
            "ERR",
            "WRONGTYPE",
            "CROSSSLOT",
            "NOSCRIPT",
            "EXECABORT",
            "WHATEVER",
        ] {
            let (disposition, message) =
                outcome(&["SET"], &[&format!("-{code} some words")]).expect_err(code);
            assert_eq!(disposition, Disposition::Reject, "{code}");
            assert_eq!(message, format!("`h:1` refused SET: {code} some words"));
        }
    }

    #[test]
    fn the_first_error_that_may_pass_counts_and_else_the_first() {
        let of_three = |replies: &[&str]| outcome(&["SET", "HSET", "XADD"], replies);
        assert_eq!(of_three(&["+OK", ":1", "$1\n1"]), Ok(()));
        assert_eq!(
            of_three(&["-WRONGTYPE no", "-ERR no", "-OOM full"]),
            Err((
                Disposition::Retry,
                "`h:1` refused XADD: OOM full".to_owned()
            ))
        );
        assert_eq!(
            of_three(&["+OK", "-WRONGTYPE no", "-ERR no"]),
            Err((
                Disposition::Reject,
                "`h:1` refused HSET: WRONGTYPE no".to_owned()
            ))
        );
    }

    #[test]
    fn a_transaction_fails_where_it_is_refused_or_where_a_command_of_it_fails() {
        let of_transaction = |replies: &[&str]| outcome(&["MULTI", "SET", "HSET", "EXEC"], replies);
        assert_eq!(
            of_transaction(&["+OK", "+QUEUED", "+QUEUED", "*2\n+OK\n:1"]),
            Ok(())
        );
        assert_eq!(
            of_transaction(&["+OK", "+QUEUED", "+QUEUED", "*2\n+OK\n-WRONGTYPE no"]),
            Err((
                Disposition::Reject,
                "`h:1` refused HSET: WRONGTYPE no".to_owned()
            ))
        );
        assert_eq!(
            of_transaction(&["+OK", "-OOM full", "+QUEUED", "-EXECABORT discarded"]),
            Err((Disposition::Retry, "`h:1` refused SET: OOM full".to_owned()))
        );
    }

    #[test]
    fn what_a_command_was_given_is_not_repeated() {
        let reply = "-ERR unknown command 'UNLINK', with args beginning with: 's3cret' ";
        let (_, message) = outcome(&["UNLINK"], &[reply]).expect_err("refused");
        assert_eq!(
            message,
            "`h:1` refused UNLINK: ERR unknown command 'UNLINK'"
        );
    }
}
