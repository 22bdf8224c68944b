#[path = "../../fuzz/rules/annotation.rs"]
mod annotation;
#[path = "../../fuzz/stored.rs"]
mod stored;

#[test]
fn stored_annotations_hold() {
    stored::feed("annotation", |bytes| {
        if let Ok(text) = str::from_utf8(bytes) {
            annotation::check(text);
        }
    });
}
