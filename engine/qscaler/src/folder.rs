//! Reads the files of folders, as they are at one moment.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;

use qscaler_core::catalog::Found;

/// The link that Kubernetes turns to the new files of a ConfigMap in one step.
const CONFIG_MAP_DATA: &str = "..data";

/// The YAML files of a folder, by name, or the one file that the path names. A folder that is the
/// mount of a ConfigMap is read through the target of its link, so that files of two versions are
/// never mixed.
pub fn read(path: &Path) -> Result<Vec<Found>, String> {
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("{}: there is no such file or folder", path.display()),
        _ => format!("{}: {error}", path.display()),
    })?;
    if !metadata.is_dir() {
        return Ok(vec![read_file(path, path)]);
    }
    let data = path.join(CONFIG_MAP_DATA);
    let real = if data.exists() { fs::canonicalize(&data) } else { Ok(path.to_owned()) };
    let real = real.map_err(|error| format!("{}: {error}", data.display()))?;
    let names = yaml_files(&real).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(names.into_iter().map(|name| read_file(&real.join(&name), &path.join(&name))).collect())
}

fn yaml_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut names = vec![];
    for entry in fs::read_dir(folder)? {
        let name = PathBuf::from(entry?.file_name());
        let hidden = name.to_str().is_none_or(|name| name.starts_with('.'));
        let is_yaml = name.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if is_yaml && !hidden {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn read_file(real: &Path, shown: &Path) -> Found {
    let text = fs::read(real).map_err(|error| error.to_string());
    let text = text.and_then(|bytes| String::from_utf8(bytes).map_err(|error| not_utf8(&error)));
    Found { path: shown.display().to_string(), text }
}

fn not_utf8(error: &FromUtf8Error) -> String {
    let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
    format!("line {} is not UTF-8", before.split(|byte| *byte == b'\n').count())
}

/// Whether a file holds tests of rules by its name.
pub fn is_test(path: &str) -> bool {
    path.ends_with(".test.yaml") || path.ends_with(".test.yml")
}

/// The rule file that a test file stands beside.
pub fn beside(test: &str) -> String {
    test.replacen(".test.y", ".y", 1)
}
