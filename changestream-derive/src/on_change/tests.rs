use proc_macro2::TokenStream;
use quote::quote;
use syn::{Item, ItemFn};

use super::{added, expand};

fn handler() -> TokenStream {
    quote!(
        async fn stored(change: Change<Order>) -> Result<Order, HandlerError> {}
    )
}

fn errors_of(annotation: TokenStream, item: TokenStream) -> Vec<String> {
    let mut errors = Vec::new();
    added(annotation, item, &mut errors);
    errors
        .into_iter()
        .flatten()
        .map(|error| error.to_string())
        .collect()
}

fn errors(annotation: &str) -> Vec<String> {
    errors_of(annotation.parse().expect("tokens"), handler())
}

/// The calls that follow `HandlerSpec::new(..)`.
fn settings(annotation: &str) -> String {
    let expansion = expand(annotation.parse().expect("tokens"), handler())
        .to_string()
        .replace(' ', "");
    let (_, after) = expansion
        .split_once("HandlerSpec::new(")
        .expect("a specification");
    let (settings, _) = after.split_once('}').expect("the end of `spec`");
    settings
        .replace("::changestream::Operation::", "")
        .replace("::core::time::Duration::", "")
}

#[test]
fn the_expansion_is_what_one_would_write_by_hand() {
    let function = quote! {
        /// Docs.
        #[cfg(unix)]
        #[tracing::instrument]
        pub(crate) async fn status_changed(
            FullDocument(order): FullDocument<Order>,
            State(_app): State<App>,
        ) -> Result<StatusChanged, HandlerError> { Ok(order) }
    };
    let annotation = quote! {
        db = "shop", coll = "orders", op = "update", field = "status", to = "fulfillment",
        key = "customer.customerId", timeout = "10s", retries = 5, backoff = "1s",
    };
    let expected = quote! {
        #[cfg(unix)]
        #[doc = "The handler `status_changed`, as `handlers!` takes it."]
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct status_changed {}

        #[cfg(unix)]
        #[allow(deprecated)]
        impl status_changed {
            /// The function with its annotation.
            pub(crate) fn spec<__S>() -> ::changestream::HandlerSpec<__S>
            where
                __S: ::core::clone::Clone + ::core::marker::Send + ::core::marker::Sync + 'static,
                FullDocument<Order>: ::changestream::FromChange<__S>,
                State<App>: ::changestream::FromChange<__S>,
            {
                ::changestream::HandlerSpec::new("status_changed", status_changed)
                    .database("shop")
                    .collections(["orders"])
                    .operations([::changestream::Operation::Update])
                    .fields(["status"])
                    .to(["fulfillment"])
                    .key("customer.customerId")
                    .timeout(::core::time::Duration::from_millis(10000))
                    .retries(5u32)
                    .backoff(::core::time::Duration::from_millis(1000))
            }
        }
    };
    let expansion = expand(annotation, function.clone()).to_string();
    assert!(expansion.starts_with(&function.to_string()), "{expansion}");
    assert!(expansion.ends_with(&expected.to_string()), "{expansion}");
}

#[test]
fn batches_are_what_one_would_write_by_hand() {
    let function = quote! {
        async fn index(State(app): State<App>, orders: Vec<Change<Order>>) -> Result<(), E> {}
    };
    let annotation = quote!(
        coll = "orders",
        op = "insert",
        batch(max = 500, within = "1m 200ms")
    );
    let expansion = expand(annotation, function).to_string();
    let bounds = quote! {
        State<App>: ::changestream::FromBatch<__S>,
        Change<Order>: ::changestream::FromChange<__S>,
    };
    let body = quote! {
        ::changestream::HandlerSpec::batch(
            "index", 500, ::core::time::Duration::from_millis(60200), index
        )
            .collections(["orders"])
            .operations([::changestream::Operation::Insert])
    };
    for expected in [bounds, body] {
        assert!(expansion.contains(&expected.to_string()), "{expansion}");
    }
}

#[test]
fn limits_of_batches() {
    let batch = |limits: &str| {
        let annotation = format!("batch({limits})").parse().expect("tokens");
        let function = quote!(
            async fn index(orders: Vec<RawChange>) -> Result<(), E> {}
        );
        errors_of(annotation, function)
    };
    for good in [
        r#"max = 1, within = "1ms""#,
        r#"within = "1h", max = 4294967295,"#,
    ] {
        assert_eq!(batch(good), [""; 0], "{good}");
    }
    for bad in [
        "",
        "max = 500",
        r#"within = "1s""#,
        r#"max = 0, within = "1s""#,
        r#"max = 5, within = "0s""#,
        r#"max = 5 within = "1s""#,
        r#"max = 5, within = "1s", max = 5"#,
        r#"max = 5, within = "1s", least = 1"#,
        r#"5, within = "1s""#,
    ] {
        assert!(!batch(bad).is_empty(), "{bad}");
    }
}

#[test]
fn nothing_said_means_every_change_of_the_database() {
    assert_eq!(
        settings(""),
        r#""stored",stored).operations([Insert,Update,Replace,Delete])"#
    );
}

#[test]
fn a_field_means_updates_and_replaces() {
    assert_eq!(
        settings(r#"field = ["a", "b.0.c"]"#),
        r#""stored",stored).operations([Update,Replace]).fields(["a","b.0.c"])"#
    );
}

#[test]
fn a_name_replaces_the_functions() {
    assert!(settings(r#"name = "orders/stored""#).starts_with(r#""orders/stored",stored)"#));
}

#[test]
fn a_raw_identifier_is_named_without_its_prefix() {
    let expansion = expand(
        quote!(),
        quote!(
            async fn r#type() -> Result<(), E> {}
        ),
    )
    .to_string();
    assert!(
        expansion.contains(r#"new ("type" , r#type)"#),
        "{expansion}"
    );
}

#[test]
fn mistaken_values_are_left_out() {
    assert_eq!(
        settings(
            r#"coll = ["orders", "$x"], op = ["insert", "inserted"], to = 3, colour = "red", retries = 1"#
        ),
        r#""stored",stored).collections(["orders"]).operations([Insert]).retries(1u32)"#
    );
}

#[test]
fn durations_are_humane() {
    for (written, millis) in [
        ("200ms", 200),
        ("1m 30s", 90_000),
        ("1h", 3_600_000),
        ("2min", 120_000),
    ] {
        let settings = settings(&format!("timeout = {written:?}"));
        assert!(
            settings.ends_with(&format!(".timeout(from_millis({millis}))")),
            "{settings}"
        );
    }
    for written in [
        "",
        "10",
        "s",
        "0s",
        "-1s",
        "10 parsecs",
        "1us",
        "99999999999999999999s",
        "18446744073709551615s",
    ] {
        assert_eq!(
            errors(&format!("timeout = {written:?}")).len(),
            1,
            "{written}"
        );
    }
}

#[test]
fn paths() {
    for good in ["a", "a.b", "a.0.b", "größe", "a b", "a$", "_id"] {
        assert_eq!(
            errors(&format!("field = {good:?}, key = {good:?}")),
            [""; 0],
            "{good}"
        );
    }
    for bad in [
        "", ".", "a..b", ".a", "a.", "$a", "a.$", "a.$[]", "$", "a\0",
    ] {
        assert_eq!(
            errors(&format!("field = {bad:?}, key = {bad:?}")).len(),
            2,
            "{bad:?}"
        );
    }
}

#[test]
fn names() {
    for bad in [
        "", "a/b", "a\\b", "a.b", "a b", "a\"b", "a$", "a*", "a<", "a>", "a:b", "a|b", "a?", "a\0",
    ] {
        assert_eq!(errors(&format!("db = {bad:?}")).len(), 1, "{bad:?}");
    }
    for bad in ["", "a$b", "a\0"] {
        assert_eq!(errors(&format!("coll = {bad:?}")).len(), 1, "{bad:?}");
    }
    for bad in ["", " ", "a\0"] {
        assert_eq!(
            errors(&format!("name = {bad:?}, to = {bad:?}")).len(),
            2,
            "{bad:?}"
        );
    }
    assert_eq!(errors(r#"coll = ["orders.archive", "Größe 1"]"#), [""; 0]);
}

#[test]
fn retries_are_a_whole_number() {
    for good in ["0", "5", "5u32", "1_000", "0x10", "4294967295"] {
        assert_eq!(errors(&format!("retries = {good}")), [""; 0], "{good}");
    }
    for bad in ["-1", "4294967296", "1.5", "\"5\"", "5u64", "five", "true"] {
        assert_eq!(errors(&format!("retries = {bad}")).len(), 1, "{bad}");
    }
}

#[test]
fn one_mistake_does_not_hide_the_next() {
    let errors = errors(
        r#"cll = "a", op = ["x", "updat"] to = 3, db = "a.b", coll = , field, , name = "", name = """#,
    );
    let found = errors
        .iter()
        .map(|error| error.split(':').next().unwrap_or_default())
        .collect::<Vec<_>>();
    assert_eq!(
        found,
        [
            "unknown key `cll`",
            "expected `,`",
            "not a value for `to`",
            "`coll` needs a value",
            "`field` needs a value",
            "expected a key, such as `coll = \"orders\"`",
            "`name` is given twice",
            "unknown operation `x`",
            "unknown operation `updat`",
            "the name of a handler cannot be empty",
            "the name of a database cannot contain `.`",
        ]
    );
}

#[test]
fn rubbish_is_an_error_and_the_function_survives() {
    let rubbish = [
        ",",
        ",,",
        "=",
        "=,=",
        "coll",
        "coll =",
        "coll = =",
        "coll == \"a\"",
        "coll = [",
        "coll(\"a\")",
        "coll: \"a\"",
        "coll = []",
        "coll = [,]",
        "coll = [\"a\"",
        "coll = [[\"a\"]]",
        "coll = {\"a\"}",
        "coll = \"a\" + \"b\"",
        "coll = b\"a\"",
        "coll = 'a'",
        "coll = \"a\"suffix",
        "coll = ORDERS",
        "coll = concat!(\"a\")",
        "coll = -",
        "\"coll\"",
        "5",
        "'a",
        "#[x]",
        "r#coll = \"a\"",
        "_ = \"a\"",
        "self = \"a\"",
        "::coll = \"a\"",
        "batch(max = 500)",
        "when = \"x\"",
        "op = update",
        "op = [update, insert]",
        "retries = 5 = 5",
        "retries = 5.5.5",
        "{}",
        "() => {}",
        "coll = \"a\";",
    ];
    for tokens in rubbish {
        let Ok(annotation) = tokens.parse::<TokenStream>() else {
            continue;
        };
        assert!(
            !errors_of(annotation.clone(), handler()).is_empty(),
            "{tokens}"
        );
        let items: syn::File = syn::parse2(expand(annotation, handler())).expect("items");
        assert!(
            matches!(&items.items[0], Item::Fn(ItemFn { sig, .. }) if sig.ident == "stored"),
            "{tokens}"
        );
        let registered = |item: &Item| matches!(item, Item::Struct(item) if item.ident == "stored");
        assert!(items.items.iter().any(registered), "{tokens}");
    }
}

#[test]
fn rubbish_items_stay_as_they_are() {
    for item in [
        "",
        "struct A;",
        "impl A {}",
        "const A: u8 = 0;",
        "extern \"C\" {}",
        "#[x]",
        "pub",
        "fn",
        "async fn f",
        "5",
    ] {
        let item: TokenStream = item.parse().expect("tokens");
        assert_eq!(errors_of(quote!(), item.clone()).len(), 1, "{item}");
        assert!(
            expand(quote!(), item.clone())
                .to_string()
                .starts_with(&item.to_string()),
            "{item}"
        );
    }
}

#[test]
fn a_method_gets_nothing_beside_it() {
    let mut errors = Vec::new();
    let method = quote!(
        async fn f(&self) -> Result<(), E> {}
    );
    assert!(added(quote!(), method, &mut errors).is_none());
    assert_eq!(errors.len(), 1);
}

#[test]
fn owned_arguments_may_hold_static_references() {
    let function = |ty: TokenStream| quote!(async fn f(a: State<#ty>) -> Result<(), E> {});
    for good in [
        quote!(&'static App),
        quote!(fn(&str) -> &str),
        quote!((
            fn(&str) -> (&str, Option<&str>),
            Box<dyn Fn(&str) -> Vec<&str> + Send>
        )),
        quote!(Box<dyn Fn(&str)>),
        quote!((fn(&str), [u8; 3])),
    ] {
        assert_eq!(
            errors_of(quote!(), function(good.clone())),
            [""; 0],
            "{good}"
        );
    }
    for bad in [
        quote!(&App),
        quote!(App<'_>),
        quote!([&str; 2]),
        quote!((&str, u8)),
        quote!((fn(&str) -> Option<&str>, &str)),
        quote!(&mut App),
    ] {
        assert_eq!(errors_of(quote!(), function(bad.clone())).len(), 1, "{bad}");
    }
}
