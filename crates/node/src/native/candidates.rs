//! Blocks that were executed here and may be decided.

use std::collections::VecDeque;
use std::sync::Arc;

use alloy::consensus::{Header, Transaction};
use alloy::primitives::{B256, Bytes};
use cipherloom_primitives::quorum::ValidatorSet;

use super::checks::Verdicts;
use super::codec::{ReceivedBlock, Sidecar, encode_block};
use super::execute::{BlockRun, Executed};
use super::rules::NativeRules;
use super::validators;
use super::work::Results;
use crate::chain::block::Block;
use crate::chain::core::Core;
use crate::error::{NodeError, Result};
use crate::state::WorldState;

/// Most candidates kept. There is about one per round at a height.
const MOST: usize = 64;

/// A block with everything that follows from it.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) block: Arc<Block>,
    pub(super) state: WorldState,
    /// Who signs the next block.
    pub(super) next: ValidatorSet,
    /// The block as peers get it.
    pub(super) bytes: Bytes,
    pub(super) sidecar: Bytes,
}

impl Candidate {
    /// Puts the results into state and seals the block.
    pub(super) fn of(
        run: BlockRun,
        results: Results,
        verdicts: Verdicts,
        rules: Arc<NativeRules>,
        parent: B256,
        signers: &ValidatorSet,
    ) -> Result<Self> {
        let Executed {
            builder,
            context,
            state,
            stored,
        } = run.finish(results)?;
        let next = validators::after(&state, signers);
        let extra_data = Bytes::copy_from_slice(next.digest().as_slice());
        let mut block = builder.seal(parent, &context, state.root_hash(), extra_data);
        block.native = Some(rules);
        let sidecar = Sidecar {
            ciphertexts: stored,
            verdicts,
        };
        Ok(Self {
            bytes: encode_block(&block),
            sidecar: sidecar.encode(),
            block: Arc::new(block),
            state,
            next,
        })
    }
}

/// The candidates for the next block; the oldest makes room for a new one.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    kept: VecDeque<Arc<Candidate>>,
}

impl Candidates {
    pub(super) fn get(&self, hash: &B256) -> Option<Arc<Candidate>> {
        self.kept.iter().find(|candidate| candidate.block.hash == *hash).cloned()
    }

    pub(super) fn insert(&mut self, candidate: Arc<Candidate>) {
        if self.get(&candidate.block.hash).is_some() {
            return;
        }
        if self.kept.len() >= MOST {
            self.kept.pop_front();
        }
        self.kept.push_back(candidate);
    }

    pub(super) fn clear(&mut self) {
        self.kept.clear();
    }
}

/// Refuses a block that cannot follow on the head whatever its transactions do.
///
/// # Errors
///
/// [`NodeError::BlockRefused`].
pub(super) fn check_header(core: &Core, header: &Header) -> Result<()> {
    let head = core.head();
    let wrong = |what: &str| NodeError::BlockRefused(format!("its {what} is wrong"));
    if header.number != head.header.number.saturating_add(1) {
        return Err(wrong("number"));
    }
    if header.parent_hash != head.hash {
        return Err(wrong("parent"));
    }
    if header.timestamp <= head.header.timestamp {
        return Err(wrong("timestamp"));
    }
    if header.gas_limit != core.gas_limit() {
        return Err(wrong("gas limit"));
    }
    if header.base_fee_per_gas != Some(core.next_base_fee()) {
        return Err(wrong("base fee"));
    }
    Ok(())
}

/// Executes the transactions of a block that somebody else made.
///
/// # Errors
///
/// [`NodeError::BlockRefused`] if one of them cannot be in it.
pub(super) fn run_all(mut run: BlockRun, received: &ReceivedBlock) -> Result<BlockRun> {
    for transaction in &received.transactions {
        run.run(transaction)
            .map_err(|error| NodeError::BlockRefused(format!("transaction {}: {error}", transaction.hash)))?;
    }
    Ok(run)
}

/// Refuses a block that is not, bit for bit, what its transactions make of it.
///
/// # Errors
///
/// [`NodeError::BlockRefused`] with what differs.
pub(super) fn check_same(received: &ReceivedBlock, own: &Block) -> Result<()> {
    if received.hash == own.hash {
        return Ok(());
    }
    let (theirs, ours) = (&received.header, &own.header);
    let parts = [
        ("state root", theirs.state_root == ours.state_root),
        ("receipts root", theirs.receipts_root == ours.receipts_root),
        ("transactions root", theirs.transactions_root == ours.transactions_root),
        ("extra data", theirs.extra_data == ours.extra_data),
        ("gas used", theirs.gas_used == ours.gas_used),
        ("prevrandao", theirs.mix_hash == ours.mix_hash),
        ("beneficiary", theirs.beneficiary == ours.beneficiary),
    ];
    let different = parts.iter().filter(|(_, same)| !same).map(|(name, _)| *name).collect::<Vec<_>>();
    Err(NodeError::BlockRefused(format!(
        "it does not come out of its transactions; different are: {}",
        if different.is_empty() {
            "other fields".to_owned()
        } else {
            different.join(", ")
        }
    )))
}

/// Tells whether a transaction that was not taken into a block cannot be in a later one, either.
pub(super) fn never_fits(error: &NodeError, gas_limit: u64, transaction: &impl Transaction) -> bool {
    match error {
        NodeError::FheGasExceeded { needed_hcu, limit_hcu, .. } => needed_hcu > limit_hcu,
        NodeError::BlockGasExceeded { .. } => transaction.gas_limit() > gas_limit,
        _ => true,
    }
}
