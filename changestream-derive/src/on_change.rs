//! The way from the annotated item to what replaces it.

use proc_macro2::TokenStream;
use quote::quote;
use syn::Error;

use crate::{expand, parse, signature::Function, validate};

/// The item as it was, what the annotation adds to it, and all the mistakes found.
pub(crate) fn expand(annotation: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Vec::new();
    let added = added(annotation, item.clone(), &mut errors);
    let errors = errors.iter().map(Error::to_compile_error);
    quote!(#item #added #(#errors)*)
}

fn added(
    annotation: TokenStream,
    item: TokenStream,
    errors: &mut Vec<Error>,
) -> Option<TokenStream> {
    let annotation = parse::annotation(annotation, errors);
    let mut function: Function = match syn::parse2(item) {
        Ok(function) => function,
        Err(error) => {
            errors.push(error);
            return None;
        }
    };
    if annotation.batch.is_some() {
        function.take_batches();
    }
    let spec = validate::spec(annotation, &function, errors);
    let before = errors.len();
    function.check(errors);
    if let Some(again) = function.annotated_again() {
        let message = "`#[on_change]` is given twice: one annotation can list several collections and operations";
        errors.push(Error::new_spanned(again, message));
        return None;
    }
    if function.is_method() {
        return None;
    }
    let is_handler = errors.len() == before;
    Some(if is_handler {
        expand::registration(&function, &spec)
    } else {
        expand::placeholder(&function)
    })
}

#[cfg(test)]
mod tests;
