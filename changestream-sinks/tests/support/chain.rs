use changestream_core::HandlerError;

/// The errors' messages, outermost first.
pub(crate) fn chain(error: &HandlerError) -> String {
    let mut messages = vec![error.to_string()];
    let mut cause = error.source().source();
    while let Some(error) = cause {
        messages.push(error.to_string());
        cause = error.source();
    }
    messages.join(": ")
}
