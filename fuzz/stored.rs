//! Feeds a target what is stored for it, and what comes of that by small accidents that are the same in every run.

use std::{fs, path::Path, thread};

use fastrand::Rng;

const ACCIDENTS_PER_INPUT: u64 = 200;

pub(crate) fn feed(target: &str, check: impl Fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let entries = fs::read_dir(corpus.join(target)).expect("a corpus");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("an input").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "the corpus of {target} is empty");
    for path in paths {
        let stored = fs::read(&path).expect("an input");
        for accident in 0..=ACCIDENTS_PER_INPUT {
            let mut bytes = stored.clone();
            let mut rng = Rng::with_seed(accident);
            for _ in 0..accident.min(1 + accident % 4) {
                happen(&mut bytes, &mut rng);
            }
            let _input = Input {
                path: &path,
                accident,
            };
            check(&bytes);
        }
    }
}

fn happen(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let end = bytes.len();
    if end == 0 {
        return bytes.push(rng.u8(..));
    }
    let at = rng.usize(..end);
    match rng.u8(..6) {
        0 => bytes[at] = rng.u8(..),
        1 => bytes[at] ^= 1 << rng.u8(..8),
        2 => bytes[at] = *rng.choice(&[0, 1, 0x7f, 0x80, 0xff]).expect("some"),
        3 => bytes.swap(at, rng.usize(..end)),
        4 => bytes.truncate(at),
        _ => bytes.extend_from_within(at..(at + rng.usize(..16)).min(end)),
    }
}

/// Names the input when the check of it panics.
struct Input<'a> {
    path: &'a Path,
    accident: u64,
}

impl Drop for Input<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}, accident {}", self.path.display(), self.accident);
        }
    }
}
