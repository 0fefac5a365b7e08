//! Where the record is: in a folder, with an engine, or with the one that leads in a cluster.

use std::path::{Path, PathBuf};

use clap::Args;

#[cfg(feature = "kubernetes")]
use super::remote::Remote;
use crate::explain::recorded::{Ask, Recorded, Silent, ask};
use crate::store::SqliteStore;

/// The folder that `run` uses when it is told none.
const FOLDER: &str = ".qscaler";
/// Where an engine is installed when nobody says otherwise.
#[cfg(feature = "kubernetes")]
const ENGINE_NAMESPACE: &str = "qscaler";

/// As it is told on the command line.
#[derive(Args)]
pub(super) struct Place {
    /// The workload's namespace. The engine that leads in the cluster is asked, unless --engine or --state
    /// names another; of that cluster which KUBECONFIG names.
    #[cfg(feature = "kubernetes")]
    #[arg(short, long, requires = "workload")]
    namespace: Option<String>,
    /// The namespace in which the engine of the cluster is installed; `qscaler` without.
    #[cfg(feature = "kubernetes")]
    #[arg(long, value_name = "NAMESPACE", conflicts_with_all = ["engine", "state"])]
    engine_namespace: Option<String>,
    /// Ask the engine that serves this URL, as its --listen says: `http://127.0.0.1:8080`.
    #[cfg(feature = "kubernetes")]
    #[arg(long, value_name = "URL", value_parser = super::remote::url, conflicts_with = "state")]
    engine: Option<http::Uri>,
    /// The state folder of an engine of this machine; `.qscaler` without.
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
}

impl Place {
    /// The workload that is meant, with its namespace where that was told.
    pub(super) fn workload(&self, name: Option<String>) -> Result<Option<String>, Silent> {
        #[cfg(feature = "kubernetes")]
        if let (Some(namespace), Some(name)) = (&self.namespace, &name) {
            return if name.contains('/') {
                Err(Silent::Failed(format!(
                    "`{name}` names a namespace, and so does --namespace; leave one out"
                )))
            } else {
                Ok(Some(format!("{namespace}/{name}")))
            };
        }
        Ok(name)
    }

    /// Asks the record, wherever it is.
    pub(super) async fn ask(&self, question: &Ask) -> Result<Recorded, Silent> {
        #[cfg(feature = "kubernetes")]
        if let Some(url) = &self.engine {
            return Remote::at(url.clone())?.ask(question).await;
        } else if self.state.is_none() && (self.namespace.is_some() || self.engine_namespace.is_some()) {
            let namespace = self.engine_namespace.as_deref().unwrap_or(ENGINE_NAMESPACE);
            return Remote::leader(namespace).await?.ask(question).await;
        }
        let folder = self.state.as_deref().unwrap_or(Path::new(FOLDER));
        if !folder.join("engine.db").exists() {
            return Err(Silent::Failed(format!(
                "{}: there is no record; name the engine's folder with --state, or the namespace of a \
                 cluster's workload with -n",
                folder.display()
            )));
        }
        ask(&SqliteStore::open(folder).await?, question).await
    }
}
