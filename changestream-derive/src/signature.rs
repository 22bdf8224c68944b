//! The function under the annotation: what it takes, what it returns, and whether it can be a handler at all.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident};
use syn::{
    Attribute, Error, FnArg, GenericParam, LitStr, PathSegment, Result, ReturnType, Safety,
    Signature, Type, Visibility,
    ext::IdentExt,
    parse::{Parse, ParseStream},
};

use crate::ty::{borrow, is_other, is_unit, path, type_arguments, vec_item, written};

const MAX_ARGUMENTS: usize = 8;

/// The most arguments beside the `Vec` of a batch.
const MAX_BESIDE_BATCH: usize = 2;

/// The head of a function. Its body is never looked at.
pub(crate) struct Function {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    signature: Signature,
    is_batch: bool,
}

/// What an argument has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extractor {
    FromChange,
    FromBatch,
    BorrowFromChange,
}

impl Extractor {
    fn of_change(ty: &Type) -> Self {
        match borrow(ty.to_token_stream()) {
            Some(_) => Self::BorrowFromChange,
            None => Self::FromChange,
        }
    }

    pub(crate) fn ident(self) -> Ident {
        format_ident!("{self:?}")
    }
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        if !signature_follows(&input.fork()) {
            return Err(
                input.error("`#[on_change]` goes on an `async fn`, and this is not a function")
            );
        }
        let signature = input.parse()?;
        input.parse::<TokenStream>()?;
        Ok(Self {
            attributes,
            visibility,
            signature,
            is_batch: false,
        })
    }
}

fn signature_follows(ahead: ParseStream<'_>) -> bool {
    loop {
        match ahead.parse() {
            Ok(TokenTree::Ident(word)) if word == "fn" => return true,
            Ok(TokenTree::Ident(word))
                if ["const", "async", "unsafe", "safe", "extern"]
                    .iter()
                    .any(|q| word == q) => {}
            Ok(TokenTree::Literal(_)) => {}
            _ => return false,
        }
    }
}

impl Function {
    pub(crate) fn ident(&self) -> &Ident {
        &self.signature.ident
    }

    /// The function's name as a handler's.
    pub(crate) fn name(&self) -> LitStr {
        LitStr::new(&self.ident().unraw().to_string(), self.ident().span())
    }

    pub(crate) fn arguments(&self) -> impl Iterator<Item = &Type> {
        self.signature
            .inputs
            .iter()
            .filter_map(|argument| match argument {
                FnArg::Typed(argument) => Some(&*argument.ty),
                FnArg::Receiver(_) => None,
            })
    }

    /// Says that it takes batches.
    pub(crate) fn take_batches(&mut self) {
        self.is_batch = true;
    }

    pub(crate) fn is_batch(&self) -> bool {
        self.is_batch
    }

    /// The types that have to be extractors, and of what: the arguments, but for the `Vec` of a batch, whose items do.
    pub(crate) fn extractors(&self) -> impl Iterator<Item = (&Type, Extractor)> {
        self.arguments().map(|argument| match vec_item(argument) {
            Some(item) if self.is_batch => (item, Extractor::of_change(item)),
            _ if self.is_batch => (argument, Extractor::FromBatch),
            _ => (argument, Extractor::of_change(argument)),
        })
    }

    /// Those that may depend on the state.
    pub(crate) fn owned_extractors(&self) -> impl Iterator<Item = (&Type, Extractor)> {
        self.extractors()
            .filter(|(_, extractor)| *extractor != Extractor::BorrowFromChange)
    }

    /// Whether an argument borrows from the event.
    pub(crate) fn borrows(&self) -> bool {
        let mut extractors = self.extractors();
        extractors.any(|(_, extractor)| extractor == Extractor::BorrowFromChange)
    }

    pub(crate) fn output(&self) -> Option<&Type> {
        match &self.signature.output {
            ReturnType::Type(_, output) => Some(output),
            ReturnType::Default => None,
        }
    }

    /// The state's type, where an argument is written `State<_>`.
    pub(crate) fn state(&self) -> Option<&Type> {
        self.arguments().find_map(|argument| {
            let last = path(argument)?.segments.last()?;
            match type_arguments(&last.arguments).as_slice() {
                [state] if last.ident == "State" => Some(*state),
                _ => None,
            }
        })
    }

    /// Whether it returns `Result<(), _>` or an alias written alike.
    pub(crate) fn returns_unit(&self) -> bool {
        let Some(last) = self.returned() else {
            return false;
        };
        let first = type_arguments(&last.arguments).first().copied();
        last.ident.to_string().ends_with("Result") && first.is_some_and(is_unit)
    }

    /// Whether it returns a `Result` of something else than `()`.
    fn returns_other(&self) -> bool {
        let Some(last) = self.returned() else {
            return false;
        };
        let first = type_arguments(&last.arguments).first().copied();
        last.ident == "Result" && first.is_some_and(|first| !is_unit(first))
    }

    fn returned(&self) -> Option<&PathSegment> {
        path(self.output()?)?.segments.last()
    }

    /// Whether it is a method, next to which no other item can stand.
    pub(crate) fn is_method(&self) -> bool {
        self.signature.receiver().is_some()
    }

    /// Whether another `#[on_change]` on it will do the work.
    pub(crate) fn annotated_again(&self) -> Option<&Attribute> {
        let is_on_change = |attribute: &&Attribute| {
            let last = attribute.path().segments.last();
            last.is_some_and(|segment| segment.ident == "on_change")
        };
        self.attributes.iter().find(is_on_change)
    }

    /// Reports what keeps the function from being a handler.
    pub(crate) fn check(&self, errors: &mut Vec<Error>) {
        self.check_qualifiers(errors);
        self.check_arguments(errors);
        self.check_vecs(errors);
        self.check_output(errors);
    }

    fn check_vecs(&self, errors: &mut Vec<Error>) {
        let vecs = self.arguments().filter_map(|ty| Some((ty, vec_item(ty)?)));
        let vecs: Vec<_> = vecs.collect();
        if self.is_batch && vecs.is_empty() {
            let message = match self.arguments().find(|ty| !is_of_batch(ty)) {
                Some(ty) => format!("here perhaps `Vec<{}>`", written(ty)),
                None => "add an argument such as `Vec<Change<_>>`".to_owned(),
            };
            let message = format!("with `batch` a handler takes its events in a `Vec`: {message}");
            errors.push(Error::new(self.signature.paren_token.span.join(), message));
        }
        if !self.is_batch {
            for (ty, item) in vecs {
                let message = format!(
                    "a handler takes one event at a time: take `{}`, or add `batch(max = 500, within = \"200ms\")` to \
                     take many",
                    written(item)
                );
                errors.push(Error::new_spanned(ty, message));
            }
            return;
        }
        for (ty, _) in vecs.iter().skip(1) {
            let message =
                "a handler takes its batch in one `Vec`: `Change<_>` has everything about an event";
            errors.push(Error::new_spanned(ty, message));
        }
        let mut beside = self.arguments().filter(|ty| vec_item(ty).is_none());
        if let Some(surplus) = beside.nth(MAX_BESIDE_BATCH) {
            let message =
                format!("beside its `Vec`, a handler takes at most {MAX_BESIDE_BATCH} arguments");
            errors.push(Error::new_spanned(surplus, message));
        }
    }

    fn check_qualifiers(&self, errors: &mut Vec<Error>) {
        let signature = &self.signature;
        let mut report = |span: Span, message: &str| errors.push(Error::new(span, message));
        if let Some(constness) = signature.constness {
            report(constness.span, "a handler cannot be `const`");
        }
        if signature.asyncness.is_none() {
            let message = format!(
                "a handler is asynchronous: write `async fn {}`",
                self.ident()
            );
            report(signature.fn_token.span, &message);
        }
        if let Safety::Unsafe(safety) = signature.safety {
            report(
                safety.span,
                "a handler cannot be `unsafe`, since the runtime calls it",
            );
        }
        if let Some(abi) = &signature.abi {
            report(abi.extern_token.span, "a handler cannot be `extern`");
        }
        if !signature.generics.params.is_empty() {
            let is_lifetime = |param: &GenericParam| matches!(param, GenericParam::Lifetime(_));
            let mend = match signature.generics.params.iter().all(is_lifetime) {
                true => "write `'_` for the lifetime",
                false => "write the types out",
            };
            let message = format!("a handler cannot be generic, since it is one function: {mend}");
            errors.push(Error::new_spanned(&signature.generics, message));
        }
    }

    fn check_arguments(&self, errors: &mut Vec<Error>) {
        let mut report = |span: Span, message: &str| errors.push(Error::new(span, message));
        if let Some(receiver) = self.signature.receiver() {
            let message = "a handler takes no `self`: write a free function, and take what is shared as `State<_>`";
            report(receiver.self_token.span, message);
        }
        for argument in self.arguments() {
            if matches!(argument, Type::ImplTrait(_)) {
                let message =
                    "a handler cannot be generic, since it is one function: write the type out";
                errors.push(Error::new_spanned(argument, message));
            } else if let Type::Reference(reference) = argument {
                let owned = reference.elem.to_token_stream();
                let message = format!("a handler takes no references: take `{owned}`");
                errors.push(Error::new_spanned(reference, message));
            } else if !may_borrow(argument, self.is_batch)
                && let Some(borrow) = borrow(argument.to_token_stream())
            {
                let message = "a handler borrows from the event alone: take an owned type";
                errors.push(Error::new(borrow, message));
            }
        }
        if let Some(surplus) = self.signature.inputs.iter().nth(MAX_ARGUMENTS) {
            let message = format!(
                "a handler takes at most {MAX_ARGUMENTS} arguments: take `Change<_>`, which has everything, or \
                 implement `FromChange<S>` for a type of your own"
            );
            errors.push(Error::new_spanned(surplus, message));
        }
        for argument in &self.signature.inputs {
            if let FnArg::Typed(argument) = argument
                && let Some(cfg) = argument.attrs.iter().find(|attribute| is_cfg(attribute))
            {
                let message =
                    "an argument of a handler cannot be conditional: put `#[cfg]` on the function";
                errors.push(Error::new_spanned(cfg, message));
            }
        }
        if let Some(variadic) = &self.signature.variadic {
            errors.push(Error::new_spanned(
                variadic.dots,
                "a handler cannot be variadic",
            ));
        }
    }

    fn check_output(&self, errors: &mut Vec<Error>) {
        let Some(output) = self.output() else {
            let message = "a handler returns a `Result`: add `-> Result<(), HandlerError>`";
            errors.push(Error::new(self.signature.paren_token.span.close(), message));
            return;
        };
        let may_be_result =
            matches!(output, Type::Macro(_)) || path(output).is_some_and(|path| !is_other(path));
        if !may_be_result {
            let message = "a handler returns a `Result`: write `Result<_, HandlerError>`";
            errors.push(Error::new_spanned(output, message));
        }
        if self.is_batch && self.returns_other() {
            let message = "nothing of a batch goes to a sink: return `Result<(), HandlerError>`";
            errors.push(Error::new_spanned(output, message));
        }
    }
}

/// Whether it is, as written, an argument that may stand beside a `Vec`.
fn is_of_batch(ty: &Type) -> bool {
    let last = path(ty).and_then(|path| path.segments.last());
    last.is_some_and(|last| last.ident == "State" || last.ident == "Attempt")
}

/// Whether the argument is of the event, as far as one can see.
fn may_borrow(ty: &Type, is_batch: bool) -> bool {
    match is_batch {
        true => vec_item(ty).is_some(),
        false => !is_of_batch(ty),
    }
}

/// Whether the attribute makes what it is on conditional.
pub(crate) fn is_cfg(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
}
