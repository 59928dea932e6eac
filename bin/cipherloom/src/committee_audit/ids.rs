//! Identifiers for people.

use cipherloom_primitives::B256;

/// Writes the id of a context or an epoch: those that contracts count up have a mark in their highest byte, and then the number says it all.
pub(super) fn counted(id: B256) -> String {
    const MARKS: [u8; 2] = [0x07, 0x08];

    let (mark, rest) = id.split_first().map_or((0, &[][..]), |(mark, rest)| (*mark, rest));
    let (zeros, number) = rest.split_at(rest.len().saturating_sub(8));
    match <[u8; 8]>::try_from(number) {
        Ok(number) if (MARKS.contains(&mark) || mark == 0) && zeros.iter().all(|byte| *byte == 0) => u64::from_be_bytes(number).to_string(),
        _ => format!("{id}"),
    }
}

/// Writes the beginning of a digest.
pub(super) fn short(id: B256) -> String {
    let digits = format!("{id}");
    digits.chars().take(10).chain(std::iter::once('…')).collect()
}

/// Writes a table: columns as wide as their widest cell.
pub(super) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_ids_are_shown_as_numbers() {
        let mut id = B256::ZERO;
        id[0] = 0x08;
        id[31] = 3;
        assert_eq!(counted(id), "3");
        assert_eq!(counted(B256::ZERO), "0");
        id[5] = 1;
        assert_eq!(counted(id), format!("{id}"));
        assert_eq!(short(B256::repeat_byte(0xab)), "0xabababab…");
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "b".to_owned()], vec!["long".to_owned(), "c".to_owned()]];
        assert_eq!(table(&rows), ["a     b", "long  c"]);
    }
}
