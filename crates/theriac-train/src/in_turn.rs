//! Trainings in turn that count as one computation, as those of cross-validation or of an ensemble.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use theriac_core::{Seeds, Session, Wish};

/// The version of the format. What was kept in another one is lost.
const FORMAT: u32 = 1;

/// Where the trainings stand between two steps of one of them.
#[derive(Deserialize)]
struct Kept<S> {
    format: u32,
    /// Sets apart the computations of one study.
    computation: u64,
    /// How many trainings are done.
    done: usize,
    /// What became of their answers.
    state: S,
    /// Where the next one stands.
    #[serde(with = "serde_bytes")]
    checkpoint: Vec<u8>,
}

/// The same, without a copy of the state.
#[derive(Serialize)]
struct Keep<'a, S> {
    format: u32,
    computation: u64,
    done: usize,
    state: &'a S,
    #[serde(with = "serde_bytes")]
    checkpoint: &'a [u8],
}

/// One of the trainings: its progress is a part of the whole, and its checkpoint is kept beside the answers before it.
struct Turn<'a, S> {
    outer: &'a dyn Session,
    computation: u64,
    at: usize,
    count: usize,
    state: &'a S,
    checkpoint: Option<Vec<u8>>,
}

impl<S: Serialize> Session for Turn<'_, S> {
    fn progress(&self, fraction: f64) {
        self.outer.progress((self.at as f64 + fraction) / self.count as f64);
    }

    fn resume(&self) -> Option<Vec<u8>> {
        self.checkpoint.clone()
    }

    fn wish(&self) -> Wish {
        self.outer.wish()
    }

    fn save(&self, checkpoint: &[u8]) {
        let Self { computation, at: done, state, .. } = *self;
        let kept = Keep { format: FORMAT, computation, done, state, checkpoint };
        self.outer.save(&postcard::to_stdvec(&kept).expect("plain data serialises"));
    }
}

/// Calls `train` for `0..count`, and takes each answer into the state, which is `start` in the beginning. A `session` that kept where an
/// earlier attempt stood gets it continued: what is done is not done again. `seeds` are the streams of the whole.
///
/// # Errors
/// When a training fails or is stopped.
pub fn in_turn<S: Serialize + DeserializeOwned, A, E>(
    session: &dyn Session,
    seeds: &Seeds,
    count: usize,
    start: S,
    mut train: impl FnMut(usize, &dyn Session) -> Result<A, E>,
    mut take: impl FnMut(&mut S, usize, A),
) -> Result<S, E> {
    let computation = seeds.stream("train/in-turn").bits();
    let kept = session.resume().and_then(|kept| postcard::from_bytes::<Kept<S>>(&kept).ok());
    let kept = kept.filter(|kept| kept.format == FORMAT && kept.computation == computation);
    let (done, mut state, mut checkpoint) =
        kept.map_or((0, start, None), |kept| (kept.done, kept.state, Some(kept.checkpoint)));
    for at in done..count {
        let turn = Turn { outer: session, computation, at, count, state: &state, checkpoint: checkpoint.take() };
        let answer = train(at, &turn)?;
        take(&mut state, at, answer);
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// Stops at the step called `stop_at`, counted over all trainings.
    #[derive(Default)]
    struct Stubborn {
        kept: RefCell<Option<Vec<u8>>>,
        steps: Cell<usize>,
        stop_at: Option<usize>,
        heard: RefCell<Vec<f64>>,
    }

    impl Session for Stubborn {
        fn progress(&self, fraction: f64) {
            self.heard.borrow_mut().push(fraction);
        }

        fn resume(&self) -> Option<Vec<u8>> {
            self.kept.borrow().clone()
        }

        fn wish(&self) -> Wish {
            self.steps.set(self.steps.get() + 1);
            if self.stop_at == Some(self.steps.get()) { Wish::Stop } else { Wish::GoOn }
        }

        fn save(&self, state: &[u8]) {
            self.kept.replace(Some(state.to_vec()));
        }
    }

    /// A training of four steps whose answer tells which steps were made in this attempt.
    fn train(at: usize, session: &dyn Session) -> Result<Vec<usize>, usize> {
        let first = session.resume().map_or(0, |checkpoint| usize::from(checkpoint[0]));
        for step in first..4 {
            session.progress((step + 1) as f64 / 4.0);
            if session.wish() == Wish::Stop {
                session.save(&[step as u8 + 1]);
                return Err(at);
            }
        }
        Ok((first..4).map(|step| 10 * at + step).collect())
    }

    fn run(session: &Stubborn, seed: u64) -> Result<Vec<usize>, usize> {
        in_turn(session, &Seeds::new(seed), 3, Vec::new(), train, |state, _, steps| state.extend(steps))
    }

    #[test]
    fn progress_adds_up_and_every_answer_is_taken_in_order() {
        let session = Stubborn::default();
        let steps = run(&session, 1).unwrap();
        assert_eq!(steps, [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]);
        let heard = session.heard.into_inner();
        assert!(heard.windows(2).all(|pair| pair[0] < pair[1]) && heard[11] == 1.0);
        assert_eq!(in_turn::<_, (), ()>(&(), &Seeds::new(1), 0, 7, |_, _| Err(()), |_, _, ()| ()), Ok(7));
    }

    #[test]
    fn a_stopped_computation_goes_on_within_the_training_that_was_stopped() {
        let session = Stubborn { stop_at: Some(6), ..Stubborn::default() };
        assert_eq!(run(&session, 1), Err(1));
        let again = Stubborn { kept: session.kept, ..Stubborn::default() };
        assert_eq!(run(&again, 1).unwrap(), [0, 1, 2, 3, 12, 13, 20, 21, 22, 23]);
        // What another computation kept is nothing to this one; nor is anything that cannot be read.
        assert_eq!(run(&again, 2).unwrap().len(), 12);
        let damaged = Stubborn { kept: RefCell::new(Some(vec![1, 2, 3])), ..Stubborn::default() };
        assert_eq!(run(&damaged, 1).unwrap().len(), 12);
    }
}
