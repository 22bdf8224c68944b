//! How far the service has come, read from its log while it is written.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::Read as _,
    path::Path,
    time::Duration,
};

use tokio::{sync::watch, time::sleep};

use crate::{
    Result,
    log::{Deed, Event, Version, parse_entries},
    writer::LAST,
};

const POLL: Duration = Duration::from_millis(5);

/// What the service's log shows so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// Versions that were done.
    pub(crate) done: u64,
    /// Documents that were there before, and have come neither by a snapshot nor by a later change.
    pub(crate) unseen: u64,
    /// The process that loaded the checkpoint last, and so has the lease.
    pub(crate) active: u32,
    /// Whether a checkpoint was saved.
    pub(crate) has_saved: bool,
    /// The process that saved one last.
    pub(crate) saver: u32,
    /// Whether a checkpoint covers the last event: the service says that all is done.
    pub(crate) has_saved_last: bool,
}

impl Progress {
    pub(crate) fn is_further_than(&self, before: &Self) -> bool {
        (self.done, self.unseen) != (before.done, before.unseen)
    }
}

/// Follows the log at `path` for as long as it is awaited. `before` are the versions that were there before.
pub(crate) async fn follow(
    path: &Path,
    before: Vec<Version>,
    progress: watch::Sender<Progress>,
) -> Result<()> {
    let mut file = File::options()
        .create(true)
        .append(true)
        .read(true)
        .open(path)?;
    let mut unread = Vec::new();
    let mut reader = Reader::default();
    for Version { key, number } in before {
        let last = reader.unseen.entry(key).or_default();
        *last = number.max(*last);
    }
    loop {
        file.read_to_end(&mut unread)?;
        let whole = unread.iter().rposition(|byte| *byte == b'\n');
        if let Some(end) = whole {
            let text: Vec<_> = unread.drain(..=end).collect();
            reader.read(&String::from_utf8(text)?)?;
            progress.send_replace(reader.progress);
        }
        sleep(POLL).await;
    }
}

#[derive(Default)]
struct Reader {
    progress: Progress,
    done: HashSet<Version>,
    /// The last version of each.
    unseen: HashMap<String, u64>,
    last: Option<String>,
}

impl Reader {
    fn read(&mut self, text: &str) -> Result<()> {
        for entry in parse_entries(text)? {
            match entry.deed {
                Deed::Effect(event, _, true) | Deed::Letter(event) => self.done(event),
                Deed::Row(version, true) => self.seen(&version),
                Deed::Loaded(_) => self.progress.active = entry.session,
                Deed::Saved(place) => {
                    self.progress.has_saved = true;
                    self.progress.saver = entry.session;
                    let covers = |last: &String| place.token >= *last;
                    self.progress.has_saved_last |= self.last.as_ref().is_some_and(covers);
                }
                _ => {}
            }
        }
        self.progress.done = self.done.len() as u64;
        self.progress.unseen = self.unseen.len() as u64;
        Ok(())
    }

    fn done(&mut self, event: Event) {
        if event.version.key == LAST {
            self.last = Some(event.token);
        }
        self.seen(&event.version);
        self.done.insert(event.version);
    }

    fn seen(&mut self, Version { key, number }: &Version) {
        if self.unseen.get(key).is_some_and(|last| number >= last) {
            self.unseen.remove(key);
        }
    }
}
