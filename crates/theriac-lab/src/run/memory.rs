//! What the system tells of memory. Only Linux does, in a form that needs no further library.

use std::fs;

/// Of the memory that is free when a run begins, what steps may take.
const SHARE: f64 = 0.8;

/// Highest resident memory of this process so far, in MiB; 0 on systems that do not tell.
pub(super) fn peak_mib() -> f64 {
    field("/proc/self/status", "VmHWM").and_then(|text| mib(&text)).unwrap_or(0.0)
}

/// What steps may take together, in MiB, where nobody said: most of what is free, within the limit of the container.
pub(super) fn budget_mib() -> f64 {
    let free = field("/proc/meminfo", "MemAvailable").and_then(|text| mib(&text));
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|text| text.trim().parse::<f64>().ok()).map(|bytes| bytes / f64::from(1 << 20));
    let least = [free, limit].into_iter().flatten().fold(f64::INFINITY, f64::min);
    SHARE * least
}

/// Such as `1024 kB`.
fn mib(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}

/// The value of the first line `key: value` of a file of the Linux kernel.
pub(super) fn field(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let value = |line: &str| {
        line.split_once(':').filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
    };
    text.lines().find_map(value)
}
