use std::collections::HashMap;

use crate::log::{Deed, Entry, Event, Place, Version};

/// The service's log, put in order.
pub(super) struct History<'a> {
    /// In the order of their beginnings.
    pub(super) terms: Vec<Term<'a>>,
    /// Each time that an event was handled, in the order of the log.
    pub(super) handled: Vec<Handled<'a>>,
    /// Each time that a document of a snapshot was, in the order of the log.
    pub(super) rows: Vec<Row<'a>>,
    /// Each attempt to save a checkpoint, in the order of the log.
    pub(super) saves: Vec<Save<'a>>,
}

/// The work of one process from where it loaded its checkpoint.
pub(super) struct Term<'a> {
    pub(super) session: u32,
    /// The entry with which it asked for the checkpoint.
    pub(super) begun: usize,
    /// The entry with which it got the answer.
    pub(super) loaded: usize,
    /// What it was given.
    pub(super) from: Option<&'a Place>,
    /// The entry from which it goes on after it was stopped for longer than its lease.
    pub(super) woken: Option<usize>,
}

pub(super) struct Handled<'a> {
    pub(super) entry: usize,
    /// The index of its term.
    pub(super) term: usize,
    pub(super) event: &'a Event,
    pub(super) attempt: u32,
    pub(super) is_done: bool,
    pub(super) is_letter: bool,
}

pub(super) struct Row<'a> {
    pub(super) entry: usize,
    /// The index of its term.
    pub(super) term: usize,
    pub(super) version: &'a Version,
    pub(super) is_done: bool,
}

pub(super) struct Save<'a> {
    pub(super) place: &'a Place,
    /// The entry that says it is about to be saved.
    pub(super) begun: usize,
    /// The entry that says it was saved; `None` where it was refused, or the process died first.
    pub(super) saved: Option<usize>,
}

impl<'a> History<'a> {
    pub(super) fn new(entries: &'a [Entry]) -> Self {
        let mut history = Self {
            terms: Vec::new(),
            handled: Vec::new(),
            rows: Vec::new(),
            saves: Vec::new(),
        };
        let mut term_of = HashMap::new();
        let mut loading = HashMap::new();
        for (index, Entry { session, deed }) in entries.iter().enumerate() {
            match deed {
                Deed::Loading => {
                    loading.insert(*session, index);
                }
                Deed::Loaded(from) => {
                    let begun = loading.get(session).copied().unwrap_or(index);
                    let term = history.begin_term(*session, begun, index, from.as_ref());
                    term_of.insert(*session, term);
                }
                Deed::Effect(event, ..) | Deed::Letter(event) => {
                    let begin = || history.begin_term(*session, index, index, None);
                    let term = *term_of.entry(*session).or_insert_with(begin);
                    let (attempt, is_done) = match deed {
                        Deed::Effect(_, attempt, is_done) => (*attempt, *is_done),
                        _ => (u32::MAX, true),
                    };
                    history.handled.push(Handled {
                        entry: index,
                        term,
                        event,
                        attempt,
                        is_done,
                        is_letter: matches!(deed, Deed::Letter(_)),
                    });
                }
                Deed::Row(version, is_done) => {
                    let begin = || history.begin_term(*session, index, index, None);
                    let term = *term_of.entry(*session).or_insert_with(begin);
                    history.rows.push(Row {
                        entry: index,
                        term,
                        version,
                        is_done: *is_done,
                    });
                }
                Deed::Saving(place) => history.saves.push(Save {
                    place,
                    begun: index,
                    saved: None,
                }),
                Deed::Saved(place) => {
                    let begun = |save: &&mut Save<'_>| {
                        entries[save.begun].session == *session && save.place == place
                    };
                    if let Some(save) = history.saves.iter_mut().rfind(begun) {
                        save.saved = Some(index);
                    }
                }
                Deed::Refused(_) => {}
                Deed::Woken => {
                    if let Some(term) = term_of.get(session) {
                        history.terms[*term].woken.get_or_insert(index);
                    }
                }
            }
        }
        history
    }

    fn begin_term(
        &mut self,
        session: u32,
        begun: usize,
        loaded: usize,
        from: Option<&'a Place>,
    ) -> usize {
        self.terms.push(Term {
            session,
            begun,
            loaded,
            from,
            woken: None,
        });
        self.terms.len() - 1
    }

    /// The checkpoints that the store says it has saved, with the entries that say so.
    pub(super) fn saved(&self) -> impl Iterator<Item = (usize, &'a Place)> {
        let saves = self.saves.iter();
        saves.filter_map(|save| Some((save.saved?, save.place)))
    }

    /// The furthest token that was saved before entry `before`, as the store said or a load had shown.
    pub(super) fn committed(&self, before: usize) -> Option<&'a str> {
        let terms = self.terms.iter();
        let loaded = terms.filter_map(|term| Some((term.loaded, term.from?)));
        let known = self.saved().chain(loaded);
        let earlier = known.filter(|(entry, _)| *entry < before);
        earlier.map(|(_, place)| place.token.as_str()).max()
    }

    /// The furthest token that is covered where `term` begins. What it loads was saved, also where the answer to that
    /// was lost.
    pub(super) fn covered(&self, term: &Term<'a>) -> Option<&'a str> {
        let from = term.from.map(|from| from.token.as_str());
        self.committed(term.begun).max(from)
    }
}
