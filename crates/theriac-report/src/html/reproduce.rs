//! How to reproduce it, and what it cost.

use std::collections::BTreeMap;

use theriac_core::record::{Manifest, StepRecord};

use super::table;
use crate::plot::escape;

/// Writes the section.
pub fn section(out: &mut String, manifest: &Manifest) {
    out.push_str("<section aria-labelledby=\"reproduce\">\n<h2 id=\"reproduce\">How to reproduce it</h2>\n");
    let mut command = format!("theriac run {}", shell_word(&manifest.config_path));
    if manifest.device != "cpu" {
        command.push_str(&format!(" --device {}", shell_word(&manifest.device)));
    }
    out.push_str(&format!("<pre><code>{}</code></pre>\n", escape(&command)));
    let mut facts = vec![
        ("Theriac".to_owned(), manifest.theriac.clone()),
        ("Config digest".to_owned(), manifest.config_digest.clone()),
        ("Device".to_owned(), manifest.device.clone()),
        ("Jobs at a time".to_owned(), manifest.jobs.to_string()),
        ("Threads a job".to_owned(), manifest.threads.to_string()),
        ("Time of this run".to_owned(), duration(manifest.seconds)),
    ];
    facts.extend(manifest.machine.iter().map(|(name, value)| (format!("Machine: {name}"), value.clone())));
    facts.extend(manifest.data.iter().map(|(name, value)| (format!("Data: {name}"), value.clone())));
    let rows = facts.iter().map(|(name, value)| vec![escape(name), format!("<code>{}</code>", escape(value))]);
    table::plain(out, "The run", &["Fact", "Value"], rows.collect());
    costs(out, &manifest.steps);
    out.push_str(&format!(
        "<details>\n<summary>The config with all defaults written out</summary>\n<pre \
         tabindex=\"0\"><code>{}</code></pre>\n\
         </details>\n</section>\n",
        escape(&manifest.config)
    ));
}

fn costs(out: &mut String, steps: &[StepRecord]) {
    let mut kinds: BTreeMap<&str, Vec<&StepRecord>> = BTreeMap::new();
    for step in steps {
        kinds.entry(&step.kind).or_default().push(step);
    }
    if kinds.is_empty() {
        return;
    }
    let pipeline = ["poison", "train", "vet", "repair", "evaluate"];
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|(kind, _)| pipeline.iter().position(|known| known == kind).unwrap_or(pipeline.len()));
    let rows = kinds.into_iter().map(|(kind, steps)| {
        let total: f64 = steps.iter().map(|step| step.seconds).sum();
        let longest = steps.iter().map(|step| step.seconds).fold(0.0, f64::max);
        let memory = steps.iter().map(|step| step.peak_memory_mib).fold(0.0, f64::max);
        vec![
            escape(kind),
            steps.len().to_string(),
            duration(total),
            duration(total / steps.len() as f64),
            duration(longest),
            format!("{memory:.0} MiB"),
        ]
    });
    let head = ["Step", "Number", "Time in all", "Mean", "Longest", "Peak memory"];
    table::plain(out, "Time and memory by kind of step", &head, rows.collect());
    out.push_str(
        "<p class=\"note\">Times are those of when a step was computed; steps that were found in the store took \
         none this time. \
         Memory is the highest of the whole process by the end of a step.</p>\n",
    );
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.0} ms", s * 1000.0),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// A path as a shell takes it: quoted when it holds anything unusual.
fn shell_word(path: &str) -> String {
    let usual = |c: char| c.is_alphanumeric() || "/._-+=@:,".contains(c);
    if !path.is_empty() && path.chars().all(usual) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_paths_are_written_for_people() {
        assert_eq!(
            [duration(0.25), duration(3.0), duration(600.0), duration(9000.0)],
            ["250 ms", "3.0 s", "10.0 min", "2.5 h"]
        );
        assert_eq!([shell_word("configs/a.toml"), shell_word("my file.toml")], ["configs/a.toml", "'my file.toml'"]);
    }
}
