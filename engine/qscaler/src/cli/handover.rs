//! `qscaler adopt` and `qscaler release`: take over what a Workload scales, and give it back.

use std::time::Duration;

use clap::Args;

use super::{complain, say};
use crate::exit::Exit;
use crate::platform::kubernetes::{Handover, connect};
use crate::ports::Asked;

#[derive(Args)]
pub(super) struct Adopt {
    #[command(flatten)]
    of: Named,
}

#[derive(Args)]
pub(super) struct Release {
    #[command(flatten)]
    of: Named,
    /// How many seconds to wait for workers that have left to be replaced.
    #[arg(long, default_value_t = 600)]
    wait: u64,
}

/// A Workload of the cluster that KUBECONFIG names.
#[derive(Args)]
struct Named {
    /// The Workload.
    workload: String,
    /// Its namespace.
    #[arg(short, long, default_value = "default")]
    namespace: String,
}

impl Named {
    async fn handover(&self) -> Asked<Handover> {
        Handover::of(connect().await?, &self.namespace, &self.workload).await
    }
}

impl Adopt {
    pub(super) fn run(self) -> Exit {
        tell(async move { self.of.handover().await?.adopt().await })
    }
}

impl Release {
    pub(super) fn run(self) -> Exit {
        let wait = Duration::from_secs(self.wait);
        tell(async move { self.of.handover().await?.release(wait).await })
    }
}

fn tell(done: impl Future<Output = Asked<String>>) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error.to_string());
            return Exit::Failed;
        }
    };
    match runtime.block_on(done) {
        Ok(told) => {
            say(&format!("{told}\n"));
            Exit::Good
        }
        Err(error) => {
            complain(&error.to_string());
            Exit::Failed
        }
    }
}
