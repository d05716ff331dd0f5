//! The experiment engine: config, plan, store, journal, run. It knows no method and no Burn; see [`bench`].

pub mod bench;
