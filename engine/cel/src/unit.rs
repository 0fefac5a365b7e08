//! Literals with units: durations as Prometheus and Go write them, amounts as Kubernetes does.

/// Reads a duration in seconds: a sum such as `1h30m`, of `ms`, `s`, `m`, `h`, `d` and `w`.
pub fn duration(text: &str) -> Option<f64> {
    if text == "0" {
        return Some(0.0);
    }
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            _ => return None,
        };
        seconds += number * unit;
        rest = &rest[letters..];
    }
    (!text.is_empty() && seconds.is_finite()).then_some(seconds)
}

/// Reads an amount of memory in bytes: `100Mi`, `1.5Gi`, `2G`, `1048576`.
pub fn bytes(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 10] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
    ];
    amount(text, &UNITS)
}

/// Reads an amount of processor in cores: `500m`, `2`, `0.5`.
pub fn cores(text: &str) -> Option<f64> {
    amount(text, &[("m", 0.001)])
}

fn amount(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let unit = units.iter().find(|(unit, _)| text.ends_with(unit));
    let (digits, factor) =
        unit.map_or((text, 1.0), |(unit, factor)| (&text[..text.len() - unit.len()], *factor));
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number = plain.then(|| digits.parse::<f64>().ok())??;
    Some(number * factor).filter(|amount| amount.is_finite())
}

/// Writes a duration the way people write it: `1h30m`, `250ms`, `0s`.
pub fn write_duration(seconds: f64) -> String {
    let milliseconds = (seconds * 1000.0).round();
    if milliseconds <= 0.0 || milliseconds >= 9e15 {
        return format!("{seconds}s");
    }
    let mut left = milliseconds as u64;
    let mut text = String::new();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if left >= size {
            text += &(left / size).to_string();
            text += unit;
            left %= size;
        }
    }
    text
}
