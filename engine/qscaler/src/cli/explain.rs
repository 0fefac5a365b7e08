//! `qscaler explain`: why there were so many workers at some moment of the last hour.

mod moment;
mod place;
#[cfg(feature = "kubernetes")]
mod remote;

use clap::Args;

use qscaler_core::record::replay;
use qscaler_core::rule::compile;

use self::moment::Moment;
use self::place::Place;
use super::{Format, complain, say};
use crate::clock::wall_clock;
use crate::exit::Exit;
use crate::explain::explain;
use crate::explain::recorded::{Ask, Recorded, Silent};

#[derive(Args)]
pub(super) struct Explain {
    /// The workload, `NAME` or `NAMESPACE/NAME`; may be left out where there is only one.
    workload: Option<String>,
    #[command(flatten)]
    place: Place,
    /// The moment: `12:03` or `12:03:20` (UTC), `2026-01-05T12:03:20Z`, or `5m` for five minutes ago; up to
    /// the end of that second, or `12:03:20.125` for that very millisecond. Now without.
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    at: Option<Moment>,
    /// Ask the recorded question again and compare the answer bit by bit.
    #[arg(long)]
    replay: bool,
    /// How the decision is written; `json` gives the recorded line.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Explain {
    pub(super) fn run(self) -> Exit {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Silent::Failed(error.to_string()));
        let result = runtime.and_then(|runtime| runtime.block_on(self.show()));
        result.unwrap_or_else(|silent| {
            complain(&silent.to_string());
            match silent {
                Silent::Earlier(_) => Exit::Problems,
                Silent::Unknown(_) | Silent::Failed(_) => Exit::Failed,
            }
        })
    }

    async fn show(self) -> Result<Exit, Silent> {
        let at = self.at.map(|at| at.wall(wall_clock()));
        let ask = Ask { workload: self.place.workload(self.workload)?, at };
        let Recorded { line, replaced, rule: document } = self.place.ask(&ask).await?;
        let rule = document.as_ref().and_then(|document| compile(0, document).0);
        match self.format {
            Format::Json => {
                let json = serde_json::to_string(&line).map_err(|error| Silent::Failed(error.to_string()))?;
                say(&format!("{json}\n"));
            }
            Format::Human | Format::Github => say(&explain(&line, rule.as_ref(), replaced)),
        }
        if !self.replay {
            return Ok(Exit::Good);
        }
        let document = document.ok_or_else(|| {
            Silent::Failed("the rule of this decision is not in the record any more".into())
        })?;
        let again = replay(&line, &document).map_err(|error| Silent::Failed(error.to_string()))?;
        if again == line.decision {
            complain("replay: the same decision, bit by bit");
            Ok(Exit::Good)
        } else {
            complain(&format!("replay: another decision: {}", again.reason));
            Ok(Exit::Problems)
        }
    }
}
