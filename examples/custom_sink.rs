//! A sink of one's own: it appends messages to a file, many at once, and is checked as every sink is.
//!
//! ```text
//! cargo run --example custom_sink --features testing
//! ```

use std::{fs, path::PathBuf};

use bytes::Bytes;
use changestream::{
    Delivery, HandlerError, SinkSpec,
    testing::conformance::{self, Receiver},
};
use tokio::{fs::OpenOptions, io::AsyncWriteExt};
use tower::service_fn;

/// A line for each message; delivered when it is on the disk. What goes wrong is retried, as `?` has it.
fn file_sink(path: PathBuf) -> SinkSpec {
    SinkSpec::batched(
        100,
        service_fn(move |batch: Vec<Delivery>| {
            let path = path.clone();
            async move {
                let mut lines = Vec::new();
                for delivery in &batch {
                    lines.extend_from_slice(delivery.message().payload());
                    lines.push(b'\n');
                }
                let mut file = OpenOptions::new().append(true).open(&path).await?;
                file.write_all(&lines).await?;
                file.sync_data().await?;
                Ok::<(), HandlerError>(())
            }
        }),
    )
}

/// What the sink writes to, for the suite: it is out of reach while it has another name.
struct File {
    path: PathBuf,
    away: PathBuf,
}

impl Receiver for File {
    fn sink(&self) -> SinkSpec {
        file_sink(self.path.clone())
    }

    async fn received(&self) -> Vec<Bytes> {
        let text = fs::read_to_string(&self.path).expect("the file");
        text.lines()
            .map(|line| Bytes::copy_from_slice(line.as_bytes()))
            .collect()
    }

    async fn stop(&self) {
        fs::rename(&self.path, &self.away).expect("a new name");
    }

    async fn start(&self) {
        fs::rename(&self.away, &self.path).expect("the old name");
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let folder = tempfile::tempdir()?;
    let [path, away] = ["messages", "away"].map(|name| folder.path().join(name));
    fs::write(&path, "")?;
    conformance::check(&File { path, away }).await;
    println!("It is a sink.");
    Ok(())
}
