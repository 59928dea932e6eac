//! Lookup tables: the functions that one bootstrap evaluates.

use super::{Block, BlockBounds, MAX_BLOCK_VALUE};
use crate::error::FheError;

/// The values a block can have, padding bit excluded.
const BLOCK_VALUES: usize = MAX_BLOCK_VALUE as usize + 1;

/// One or more functions of a block, all evaluated by one bootstrap.
///
/// The functions share the 16 places of one table. One function takes inputs from 0 to 15; two take inputs from 0 to 7, three from 0
/// to 4, four from 0 to 3. Outputs are from 0 to 15.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LookupTable {
    /// Each function's outputs by input; zero where there is no input.
    functions: Vec<[u8; BLOCK_VALUES]>,
    /// For how many inputs, from 0 on, outputs were given.
    inputs: u8,
}

impl LookupTable {
    /// Makes a table of functions given by their outputs for 0, 1, 2 and so on. The number of outputs, the same for all functions, says
    /// which inputs the table can be used for.
    ///
    /// # Errors
    /// [`FheError::LookupTable`] without a function or an output, with more places than 16, more than 8 functions, or an output above 15.
    pub fn new(functions: &[&[u8]]) -> Result<Self, FheError> {
        let room = match functions.len() {
            0 => return Err(FheError::LookupTable("has no function")),
            count => BLOCK_VALUES / count,
        };
        // With more than 8 functions the room is a single input, which needs no lookup.
        if room < 2 {
            return Err(FheError::LookupTable("has more than 8 functions"));
        }
        let inputs = functions.first().map_or(0, |outputs| outputs.len());
        if inputs == 0 || functions.iter().any(|outputs| outputs.len() != inputs) {
            return Err(FheError::LookupTable("needs as many outputs, at least one, for each function"));
        }
        if inputs > room {
            return Err(FheError::LookupTable("has more outputs than a block has values"));
        }
        if functions.iter().copied().flatten().any(|output| *output > MAX_BLOCK_VALUE) {
            return Err(FheError::LookupTable("has an output above 15"));
        }
        let padded = |outputs: &&[u8]| std::array::from_fn(|input| outputs.get(input).copied().unwrap_or_default());
        Ok(Self {
            functions: functions.iter().map(padded).collect(),
            inputs: u8::try_from(inputs).map_err(|_| FheError::LookupTable("has more outputs than a block has values"))?,
        })
    }

    /// Makes a table of functions by calling them for every input that the table has room for.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn tabulate(functions: &[&dyn Fn(u8) -> u8]) -> Result<Self, FheError> {
        let room = (MAX_BLOCK_VALUE + 1) / u8::try_from(functions.len()).unwrap_or(u8::MAX).max(1);
        let outputs: Vec<Vec<u8>> = functions.iter().map(|function| (0..room).map(function).collect()).collect();
        Self::new(&outputs.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    /// Returns how many functions one bootstrap evaluates.
    #[must_use]
    pub const fn function_count(&self) -> usize {
        self.functions.len()
    }

    /// Returns the largest input.
    #[must_use]
    pub const fn max_input(&self) -> u8 {
        self.inputs.saturating_sub(1)
    }

    /// Returns the outputs of every function for this input.
    ///
    /// # Errors
    /// [`FheError::LookupInput`] above the largest input.
    pub fn outputs(&self, input: u8) -> Result<Vec<u8>, FheError> {
        self.check_input(input)?;
        let at_input = |outputs: &[u8; BLOCK_VALUES]| outputs.get(usize::from(input)).copied();
        Ok(self.functions.iter().filter_map(at_input).collect())
    }

    /// Returns the bounds of every function's result: from 0 to its largest output, nominal noise.
    pub fn output_bounds(&self) -> impl ExactSizeIterator<Item = BlockBounds> {
        self.functions
            .iter()
            .map(|outputs| BlockBounds::bootstrapped(outputs.iter().copied().max().unwrap_or_default()))
    }

    /// Looks a public block up: public results.
    pub(super) fn look_up_public(&self, input: u8) -> Result<Vec<Block>, FheError> {
        Ok(self.outputs(input)?.into_iter().map(Block::trivial).collect())
    }

    /// Checks that a block of this degree can be looked up.
    pub(super) const fn check_input(&self, degree: u8) -> Result<(), FheError> {
        if degree > self.max_input() {
            return Err(FheError::LookupInput {
                degree,
                max_input: self.max_input(),
            });
        }
        Ok(())
    }

    /// Returns the functions' outputs by input, with zeros up to the full 16.
    pub(super) fn functions(&self) -> &[[u8; BLOCK_VALUES]] {
        &self.functions
    }
}
