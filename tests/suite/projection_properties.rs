//! Handlers see the same, and the same events, with projection and without: random handlers over a random script of
//! writes on a real server.
//!
//! The run is the same each time; `CHANGESTREAM_SEED`, a number, gives another one.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    future::ready,
    sync::{Arc, Mutex},
};

use bson::Bson;
use changestream::{
    ClusterTime, EventId, FullDocument, HandlerError, HandlerSpec, MemoryDeadLetters, PreImage,
    Projection, StartAt, prelude::Change,
};
use proptest::sample::select;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use tokio::sync::Notify;

use crate::{
    filter_properties::{draw, random_log, runner, runtime, spec},
    support::{
        event_log::Log,
        random::{self, Wish},
    },
};

const RUNTIMES: usize = 16;

/// A field as it is: absent, null, or of any type.
#[derive(Clone, Debug, Default)]
#[allow(dead_code)]
struct Field(Option<Bson>);

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Bson::deserialize(deserializer).map(|value| Self(Some(value)))
    }
}

macro_rules! documents {
    ($($item:item)*) => {$(
        #[derive(Clone, Debug, Deserialize)]
        #[allow(dead_code)]
        $item
    )*};
}

documents! {
    #[serde(default)]
    struct Letters {
        a: Field,
        #[serde(rename = "é")]
        accented: Field,
        #[serde(rename = "a b")]
        spaced: Field,
    }

    struct Numbers {
        #[serde(default, rename = "0", alias = "12")]
        zero: Field,
        #[serde(rename = "1")]
        one: Option<Bson>,
    }

    struct Typed {
        #[serde(rename = "_id")]
        id: i32,
        b: Option<f64>,
    }

    struct Nested {
        docs: Vec<Inner>,
        #[serde(default)]
        list: Vec<Bson>,
    }

    #[serde(deny_unknown_fields)]
    struct Inner {
        a: Option<Bson>,
        b: Option<Bson>,
    }

    struct Empty {}

    #[serde(deny_unknown_fields)]
    struct Strict {
        #[serde(rename = "_id")]
        id: i32,
        a: Option<Bson>,
        list: Option<Bson>,
        docs: Option<Bson>,
    }

    #[serde(default)]
    struct Strange {
        #[serde(rename = "a.b")]
        dotted: Field,
        #[serde(rename = "$x")]
        dollar: Field,
        #[serde(rename = "")]
        empty: Field,
    }

    struct Flattened {
        a: Option<Bson>,
        #[serde(flatten)]
        rest: BTreeMap<String, Bson>,
    }

    #[serde(tag = "a", content = "b")]
    enum Tagged {
        One(i32),
    }
}

impl Default for Letters {
    fn default() -> Self {
        let [a, accented, spaced] = Default::default();
        Self {
            a,
            accented,
            spaced,
        }
    }
}

impl Default for Strange {
    fn default() -> Self {
        let [dotted, dollar, empty] = Default::default();
        Self {
            dotted,
            dollar,
            empty,
        }
    }
}

/// What the handlers of a runtime saw, each by its name, and how many bytes of documents.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<(Vec<String>, usize)>>);

impl Seen {
    fn note(&self, name: &str, event: EventId, documents: impl Debug) {
        let entry = format!("{name} {event} {documents:?}");
        self.0.lock().expect("no panic").0.push(entry);
    }

    fn take(&self) -> (Vec<String>, usize) {
        std::mem::take(&mut self.0.lock().expect("no panic"))
    }
}

type Registered = fn(&Log, &Wish, String, Seen) -> HandlerSpec<()>;

fn of_changes<T: DeserializeOwned + Debug + Send + Sync + 'static>(
    log: &Log,
    wish: &Wish,
    name: String,
    seen: Seen,
) -> HandlerSpec<()> {
    let own = name.clone();
    let handler = move |change: Change<T>| {
        let documents = (change.full_document(), change.pre_image());
        seen.note(&own, change.event_id(), documents);
        let documents = [change.raw().full_document(), change.raw().pre_image()];
        let size: usize = documents
            .iter()
            .flatten()
            .map(|document| document.as_bytes().len())
            .sum();
        seen.0.lock().expect("no panic").1 += size;
        ready(Ok::<(), HandlerError>(()))
    };
    spec(log, wish, name, handler)
}

/// As above, with a type of its own for each document.
fn of_documents<T, U>(log: &Log, wish: &Wish, name: String, seen: Seen) -> HandlerSpec<()>
where
    T: DeserializeOwned + Debug + Send + Sync + 'static,
    U: DeserializeOwned + Debug + Send + Sync + 'static,
{
    let own = name.clone();
    let handler =
        move |event: EventId, after: Option<FullDocument<T>>, before: Option<PreImage<U>>| {
            seen.note(&own, event, (after, before));
            ready(Ok::<(), HandlerError>(()))
        };
    spec(log, wish, name, handler)
}

const NARROW: [Registered; 8] = [
    of_changes::<Letters>,
    of_changes::<Numbers>,
    of_changes::<Typed>,
    of_changes::<Nested>,
    of_changes::<Empty>,
    of_documents::<Letters, Option<Typed>>,
    of_documents::<Box<Nested>, Empty>,
    of_documents::<Typed, Numbers>,
];

const WIDE: [Registered; 6] = [
    of_changes::<Strict>,
    of_changes::<Strange>,
    of_changes::<Flattened>,
    of_changes::<Tagged>,
    of_documents::<Strict, Letters>,
    of_documents::<Numbers, Tagged>,
];

#[tokio::test]
async fn handlers_see_the_same_with_projection_and_without() {
    let mut runner = runner(4);
    let log = random_log(&mut runner).await;
    let sets = random::wishes(log.databases.len());
    let (narrow, wide) = (select(&NARROW[..]), select(&WIDE[..]));
    let (mut seen, mut whole_size, mut projected_size) = (0, 0, 0);
    for round in 0..RUNTIMES {
        let wishes = draw(&sets, &mut runner);
        let handlers: Vec<_> = wishes
            .iter()
            .enumerate()
            .map(|(place, _)| match (round % 4, place) {
                (3, 0) => draw(&wide, &mut runner),
                _ => draw(&narrow, &mut runner),
            })
            .collect();
        let run = |projection| run(&log, &wishes, &handlers, projection);
        let (whole, projected) = (run(Projection::Whole).await, run(Projection::Fields).await);
        let pairs = whole.entries.iter().zip(&projected.entries);
        for (with_all, with_fields) in pairs {
            assert_eq!(with_all, with_fields, "of {wishes:?}");
        }
        assert_eq!(whole.entries.len(), projected.entries.len(), "{wishes:?}");
        assert_eq!(whole.rejected, projected.rejected, "{wishes:?}");
        seen += whole.entries.len();
        whole_size += whole.size;
        projected_size += projected.size;
    }
    eprintln!("{seen} seen, {whole_size} bytes whole, {projected_size} projected");
    assert!(seen >= 2_000, "{seen}");
    assert!(projected_size < whole_size * 9 / 10);
}

struct Run {
    entries: Vec<String>,
    rejected: Vec<(String, String)>,
    size: usize,
}

async fn run(log: &Log, wishes: &[Wish], handlers: &[Registered], projection: Projection) -> Run {
    let seen = Seen::default();
    let specs = wishes.iter().zip(handlers).enumerate();
    let specs =
        specs.map(|(place, (wish, handler))| handler(log, wish, place.to_string(), seen.clone()));
    let end = Arc::new(Notify::new());
    let at_end = Arc::clone(&end);
    let sentinel = HandlerSpec::new("sentinel", move || {
        at_end.notify_one();
        ready(Ok::<(), HandlerError>(()))
    });
    let dead_letters = MemoryDeadLetters::default();
    let runtime = runtime(log)
        .projection(projection)
        .handlers(specs)
        .handler(sentinel.collections([Log::SENTINEL]))
        .start_at(StartAt::OperationTime(ClusterTime(log.from)))
        .dead_letter_store(dead_letters.clone())
        .build()
        .expect("a runtime");
    log.within_deadline(runtime.run_until(end.notified()))
        .await
        .expect("the runtime runs");
    let letters = dead_letters.letters();
    let rejected = letters.iter();
    let rejected =
        rejected.map(|letter| (letter.handler().to_owned(), letter.event_id().to_owned()));
    let (entries, size) = seen.take();
    Run {
        entries,
        rejected: rejected.collect(),
        size,
    }
}
