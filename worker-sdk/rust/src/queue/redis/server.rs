//! Connections to a Redis server: dialled when needed, dropped when they fail, checked each time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo,
    ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisError, ScriptInvocation, ServerErrorKind,
    cmd,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;

use super::fetching::Client;
#[cfg(feature = "tls")]
use super::tls::Secured;
use crate::queue::Error;
use crate::settings::Settings;

/// A server that takes longer to connect or to answer has failed this time.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(5);

/// A server that runs the protocol's scripts. Cheap to clone; clones share one connection, which is
/// made again after it failed.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    address: Address,
    shared: Mutex<Shared>,
    wake: Option<Wake>,
}

#[derive(Default)]
struct Shared {
    connection: Option<MultiplexedConnection>,
    /// Counts connections, so that a late failure of one does not end the next.
    number: u64,
}

/// A channel that is listened to on the shared connection, and who is told of its messages.
pub(super) struct Wake {
    pub(super) channel: String,
    pub(super) told: Arc<Notify>,
}

struct Address {
    place: Place,
    login: RedisConnectionInfo,
}

enum Place {
    Tcp(String, u16),
    #[cfg(feature = "tls")]
    Tls(String, u16, Box<Secured>),
    Unix(PathBuf),
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Server {
    /// Connects, and refuses a server that may drop keys when its memory is full.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::connect_with(&Settings::new(url, [""; 0]), None).await
    }

    pub(super) async fn connect_with(settings: &Settings, wake: Option<Wake>) -> Result<Self, Error> {
        let address = Address::of(settings)?;
        let server = Self { inner: Arc::new(Inner { address, shared: Mutex::default(), wake }) };
        server.connection().await?;
        Ok(server)
    }

    /// Asks one command.
    pub async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        let (mut connection, number) = self.connection().await?;
        self.judge(command.query_async(&mut connection).await, number).await
    }

    /// Asks several commands in one go.
    pub async fn ask_all<T: FromRedisValue>(&self, commands: &redis::Pipeline) -> Result<T, Error> {
        let (mut connection, number) = self.connection().await?;
        self.judge(commands.query_async(&mut connection).await, number).await
    }

    /// Runs a script.
    pub async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, Error> {
        let (mut connection, number) = self.connection().await?;
        self.judge(script.invoke_async(&mut connection).await, number).await
    }

    /// Ends another connection: what was asked by it is done by now or never. `false`: this user may not.
    pub(super) async fn kill(&self, client: &Client) -> Result<bool, Error> {
        let (mut connection, number) = self.connection().await?;
        let mut kill = cmd("CLIENT");
        kill.arg("KILL").arg("ID").arg(&client.id).arg("ADDR").arg(&client.address);
        let answer = kill.query_async::<i64>(&mut connection).await;
        let refused = ErrorKind::Server(ServerErrorKind::NoPerm);
        if answer.as_ref().is_err_and(|error| error.kind() == refused) {
            return Ok(false);
        }
        self.judge(answer, number).await.map(|_| true)
    }

    async fn connection(&self) -> Result<(MultiplexedConnection, u64), Error> {
        let mut shared = self.inner.shared.lock().await;
        if let Some(connection) = &shared.connection {
            return Ok((connection.clone(), shared.number));
        }
        let mut connection = self.dial(Some(ANSWER_MAX), self.inner.wake.as_ref()).await?;
        refuse_eviction(&mut connection).await?;
        if let Some(wake) = &self.inner.wake {
            if let Err(error) = connection.subscribe(&wake.channel).await {
                tracing::warn!(%error, "cannot listen for offers; looking for them now and then instead");
            }
            // Something may have been said while nobody listened.
            wake.told.notify_one();
        }
        shared.number += 1;
        shared.connection = Some(connection.clone());
        Ok((connection, shared.number))
    }

    /// An answer that did not come, or came from a server that has become a replica, ends the connection.
    async fn judge<T>(&self, answer: Result<T, RedisError>, number: u64) -> Result<T, Error> {
        let error = match answer {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let replica = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
        if error.is_io_error() || error.is_unrecoverable_error() || replica {
            let mut shared = self.inner.shared.lock().await;
            if shared.number == number {
                shared.connection = None;
            }
        }
        Err(failed(&error))
    }

    /// A connection of its own, for commands that wait as long as they say.
    pub(super) async fn waiting_connection(&self) -> Result<MultiplexedConnection, Error> {
        self.dial(None, None).await
    }

    async fn dial(
        &self,
        answer_max: Option<Duration>,
        wake: Option<&Wake>,
    ) -> Result<MultiplexedConnection, Error> {
        let mut config = AsyncConnectionConfig::new().set_response_timeout(answer_max);
        let mut login = self.inner.address.login.clone();
        if let Some(wake) = wake {
            let told = Arc::clone(&wake.told);
            login = login.set_protocol(ProtocolVersion::RESP3);
            config = config.set_push_sender(move |push: PushInfo| -> Result<(), std::convert::Infallible> {
                if matches!(push.kind, PushKind::Message | PushKind::Disconnection) {
                    told.notify_one();
                }
                Ok(())
            });
        }
        let connecting = async {
            let stream = self.inner.address.place.open().await.map_err(RedisError::from)?;
            MultiplexedConnection::new_with_config(&login, stream, config).await
        };
        match timeout(ANSWER_MAX, connecting).await {
            Ok(Ok((connection, driver))) => {
                tokio::spawn(driver);
                Ok(connection)
            }
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(Error::System { system: "redis", reason: "no answer while connecting".into() }),
        }
    }
}

async fn refuse_eviction(connection: &mut MultiplexedConnection) -> Result<(), Error> {
    // Who may not ask is trusted: the answer is a help and not a lock.
    let answer: Result<String, _> = cmd("INFO").arg("memory").query_async(connection).await;
    let answer = answer.unwrap_or_default();
    let policy = answer.lines().find_map(|line| line.strip_prefix("maxmemory_policy:")).unwrap_or_default();
    if policy.starts_with("allkeys") {
        return Err(Error::Settings(format!(
            "this Redis drops keys when its memory is full (maxmemory-policy {policy}), tasks and offers \
             among them: set maxmemory-policy noeviction"
        )));
    }
    Ok(())
}

impl Address {
    fn of(settings: &Settings) -> Result<Self, Error> {
        let url = settings.url.as_str();
        let secure = url.strip_prefix("rediss://");
        let plain = secure.map_or_else(|| url.to_owned(), |rest| format!("redis://{rest}"));
        let query = url.split_once('?').map_or("", |(_, query)| query);
        let in_url = query.split('&').find_map(|pair| pair.strip_prefix("ssl_ca_certs=")).map(PathBuf::from);
        let authorities = in_url.as_deref().or(settings.authorities.as_deref());
        let info = plain
            .into_connection_info()
            .map_err(|error| Error::Settings(format!("the Redis URL: {error}")))?;
        let place = match info.addr() {
            ConnectionAddr::Tcp(host, port) if secure.is_some() => Place::secured(host, *port, authorities)?,
            ConnectionAddr::Tcp(host, port) => Place::Tcp(host.clone(), *port),
            ConnectionAddr::Unix(path) => Place::Unix(path.clone()),
            _ => return Err(Error::Settings("the Redis URL: type redis://HOST:PORT/DATABASE".into())),
        };
        let mut login = info.redis_settings().clone();
        if let (None, Some(username)) = (login.username(), &settings.username) {
            login = login.set_username(username);
        }
        if let (None, Some(password)) = (login.password(), &settings.password) {
            login = login.set_password(password);
        }
        Ok(Self { place, login })
    }
}

impl Place {
    #[cfg(feature = "tls")]
    fn secured(host: &str, port: u16, authorities: Option<&Path>) -> Result<Self, Error> {
        Ok(Self::Tls(host.to_owned(), port, Box::new(Secured::new(host, authorities)?)))
    }

    #[cfg(not(feature = "tls"))]
    fn secured(_host: &str, _port: u16, _authorities: Option<&Path>) -> Result<Self, Error> {
        Err(Error::Settings("rediss:// needs this program to be built with the feature `tls`".into()))
    }

    async fn open(&self) -> std::io::Result<Box<dyn Stream>> {
        let tcp = async |host: &str, port: u16| {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(stream)
        };
        Ok(match self {
            Self::Tcp(host, port) => Box::new(tcp(host, *port).await?),
            #[cfg(feature = "tls")]
            Self::Tls(host, port, secured) => Box::new(secured.secure(tcp(host, *port).await?).await?),
            Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
        })
    }
}

pub(super) fn failed(error: &RedisError) -> Error {
    Error::System { system: "redis", reason: error.to_string() }
}
