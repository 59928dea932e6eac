//! What crosses the boundary of a transaction: the two forms of a stored ciphertext, and which one a computation reads.
//!
//! The rules are part of the definition of every result's bytes (`spec/boundary.md`). They look at chain data alone, never at what a
//! process happens to keep, because otherwise two honest coprocessors would compute different bytes.

use serde::{Deserialize, Serialize};

/// A form in which a ciphertext is stored, served and vouched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CiphertextForm {
    /// All blocks as they were computed: large, and read without any bootstrap.
    Raw,
    /// All blocks in one compressed ciphertext: hundreds of times smaller, one bootstrap per block to read.
    Packed,
}

impl CiphertextForm {
    /// Returns the number that stands for the form in what coprocessors sign.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Raw => 1,
            Self::Packed => 2,
        }
    }

    /// Returns the form with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Raw),
            2 => Some(Self::Packed),
            _ => None,
        }
    }
}

impl std::fmt::Display for CiphertextForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Packed => "packed",
        })
    }
}

/// How long, in blocks of the host chain, computations read the raw form of a value. Fixed per key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HotWindow(pub u64);

impl HotWindow {
    /// What new key sets get: hours on a chain with a block every 12 seconds, half an hour with one every 2 seconds.
    pub const DEFAULT: Self = Self(1024);

    /// Says which form of a value a transaction reads.
    ///
    /// `created_block` is the block of the transaction that published the value, `used_block` that of the transaction that
    /// reads it.
    #[must_use]
    pub const fn form_read(self, created_block: u64, used_block: u64) -> CiphertextForm {
        if used_block.saturating_sub(created_block) <= self.0 {
            CiphertextForm::Raw
        } else {
            CiphertextForm::Packed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_raw_up_to_the_last_block_of_the_window() {
        let window = HotWindow(10);
        assert_eq!(window.form_read(5, 5), CiphertextForm::Raw);
        assert_eq!(window.form_read(5, 15), CiphertextForm::Raw);
        assert_eq!(window.form_read(5, 16), CiphertextForm::Packed);
        assert_eq!(HotWindow(0).form_read(5, 6), CiphertextForm::Packed);
        assert_eq!(HotWindow(u64::MAX).form_read(0, u64::MAX), CiphertextForm::Raw);
    }

    #[test]
    fn forms_are_found_by_their_numbers() {
        for form in [CiphertextForm::Raw, CiphertextForm::Packed] {
            assert_eq!(CiphertextForm::from_number(form.number()), Some(form));
        }
        assert_eq!(CiphertextForm::from_number(0), None);
        assert_eq!(CiphertextForm::from_number(3), None);
    }
}
