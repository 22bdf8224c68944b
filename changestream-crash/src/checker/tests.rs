//! Each rule is broken once, in logs written by hand.

use super::*;
use crate::log::{Deed, Event, Place};

const LIMITS: Limits = Limits {
    uncommitted: 3,
    in_flight: 2,
    is_shared: false,
};

fn version(key: &str, number: u64) -> Version {
    Version {
        key: key.to_owned(),
        number,
    }
}

/// Version `number` of `key`, the event at `place` in the stream.
fn event(key: &str, number: u64, place: u32) -> Event {
    Event {
        version: version(key, number),
        id: format!("id-{place}"),
        token: format!("{place:04}"),
    }
}

fn done(key: &str, number: u64, place: u32) -> Deed {
    Deed::Effect(event(key, number, place), 1, true)
}

fn place(sequence: i64, token: u32) -> Place {
    Place {
        epoch: 0,
        sequence,
        token: format!("{token:04}"),
    }
}

/// The runs of a service, one after the other; each begins with what it loads.
struct Runs(Vec<Entry>);

impl Runs {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn run(
        mut self,
        session: u32,
        from: Option<Place>,
        deeds: impl IntoIterator<Item = Deed>,
    ) -> Self {
        let start = [Deed::Loading, Deed::Loaded(from)];
        let deeds = start.into_iter().chain(deeds);
        self.0.extend(deeds.map(|deed| Entry { session, deed }));
        self
    }

    /// Goes on with a session that has begun.
    fn then(mut self, session: u32, deeds: impl IntoIterator<Item = Deed>) -> Self {
        let deeds = deeds.into_iter();
        self.0.extend(deeds.map(|deed| Entry { session, deed }));
        self
    }

    fn check(&self, written: &[(&str, u64)]) -> Findings {
        self.check_after(&[], written)
    }

    /// With what was written before the service began with a snapshot.
    fn check_after(&self, before: &[(&str, u64)], written: &[(&str, u64)]) -> Findings {
        let versions = |written: &[(&str, u64)]| {
            let versions = written.iter().map(|(key, n)| version(key, *n));
            versions.collect()
        };
        let logs = Logs {
            before: versions(before),
            acknowledged: versions(written),
            entries: self.0.clone(),
            commits: Vec::new(),
        };
        check(&logs, LIMITS)
    }

    fn broken(&self, written: &[(&str, u64)]) -> Vec<Rule> {
        rules(&self.check(written))
    }

    fn broken_after(&self, before: &[(&str, u64)], written: &[(&str, u64)]) -> Vec<Rule> {
        rules(&self.check_after(before, written))
    }
}

fn rules(findings: &Findings) -> Vec<Rule> {
    let violations = findings.violations.iter();
    violations.map(|violation| violation.rule).collect()
}

fn save(sequence: i64, token: u32) -> [Deed; 2] {
    let place = place(sequence, token);
    [Deed::Saving(place.clone()), Deed::Saved(place)]
}

const A3: [(&str, u64); 3] = [("a", 1), ("a", 2), ("a", 3)];

#[test]
fn a_good_run_breaks_no_rule() {
    let [saving, saved] = save(1, 2);
    let runs = Runs::new()
        .run(
            1,
            None,
            [
                done("a", 1, 1),
                Deed::Effect(event("b", 1, 2), 1, false),
                Deed::Effect(event("b", 1, 2), 2, true),
                saving,
                saved,
                done("a", 2, 3),
                Deed::Letter(event("b", 2, 4)),
            ],
        )
        .run(
            2,
            Some(place(1, 2)),
            [
                Deed::Letter(event("b", 2, 4)),
                done("a", 2, 3),
                done("a", 3, 5),
            ],
        );
    let written = [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2)];
    let findings = runs.check(&written);
    assert_eq!(findings.violations, []);
    assert_eq!(findings.events, 5);
    assert_eq!(findings.duplicates, 2);
    assert_eq!(findings.uncommitted, 2);
    assert_eq!(findings.letters, 2);
    assert_eq!(findings.commits, 1);
}

#[test]
fn a_version_that_was_never_done_is_lost() {
    let runs = Runs::new().run(1, None, [done("a", 1, 1), done("a", 2, 2)]);
    assert_eq!(runs.broken(&A3), [Rule::Lost]);
}

#[test]
fn an_effect_whose_handler_failed_is_lost_unless_it_succeeds_later() {
    let failed = Deed::Effect(event("a", 1, 1), 1, false);
    let runs = Runs::new().run(1, None, [failed.clone()]);
    assert_eq!(runs.broken(&A3[..1]), [Rule::Lost]);
    let runs = runs.run(2, None, [failed, Deed::Effect(event("a", 1, 1), 2, true)]);
    assert_eq!(runs.broken(&A3[..1]), []);
}

#[test]
fn a_duplicate_that_a_checkpoint_covered_is_over_the_bound() {
    let first = [done("a", 1, 1)].into_iter().chain(save(1, 1));
    let runs = Runs::new()
        .run(1, None, first)
        .run(2, Some(place(1, 1)), [done("a", 1, 1)]);
    assert_eq!(runs.broken(&A3[..1]), [Rule::OverBound]);
}

#[test]
fn a_duplicate_without_a_restart_is_over_the_bound() {
    let runs = Runs::new().run(1, None, [done("a", 1, 1), done("a", 1, 1)]);
    assert_eq!(runs.broken(&A3[..1]), [Rule::OverBound]);
}

#[test]
fn too_much_without_a_checkpoint_is_over_the_bound() {
    let deeds = |count| (1..=count).map(|n| done("a", n, n as u32));
    let written = |count| (1..=count).map(|n| ("a", n)).collect::<Vec<_>>();
    let runs = |count| Runs::new().run(1, None, deeds(count)).run(2, None, []);
    assert_eq!(runs(3).broken(&written(3)), []);
    assert_eq!(runs(4).broken(&written(4)), [Rule::OverBound]);
}

#[test]
fn a_load_shows_what_was_saved_without_an_answer() {
    let unanswered = [Deed::Saving(place(1, 3))];
    let first = (1..=3).map(|n| done("a", n, n as u32)).chain(unanswered);
    let second = (4..=6).map(|n| done("a", n, n as u32));
    let written = (1..=6).map(|n| ("a", n)).collect::<Vec<_>>();
    let runs = || Runs::new().run(1, None, first.clone());
    let loaded = || runs().run(2, Some(place(1, 3)), second.clone());

    let good = loaded().run(3, Some(place(1, 3)), []);
    assert_eq!(good.broken(&written), []);
    assert_eq!(good.check(&written).uncommitted, 3);
    let not_saved = runs().run(2, None, second.clone()).run(3, None, []);
    assert_eq!(not_saved.broken(&written), [Rule::OverBound]);
    let too_much = loaded().run(3, Some(place(1, 3)), [done("a", 3, 3)]);
    assert_eq!(too_much.broken(&written), [Rule::OverBound]);
    let forgotten = loaded().run(3, None, []);
    assert_eq!(forgotten.broken(&written), [Rule::StaleCommit]);
}

#[test]
fn versions_that_go_back_within_a_term_are_out_of_order() {
    let runs = Runs::new().run(1, None, [done("a", 2, 2), done("a", 1, 1), done("a", 3, 3)]);
    let order = [Rule::Order; 3];
    assert_eq!(runs.broken(&A3), order);
}

#[test]
fn versions_of_different_keys_may_pass_each_other() {
    let runs = Runs::new().run(1, None, [done("b", 1, 2), done("a", 1, 1)]);
    assert_eq!(runs.broken(&[("a", 1), ("b", 1)]), []);
}

#[test]
fn a_gap_is_out_of_order() {
    let runs = Runs::new().run(1, None, [done("a", 1, 1), done("a", 3, 3)]);
    assert_eq!(runs.broken(&A3), [Rule::Lost, Rule::Order]);
}

#[test]
fn a_term_that_begins_after_a_gap_is_out_of_order() {
    let runs = Runs::new()
        .run(1, None, [done("a", 1, 1)])
        .run(2, None, [done("a", 3, 3)]);
    assert_eq!(runs.broken(&A3), [Rule::Lost, Rule::Order]);
}

#[test]
fn a_replay_that_leaves_a_version_out_is_out_of_order() {
    let runs = Runs::new()
        .run(1, None, (1..=3).map(|n| done("a", n, n as u32)))
        .run(2, None, [done("a", 1, 1), done("a", 3, 3)]);
    assert_eq!(runs.broken(&A3), [Rule::Order]);
}

#[test]
fn a_version_that_passes_a_retry_of_its_key_is_out_of_order() {
    let failed = Deed::Effect(event("a", 1, 1), 1, false);
    let retried = Deed::Effect(event("a", 1, 1), 2, true);
    let runs = Runs::new().run(1, None, [failed, done("a", 2, 2), retried]);
    assert_eq!(runs.broken(&A3[..2]), [Rule::Order, Rule::Order]);
}

#[test]
fn a_key_that_was_taken_over_is_left_alone() {
    let runs = Runs::new()
        .run(1, None, [done("a", 1, 1)])
        .run(2, None, [done("a", 1, 1)])
        .then(1, [done("a", 2, 2)]);
    assert_eq!(runs.broken(&A3[..2]), [Rule::Order]);
}

#[test]
fn what_a_woken_process_had_in_flight_may_come_late_and_no_more() {
    let taken_over = Runs::new()
        .run(1, None, [done("a", 1, 1)])
        .run(2, None, (1..=4).map(|n| done("a", n, n as u32)))
        .then(1, [Deed::Woken, done("a", 2, 2), done("a", 3, 3)]);
    let written = [("a", 1), ("a", 2), ("a", 3), ("a", 4)];
    assert_eq!(taken_over.broken(&written), []);
    let too_much = taken_over.then(1, [done("a", 4, 4)]);
    assert_eq!(too_much.broken(&written), [Rule::Order]);
}

#[test]
fn a_document_that_was_there_before_comes_by_the_snapshot_or_by_a_later_change() {
    let row = |n| Deed::Row(version("a", n), true);
    let shown = |deeds: Vec<Deed>| Runs::new().run(1, None, deeds);
    let before = [("a", 1), ("a", 2)];
    assert_eq!(shown(vec![row(2)]).broken_after(&before, &[]), []);
    let changed = shown(vec![done("a", 3, 1), row(3)]);
    assert_eq!(changed.broken_after(&before, &[("a", 3)]), []);
    for deeds in [
        vec![],
        vec![row(1)],
        vec![Deed::Row(version("a", 2), false)],
    ] {
        assert_eq!(shown(deeds).broken_after(&before, &[]), [Rule::Lost]);
    }
}

#[test]
fn a_snapshot_stands_for_no_change_after_it_began() {
    let row = Deed::Row(version("a", 3), true);
    let runs = Runs::new().run(1, None, [row]);
    let broken = runs.broken_after(&[("a", 1)], &[("a", 2), ("a", 3)]);
    assert_eq!(broken, [Rule::Lost; 2]);
}

#[test]
fn an_older_document_after_a_change_is_out_of_order() {
    let deeds = [done("a", 2, 1), Deed::Row(version("a", 1), true)];
    let runs = Runs::new().run(1, None, deeds);
    assert_eq!(runs.broken_after(&[("a", 1)], &[("a", 2)]), [Rule::Order]);
}

#[test]
fn a_document_that_nobody_wrote_has_no_identity() {
    let runs = Runs::new().run(1, None, [Deed::Row(version("a", 1), true)]);
    assert_eq!(runs.broken(&[]), [Rule::Identity]);
}

#[test]
fn what_the_server_commits_never_goes_back() {
    let commit = |name: &str, epoch, sequence, token| Commit {
        name: name.to_owned(),
        place: Place {
            epoch,
            ..place(sequence, token)
        },
    };
    let broken = |commits: &[Commit]| {
        let logs = Logs {
            commits: commits.to_vec(),
            ..Logs::default()
        };
        rules(&check(&logs, LIMITS))
    };
    let good = [
        commit("a", 1, 1, 5),
        commit("b", 1, 1, 3),
        // Claimed, then saved.
        commit("a", 2, 1, 5),
        commit("a", 2, 2, 6),
        // The same once more, for its reply was lost.
        commit("a", 2, 2, 6),
    ];
    assert_eq!(broken(&good), []);
    for stale in [
        commit("a", 1, 9, 7),
        commit("a", 2, 1, 7),
        commit("a", 2, 3, 5),
    ] {
        let commits = [&good[..], &[stale]].concat();
        assert_eq!(broken(&commits), [Rule::StaleCommit]);
    }
}

#[test]
fn where_work_is_shared_bounds_and_single_checkpoints_are_not_judged_and_the_rest_is() {
    let early = save(1, 9).into_iter();
    let runs = Runs::new().run(1, None, early.chain([done("a", 2, 2), done("a", 1, 1)]));
    let logs = Logs {
        acknowledged: vec![version("a", 1), version("a", 2), version("b", 1)],
        entries: runs.0,
        ..Logs::default()
    };
    let limits = Limits {
        is_shared: true,
        ..LIMITS
    };
    assert_eq!(
        rules(&check(&logs, limits)),
        [Rule::Lost, Rule::Order, Rule::Order]
    );
}

#[test]
fn a_checkpoint_before_its_event_is_done_is_early() {
    let saves = save(1, 1).into_iter();
    let runs = Runs::new().run(1, None, saves.chain([done("a", 1, 1)]));
    assert_eq!(runs.broken(&A3[..1]), [Rule::EarlyCommit]);
}

#[test]
fn a_checkpoint_that_passes_an_event_in_flight_is_early() {
    let saves = save(1, 9);
    let deeds = [done("b", 1, 2)].into_iter().chain(saves);
    let runs = Runs::new().run(1, None, deeds.chain([done("a", 1, 1)]));
    assert_eq!(runs.broken(&[("a", 1), ("b", 1)]), [Rule::EarlyCommit]);
}

#[test]
fn an_early_checkpoint_is_early_even_if_its_save_fails() {
    let saving = Deed::Saving(place(1, 1));
    let runs = Runs::new().run(1, None, [saving, done("a", 1, 1)]);
    assert_eq!(runs.broken(&A3[..1]), [Rule::EarlyCommit]);
}

#[test]
fn a_checkpoint_between_two_attempts_is_early() {
    let failed = Deed::Effect(event("a", 1, 1), 1, false);
    let retried = Deed::Effect(event("a", 1, 1), 2, true);
    let [saving, saved] = save(1, 1);
    let runs = Runs::new().run(1, None, [failed, saving, saved, retried]);
    assert_eq!(runs.broken(&A3[..1]), [Rule::EarlyCommit]);
}

#[test]
fn a_save_that_is_not_above_the_one_before_is_stale() {
    for sequence in [4, 5] {
        let deeds = save(5, 1).into_iter().chain(save(sequence, 1));
        let runs = Runs::new().run(1, None, deeds);
        assert_eq!(runs.broken(&[]), [Rule::StaleCommit], "{sequence}");
    }
}

#[test]
fn a_save_of_an_old_epoch_is_stale() {
    let of_epoch = |epoch, sequence, token| {
        let place = Place {
            epoch,
            ..place(sequence, token)
        };
        [Deed::Saving(place.clone()), Deed::Saved(place)]
    };
    let runs = Runs::new()
        .run(1, None, [])
        .run(2, None, of_epoch(2, 1, 5))
        .then(1, of_epoch(1, 9, 6));
    assert_eq!(runs.broken(&[]), [Rule::StaleCommit]);
}

#[test]
fn a_save_that_overlaps_another_may_come_second() {
    let [saving, saved] = save(1, 1);
    let runs = Runs::new()
        .run(1, None, [saving])
        .run(2, None, save(2, 2))
        .then(1, [saved]);
    assert_eq!(runs.broken(&[]), []);
}

#[test]
fn a_refused_save_is_not_stale() {
    let refused = [Deed::Saving(place(1, 1)), Deed::Refused(place(1, 1))];
    let deeds = save(5, 5).into_iter().chain(refused);
    assert_eq!(Runs::new().run(1, None, deeds).broken(&[]), []);
}

#[test]
fn a_save_that_goes_back_in_the_stream_is_stale() {
    let deeds = save(1, 5).into_iter().chain(save(2, 4));
    assert_eq!(
        Runs::new().run(1, None, deeds).broken(&[]),
        [Rule::StaleCommit]
    );
}

#[test]
fn a_checkpoint_that_the_store_forgot_is_stale() {
    for found in [None, Some(place(1, 4))] {
        let runs = Runs::new().run(1, None, save(1, 5)).run(2, found, []);
        assert_eq!(runs.broken(&[]), [Rule::StaleCommit]);
    }
}

#[test]
fn a_version_that_comes_as_two_events_has_no_identity() {
    let runs = Runs::new()
        .run(1, None, [done("a", 1, 1)])
        .run(2, None, [done("a", 1, 2)]);
    assert_eq!(runs.broken(&A3[..1]), [Rule::Identity]);
}

#[test]
fn two_versions_under_one_id_have_no_identity() {
    let runs = Runs::new().run(1, None, [done("a", 1, 1), done("b", 1, 1)]);
    assert_eq!(runs.broken(&[("a", 1), ("b", 1)]), [Rule::Identity]);
}

#[test]
fn a_version_that_nobody_wrote_has_no_identity() {
    let runs = Runs::new().run(1, None, [done("a", 1, 1)]);
    assert_eq!(runs.broken(&[]), [Rule::Identity]);
}
