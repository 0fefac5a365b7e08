//! How tasks come from Redis: taken at once where there are some, else waited for.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cmd;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::bells::Bells;
use super::scripts::Taken;
use super::server::{ANSWER_MAX, failed};
use super::{RedisQueue, no_answer};
use crate::queue::Error;
use crate::task::Leased;

/// Takes that are not turns of a slot are numbered under this name.
const TAKE: &str = "take";
/// The server may be asked to end a wait before the wait has begun there; so it is asked again.
const UNBLOCK_EVERY: Duration = Duration::from_millis(100);

/// The way by which tasks come.
#[derive(Default)]
pub(super) struct Fetching {
    /// The connection that waits for tasks of the only queue.
    waiting: Option<(MultiplexedConnection, Client)>,
    /// A connection whose answer was lost. The server may not know yet that it is gone.
    abandoned: Option<Client>,
    /// A take whose answer was lost.
    lost_take: Option<u64>,
    bells: Bells,
}

/// A connection as the server knows it. Its number alone may be another's after the server started again.
#[derive(Clone)]
struct Client {
    id: String,
    address: String,
}

impl Client {
    async fn of(connection: &mut MultiplexedConnection) -> Result<Self, Error> {
        let mut asking = cmd("CLIENT");
        let answer = timeout(ANSWER_MAX, asking.arg("INFO").query_async::<String>(connection))
            .await
            .map_err(|_| no_answer())?;
        let answer = answer.map_err(|error| failed(&error))?;
        let field = |name| answer.split_whitespace().find_map(|it| it.strip_prefix(name)).unwrap_or_default();
        Ok(Self { id: field("id=").to_owned(), address: field("addr=").to_owned() })
    }
}

impl RedisQueue {
    /// A task that came to this worker's list by an answer that was lost.
    pub(super) async fn recover(&self, fetching: &mut Fetching) -> Result<Option<Leased>, Error> {
        if !*self.unsure.read().await {
            return Ok(None);
        }
        let mut unsure = self.unsure.write().await;
        // First the server must not move a task any more for what was asked; what it has moved is in the list.
        if let Some(client) = fetching.abandoned.clone() {
            let mut kill = cmd("CLIENT");
            kill.arg("KILL").arg("ID").arg(client.id).arg("ADDR").arg(client.address);
            // A user without the right to does without: the list is looked at all the same.
            let _: Result<i64, _> = self.server.ask(&kill).await;
        }
        if let Some(take) = fetching.lost_take {
            self.fence(TAKE, take).await?;
        }
        for (place, keys) in self.keys.iter().enumerate() {
            let list: Vec<Vec<u8>> =
                self.server.ask(cmd("LRANGE").arg(self.processing(keys)).arg(0).arg(-1)).await?;
            let held = self.held.lock().await;
            let of_queue = held.values().filter(|held| held.queue == keys.queue);
            let mut known: Vec<_> = of_queue.map(|held| held.payload.clone()).collect();
            drop(held);
            for payload in list {
                match known.iter().position(|it| *it == payload) {
                    Some(place) => {
                        known.swap_remove(place);
                    }
                    None => return self.moved(place, payload).await.map(Some),
                }
            }
        }
        *unsure = false;
        (fetching.abandoned, fetching.lost_take) = (None, None);
        Ok(None)
    }

    /// Moves the next task, waiting for one.
    pub(super) async fn next(
        &self,
        fetching: &mut Fetching,
        wait: Duration,
        stop: &CancellationToken,
    ) -> Result<Option<Leased>, Error> {
        if self.keys.len() == 1 {
            return self.wait_at_the_queue(fetching, wait, stop).await;
        }
        if let Some(leased) = self.take(fetching).await? {
            return Ok(Some(leased));
        }
        fetching.bells.arm(&self.server, &self.keys);
        tokio::select! {
            () = fetching.bells.rung() => self.take(fetching).await,
            () = sleep(wait) => Ok(None),
            () = stop.cancelled() => Ok(None),
        }
    }

    /// Takes from the first queue that has a task.
    async fn take(&self, fetching: &mut Fetching) -> Result<Option<Leased>, Error> {
        let number = self.next_number();
        let mut script = self.scripts.take.key(self.turns());
        self.add_queues(&mut script);
        match self.server.run::<Option<Taken>>(script.arg(TAKE).arg(number)).await {
            Ok(None) => Ok(None),
            Ok(Some(taken)) => self.lease(taken).await.map(Some),
            Err(error) => {
                fetching.lost_take = Some(number);
                Err(error)
            }
        }
    }

    async fn wait_at_the_queue(
        &self,
        fetching: &mut Fetching,
        wait: Duration,
        stop: &CancellationToken,
    ) -> Result<Option<Leased>, Error> {
        let Some(keys) = self.keys.first() else { return Ok(None) };
        let (connection, client) = match fetching.waiting.take() {
            Some(connected) => connected,
            None => {
                let mut connection = self.server.waiting_connection().await?;
                let client = Client::of(&mut connection).await?;
                (connection, client)
            }
        };
        let mut moving = cmd("BLMOVE");
        moving.arg(&keys.queue).arg(self.processing(keys)).arg("RIGHT").arg("LEFT").arg(wait.as_secs_f64());
        let mut asked = connection.clone();
        let answer = timeout(wait + ANSWER_MAX, moving.query_async::<Option<Vec<u8>>>(&mut asked));
        let ending = async {
            stop.cancelled().await;
            loop {
                let _: Result<i64, _> = self.server.ask(cmd("CLIENT").arg("UNBLOCK").arg(&client.id)).await;
                sleep(UNBLOCK_EVERY).await;
            }
        };
        // Should a task have come in the moment when the wait was ended, the answer has it.
        let answer = tokio::select! {
            answer = answer => answer,
            () = ending => return Ok(None),
        };
        let moved = match answer {
            Ok(Ok(moved)) => moved,
            failure => {
                fetching.abandoned = Some(client);
                return Err(if let Ok(Err(error)) = failure { failed(&error) } else { no_answer() });
            }
        };
        fetching.waiting = Some((connection, client));
        match moved {
            Some(payload) => self.moved(0, payload).await.map(Some),
            None => Ok(None),
        }
    }

    /// A task of which the server has given no more than its payload.
    async fn moved(&self, place: usize, payload: Vec<u8>) -> Result<Leased, Error> {
        let keys = self.keys.get(place).ok_or_else(no_answer)?;
        let mut script = self.scripts.attempts.key(&keys.attempts);
        let (failed, id): (u32, String) = self.server.run(script.arg(&payload)).await?;
        self.lease((place, payload, failed, id)).await
    }
}
