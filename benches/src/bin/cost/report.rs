use std::fmt;

use serde_json::{Map, json};

/// Everything that was measured, in the order in which it was.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

/// One measurement, or why there is none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Measured(f64),
    /// A tool is missing. Whoever insists on the measurement takes this as a failure.
    Missing(String),
    /// The machine, as busy as it is, cannot show this.
    Inconclusive(String),
}

#[derive(Debug)]
struct Row {
    key: &'static str,
    value: Value,
    limit: Option<f64>,
}

impl Value {
    pub(crate) fn count(count: usize) -> Self {
        Self::Measured(count as f64)
    }
}

impl Report {
    /// Adds a measurement that must not be larger than `limit`.
    pub(crate) fn limited(&mut self, key: &'static str, value: Value, limit: f64) {
        self.rows.push(Row {
            key,
            value,
            limit: Some(limit),
        });
    }

    /// Adds a measurement that explains the others and is held to nothing.
    pub(crate) fn detail(&mut self, key: &'static str, value: Value) {
        self.rows.push(Row {
            key,
            value,
            limit: None,
        });
    }

    /// What is wrong, one sentence per row.
    pub(crate) fn failures(&self, require_real: bool) -> Vec<String> {
        self.rows
            .iter()
            .filter_map(|row| {
                let limit = row.limit?;
                match &row.value {
                    // Written so that a value which is not a number fails.
                    Value::Measured(value) if *value <= limit => None,
                    Value::Measured(value) => {
                        Some(format!("{}: {} is over {limit}", row.key, rounded(*value)))
                    }
                    Value::Missing(why) if require_real => {
                        Some(format!("{}: not measured: {why}", row.key))
                    }
                    Value::Missing(_) | Value::Inconclusive(_) => None,
                }
            })
            .collect()
    }

    /// Measurements with a limit are keys of the object itself; the others are under `details`.
    pub(crate) fn to_json(&self, require_real: bool) -> String {
        let (mut object, mut details) = (Map::new(), Map::new());
        let (mut limits, mut skipped) = (Map::new(), Map::new());
        for row in &self.rows {
            if let Some(limit) = row.limit {
                limits.insert(row.key.to_owned(), number(limit));
            }
            match &row.value {
                Value::Measured(value) => {
                    let place = match row.limit {
                        Some(_) => &mut object,
                        None => &mut details,
                    };
                    place.insert(row.key.to_owned(), number(rounded(*value)));
                }
                Value::Missing(why) | Value::Inconclusive(why) => {
                    skipped.insert(row.key.to_owned(), json!(why));
                }
            }
        }
        object.insert("details".to_owned(), details.into());
        object.insert("limits".to_owned(), limits.into());
        object.insert("skipped".to_owned(), skipped.into());
        object.insert("failed".to_owned(), json!(self.failures(require_real)));
        serde_json::Value::Object(object).to_string()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            write!(f, "{:40}", row.key)?;
            match &row.value {
                Value::Measured(value) => write!(f, "{:>10}", rounded(*value))?,
                Value::Missing(why) | Value::Inconclusive(why) => write!(f, "   skipped: {why}")?,
            }
            if let Some(limit) = row.limit {
                write!(f, "   limit {limit}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// A whole number is shown as one.
fn number(value: f64) -> serde_json::Value {
    if value.fract() == 0.0 && value.abs() < 1e9 {
        json!(value as i64)
    } else {
        json!(value)
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(value: Value) -> Report {
        let mut report = Report::default();
        report.limited("row", value, 1.0);
        report
    }

    #[test]
    fn the_limit_itself_is_within_it() {
        assert!(report(Value::Measured(1.0)).failures(true).is_empty());
        assert_eq!(
            report(Value::Measured(1.001)).failures(false),
            ["row: 1.001 is over 1"]
        );
    }

    #[test]
    fn rounding_hides_no_failure() {
        assert_eq!(
            report(Value::Measured(1.0001)).failures(false).len(),
            1,
            "the value is judged before it is rounded"
        );
    }

    #[test]
    fn what_is_not_a_number_fails() {
        assert_eq!(report(Value::Measured(f64::NAN)).failures(false).len(), 1);
    }

    #[test]
    fn a_missing_tool_fails_only_those_who_insist() {
        let missing = report(Value::Missing("valgrind not found".to_owned()));
        assert!(missing.failures(false).is_empty());
        assert_eq!(
            missing.failures(true),
            ["row: not measured: valgrind not found"]
        );
        let busy = report(Value::Inconclusive("one core".to_owned()));
        assert!(busy.failures(true).is_empty());
    }

    #[test]
    fn the_object_says_what_was_measured_and_what_was_not() {
        let mut report = report(Value::Measured(0.95049));
        report.limited(
            "other",
            Value::Missing("valgrind not found".to_owned()),
            0.0,
        );
        report.detail("ours", Value::count(313));
        assert_eq!(
            report.to_json(true),
            r#"{"details":{"ours":313},"failed":["other: not measured: valgrind not found"],"limits":{"other":0,"row":1},"row":0.95,"skipped":{"other":"valgrind not found"}}"#
        );
    }

    #[test]
    fn the_table_names_the_limit() {
        let table = report(Value::Measured(0.5)).to_string();
        assert!(table.contains("0.5   limit 1"), "{table}");
    }
}
