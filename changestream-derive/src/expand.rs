//! What the annotation comes to.

use std::time::Duration;

use proc_macro2::{Ident, Literal, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{LitStr, Meta, spanned::Spanned};

use crate::{
    call, checks,
    model::{Operation, Spec},
    signature::{Function, is_cfg},
};

/// What `handlers!` finds under the function's name.
///
/// A braced struct lives among the types only, which leaves the function callable under the same name.
pub(crate) fn registration(function: &Function, spec: &Spec) -> TokenStream {
    let handler = function.ident();
    let bounds = bounds(function);
    let name = &spec.name;
    let settings = settings(spec);
    let called = match function.borrows() {
        true => quote!(#handler {}),
        false => handler.to_token_stream(),
    };
    let new = match &spec.batch {
        None => quote!(new(#name, #called)),
        Some(limits) => {
            let max = Literal::u32_unsuffixed(limits.max);
            let within = millis(limits.within);
            quote!(batch(#name, #max, #within, #called))
        }
    };
    let body = quote!(::changestream::HandlerSpec::#new #settings);
    let attributes = shared_attributes(function);
    let checks = checks::checks(function);
    let checks =
        checks.map(|check| quote!(#attributes #[allow(deprecated)] const _: () = { #check };));
    let registration = item(function, &bounds, &body);
    let call = function.borrows().then(|| {
        let implementation = call::implementation(function, &bounds);
        quote!(#attributes #[allow(deprecated)] #implementation)
    });
    quote!(#(#checks)* #registration #call)
}

/// What the arguments have to be that have to do with the state.
fn bounds(function: &Function) -> TokenStream {
    let bounds = function.owned_extractors().map(|(ty, extractor)| {
        let extractor = extractor.ident();
        quote_spanned!(ty.span()=> #ty: ::changestream::#extractor<__S>,)
    });
    bounds.collect()
}

/// The same for a function that cannot be a handler: it stands in for the real one, so that `handlers!`
/// has nothing to add to the errors.
pub(crate) fn placeholder(function: &Function) -> TokenStream {
    item(
        function,
        &TokenStream::new(),
        &quote!(::core::unreachable!()),
    )
}

fn item(function: &Function, bounds: &TokenStream, body: &TokenStream) -> TokenStream {
    let handler = function.ident();
    let visibility = &function.visibility;
    let attributes = shared_attributes(function);
    let docs = format!("The handler `{handler}`, as `handlers!` takes it.");
    // With the span of the user's code, else the compiler would not warn of a handler that nobody registers.
    let registration = quote_spanned!(handler.span()=> #visibility struct #handler {});
    quote! {
        #attributes
        #[doc = #docs]
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy, Debug)]
        #registration

        #attributes
        #[allow(deprecated)]
        impl #handler {
            /// The function with its annotation.
            #visibility fn spec<__S>() -> ::changestream::HandlerSpec<__S>
            where
                __S: ::core::clone::Clone + ::core::marker::Send + ::core::marker::Sync + 'static,
                #bounds
            {
                #body
            }
        }
    }
}

/// The attributes of the function that count for what is beside it: conditions, and lints that its types set off.
fn shared_attributes(function: &Function) -> TokenStream {
    let shared = function
        .attributes
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            Meta::List(list) if list.path.is_ident("expect") => {
                let lints = &list.tokens;
                Some(quote!(#[allow(#lints)]))
            }
            _ if is_cfg(attribute) || attribute.path().is_ident("allow") => {
                Some(attribute.to_token_stream())
            }
            _ => None,
        });
    shared.collect()
}

fn settings(spec: &Spec) -> TokenStream {
    let database = spec.database.iter();
    let collections = list("collections", &spec.collections);
    let operations = spec.operations.iter().map(|operation| variant(*operation));
    let fields = list("fields", &spec.fields);
    let to = list("to", &spec.to);
    let key = spec.key.iter();
    let timeout = spec.timeout.map(millis).into_iter();
    let retries = spec.retries.iter();
    let backoff = spec.backoff.map(millis).into_iter();
    quote! {
        #(.database(#database))*
        #collections
        .operations([#(::changestream::Operation::#operations),*])
        #fields
        #to
        #(.key(#key))*
        #(.timeout(#timeout))*
        #(.retries(#retries))*
        #(.backoff(#backoff))*
    }
}

fn list(setter: &str, values: &[LitStr]) -> TokenStream {
    if values.is_empty() {
        return TokenStream::new();
    }
    let setter = format_ident!("{setter}");
    quote!(.#setter([#(#values),*]))
}

fn variant(operation: Operation) -> Ident {
    format_ident!("{operation:?}")
}

fn millis(duration: Duration) -> TokenStream {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let millis = Literal::u64_unsuffixed(millis);
    quote!(::core::time::Duration::from_millis(#millis))
}
