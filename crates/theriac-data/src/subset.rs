//! Random subsets, and random sources, that are the same in every experiment.

use theriac_core::{Dataset, ParamError, Range, Seeds, SourceId, config, seed::Stream};

use crate::error::DataError;
use crate::registry::Loaded;

config! {
    /// What every data set can be told: how much of it to use, and from how many sources it is said to come.
    ///
    /// The samples are drawn without replacement and without regard to their class, so a subset has the classes of the
    /// whole in expectation. They come from a stream of the data set's own name, the same for every seed of an
    /// experiment, so that all cells of a grid see the same images and comparisons are paired. A smaller subset is
    /// contained in a larger one. Sources are dealt to the samples of the subset in the same way.
    pub struct Subset {
        /// Number of training samples, drawn at random but the same for every seed; 0 takes all.
        train: usize = 0, Range::Whole(0, u64::MAX), "samples";
        /// Number of test samples, drawn at random but the same for every seed; 0 takes all.
        test: usize = 0, Range::Whole(0, u64::MAX), "samples";
        /// Number of sources that the training samples are dealt to, at random but the same for every seed; all have the same size.
        sources: usize = 1, Range::Whole(1, 10_000), "sources";
    }
}

impl Subset {
    /// Compares what is asked for with the `train` and `test` samples that there are.
    ///
    /// # Errors
    /// When more is asked for than there is.
    pub fn check(&self, dataset: &str, train: usize, test: usize) -> Result<(), DataError> {
        count(dataset, "train", self.train, train)?;
        count(dataset, "test", self.test, test).map(drop)
    }

    /// Draws the subset. Samples keep their order and get the ids `0..n`; training samples get the sources `0..sources`.
    ///
    /// # Errors
    /// When more is asked for than there is.
    pub fn draw(&self, full: Loaded) -> Result<Loaded, DataError> {
        let (train, test) = (draw(full.train, "train", self.train)?, draw(full.test, "test", self.test)?);
        Ok(Loaded { train: deal(train, self.sources)?, test })
    }
}

fn count(dataset: &str, key: &'static str, asked: usize, available: usize) -> Result<usize, DataError> {
    match asked {
        0 => Ok(available),
        asked if asked <= available => Ok(asked),
        asked => Err(DataError::TooMany { dataset: dataset.to_owned(), key, asked, available }),
    }
}

/// Deals `count` sources to the samples: shuffled, in turn.
fn deal(data: Dataset, count: usize) -> Result<Dataset, DataError> {
    if count == 1 {
        return Ok(data);
    }
    if count > data.len() {
        let message = format!("{} training samples are not enough for {count} sources", data.len());
        return Err(ParamError::new("sources", message).into());
    }
    let mut order: Vec<usize> = (0..data.len()).collect();
    stream(data.name(), "sources").shuffle(&mut order);
    let mut sources = vec![SourceId(0); data.len()];
    order.into_iter().enumerate().for_each(|(at, index)| sources[index] = SourceId((at % count) as u16));
    Ok(data.with_sources(&sources))
}

/// A stream of the data set's own, the same for every seed of an experiment.
fn stream(dataset: &str, purpose: &str) -> Stream {
    Seeds::new(0).child(&format!("data/{dataset}")).stream(purpose)
}

fn draw(full: Dataset, key: &'static str, asked: usize) -> Result<Dataset, DataError> {
    let count = count(full.name(), key, asked, full.len())?;
    if count == full.len() {
        return Ok(full);
    }
    let chosen = stream(full.name(), &format!("subset/{key}")).choose(&(0..full.len()).collect::<Vec<_>>(), count);
    // Built anew instead of selected: ids stay dense, and the pixels of the rest can be freed.
    let pixels: Vec<u8> = chosen.iter().flat_map(|&index| full.image(index)).copied().collect();
    let labels: Vec<_> = chosen.iter().map(|&index| full.label(index)).collect();
    Ok(Dataset::new(full.name(), full.shape(), full.classes(), pixels, &labels)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use theriac_core::{SampleId, Shape};

    // The pixel is the index, so that a drawn sample says which one it was.
    fn toy(count: u8) -> Dataset {
        let labels: Vec<u16> = (0..count).map(|index| u16::from(index % 2)).collect();
        let classes = ["even", "odd"].map(String::from).to_vec();
        let shape = Shape { channels: 1, height: 1, width: 1 };
        Dataset::new("toy", shape, classes, (0..count).collect::<Vec<u8>>(), &labels).unwrap()
    }

    fn subset(train: usize, test: usize) -> Subset {
        Subset { train, test, sources: 1 }
    }

    fn drawn(train: usize, test: usize) -> Result<Loaded, DataError> {
        subset(train, test).draw(Loaded { train: toy(100), test: toy(50) })
    }

    #[test]
    fn zero_takes_all() {
        let loaded = drawn(0, 0).unwrap();
        assert_eq!((loaded.train.digest(), loaded.test.digest()), (toy(100).digest(), toy(50).digest()));
    }

    #[test]
    fn a_subset_has_dense_ids_and_its_own_labels() {
        let train = drawn(30, 10).unwrap().train;
        assert_eq!((train.len(), train.next_id()), (30, SampleId(30)));
        for index in 0..train.len() {
            assert_eq!(train.id(index), SampleId(index as u64));
            assert_eq!(u16::from(train.image(index)[0] % 2), train.label(index));
        }
    }

    #[test]
    fn subsets_are_fixed_and_nested() {
        let pixels = |train: usize| -> Vec<u8> {
            let data = drawn(train, 0).unwrap().train;
            (0..data.len()).map(|index| data.image(index)[0]).collect()
        };
        // Pinned: a change of these numbers changes every result on a subset.
        assert_eq!(pixels(5), [18, 46, 52, 75, 94]);
        let small = pixels(10);
        assert!(small.iter().all(|pixel| pixels(40).contains(pixel)), "{small:?}");
    }

    #[test]
    fn sources_are_fixed_and_of_one_size() {
        let dealt = |sources| Subset { train: 90, test: 0, sources }.draw(Loaded { train: toy(100), test: toy(50) });
        let train = dealt(4).unwrap().train;
        let sizes: Vec<usize> = train.sources().into_iter().map(|source| train.of_source(source).len()).collect();
        assert_eq!(sizes, [23, 23, 22, 22]);
        assert_eq!(train.digest(), dealt(4).unwrap().train.digest());
        // Pinned, as the subsets are.
        assert_eq!(train.of_source(SourceId(0))[..5], [11, 15, 16, 17, 24]);
        assert_eq!(dealt(1).unwrap().train.digest(), drawn(90, 0).unwrap().train.digest());
        let error = dealt(91).unwrap_err().to_string();
        assert!(error.contains("`sources`: 90 training samples are not enough for 91 sources"), "{error}");
    }

    #[test]
    fn asking_for_too_much_names_key_asked_and_available() {
        assert_eq!(
            drawn(0, 51).unwrap_err().to_string(),
            "failed to accept `test`: 51 samples asked for, but data set `toy` has 50; ask for at most 50, or 0 for all"
        );
        assert!(subset(7, 0).check("toy", 100, 50).is_ok());
        assert!(subset(101, 0).check("toy", 100, 50).is_err());
        assert!(subset(0, 51).check("toy", 100, 50).is_err());
    }
}
