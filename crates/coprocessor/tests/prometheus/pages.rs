//! What tests of several crates read: files of the repository, and the page of metrics of a process.

use std::{collections::BTreeSet, path::Path};

use crate::expressions::{self, Series, TARGET_LABELS};

/// Reads a file, by its path from the root of the repository.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap()
}

/// Reads which series a page has, each with a value.
pub(crate) fn series(page: &str) -> Series {
    let mut series = Series::from([("up".to_owned(), BTreeSet::new())]);
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, _) = line.rsplit_once(' ').unwrap();
        let named = expressions::named(name);
        let [(name, labels)] = named.series.as_slice() else {
            panic!("{line}")
        };
        series.entry(name.clone()).or_default().extend(labels.iter().cloned());
    }
    for name in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, _) = name.split_once(' ').unwrap();
        assert!(series.contains_key(name), "the page should have a value of {name}");
    }
    for labels in series.values_mut() {
        labels.extend(TARGET_LABELS.map(str::to_owned));
    }
    series
}
