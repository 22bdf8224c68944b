//! The call of a function whose arguments borrow from the event: it is for whatever lifetime, which the bounds of
//! `HandlerSpec::new` cannot say.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{Type, spanned::Spanned};

use crate::signature::{Extractor, Function};

/// Has the type under the function's name make the call, as functions do by themselves whose arguments are owned.
pub(crate) fn implementation(function: &Function, bounds: &TokenStream) -> TokenStream {
    let handler = function.ident();
    let arguments = function.extractors().enumerate();
    let arguments: Vec<_> = arguments
        .map(|(i, (ty, extractor))| {
            Argument::new(
                format_ident!("__argument_{i}"),
                ty,
                extractor,
                function.is_batch(),
            )
        })
        .collect();
    let needs = arguments.iter().map(|argument| &argument.needs);
    let reads = arguments.iter().map(|argument| &argument.reads);
    let at_once = arguments.iter().map(|argument| &argument.at_once);
    let in_future = arguments.iter().map(|argument| &argument.in_future);
    let names = arguments.iter().map(|argument| &argument.name);
    let call = quote! {
        #handler(#(#names),*).await.map_err(::core::convert::Into::<::changestream::HandlerError>::into)
    };
    let (kind, output, lend, call) = match function.is_batch() {
        false => (
            quote!(Handler),
            quote!(::std::vec::Vec<::changestream::Message>),
            quote!(let __scratch = ::changestream::borrowing::scratch(&__request)?;),
            quote!(::changestream::IntoMessages::into_messages(#call?)),
        ),
        true => (
            quote!(BatchHandler),
            quote!(()),
            quote! {
                let __requests = ::changestream::borrowing::each(&__request);
                let __scratch = ::changestream::Scratch::default();
            },
            call,
        ),
    };
    quote! {
        impl<__S> ::changestream::#kind<#handler, __S> for #handler
        where
            __S: ::core::clone::Clone + ::core::marker::Send + ::core::marker::Sync + 'static,
            #bounds
        {
            const NEEDS: ::changestream::Needs = ::changestream::Needs::NONE #(#needs)*;

            fn reads() -> ::changestream::Reads {
                ::changestream::Reads::NONE #(#reads)*
            }

            fn call(
                self,
                __request: ::changestream::ChangeRequest,
                __state: &__S,
            ) -> impl ::core::future::Future<
                Output = ::core::result::Result<#output, ::changestream::HandlerError>,
            > + ::core::marker::Send + 'static + use<__S> {
                #(#at_once)*
                async move {
                    #lend
                    #(#in_future)*
                    #call
                }
            }
        }
    }
}

struct Argument {
    name: Ident,
    needs: TokenStream,
    reads: TokenStream,
    /// While there is a state.
    at_once: TokenStream,
    /// Where there is what it borrows from.
    in_future: TokenStream,
}

impl Argument {
    fn new(name: Ident, ty: &Type, extractor: Extractor, is_batch: bool) -> Self {
        let kind = extractor.ident();
        let parameter = match extractor {
            Extractor::BorrowFromChange => quote!('_),
            _ => quote!(__S),
        };
        let of = quote_spanned!(ty.span()=> <#ty as ::changestream::#kind<#parameter>>);
        let nothing = TokenStream::new;
        let (at_once, in_future) = match extractor {
            Extractor::FromChange => (
                quote!(let #name = #of::from_change(&__request, __state);),
                quote!(let #name = #name?;),
            ),
            Extractor::FromBatch => (
                quote!(let #name = #of::from_batch(&__request, __state);),
                nothing(),
            ),
            Extractor::BorrowFromChange if is_batch => (
                nothing(),
                quote!(let #name = ::changestream::borrowing::items::<#ty>(&__requests, &__scratch)?;),
            ),
            Extractor::BorrowFromChange => (
                nothing(),
                quote!(let #name = #of::borrow_from_change(&__request, &__scratch)?;),
            ),
        };
        let needs = match extractor {
            Extractor::FromBatch => nothing(),
            _ => quote!(.and(#of::NEEDS)),
        };
        Self {
            needs,
            reads: quote!(.and(#of::reads())),
            name,
            at_once,
            in_future,
        }
    }
}
