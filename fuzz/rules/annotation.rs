//! Any text in `#[on_change(..)]`, on any item: the item stays as it was, and beside it stands a handler, or errors that say
//! what is wrong.
//!
//! An input is the annotation, a line `---`, and the item. Where errors point cannot be seen here, since proc-macro2 keeps no
//! places when it is fuzzed; the cases of `tests/ui` show it.

use proc_macro2::TokenStream;

use crate::{on_change, parse};

const HANDLER: &str = "async fn stored(change: Change<Order>) -> Result<Order, HandlerError> {}";

/// The compiler has a limit too; syn, which reads nested types by recursion, has none.
const DEPTH: usize = 100;

pub(crate) fn check(text: &str) {
    if text.matches(['(', '[', '{', '<', '&', '*']).count() > DEPTH {
        return;
    }
    let (annotation, item) = text.split_once("\n---\n").unwrap_or((text, HANDLER));
    let (Ok(annotation), Ok(item)) = (annotation.parse(), item.parse::<TokenStream>()) else {
        return;
    };
    let mistakes = mistakes(&annotation);
    let expansion = on_change::expand(annotation, item.clone());
    let written = expansion.to_string();
    assert!(written.starts_with(&item.to_string()));
    let errors = written.matches(":: compile_error !").count();
    assert!(errors >= mistakes);
    assert!(errors > 0 || written.contains(":: changestream :: HandlerSpec :: new"));
    if syn::parse2::<syn::File>(item).is_ok() {
        syn::parse2::<syn::File>(expansion).expect("what is added are items");
    }
}

/// How many mistakes the annotation has by itself. Each is put into words.
fn mistakes(annotation: &TokenStream) -> usize {
    let mut errors = Vec::new();
    parse::annotation(annotation.clone(), &mut errors);
    let errors = errors.into_iter().flatten();
    let errors = errors.inspect(|error| assert!(!error.to_string().is_empty()));
    errors.count()
}
