//! Columns of blocks: many numbers are added up without carrying from column to column until the end.

use cipherloom_fhe::blocks::{MAX_BLOCK_VALUE, MAX_NOISE_LEVEL};

use super::Blocks;
use crate::{builder::Builder, program::Form};

/// The largest sum of which one bootstrap gives message and carry.
const ONE_BOOTSTRAP: u32 = 7;

/// Blocks to be added up, of which those in column *i* count 4^*i*. What lies beyond the last column is dropped.
pub(super) struct Columns {
    columns: Vec<Column>,
}

#[derive(Clone, Default)]
struct Column {
    blocks: Blocks,
    /// What is added besides the blocks. It comes from public digits and from complements: `−x` is `3 − x`, less 3.
    constant: i64,
}

impl Columns {
    pub(super) fn new(count: usize) -> Self {
        Self {
            columns: vec![Column::default(); count],
        }
    }

    /// Adds `coefficient · block` to a column.
    pub(super) fn add(&mut self, builder: &Builder, index: usize, coefficient: i16, block: &Form) {
        let Some(column) = self.columns.get_mut(index) else { return };
        if let Some(value) = block.public() {
            column.constant += i64::from(coefficient) * i64::from(value);
        } else if coefficient != 0 {
            let most = coefficient.min(0).abs() * i16::from(builder.max(block));
            column.constant -= i64::from(most);
            column.blocks.push(Form::sum(&[(coefficient, block)], most));
        }
    }

    /// Adds a public number to a column.
    pub(super) fn add_public(&mut self, index: usize, value: i64) {
        if let Some(column) = self.columns.get_mut(index) {
            column.constant += value;
        }
    }

    /// Adds everything up, modulo four to the number of columns.
    pub(super) fn total(mut self, builder: &mut Builder) -> Blocks {
        let count = self.columns.len();
        let digit = |index| {
            let sum = self.settle(builder, index);
            self.carry(builder, index, &sum, |value| value >> 2);
            builder.lookup(&sum, |value| value & 3)
        };
        (0..count).map(digit).collect()
    }

    /// If everything together is at most 15 and not too noisy, gives the sum without any bootstrap.
    pub(super) fn small_total(&self, builder: &Builder) -> Option<Form> {
        let mut sum = Form::known(0);
        for (index, column) in self.columns.iter().enumerate() {
            let weight = i16::try_from(4_usize.checked_pow(u32::try_from(index).ok()?)?).ok();
            let constant = i16::try_from(column.constant).ok()?;
            if column.blocks.is_empty() && constant == 0 {
                continue;
            }
            // From 16 on a block counts too much for any lookup.
            let weight = weight.filter(|weight| *weight < 16)?;
            let terms = column.blocks.iter().map(|block| (weight, block));
            sum = Form::sum(&terms.chain([(1, &sum)]).collect::<Vec<_>>(), weight.checked_mul(constant)?);
        }
        builder.fits(&sum).then_some(sum)
    }

    /// Adds up blocks of a column until one lookup can do the rest, which it gives. Carries go to the next column, except those of the rest.
    pub(super) fn settle(&mut self, builder: &mut Builder, index: usize) -> Form {
        let Some(column) = self.columns.get_mut(index) else {
            return Form::known(0);
        };
        let mut blocks = std::mem::take(&mut column.blocks);
        let constant = std::mem::take(&mut column.constant);
        self.add_public(index + 1, constant.div_euclid(4));
        let digit = u8::try_from(constant.rem_euclid(4)).expect("a remainder of 4 is small");
        if digit > 0 {
            blocks.push(Form::known(digit));
        }
        loop {
            // The largest first: small ones, such as carries, then fill up what room is left.
            blocks.sort_by_key(|block| std::cmp::Reverse(builder.max(block)));
            let total: u32 = blocks.iter().map(|block| u32::from(builder.max(block))).sum();
            let noise: u32 = blocks.iter().map(|block| u32::from(builder.bounds(block).noise)).sum();
            let is_enough = total <= ONE_BOOTSTRAP && noise <= MAX_NOISE_LEVEL.into();
            let group = take_group(builder, &mut blocks, if is_enough { ONE_BOOTSTRAP } else { MAX_BLOCK_VALUE.into() });
            assert!(
                blocks.is_empty() || !group.is_empty(),
                "a kernel adds up a block that no lookup takes"
            );
            let sum = Form::sum(&group.iter().map(|block| (1, block)).collect::<Vec<_>>(), 0);
            if blocks.is_empty() {
                return sum;
            }
            self.carry(builder, index, &sum, |value| value >> 2);
            blocks.push(builder.lookup(&sum, |value| value & 3));
        }
    }

    /// Adds what a column's sum carries to the next column.
    pub(super) fn carry(&mut self, builder: &mut Builder, index: usize, sum: &Form, carried: impl Fn(u8) -> u8) {
        if index + 1 < self.columns.len() {
            let carry = builder.lookup(sum, carried);
            self.add(builder, index + 1, 1, &carry);
        }
    }
}

/// Takes blocks out of a list whose sum is at most the limit, and can be looked up.
fn take_group(builder: &mut Builder, blocks: &mut Blocks, limit: u32) -> Blocks {
    let mut group = Blocks::new();
    let (mut total, mut noise) = (0, 0);
    let mut left = Blocks::new();
    for block in std::mem::take(blocks) {
        let bounds = builder.bounds(&block);
        let max = u32::from(builder.max(&block));
        if total + max <= limit && noise + bounds.noise <= MAX_NOISE_LEVEL.into() {
            total += max;
            noise += bounds.noise;
            group.push(block);
        } else {
            left.push(block);
        }
    }
    *blocks = left;
    group
}
