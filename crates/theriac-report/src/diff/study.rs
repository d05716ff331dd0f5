//! What differs in how two results came about.

use std::collections::{BTreeMap, BTreeSet};

use theriac_core::record::Manifest;
use toml::Value;

use super::Change;

/// The settings that differ. Times and machines are none: they decide no result.
pub fn changes(a: &Manifest, b: &Manifest) -> Vec<Change> {
    let (a, b) = (settings(a), settings(b));
    let keys: BTreeSet<&(u8, String)> = a.keys().chain(b.keys()).collect();
    let differs = |key: &&(u8, String)| a.get(key) != b.get(key);
    let change = |key: &(u8, String)| Change { what: key.1.clone(), a: a.get(key).cloned(), b: b.get(key).cloned() };
    keys.into_iter().filter(differs).map(change).collect()
}

/// All settings by rank and name: those about everything come first.
fn settings(manifest: &Manifest) -> BTreeMap<(u8, String), String> {
    let mut found = BTreeMap::new();
    found.insert((0, "theriac".to_owned()), manifest.theriac.clone());
    found.insert((0, "device".to_owned()), manifest.device.clone());
    if let Some(shard) = &manifest.shard {
        found.insert((0, "part".to_owned()), format!("{} of {}", shard.index, shard.of));
    }
    found.extend(manifest.data.iter().map(|(name, hash)| ((1, format!("data {name}")), hash.clone())));
    let mut config = BTreeMap::new();
    match manifest.config.parse::<toml::Table>() {
        Ok(table) => flatten("config ", &Value::Table(table), &mut config),
        Err(_) => drop(config.insert("config".to_owned(), manifest.config_digest.clone())),
    }
    found.extend(config.into_iter().map(|(name, value)| ((2, name), value)));
    found
}

/// Each value below `value` under its path, such as `experiment.backdoor.attack.badnets.rate`: tables in a list go by their names,
/// so that one more of them shifts no other.
fn flatten(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    let below = |name: &str| match path.ends_with(' ') {
        true => format!("{path}{name}"),
        false => format!("{path}.{name}"),
    };
    match value {
        Value::Table(table) => table.iter().for_each(|(name, value)| flatten(&below(name), value, found)),
        Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_table) => {
            let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
            for item in items {
                let name = item.get("name").and_then(Value::as_str).unwrap_or("unnamed");
                let count = seen.entry(name).or_default();
                *count += 1;
                let name = if *count == 1 { name.to_owned() } else { format!("{name} {count}") };
                flatten(&below(&name), item, found);
            }
        }
        other => drop(found.insert(path.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_paths_that_another_entry_does_not_shift() {
        let mut found = BTreeMap::new();
        let text = "name = 'x'\n[[experiment]]\nname = 'e'\nseeds = [1, 2]\n[[experiment.attack]]\nname = 'badnets'\nrate = 0.1\n\
                    [[experiment.attack]]\nname = 'badnets'\nrate = 0.2\n";
        flatten("config ", &Value::Table(text.parse().unwrap()), &mut found);
        let expected = [
            ("config experiment.e.attack.badnets 2.name", "\"badnets\""),
            ("config experiment.e.attack.badnets 2.rate", "0.2"),
            ("config experiment.e.attack.badnets.name", "\"badnets\""),
            ("config experiment.e.attack.badnets.rate", "0.1"),
            ("config experiment.e.name", "\"e\""),
            ("config experiment.e.seeds", "[1, 2]"),
            ("config name", "\"x\""),
        ];
        assert_eq!(found, expected.map(|(path, value)| (path.to_owned(), value.to_owned())).into());
    }
}
