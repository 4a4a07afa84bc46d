//! Durations as settings write them: `"90s"`, `"5m"`, `"24h"`, `"30d"`.

use std::time::Duration;

/// Why a text is no duration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no duration; write a whole number and a unit, such as \"90s\", \"5m\", \"24h\" or \"30d\""
)]
pub struct DurationError {
    text: String,
}

/// Reads a whole number followed by one of `ms`, `s`, `m`, `h`, `d`.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let error = || DurationError {
        text: text.to_owned(),
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
    let number: u64 = text[..digits].parse().map_err(|_| error())?;
    let milliseconds: u64 = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(error()),
    };
    let total = number.checked_mul(milliseconds).ok_or_else(error)?;
    Ok(Duration::from_millis(total))
}

/// Writes a duration in the largest unit that holds it whole.
pub fn print_duration(duration: Duration) -> String {
    let total = duration.as_millis();
    for (unit, milliseconds) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
    ] {
        if total > 0 && total.is_multiple_of(milliseconds) {
            return format!("{}{unit}", total / milliseconds);
        }
    }
    if total == 0 {
        "0s".to_owned()
    } else {
        format!("{total}ms")
    }
}

/// For `#[serde(with = "duration_text")]`.
pub mod duration_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes the text form.
    pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::print_duration(*duration))
    }

    /// Reads the text form.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        super::parse_duration(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_what_they_print() {
        for text in ["250ms", "90s", "5m", "36h", "30d", "0s"] {
            assert_eq!(print_duration(parse_duration(text).unwrap()), text);
        }
    }

    #[test]
    fn a_number_without_a_unit_is_refused_with_what_would_be_accepted() {
        let error = parse_duration("90").unwrap_err();
        assert!(error.to_string().contains("\"90s\""));
    }
}
