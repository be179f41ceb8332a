//! The series of one thread right below one path.

use std::sync::Arc;

use crate::entry::Entry;

/// Sorted by their last elements: some dozen at most, nearly always.
#[derive(Default)]
pub(crate) struct Group {
    series: Vec<(Arc<str>, Entry)>,
}

/// Room is made for so many more at least.
const MORE: usize = 4;

impl Group {
    fn place(&self, last: &str) -> Result<usize, usize> {
        self.series.binary_search_by(|(known, _)| (**known).cmp(last))
    }

    pub(crate) fn get_mut(&mut self, last: &str) -> Option<&mut Entry> {
        let place = self.place(last).ok()?;
        Some(&mut self.series[place].1)
    }

    /// The one of this name, which is new if there was none.
    pub(crate) fn entry(&mut self, last: Arc<str>) -> &mut Entry {
        let place = self.place(&last).unwrap_or_else(|place| {
            if self.series.len() == self.series.capacity() {
                // Not doubled: ten thousand names' groups would be half empty.
                self.series.reserve_exact(MORE.max(self.series.len() / 4));
            }
            self.series.insert(place, (last, Entry::default()));
            place
        });
        &mut self.series[place].1
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Entry)> {
        self.series.iter_mut().map(|(last, entry)| (&**last, entry))
    }

    pub(crate) fn is_held(&mut self) -> bool {
        self.series.iter_mut().any(|(_, entry)| entry.is_held())
    }

    pub(crate) fn remove(&mut self, last: &str) {
        if let Ok(place) = self.place(last) {
            self.series.remove(place);
        }
    }
}
