//! Waiting at several queues at once.
//!
//! A server moves a task for a client that waits at one list, but not at several. So an idle worker waits
//! at each by a connection of its own, and what it asks for is to move the list's last task to where it is:
//! that takes nothing and only tells that there is a task.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cmd;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::OwnQueue;
use super::server::{ANSWER_MAX, Server};
use crate::queue::Error;

/// A wait without a task ends after this long and is begun again with the next look.
const WAIT: Duration = Duration::from_secs(30);
/// A connection that failed is made again after this long.
const PAUSE: Duration = Duration::from_secs(1);

/// One bell for each queue, in their order.
#[derive(Default)]
pub(super) struct Bells {
    waiting: Vec<Bell>,
    rung: Arc<Notify>,
}

type Bell = AbortOnDropHandle<Option<MultiplexedConnection>>;

impl Bells {
    /// Waits at every queue at which nobody waits yet.
    pub(super) fn arm(&mut self, server: &Server, queues: &[OwnQueue]) {
        let mut before = std::mem::take(&mut self.waiting).into_iter();
        for of in queues {
            let bell = before.next();
            self.waiting.push(match bell {
                Some(bell) if !bell.is_finished() => bell,
                ended => {
                    let (server, queue, rung) =
                        (server.clone(), of.keys.queue.clone(), Arc::clone(&self.rung));
                    AbortOnDropHandle::new(tokio::spawn(async move {
                        let connection = match ended {
                            Some(ended) => ended.await.ok().flatten(),
                            None => None,
                        };
                        let waited = wait(&server, connection, &queue).await;
                        if waited.is_err() {
                            sleep(PAUSE).await;
                        }
                        rung.notify_one();
                        waited.ok()
                    }))
                }
            });
        }
    }

    /// Waits until one rings. One that rang while nobody listened is heard.
    pub(super) async fn rung(&self) {
        self.rung.notified().await;
    }
}

/// Returns when there may be a task in the queue, with the connection.
async fn wait(
    server: &Server,
    connection: Option<MultiplexedConnection>,
    queue: &str,
) -> Result<MultiplexedConnection, Error> {
    let mut connection = match connection {
        Some(connection) => connection,
        None => server.waiting_connection().await?,
    };
    let mut moving = cmd("BLMOVE");
    moving.arg(&[queue, queue, "RIGHT", "RIGHT"]).arg(WAIT.as_secs_f64());
    let waited = timeout(WAIT + ANSWER_MAX, moving.query_async::<Option<Vec<u8>>>(&mut connection)).await;
    match waited {
        Ok(Ok(_)) => Ok(connection),
        Ok(Err(error)) => Err(super::server::failed(&error)),
        Err(_) => Err(super::no_answer()),
    }
}
