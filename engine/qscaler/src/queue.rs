//! Queue systems: what is measured in them, and offers carried through them. One file per system.

mod interruptions;
#[cfg(feature = "redis")]
pub mod redis;
pub mod sqlite;

use async_trait::async_trait;

use qscaler_core::workload::{Hidden, Password, Source, System};

use crate::ports::{Asked, Connect, PortError, QueueSystem};

/// Connects to real queue systems by URL.
pub struct ByUrl;

#[async_trait]
impl Connect for ByUrl {
    async fn connect(&self, source: &Source) -> Asked<QueueSystem> {
        let address = address(source)?;
        match source.of {
            System::Sqlite => sqlite::connect(&address).await,
            #[cfg(feature = "redis")]
            System::Redis => redis::connect(source, &address).await,
            #[cfg(not(feature = "redis"))]
            System::Redis => Err(PortError::new(&source.url, "this program was built without Redis")),
        }
    }
}

/// The URL with what is needed to log in. Never to be shown.
pub(crate) fn address(source: &Source) -> Asked<String> {
    let password = match &source.password {
        None => return Ok(source.url.clone()),
        Some(Password::Written(Hidden(password))) => password.clone(),
        Some(Password::Environment(variable)) => std::env::var(variable).map_err(|_| {
            let reason = format!("the environment variable {variable} with its password is not set");
            PortError::new(&source.url, reason)
        })?,
        Some(Password::Secret { name, .. }) => {
            let reason = format!("its password is in the Secret {name}, and this is no cluster");
            return Err(PortError::new(&source.url, reason));
        }
    };
    let (scheme, rest) = source.url.split_once("://").unwrap_or(("", &source.url));
    let user = source.username.as_deref().unwrap_or_default();
    Ok(format!("{scheme}://{}:{}@{rest}", percent(user), percent(&password)))
}

/// Percent-encodes what may not stand in the user part of a URL.
fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
