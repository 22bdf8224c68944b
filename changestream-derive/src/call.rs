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
    let names: Vec<_> = arguments.iter().map(|argument| &argument.name).collect();
    let own = arguments
        .iter()
        .filter_map(|argument| argument.own.as_ref());
    let owned = arguments.iter().filter(|argument| argument.own.is_some());
    let owned = owned.map(|argument| &argument.name).collect::<Vec<_>>();
    let borrow = arguments
        .iter()
        .filter_map(|argument| argument.borrow.as_ref());
    let (kind, check, lend, output, returned) = match function.is_batch() {
        false => (
            quote!(Handler),
            quote!(::changestream::borrowing::check_whole(&__request)?;),
            quote!(__request),
            quote!(::std::vec::Vec<::changestream::Message>),
            quote!(::changestream::IntoMessages::into_messages(__returned)),
        ),
        true => (
            quote!(BatchHandler),
            TokenStream::new(),
            quote!(::changestream::borrowing::each(&__request)),
            quote!(()),
            quote!(::core::result::Result::Ok(__returned)),
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
                let __extracted = (|| {
                    #check
                    #(#own)*
                    ::core::result::Result::Ok::<_, ::changestream::HandlerError>((#lend, #(#owned,)*))
                })();
                async move {
                    let (__lent, #(#owned,)*) = __extracted?;
                    let __scratch = ::changestream::Scratch::default();
                    #(#borrow)*
                    let __returned = #handler(#(#names),*).await;
                    let __returned = __returned.map_err(::core::convert::Into::<::changestream::HandlerError>::into)?;
                    #returned
                }
            }
        }
    }
}

struct Argument {
    name: Ident,
    needs: TokenStream,
    reads: TokenStream,
    /// How it is had while there is the state, if it is owned.
    own: Option<TokenStream>,
    /// How it is had in the future, which has what it borrows from.
    borrow: Option<TokenStream>,
}

impl Argument {
    fn new(name: Ident, ty: &Type, extractor: Extractor, is_batch: bool) -> Self {
        let kind = extractor.ident();
        let parameter = match extractor {
            Extractor::BorrowFromChange => quote!('_),
            _ => quote!(__S),
        };
        let of = quote_spanned!(ty.span()=> <#ty as ::changestream::#kind<#parameter>>);
        let (own, borrow) = match extractor {
            Extractor::FromChange => (
                Some(quote!(let #name = #of::from_change(&__request, __state)?;)),
                None,
            ),
            Extractor::FromBatch => (
                Some(quote!(let #name = #of::from_batch(&__request, __state);)),
                None,
            ),
            Extractor::BorrowFromChange if is_batch => (
                None,
                Some(
                    quote!(let #name = ::changestream::borrowing::items::<#ty>(&__lent, &__scratch)?;),
                ),
            ),
            Extractor::BorrowFromChange => (
                None,
                Some(quote!(let #name = #of::borrow_from_change(&__lent, &__scratch)?;)),
            ),
        };
        let needs = match extractor {
            Extractor::FromBatch => TokenStream::new(),
            _ => quote!(.and(#of::NEEDS)),
        };
        Self {
            needs,
            reads: quote!(.and(#of::reads())),
            name,
            own,
            borrow,
        }
    }
}
