//! What was measured, as a table for people and as JSON.

use crate::floor;
use crate::meter::Figures;
use crate::peer::Peer;
use crate::scenario::Scenario;
use anyhow::Result;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Everything that was measured in one run of the benchmarks.
#[derive(Default)]
pub(crate) struct Report {
    /// Figures of each measurement, in the order of the runs.
    figures: BTreeMap<(Scenario, Peer), Vec<Figures>>,
    /// What could not be measured, and why.
    failures: Vec<(Scenario, Peer, String)>,
    /// Synced writes between the measurements: milliseconds.
    syncs_ms: Vec<f64>,
    /// Load of the machine before each measurement.
    loads: Vec<f64>,
    /// Gzipped bytes of the npm package in an application.
    package_bytes: Option<u64>,
}

impl Report {
    /// Adds the figures of one measurement.
    pub(crate) fn add(&mut self, scenario: Scenario, peer: Peer, figures: Figures) {
        self.figures.entry((scenario, peer)).or_default().push(figures);
    }

    /// Adds what went wrong in one.
    pub(crate) fn fail(&mut self, scenario: Scenario, peer: Peer, why: String) {
        self.failures.push((scenario, peer, why));
    }

    /// Adds what the machine was like before a measurement.
    pub(crate) fn surroundings(&mut self, sync_ms: f64, load: f64) {
        self.syncs_ms.push(sync_ms);
        self.loads.push(load);
    }

    /// Adds the size of the package.
    pub(crate) fn package(&mut self, bytes: u64) {
        self.package_bytes = Some(bytes);
    }

    /// Gzipped bytes of the npm package in an application, if they were measured.
    pub(crate) fn package_bytes(&self) -> Option<u64> {
        self.package_bytes
    }

    /// The median of the synced writes, in milliseconds.
    pub(crate) fn sync_ms(&self) -> Option<f64> {
        median(self.syncs_ms.clone())
    }

    /// The median of one figure over the runs.
    pub(crate) fn median(&self, scenario: Scenario, peer: Peer, name: &str) -> Option<f64> {
        let runs = self.figures.get(&(scenario, peer))?;
        median(runs.iter().flatten().filter(|(figure, _)| *figure == name).map(|(_, value)| *value).collect())
    }

    /// Tables in markdown, with what each floor asks and whether it is met.
    pub(crate) fn markdown(&self) -> Result<String> {
        let mut out = String::new();
        let mut scenarios: Vec<Scenario> = self.figures.keys().map(|(scenario, _)| *scenario).collect();
        scenarios.dedup();
        for scenario in scenarios {
            self.write_table(&mut out, scenario)?;
        }
        writeln!(out, "### Floors\n")?;
        for verdict in floor::verdicts(self) {
            writeln!(out, "- {verdict}")?;
        }
        for (scenario, peer, why) in &self.failures {
            writeln!(out, "- not measured: {} in \"{}\": {why}", peer.name(), scenario.title())?;
        }
        let load = median(self.loads.clone()).unwrap_or(f64::NAN);
        let sync = self.sync_ms().unwrap_or(f64::NAN);
        writeln!(
            out,
            "\nA synced 4 KiB write took {sync:.2} ms (median); the machine's load before measurements was {load:.1}."
        )?;
        Ok(out)
    }

    fn write_table(&self, out: &mut String, scenario: Scenario) -> Result<()> {
        writeln!(out, "### {}\n", scenario.title())?;
        let rows: Vec<(Peer, &Vec<Figures>)> = self
            .figures
            .iter()
            .filter(|((of, _), _)| *of == scenario)
            .map(|((_, peer), runs)| (*peer, runs))
            .collect();
        let Some(names) = rows.first().and_then(|(_, runs)| runs.first()) else { return Ok(()) };
        write!(out, "| relay | runs |")?;
        names.iter().try_for_each(|(name, _)| write!(out, " {name} |"))?;
        writeln!(out, " Tidewell / it, {} |", scenario.main_figure())?;
        writeln!(out, "|---|--:|{}--:|", "--:|".repeat(names.len()))?;
        let ours = self.median(scenario, Peer::Ours, scenario.main_figure());
        for (peer, runs) in rows {
            write!(out, "| {} | {} |", peer.name(), runs.len())?;
            for (name, _) in names {
                write!(out, " {} |", shown(self.median(scenario, peer, name)))?;
            }
            let its = self.median(scenario, peer, scenario.main_figure());
            let ratio = ours.zip(its).map(|(ours, its)| ours / its);
            writeln!(out, " {} |", ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}")))?;
        }
        writeln!(out)?;
        Ok(())
    }

    /// Writes `report.md` and `report.json`.
    pub(crate) fn save(&self, folder: &Path) -> Result<()> {
        let measurements: Vec<_> = self
            .figures
            .iter()
            .flat_map(|((scenario, peer), runs)| runs.iter().map(move |figures| (scenario, peer, figures)))
            .map(|(scenario, peer, figures)| {
                let figures: BTreeMap<_, _> = figures.iter().copied().collect();
                json!({"scenario": scenario.title(), "relay": peer.name(), "figures": figures})
            })
            .collect();
        let failures: Vec<_> = self
            .failures
            .iter()
            .map(|(scenario, peer, why)| json!({"scenario": scenario.title(), "relay": peer.name(), "why": why}))
            .collect();
        let all = json!({
            "measurements": measurements,
            "failures": failures,
            "sync_ms": self.syncs_ms,
            "load": self.loads,
            "package_gzip_bytes": self.package_bytes,
        });
        fs::create_dir_all(folder)?;
        fs::write(folder.join("report.json"), serde_json::to_string_pretty(&all)?)?;
        Ok(fs::write(folder.join("report.md"), self.markdown()?)?)
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.retain(|value| value.is_finite());
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    match values.len() % 2 {
        0 => values.get(middle - 1).map(|lower| f64::midpoint(*lower, upper)),
        _ => Some(upper),
    }
}

/// Three digits that matter.
fn shown(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value.abs() >= 1_000.0 => grouped(value.round() as i64),
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

fn grouped(value: i64) -> String {
    let digits = value.abs().to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if value < 0 { format!("-{out}") } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_ones() {
        assert_eq!(median(vec![4.0, 1.0, 2.0, 100.0]), Some(3.0));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn large_figures_are_grouped() {
        assert_eq!(shown(Some(1_234_567.0)), "1,234,567");
        assert_eq!(shown(Some(0.4567)), "0.46");
    }
}
