//! The logs: what the server acknowledged to the writer, what the service did, and which checkpoints the server has
//! committed.
//!
//! A line is appended with one `write`, so that a killed process loses no line that it had finished. One that was cut
//! short all the same lacks its end mark, and counts as not written.

use std::{
    fmt,
    fs::File,
    io::{self, Write as _},
    path::Path,
    sync::Arc,
};

use changestream::bson::{Bson, Document};

/// The end of a line that was written whole.
const END: &str = "\t.";

/// A file that lines are appended to. Clones append to the same one.
#[derive(Clone, Debug)]
pub(crate) struct Log(Arc<File>);

impl Log {
    /// Appends to the file at `path`, which need not exist.
    pub(crate) fn append_to(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self(Arc::new(file)))
    }

    /// Appends lines.
    pub(crate) fn append<T: fmt::Display>(&self, lines: &[T]) -> io::Result<()> {
        // The line break before it sets it apart from a line that was cut short.
        let text: String = lines
            .iter()
            .map(|line| format!("\n{line}{END}\n"))
            .collect();
        (&*self.0).write_all(text.as_bytes())
    }
}

/// The lines of a log that were written whole, and the number of each.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = (1..).zip(text.lines());
    numbered.filter_map(|(number, line)| Some((number, line.strip_suffix(END)?)))
}

/// A version of a document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Version {
    pub(crate) key: String,
    pub(crate) number: u64,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}", self.key, self.number)
    }
}

/// A change event, as the service saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) version: Version,
    pub(crate) id: String,
    /// What the server's resume token says. In stream order, tokens are in the order of their text.
    pub(crate) token: String,
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) epoch: i64,
    pub(crate) sequence: i64,
    pub(crate) token: String,
}

impl Place {
    /// What the document of a checkpoint says, by the names that the store gives its fields.
    pub(crate) fn of(checkpoint: &Document) -> Self {
        let number = |name| match checkpoint.get(name) {
            Some(Bson::Int64(number)) => *number,
            Some(Bson::Int32(number)) => (*number).into(),
            // Not all checkpoints have an epoch, and a claimed one has no sequence yet.
            _ => 0,
        };
        let token = checkpoint.get_document("token");
        let token = token.and_then(|token| token.get_str("_data"));
        Self {
            epoch: number("epoch"),
            sequence: number("sequence"),
            token: token.unwrap_or_default().to_owned(),
        }
    }
}

/// A checkpoint that the server has committed, and what it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) name: String,
    pub(crate) place: Place,
}

/// Something that the service did, or that was done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// It is about to ask its store for the checkpoint.
    Loading,
    /// It goes on from there.
    Loaded(Option<Place>),
    /// It handled an event, in the attempt of this number, and then told the runtime whether that had succeeded.
    Effect(Event, u32, bool),
    /// It handled a document of a snapshot, and then told the runtime whether that had succeeded.
    Row(Version, bool),
    /// The server acknowledged a dead letter.
    Letter(Event),
    /// It is about to ask its store to save a checkpoint.
    Saving(Place),
    /// The store has saved it.
    Saved(Place),
    /// The store holds a newer one.
    Refused(Place),
    /// It was stopped for longer than its lease, and is about to go on.
    Woken,
}

/// A line of the service's log: what it did, and in which of its processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) session: u32,
    pub(crate) deed: Deed,
}

/// The line is none of the log's.
#[derive(Debug, thiserror::Error)]
#[error("line {number} of {log} cannot be read: {line:?}")]
pub(crate) struct Unreadable {
    number: usize,
    log: &'static str,
    line: String,
}

/// The versions in the writer's log.
pub(crate) fn parse_versions(text: &str) -> Result<Vec<Version>, Unreadable> {
    parse(text, "the writer's log", |fields| fields.version())
}

/// The entries of the log of commits.
pub(crate) fn parse_commits(text: &str) -> Result<Vec<Commit>, Unreadable> {
    parse(text, "the log of commits", |fields| {
        Some(Commit {
            name: fields.text()?,
            place: fields.place()?,
        })
    })
}

/// The entries of the service's log.
pub(crate) fn parse_entries(text: &str) -> Result<Vec<Entry>, Unreadable> {
    parse(text, "the service's log", |fields| fields.entry())
}

fn parse<T>(
    text: &str,
    log: &'static str,
    read: impl Fn(&mut Fields<'_>) -> Option<T>,
) -> Result<Vec<T>, Unreadable> {
    let read = |(number, line): (usize, &str)| {
        let mut fields = Fields(line.split('\t'));
        let entry = read(&mut fields).filter(|_| fields.0.next().is_none());
        entry.ok_or_else(|| Unreadable {
            number,
            log,
            line: line.to_owned(),
        })
    };
    lines(text).map(read).collect()
}

struct Fields<'a>(std::str::Split<'a, char>);

impl Fields<'_> {
    fn text(&mut self) -> Option<String> {
        self.0.next().map(str::to_owned)
    }

    fn number<T: std::str::FromStr>(&mut self) -> Option<T> {
        self.0.next()?.parse().ok()
    }

    fn version(&mut self) -> Option<Version> {
        Some(Version {
            key: self.text()?,
            number: self.number()?,
        })
    }

    fn event(&mut self) -> Option<Event> {
        Some(Event {
            version: self.version()?,
            id: self.text()?,
            token: self.text()?,
        })
    }

    fn place(&mut self) -> Option<Place> {
        Some(Place {
            epoch: self.number()?,
            sequence: self.number()?,
            token: self.text()?,
        })
    }

    fn entry(&mut self) -> Option<Entry> {
        let session = self.number()?;
        let deed = match self.0.next()? {
            "loading" => Deed::Loading,
            "loaded-none" => Deed::Loaded(None),
            "loaded" => Deed::Loaded(Some(self.place()?)),
            "effect" => Deed::Effect(self.event()?, self.number()?, self.number()?),
            "row" => Deed::Row(self.version()?, self.number()?),
            "letter" => Deed::Letter(self.event()?),
            "saving" => Deed::Saving(self.place()?),
            "saved" => Deed::Saved(self.place()?),
            "refused" => Deed::Refused(self.place()?),
            "woken" => Deed::Woken,
            _ => return None,
        };
        Some(Entry { session, deed })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}\t{}", self.version, self.id, self.token)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}\t{}", self.epoch, self.sequence, self.token)
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}", self.name, self.place)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t", self.session)?;
        match &self.deed {
            Deed::Loading => f.write_str("loading"),
            Deed::Loaded(None) => f.write_str("loaded-none"),
            Deed::Loaded(Some(place)) => write!(f, "loaded\t{place}"),
            Deed::Effect(event, attempt, is_done) => {
                write!(f, "effect\t{event}\t{attempt}\t{is_done}")
            }
            Deed::Row(version, is_done) => write!(f, "row\t{version}\t{is_done}"),
            Deed::Letter(event) => write!(f, "letter\t{event}"),
            Deed::Saving(place) => write!(f, "saving\t{place}"),
            Deed::Saved(place) => write!(f, "saved\t{place}"),
            Deed::Refused(place) => write!(f, "refused\t{place}"),
            Deed::Woken => f.write_str("woken"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_reads_back_but_for_lines_cut_short() {
        let event = Event {
            version: Version {
                key: "hot-1".to_owned(),
                number: 7,
            },
            id: "ab".to_owned(),
            token: "82".to_owned(),
        };
        let place = Place {
            epoch: 1,
            sequence: -2,
            token: "83".to_owned(),
        };
        let deeds = [
            Deed::Loading,
            Deed::Loaded(None),
            Deed::Loaded(Some(place.clone())),
            Deed::Effect(event.clone(), 2, false),
            Deed::Row(event.version.clone(), true),
            Deed::Letter(event),
            Deed::Saving(place.clone()),
            Deed::Saved(place.clone()),
            Deed::Refused(place),
            Deed::Woken,
        ];
        let entries = deeds.map(|deed| Entry { session: 3, deed });
        let file = tempfile::NamedTempFile::new().unwrap();
        let log = Log::append_to(file.path()).unwrap();
        log.append(&entries[..3]).unwrap();
        (&*log.0).write_all(b"\n3\teffect\thot-").unwrap();
        log.append(&entries[3..]).unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(parse_entries(&text).unwrap(), entries);
    }

    #[test]
    fn a_line_of_something_else_is_an_error() {
        assert!(parse_entries("\n1\tslept\t.\n").is_err());
        assert!(parse_versions("\nhot-1\tseven\t.\n").is_err());
        assert!(parse_versions("\nhot-1\t7\t8\t.\n").is_err());
    }
}
