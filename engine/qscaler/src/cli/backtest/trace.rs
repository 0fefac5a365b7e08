//! Recorded use of containers, from a CSV file: one line per measurement.

use std::collections::BTreeMap;
use std::path::Path;

use csv::StringRecord;

use qscaler_core::time::Time;
use qscaler_core::vertical::Measured;
use qscaler_core::vertical::replay::Trace;

const TIME: &str = "t_seconds";
const CONTAINER: &str = "container";
const BYTES: &str = "memory_bytes";
const UTILISATION: &str = "memory_utilisation";
const CORES: &str = "cpu_cores";

/// Where each column is, and what a memory of 1 is.
struct Columns {
    time: usize,
    container: usize,
    memory: usize,
    memory_name: &'static str,
    memory_unit: f64,
    cpu: Option<usize>,
}

/// Reads all containers, each with its measurements in the order of time. `capacity` is what a
/// utilisation of 1 is, in bytes.
pub(super) fn read(path: &Path, text: &[u8], capacity: f64) -> Result<Vec<Trace>, String> {
    let shown = path.display();
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
    let headers = reader.headers().map_err(|error| format!("{shown}:1: {error}"))?.clone();
    let columns = Columns::find(&headers, capacity).map_err(|problem| format!("{shown}:1: {problem}"))?;
    let mut containers: BTreeMap<String, BTreeMap<Time, Measured>> = BTreeMap::new();
    let mut record = StringRecord::new();
    loop {
        let line = reader.position().line();
        match reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                return Err(match error.kind() {
                    csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
                        let line = pos.as_ref().map_or(line, csv::Position::line);
                        format!(
                            "{shown}:{line}: {len} values; write {expected_len}, as the first line has names"
                        )
                    }
                    _ => format!("{shown}:{line}: {error}"),
                });
            }
        }
        let line = record.position().map_or(line, csv::Position::line);
        let (container, measured) =
            columns.measured(&record).map_err(|problem| format!("{shown}:{line}: {problem}"))?;
        let at = measured.at;
        if containers.entry(container.clone()).or_default().insert(at, measured).is_some() {
            return Err(format!(
                "{shown}:{line}: `{container}` has a second value for this {TIME}; remove one, or write the time of each"
            ));
        }
    }
    if containers.is_empty() {
        return Err(format!("{shown}:2: there is no measurement; write a line such as `0,main,0.25`"));
    }
    let trace = |(container, usage): (String, BTreeMap<_, _>)| Trace {
        container,
        usage: usage.into_values().collect(),
    };
    Ok(containers.into_iter().map(trace).collect())
}

impl Columns {
    fn find(headers: &StringRecord, capacity: f64) -> Result<Self, String> {
        let place = |name: &str| headers.iter().position(|header| header == name);
        let needed = |name: &str| {
            place(name).ok_or_else(|| {
                format!("there is no column `{name}`; write `{TIME},{CONTAINER},{BYTES}` as the first line")
            })
        };
        let (memory, memory_name, memory_unit) = match (place(BYTES), place(UTILISATION)) {
            (Some(bytes), None) => (bytes, BYTES, 1.0),
            (None, Some(part)) => (part, UTILISATION, capacity),
            (None, None) => {
                return Err(format!(
                    "there is no memory; name a column `{BYTES}`, or `{UTILISATION}` for parts of --container-capacity"
                ));
            }
            (Some(_), Some(_)) => {
                return Err(format!("both `{BYTES}` and `{UTILISATION}` are there; leave one out"));
            }
        };
        Ok(Self {
            time: needed(TIME)?,
            container: needed(CONTAINER)?,
            memory,
            memory_name,
            memory_unit,
            cpu: place(CORES),
        })
    }

    fn measured(&self, record: &StringRecord) -> Result<(String, Measured), String> {
        let text = |place: usize| record.get(place).unwrap_or_default();
        let number = |place: usize, name: &str| {
            let text = text(place);
            text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0).ok_or_else(|| {
                format!("`{text}` is no {name}; write a number that is not negative, such as `60` or `0.25`")
            })
        };
        if text(self.container).is_empty() {
            return Err("the container has no name; write one, such as `main`".to_owned());
        }
        let seconds = number(self.time, TIME)?;
        let cpu = self.cpu.filter(|place| !text(*place).is_empty());
        let measured = Measured {
            at: Time((seconds * 1000.0) as i64),
            cpu: cpu.map(|place| number(place, CORES)).transpose()?,
            memory: Some(number(self.memory, self.memory_name)? * self.memory_unit),
        };
        Ok((text(self.container).to_owned(), measured))
    }
}
