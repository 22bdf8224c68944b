use std::{io, process::ExitStatus, time::Duration};

use crate::{ServerVersion, SinkServer};

/// What can go wrong with a test server. The text of each names what is missing and what mends it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No `mongod` was found, and none could be fetched.
    #[error(
        "no mongod {wanted}: {reason}; put a mongod (4.4 or later) on the PATH, \
         or set MONGODB_URI to a replica set"
    )]
    NoMongod {
        /// The version that was looked for.
        wanted: ServerVersion,
        /// Why it could not be had.
        reason: String,
    },

    /// The program of a server was not found, and could not be fetched.
    #[error(
        "no {server}: {reason}; put a {} ({} or later) on the PATH",
        .server.kind().program, .server.oldest()
    )]
    NoServer {
        /// What was looked for.
        server: SinkServer,
        /// Why it could not be had.
        reason: String,
    },

    /// Packages of Python could not be fetched.
    #[error(
        "no Python packages {packages}: {reason}; they need Python 3.10 or later with pip, once with a network"
    )]
    NoPythonPackages {
        /// The name they were to have in the cache.
        packages: String,
        /// Why they could not be had.
        reason: String,
    },

    /// The text names no server version that can be fetched.
    #[error("unknown MongoDB version {0:?}: use one of 4.4, 5.0, 6.0.5, 6.0.27")]
    UnknownVersion(String),

    /// A server ended while it was starting.
    #[error("{program} on port {port} ended while starting ({status}); its log ends with:\n{log}")]
    Died {
        /// The program that ran.
        program: &'static str,
        /// The port it was to listen on.
        port: u16,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },

    /// A server did not reach a state in time.
    #[error("{program}: {what} took longer than {after:?}; its log ends with:\n{log}")]
    Timeout {
        /// The program that runs.
        program: &'static str,
        /// What was waited for.
        what: &'static str,
        /// How long it was waited for.
        after: Duration,
        /// The last lines of the log.
        log: String,
    },

    /// The operation needs a running server, and this one was killed.
    #[error("{program} on port {port} is not running: call restart() first")]
    NotRunning {
        /// The program that ran.
        program: &'static str,
        /// The port it listened on.
        port: u16,
    },

    /// A file, folder, port or process could not be used.
    #[error("cannot {what}")]
    Io {
        /// What was being done.
        what: String,
        /// The cause.
        source: io::Error,
    },

    /// The server refused a command, or could not be reached.
    #[error("the test server refused a command, or could not be reached")]
    Driver(#[from] mongodb::error::Error),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
