#[path = "../../../fuzz/rules/checkpoint.rs"]
mod checkpoint;
#[path = "../../../fuzz/rules/event.rs"]
mod event;
#[path = "../../../fuzz/rules/filter/mod.rs"]
mod filter;
#[path = "../../../fuzz/stored.rs"]
mod stored;

#[test]
fn stored_events_hold() {
    stored::feed("event", event::check);
}

#[test]
fn stored_checkpoints_hold() {
    stored::feed("checkpoint", checkpoint::check);
}

#[test]
fn stored_filters_hold() {
    stored::feed("filter", filter::check);
}
