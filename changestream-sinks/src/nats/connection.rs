//! The connection, made when it is first needed.

use std::{future::ready, time::Duration};

use async_nats::{
    Client, ClientError, ConnectErrorKind, ConnectOptions, Event, ServerError, connection::State,
};
use changestream_core::{Error, HandlerError};
use rustls::ClientConfig;
use tokio::sync::{OnceCell, watch};

use super::{
    address::{Login, Servers},
    failure::Failure,
};
use crate::tls;

/// For each address of a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// As many messages wait for the connection at most, then their senders.
const CAPACITY: usize = 1024;
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Where to, and the connection once there was one: the client library keeps it from then on.
pub(super) struct Connection {
    pub(super) servers: Servers,
    pub(super) login: Login,
    tls: ClientConfig,
    made: OnceCell<Connected>,
}

struct Connected {
    client: Client,
    link: watch::Receiver<Link>,
}

/// What the client library has told of the connection.
#[derive(Debug, Default)]
struct Link {
    losses: u64,
    /// Why there is no other one yet.
    problem: Option<String>,
    /// The server has refused something that the user has no right to.
    refuses: bool,
}

/// How the connection was when a delivery began.
pub(super) struct Since {
    link: watch::Receiver<Link>,
    losses: u64,
}

impl Connection {
    pub(super) fn new(servers: Servers, login: Login) -> Result<Self, Error> {
        Ok(Self {
            tls: tls(servers.tls_required)?,
            servers,
            login,
            made: OnceCell::new(),
        })
    }

    /// The connection, unless there is none at the moment.
    pub(super) async fn get(&self, name: &str) -> Result<(&Client, Since), HandlerError> {
        let connected = match self.made.get() {
            Some(connected) => connected,
            // On the heap: each delivery would have to be large enough for it.
            None => Box::pin(self.made.get_or_try_init(|| self.connect(name))).await?,
        };
        let link = connected.link.clone();
        let losses = link.borrow().losses;
        let since = Since { link, losses };
        match connected.client.connection_state() {
            State::Connected => Ok((&connected.client, since)),
            _ => Err(self.no_connection(&since)),
        }
    }

    async fn connect(&self, name: &str) -> Result<Connected, HandlerError> {
        let hosts = &self.servers.hosts;
        let (sender, link) = watch::channel(Link::default());
        let options = ConnectOptions::new()
            .name(name)
            .connection_timeout(CONNECT_TIMEOUT)
            .client_capacity(CAPACITY)
            .tls_client_config(self.tls.clone())
            // Of all servers, those too that the first one names.
            .require_tls(self.servers.tls_required)
            .reconnect_delay_callback(reconnect_delay)
            .event_callback(move |event| {
                sender.send_if_modified(|link| link.note(&event));
                ready(())
            });
        let options = match self.login.clone() {
            Login::Anonymous => options,
            Login::Token(token) => options.token(token),
            Login::User { name, password } => options.user_and_password(name, password),
            Login::CredentialsFile(path) => {
                let read = options.credentials_file(path).await;
                read.map_err(|error| {
                    Failure::retry(
                        format!("the credentials file for `{hosts}` is not there or not valid"),
                        error,
                    )
                })?
            }
        };
        let client = options.connect(self.servers.addresses.clone()).await;
        let client = client.map_err(|error| {
            let message = match error.kind() {
                ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                    format!("`{hosts}` refuses the login of the sink")
                }
                ConnectErrorKind::TimedOut => {
                    format!("no connection to `{hosts}` within {CONNECT_TIMEOUT:?}")
                }
                _ => format!("no connection to `{hosts}`"),
            };
            Failure::unavailable_in_words(message, error)
        })?;
        Ok(Connected { client, link })
    }

    fn no_connection(&self, since: &Since) -> HandlerError {
        let hosts = &self.servers.hosts;
        HandlerError::retry(match &since.link.borrow().problem {
            Some(problem) => format!("no connection to `{hosts}` any more: {problem}"),
            None => format!("no connection to `{hosts}` any more"),
        })
    }
}

/// The same settings, not connected.
impl Clone for Connection {
    fn clone(&self) -> Self {
        Self {
            servers: self.servers.clone(),
            login: self.login.clone(),
            tls: self.tls.clone(),
            made: OnceCell::new(),
        }
    }
}

impl Link {
    /// Whether it says anything that was not known.
    fn note(&mut self, event: &Event) -> bool {
        match event {
            Event::Connected => {
                (self.problem, self.refuses) = (None, false);
            }
            Event::Disconnected => self.losses += 1,
            Event::ClientError(ClientError::Other(problem)) => {
                self.problem = Some(problem.clone());
            }
            Event::ServerError(ServerError::Other(text))
                if text
                    .to_ascii_lowercase()
                    .starts_with("permissions violation") =>
            {
                self.refuses = true;
            }
            _ => return false,
        }
        true
    }
}

impl Since {
    /// Waits until the connection is lost: what was sent on it may be, too.
    pub(super) async fn lost(&mut self) {
        let losses = self.losses;
        // An error says that the client has ended, which is a loss as well.
        drop(self.link.wait_for(|link| link.losses != losses).await);
    }

    /// Whether the server has said no to anything that was sent.
    pub(super) fn was_refused(&self) -> bool {
        self.link.borrow().refuses
    }
}

/// Doubles from 10 ms.
fn reconnect_delay(attempts: usize) -> Duration {
    let doublings = attempts.saturating_sub(1).min(10);
    match attempts {
        0 | 1 => Duration::ZERO,
        _ => Duration::from_millis(5 << doublings).min(LONGEST_WAIT),
    }
}

/// A server may ask for TLS where the URL does not. Without roots to load no server is trusted then.
fn tls(required: bool) -> Result<ClientConfig, Error> {
    let sink = "a NATS sink";
    match tls::verified(sink) {
        Err(_) if !required => tls::trusting_none(sink),
        config => config,
    }
}
