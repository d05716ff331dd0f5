//! What surrounds a long computation: it hears how far it is, keeps what is needed to go on later, and may ask it to stop.

/// What a long computation is asked to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing special.
    GoOn,
    /// Save its state, and go on.
    Save,
    /// Save its state, and stop.
    Stop,
}

/// The surroundings.
pub trait Session {
    /// Hears the fraction that is done, now and then.
    fn progress(&self, fraction: f64);

    /// The state that an earlier attempt saved last, if there was one.
    fn resume(&self) -> Option<Vec<u8>> {
        None
    }

    /// What is wanted now. Cheap enough to be asked at every training step.
    fn wish(&self) -> Wish {
        Wish::GoOn
    }

    /// Keeps `state` in the place of an earlier one. Whether that works is not the computation's concern.
    fn save(&self, _state: &[u8]) {}
}

/// Surroundings that hear, keep and want nothing.
impl Session for () {
    fn progress(&self, _fraction: f64) {}
}
