//! Types as they are written.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{GenericArgument, Path, PathArguments, Type};

/// The path that the type is, if it is one.
pub(crate) fn path(ty: &Type) -> Option<&Path> {
    match ty {
        Type::Path(ty) => Some(&ty.path),
        Type::Group(ty) => path(&ty.elem),
        Type::Paren(ty) => path(&ty.elem),
        _ => None,
    }
}

/// The types among generic arguments.
pub(crate) fn type_arguments(arguments: &PathArguments) -> Vec<&Type> {
    let PathArguments::AngleBracketed(arguments) = arguments else {
        return Vec::new();
    };
    let types = arguments.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    types.collect()
}

/// What it is a `Vec` of, where it is written as one.
pub(crate) fn vec_item(ty: &Type) -> Option<&Type> {
    let last = path(ty)?.segments.last()?;
    match type_arguments(&last.arguments).as_slice() {
        [item] if last.ident == "Vec" => Some(*item),
        _ => None,
    }
}

/// The type as one would write it.
pub(crate) fn written(ty: &Type) -> String {
    let tokens = ty.to_token_stream().to_string();
    tokens.replace(" < ", "<").replace(" >", ">")
}

pub(crate) fn is_unit(ty: &Type) -> bool {
    matches!(ty, Type::Tuple(tuple) if tuple.elems.is_empty())
}

/// Whether the path, for all that one can see, is of a type that is no `Result`.
pub(crate) fn is_other(path: &Path) -> bool {
    let others = [
        "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "str", "u8",
        "u16", "u32", "u64", "u128", "usize", "Option", "String", "Vec",
    ];
    let Some(last) = path.segments.last() else {
        return true;
    };
    others.iter().any(|other| last.ident == other)
}

/// Whether a type among others cannot go on with this.
fn ends_type(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if [',', '>', '+', ';'].contains(&punct.as_char()))
}

const FUNCTIONS: [&str; 4] = ["fn", "Fn", "FnMut", "FnOnce"];

/// The first borrow in a type that is not `'static`; those of `fn(&str) -> &str` are none.
pub(crate) fn borrow(tokens: TokenStream) -> Option<Span> {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            // The lifetimes in its parentheses are its own.
            TokenTree::Ident(word) if FUNCTIONS.iter().any(|function| word == function) => {
                tokens.next_if(|token| matches!(token, TokenTree::Group(_)));
            }
            TokenTree::Punct(dash) if dash.as_char() == '-' => {
                tokens.next();
                let mut depth = 0_usize;
                while let Some(token) = tokens.next_if(|token| depth > 0 || !ends_type(token)) {
                    match token {
                        TokenTree::Punct(open) if open.as_char() == '<' => depth += 1,
                        TokenTree::Punct(close) if close.as_char() == '>' => depth -= 1,
                        _ => {}
                    }
                }
            }
            TokenTree::Punct(and) if and.as_char() == '&' => {
                let lifetime =
                    matches!(tokens.peek(), Some(TokenTree::Punct(next)) if next.as_char() == '\'');
                if !lifetime {
                    return Some(and.span());
                }
            }
            TokenTree::Punct(tick) if tick.as_char() == '\'' => {
                if let Some(TokenTree::Ident(name)) = tokens.peek()
                    && name == "_"
                {
                    return Some(name.span());
                }
            }
            TokenTree::Group(group) => {
                if let Some(span) = borrow(group.stream()) {
                    return Some(span);
                }
            }
            _ => {}
        }
    }
    None
}
