//! How tasks come from Redis: taken at once where there are some, else waited for.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cmd;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::bells::Bells;
use super::holding::add_queues;
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
    abandoned: Option<Abandoned>,
    /// A take whose answer was lost.
    lost_take: Option<u64>,
    bells: Bells,
    /// What an earlier life of this worker held is not in its list any more.
    has_begun: bool,
}

/// A connection on which the server may still wait for a task.
struct Abandoned {
    client: Client,
    wait: Duration,
    /// Where this user may not end it: until when that may be so.
    until: Option<Instant>,
}

/// A connection as the server knows it. Its number alone may be another's after the server started again.
pub(super) struct Client {
    pub(super) id: String,
    pub(super) address: String,
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
    /// A worker that starts again under its name does not go on with what it held: each of these attempts has
    /// failed, and a task that takes its worker down must not be tried for ever.
    pub(super) async fn begin(&self, fetching: &mut Fetching) -> Result<(), Error> {
        if !fetching.has_begun {
            self.reap_from(Some(&self.worker)).await?;
            fetching.has_begun = true;
        }
        Ok(())
    }

    /// A task that came to this worker's list by an answer that was lost.
    pub(super) async fn recover(&self, fetching: &mut Fetching) -> Result<Option<Leased>, Error> {
        if !*self.unsure.read().await {
            return Ok(None);
        }
        let mut unsure = self.unsure.write().await;
        // First the server must not move a task any more for what was asked; what it has moved is in the list.
        let all_is_over = self.give_up(fetching).await?;
        for (place, of) in self.queues.iter().enumerate() {
            // Nothing of it ends meanwhile: who ends a task shares what is held alone here.
            let held = self.held.lock().await;
            let of_queue = held.values().filter(|held| held.place == place);
            let mut known: Vec<_> = of_queue.map(|held| held.payload.clone()).collect();
            drop(held);
            let list: Vec<Vec<u8>> =
                self.server.ask(cmd("LRANGE").arg(&of.processing).arg(0).arg(-1)).await?;
            for payload in list {
                match known.iter().position(|it| *it == payload) {
                    Some(place) => {
                        known.swap_remove(place);
                    }
                    None => return self.moved(place, payload).await.map(Some),
                }
            }
        }
        *unsure = !all_is_over;
        Ok(None)
    }

    /// Sees to it that the server moves no task any more for what was asked. `false`: it still may.
    pub(super) async fn give_up(&self, fetching: &mut Fetching) -> Result<bool, Error> {
        if let Some(take) = fetching.lost_take {
            self.fence(TAKE, take).await?;
            fetching.lost_take = None;
        }
        let Some(abandoned) = &mut fetching.abandoned else { return Ok(true) };
        let killed = self.server.kill(&abandoned.client).await?;
        if killed || abandoned.until.is_some_and(|until| Instant::now() > until) {
            fetching.abandoned = None;
            return Ok(true);
        }
        // The server sees by itself that the connection is gone, or that the wait is over.
        abandoned.until.get_or_insert_with(|| Instant::now() + abandoned.wait + ANSWER_MAX);
        Ok(false)
    }

    /// Moves the next task, waiting for one.
    pub(super) async fn next(
        &self,
        fetching: &mut Fetching,
        wait: Duration,
        stop: &CancellationToken,
    ) -> Result<Option<Leased>, Error> {
        if self.queues.len() == 1 {
            return self.wait_at_the_queue(fetching, wait, stop).await;
        }
        if let Some(leased) = self.take(fetching).await? {
            return Ok(Some(leased));
        }
        fetching.bells.arm(&self.server, &self.queues);
        tokio::select! {
            () = fetching.bells.rung() => self.take(fetching).await,
            () = sleep(wait) => Ok(None),
            () = stop.cancelled() => Ok(None),
        }
    }

    /// Takes from the first queue that has a task.
    async fn take(&self, fetching: &mut Fetching) -> Result<Option<Leased>, Error> {
        let number = self.next_number();
        let mut script = self.scripts.take.key(&self.turns);
        add_queues(&mut script, &self.queues);
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
        let Some(of) = self.queues.first() else { return Ok(None) };
        let (connection, client) = match fetching.waiting.take() {
            Some(connected) => connected,
            None => {
                let mut connection = self.server.waiting_connection().await?;
                let client = Client::of(&mut connection).await?;
                (connection, client)
            }
        };
        let mut moving = cmd("BLMOVE");
        moving.arg(&of.keys.queue).arg(&of.processing).arg("RIGHT").arg("LEFT").arg(wait.as_secs_f64());
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
                fetching.abandoned = Some(Abandoned { client, wait, until: None });
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
        let keys = &self.queues.get(place).ok_or_else(no_answer)?.keys;
        let mut script = self.scripts.attempts.key(&keys.attempts);
        let (failed, id): (u32, String) = self.server.run(script.arg(&payload)).await?;
        self.lease((place, payload, failed, id)).await
    }
}
