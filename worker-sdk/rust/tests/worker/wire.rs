//! A wire to a server that can lose an answer, or bring a question when nobody waits for it any more.

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
}

pub(crate) struct Wire {
    port: u16,
    fault: watch::Sender<Fault>,
    late: Arc<Notify>,
    brought: Arc<Notify>,
}

impl Wire {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (fault, faults) = watch::channel(Fault::None);
        let wire = Self {
            port: listener.local_addr().unwrap().port(),
            fault,
            late: Arc::default(),
            brought: Arc::default(),
        };
        let (late, brought) = (Arc::clone(&wire.late), Arc::clone(&wire.brought));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::spawn(carry(client, server, faults.clone(), Arc::clone(&late), Arc::clone(&brought)));
            }
        });
        wire
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Brings a question that was held back, and waits until the server has answered it.
    pub(crate) async fn let_go(&self) {
        self.late.notify_one();
        self.brought.notified().await;
    }
}

async fn carry(
    mut client: TcpStream,
    mut server: TcpStream,
    fault: watch::Receiver<Fault>,
    late: Arc<Notify>,
    brought: Arc<Notify>,
) {
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let (question, fault) = loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(read @ 1..) = read else { return };
                let fault = *fault.borrow();
                if fault != Fault::None {
                    break (read, fault);
                }
                server.write_all(&asked[..read]).await.unwrap();
            }
            read = server.read(&mut answered) => {
                let Ok(read @ 1..) = read else { return };
                if client.write_all(&answered[..read]).await.is_err() {
                    return;
                }
            }
        }
    };
    if fault == Fault::BringLate {
        drop(client);
        late.notified().await;
    }
    server.write_all(&asked[..question]).await.unwrap();
    let _ = server.read(&mut answered).await;
    brought.notify_one();
}
