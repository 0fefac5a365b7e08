//! Brings the servers that the tests start, from the distribution's packages.

use std::env;
use std::path::Path;
use std::process::Command;

/// Makes sure that a server's program is there. As root it installs the package of the same name;
/// else the error says what to type.
pub(crate) fn bring(program: &str) -> Result<(), String> {
    if is_installed(program) {
        return Ok(());
    }
    let by_hand = format!("`{program}` is missing: sudo apt-get install {program}");
    if !is_root() {
        return Err(by_hand);
    }
    println!("\ninstalling {program}");
    let install = format!(
        "apt-get -qq update && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends -y {program} >/dev/null"
    );
    let status = Command::new("sh").args(["-c", &install]).status();
    match status {
        Ok(status) if status.success() && is_installed(program) => Ok(()),
        Ok(_) | Err(_) => Err(format!("{by_hand} (installing it failed)")),
    }
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| Path::new(&folder).join(program).is_file())
}

pub(crate) fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout == b"0\n")
}
