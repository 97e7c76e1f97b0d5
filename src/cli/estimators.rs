//! `candor estimators`: list the uncertainty estimators by what they cost.

use std::fmt::Write;

use clap::Args;
use serde_json::json;

use super::output::Output;
use super::terminal;
use crate::error::Result;
use crate::uncertainty::{Direction, ESTIMATORS, Estimator, Price};

/// The prices with their headings, lowest first.
const PRICES: [(Price, &str, &str); 3] = [
    (Price::OnePass, "one_pass", "one pass, read off the answer's own tokens"),
    (Price::Samples, "samples", "several samples"),
    (Price::FurtherPass, "further_pass", "a further pass, by a strategy that makes it"),
];
/// Columns of a name with its sign.
const NAME: usize = 32;
/// Columns of a line.
const WIDTH: usize = 80;

/// List the uncertainty estimators by what they cost.
#[derive(Debug, Args)]
pub struct Estimators {
    /// Print JSON: unit, direction, price and source too
    #[arg(long)]
    json: bool,
}

impl Estimators {
    pub fn run(&self, output: &Output) -> Result<()> {
        if self.json {
            return output.raw(format!("{:#}\n", json!(rows())).as_bytes());
        }
        output.answer(&table())
    }
}

fn of(price: Price) -> impl Iterator<Item = &'static Estimator> {
    ESTIMATORS.iter().copied().filter(move |estimator| estimator.needs.price() == price)
}

/// The estimators under a heading for each price.
fn table() -> String {
    let mut text = "+ higher = more confident, - higher = less confident\n".to_owned();
    for (price, _, heading) in PRICES {
        let _ = writeln!(text, "\n{heading}:");
        for Estimator { name, direction, unit, summary, .. } in of(price) {
            let sign = match direction {
                Direction::HigherIsMoreConfident => '+',
                Direction::HigherIsLessConfident => '-',
            };
            let summary = terminal::wrap(&format!("{summary} ({unit})"), WIDTH - NAME);
            let indented = summary.replace('\n', &format!("\n{:NAME$}", ""));
            let _ = writeln!(text, "{:<NAME$}{indented}", format!("{sign} {name}"));
        }
    }
    text.trim_end().to_owned()
}

fn rows() -> Vec<serde_json::Value> {
    let row = |estimator: &Estimator, price: &str| {
        let Estimator { name, unit, direction, source, summary, .. } = estimator;
        json!({
            "name": name,
            "price": price,
            "unit": unit,
            "higher_is_more_confident": *direction == Direction::HigherIsMoreConfident,
            "source": source,
            "summary": summary,
        })
    };
    PRICES.iter().flat_map(|(price, key, _)| of(*price).map(move |one| row(one, key))).collect()
}
