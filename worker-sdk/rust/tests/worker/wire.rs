//! A wire to a server that can lose or hold back an answer, or bring a question when nobody waits for it
//! any more.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// What happens to what is asked from now on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The server gets the question; the connection breaks instead of the answer.
    LoseAnswer,
    /// The connection breaks at once; the server gets the question when it is let go.
    BringLate,
    /// The server gets the question and those after it; its answers come when they are let go.
    HoldAnswers,
}

pub(crate) struct Wire {
    port: u16,
    fault: watch::Sender<(Fault, String)>,
    signs: Signs,
}

#[derive(Clone, Default)]
struct Signs {
    caught: Arc<Notify>,
    let_go: Arc<Notify>,
    brought: Arc<Notify>,
}

impl Wire {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (fault, faults) = watch::channel((Fault::None, String::new()));
        let wire = Self { port: listener.local_addr().unwrap().port(), fault, signs: Signs::default() };
        let signs = wire.signs.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::spawn(carry(client, server, faults.clone(), signs.clone()));
            }
        });
        wire
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn set(&self, fault: Fault) {
        self.set_on("", fault);
    }

    /// Only for questions that have this in them.
    pub(crate) fn set_on(&self, words: &str, fault: Fault) {
        self.fault.send_replace((fault, words.to_owned()));
    }

    /// Waits until a question has met with the fault.
    pub(crate) async fn caught(&self) {
        self.signs.caught.notified().await;
    }

    /// Brings what was held back: a question, and waits until the server has answered it; or answers.
    pub(crate) async fn let_go(&self) {
        self.signs.let_go.notify_one();
        self.signs.brought.notified().await;
    }
}

async fn carry(
    mut client: TcpStream,
    mut server: TcpStream,
    faults: watch::Receiver<(Fault, String)>,
    signs: Signs,
) {
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut holds = false;
    let (question, fault) = loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(read @ 1..) = read else { return };
                let (fault, words) = faults.borrow().clone();
                if fault != Fault::None && String::from_utf8_lossy(&asked[..read]).contains(&words) {
                    signs.caught.notify_one();
                    if fault != Fault::HoldAnswers {
                        break (read, fault);
                    }
                    holds = true;
                }
                server.write_all(&asked[..read]).await.unwrap();
            }
            read = server.read(&mut answered), if !holds => {
                let Ok(read @ 1..) = read else { return };
                if client.write_all(&answered[..read]).await.is_err() {
                    return;
                }
            }
            () = signs.let_go.notified(), if holds => {
                holds = false;
                signs.brought.notify_one();
            }
        }
    };
    if fault == Fault::BringLate {
        drop(client);
        signs.let_go.notified().await;
    }
    // The server may have ended the connection meanwhile.
    let _ = server.write_all(&asked[..question]).await;
    let _ = server.read(&mut answered).await;
    signs.brought.notify_one();
}
