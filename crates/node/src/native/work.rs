//! What a block asks an executor to compute, and the two traits through which a node gets it done.
//!
//! The node executes the block's transactions on handles, and knows then which results its contracts stored. [`BlockWork`] is what must be
//! computed for exactly these. Whoever runs a node gives it [`ComputeBlock`], the way to an executor, and [`CheckInputs`], the check of proofs.

use cipherloom_primitives::ciphertext_state::MAX_STORED_BYTES;
use cipherloom_primitives::input::InputMetadata;
use cipherloom_primitives::{Bytes, Computation, FheType, Handle};
use futures_util::future::BoxFuture;

/// What must be computed at the end of a block.
///
/// It is a function of the block and the state before it, so that all validators ask their executors for the same. What no output needs is not in
/// it, nor is an output that needs a ciphertext nobody has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockWork {
    /// The block's number.
    pub number: u64,
    /// The computations, each after those whose results it needs, no result twice.
    pub computations: Vec<Computation>,
    /// The input lists whose values are needed, with what their proofs are bound to. The proofs were checked during execution.
    pub inputs: Vec<ProvenInput>,
    /// Ciphertexts of earlier blocks that are needed, as state has them.
    pub ciphertexts: Vec<(Handle, Bytes)>,
    /// Whose ciphertexts go into state, in ascending order: results, or inputs that a contract stored as they are.
    pub outputs: Vec<Handle>,
}

impl BlockWork {
    /// Returns whether nothing has to be computed, so that no executor is needed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.outputs.is_empty()
    }
}

/// An input list that a transaction brought along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenInput {
    /// The list with its proof, as the client made it.
    pub list: Bytes,
    /// What the proof is bound to.
    pub context: InputMetadata,
}

/// What became of the outputs of a block: bytes, or a failure that every executor would report alike.
pub type Results = Vec<(Handle, Result<Bytes, String>)>;

/// Computes the ciphertexts of a block.
///
/// All validators must come to the same bytes and the same failures, whichever executor they ask.
pub trait ComputeBlock: Send + Sync {
    /// Computes the outputs of `work`, in packed form.
    ///
    /// The answer has each output once, in any order. A failure means that this value cannot be computed by anybody (malformed operands, an input
    /// that is not in its list): the block gets no ciphertext for it.
    ///
    /// # Errors
    /// [`ComputeUnavailable`] if it is not known what the results are. The block must wait then: a node never makes or accepts one without them.
    fn compute(&self, work: BlockWork) -> BoxFuture<'_, Result<Results, ComputeUnavailable>>;
}

/// No executor gave the results.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no executor computed the block: {reason}")]
pub struct ComputeUnavailable {
    reason: String,
}

impl ComputeUnavailable {
    /// Says why.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// Checks input lists. Both methods block, and give the same answer for the same arguments on every node and at any time.
pub trait CheckInputs: Send + Sync {
    /// Checks the proof of a list, and returns the types of its values.
    ///
    /// Validators ask when they execute a transaction, and again in another round, so that it is worth remembering verdicts.
    ///
    /// # Errors
    /// [`InputRefused`] if the list cannot be read or the proof does not hold for `context`.
    fn check(&self, list: &[u8], context: &InputMetadata) -> Result<Vec<FheType>, InputRefused>;

    /// Returns the types of a list's values after all checks short of the proof, for calls and gas estimates.
    ///
    /// # Errors
    /// [`InputRefused`] if the list cannot be read.
    fn types(&self, list: &[u8]) -> Result<Vec<FheType>, InputRefused>;
}

/// An input list is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the input is refused: {reason}")]
pub struct InputRefused {
    reason: String,
}

impl InputRefused {
    /// Says why.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// Asks for the results of `work` and checks that the answer is one: each output once, nothing else, and no ciphertext that state cannot hold.
///
/// An executor that leaves an output out would otherwise make a node believe that it cannot be computed, and refuse a block of others that is right.
///
/// # Errors
/// As [`ComputeBlock::compute`]; also if the answer is none.
pub async fn compute_checked(compute: &dyn ComputeBlock, work: BlockWork) -> Result<Results, ComputeUnavailable> {
    if work.is_empty() {
        return Ok(Vec::new());
    }
    let outputs = work.outputs.clone();
    let mut results = compute.compute(work).await?;
    results.sort_by_key(|(handle, _)| *handle);
    if results.iter().map(|(handle, _)| handle).ne(&outputs) {
        let (asked, found) = (outputs.len(), results.len());
        let reason = format!("it was asked for {asked} values and answered with {found} that are not exactly these");
        return Err(ComputeUnavailable::new(reason));
    }
    let fits = |bytes: &Bytes| !bytes.is_empty() && u64::try_from(bytes.len()).is_ok_and(|length| length <= MAX_STORED_BYTES);
    let misfit = results.iter().find(|(_, result)| result.as_ref().is_ok_and(|bytes| !fits(bytes)));
    if let Some((handle, _)) = misfit {
        let reason = format!("its ciphertext of {handle} is empty, or longer than {MAX_STORED_BYTES} bytes");
        return Err(ComputeUnavailable::new(reason));
    }
    Ok(results)
}
