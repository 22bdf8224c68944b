//! Has the compiler look at each part of the signature by itself, where it is written. The bound of
//! `HandlerSpec::new` says only that all together they are no handler.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{Type, spanned::Spanned};

use crate::signature::Function;

/// Each check, as statements in a scope of its own.
///
/// The arguments can be checked only when one of them tells the state; otherwise the bounds of `spec` are
/// checked where `handlers!` is.
pub(crate) fn checks(function: &Function) -> impl Iterator<Item = TokenStream> {
    let arguments = function.state().map(|state| arguments(function, state));
    let output = function.output().map(|ty| output(ty, function.is_batch()));
    arguments
        .into_iter()
        .chain(output)
        .chain([future(function)])
}

fn arguments(function: &Function, state: &Type) -> TokenStream {
    let checks = function.owned_extractors().map(|(ty, extractor)| {
        let extractor = extractor.ident();
        let call = quote_spanned!(ty.span()=> argument::<#ty, #state>(););
        quote!({
            const fn argument<T: ::changestream::#extractor<S>, S>() {}
            #call
        })
    });
    quote!(#(#checks)*)
}

fn output(ty: &Type, is_batch: bool) -> TokenStream {
    let (first, last) = ends(ty);
    let result = Ident::new("result", last);
    let reference = quote_spanned!(first=> &);
    let signature = match is_batch {
        true => quote!(fn output<E>(_: &::core::result::Result<(), E>) where),
        false => quote! {
            fn output<O, E>(_: &::core::result::Result<O, E>)
            where
                O: ::changestream::IntoMessages,
        },
    };
    quote! {
        #signature
            E: ::core::convert::Into<::changestream::HandlerError>,
        {
        }
        const _: fn(#ty) = |#result| output(#reference #result);
    }
}

/// The names begin with underscores lest they hide the handler, which has to be called here.
fn future(function: &Function) -> TokenStream {
    let handler = function.ident();
    let types: Vec<_> = function.arguments().collect();
    let names: Vec<_> = (0..types.len())
        .map(|i| format_ident!("__argument_{i}", span = handler.span()))
        .collect();
    let call = quote_spanned!(handler.span()=> __future(#handler(#(#names),*)));
    quote! {
        fn __future<F: ::core::future::Future + ::core::marker::Send>(_: F) {}
        const _: fn(#(#types),*) = |#(#names),*| #call;
    }
}

/// The spans of the first and the last token, since spans cannot be joined on stable Rust.
fn ends(ty: &Type) -> (Span, Span) {
    let mut spans = ty.to_token_stream().into_iter().map(|token| token.span());
    let first = spans.next().unwrap_or_else(Span::call_site);
    (first, spans.last().unwrap_or(first))
}
