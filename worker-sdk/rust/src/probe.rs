//! A readiness probe: a file that is there, or a port that answers 200, while the worker is ready.
//!
//! It is ready from its first answered report until it has drained. A worker that is leaving and still
//! works on a task stays ready: of a Deployment's pods the unready ones are deleted first.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::queue::Error;
use crate::settings::Settings;

/// Who asks has this long to do so, and to hear the answer.
const ASK_MAX: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(crate) struct Probe {
    file: Option<PathBuf>,
    ready: watch::Sender<bool>,
}

impl Probe {
    /// Opens what the settings name. Nobody is ready yet.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, Error> {
        let probe = Self { file: settings.probe_file.clone(), ready: watch::Sender::new(false) };
        probe.show(false);
        if let Some(port) = settings.probe_port {
            let listener = TcpListener::bind(("0.0.0.0", port))
                .await
                .map_err(|error| Error::Settings(format!("the probe's port {port}: {error}")))?;
            tokio::spawn(serve(listener, probe.ready.subscribe()));
        }
        Ok(probe)
    }

    pub(crate) fn set(&self, ready: bool) {
        let changed = self.ready.send_if_modified(|before| std::mem::replace(before, ready) != ready);
        if changed {
            self.show(ready);
        }
    }

    fn show(&self, ready: bool) {
        let Some(file) = &self.file else { return };
        let result = match ready {
            true => fs::write(file, "ready\n"),
            false if file.exists() => fs::remove_file(file),
            false => Ok(()),
        };
        if let Err(error) = result {
            tracing::error!(%error, file = %file.display(), "cannot show whether this worker is ready");
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.show(false);
    }
}

/// Answers until the worker is gone.
async fn serve(listener: TcpListener, mut ready: watch::Receiver<bool>) {
    loop {
        let is_ready = *ready.borrow_and_update();
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(tokio::spawn(timeout(ASK_MAX, answer(stream, is_ready)))),
                Err(error) => {
                    tracing::warn!(%error, "the probe");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            changed = ready.changed() => if changed.is_err() { return },
        }
    }
}

/// The same answer to whatever is asked.
async fn answer(mut stream: TcpStream, ready: bool) -> std::io::Result<()> {
    let mut asked = [0; 1024];
    let _ = stream.read(&mut asked).await?;
    let (status, word) = if ready { ("200 OK", "ready") } else { ("503 Service Unavailable", "not ready") };
    let length = word.len() + 1;
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{word}\n"
    );
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}
