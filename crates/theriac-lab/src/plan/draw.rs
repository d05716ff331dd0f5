//! The plan as a graph in the DOT language of Graphviz. Steps that differ by the seed only are one node.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::{Plan, PlannedStep};
use crate::bench::StepKind;

#[derive(Default)]
struct Node {
    kind: Option<StepKind>,
    steps: usize,
    due: usize,
}

impl Plan {
    /// The graph, for `dot -Tsvg`. Steps that are `due` are drawn in full, the others pale.
    pub fn to_dot(&self, due: &[bool]) -> String {
        let mut nodes: BTreeMap<&str, Node> = BTreeMap::new();
        let mut edges: BTreeSet<(&str, &str)> = BTreeSet::new();
        for (planned, &due) in self.steps.iter().zip(due) {
            let node = nodes.entry(title(planned)).or_default();
            node.kind = Some(planned.step.kind);
            node.steps += 1;
            node.due += usize::from(due);
            edges.extend(planned.inputs.iter().map(|&input| (title(&self.steps[input]), title(planned))));
        }
        let names: BTreeMap<&str, usize> = nodes.keys().enumerate().map(|(at, title)| (*title, at)).collect();
        let mut text = format!("digraph \"{}\" {{\n  rankdir=LR;\n", self.name);
        text += "  node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\", fontsize=10];\n";
        for (title, Node { kind, steps, due }) in &nodes {
            let color = kind.map_or("white", color);
            let pen = if *due > 0 { "black" } else { "gray70" };
            let count = if *steps == 1 { String::new() } else { format!("\\n{steps} seeds") };
            let label = title.replace(", ", ",\\n").replace(" on ", "\\non ");
            // Titles hold names and numbers, and paths of data sets at worst.
            let label = label.replace('"', "\\\"");
            let _ = writeln!(
                text,
                "  n{} [label=\"{label}{count}\", fillcolor=\"{color}\", color={pen}, fontcolor={pen}];",
                names[title]
            );
        }
        for (from, to) in edges {
            let _ = writeln!(text, "  n{} -> n{};", names[from], names[to]);
        }
        text + "}\n"
    }
}

/// The label without its seed.
fn title(planned: &PlannedStep) -> &str {
    planned.label.rsplit_once(", seed ").map_or(&planned.label, |(title, _)| title)
}

fn color(kind: StepKind) -> &'static str {
    match kind {
        StepKind::Poison => "#f6d5d0",
        StepKind::Train => "#d3e3f4",
        StepKind::Features => "#d9efef",
        StepKind::Monitor => "#f7e3ef",
        StepKind::Inspect => "#fbe8c9",
        StepKind::Certify => "#dcdcf5",
        StepKind::Vet => "#e3ecc8",
        StepKind::Repair => "#e9dcf2",
        StepKind::Evaluate => "#f0f0f0",
    }
}
