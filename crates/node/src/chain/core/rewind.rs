//! State edits, snapshots and ways back.

use super::Core;
use super::settings::BlockSettings;
use crate::chain::ChainEventKind;
use crate::chain::journal::{Record, StateEdit};
use crate::chain::pool::Pool;
use crate::error::{NodeError, Result};
use crate::state::WorldState;

/// What it takes to go back to a moment.
#[derive(Clone)]
pub(super) struct Snapshot {
    height: u64,
    state: WorldState,
    pool: Pool,
    time_offset: i64,
    next_timestamp: Option<u64>,
    next_base_fee: Option<u64>,
    settings: BlockSettings,
}

impl Snapshot {
    pub(super) fn height(&self) -> u64 {
        self.height
    }
}

impl Core {
    pub(crate) fn edit(&mut self, edit: StateEdit) -> Result<()> {
        let edited = edited(self.head_state(), &edit)?;
        self.record(&Record::Edit(edit))?;
        self.replace_head_state(edited);
        Ok(())
    }

    pub(super) fn replace_head_state(&mut self, state: WorldState) {
        if let Some(head) = self.states.back_mut() {
            self.pool.drop_stale(&state);
            *head = state;
        }
    }

    pub(crate) fn snapshot(&mut self) -> Result<u64> {
        let limit = self.config.limits.snapshots;
        if self.snapshots.len() >= limit {
            return Err(NodeError::LimitExceeded(format!(
                "{limit} snapshots are kept already; revert to one of them first"
            )));
        }
        let id = self.next_snapshot;
        self.record(&Record::Snapshot { id })?;
        self.keep_snapshot(id);
        Ok(id)
    }

    pub(super) fn keep_snapshot(&mut self, id: u64) {
        let snapshot = Snapshot {
            height: self.head().header.number,
            state: self.head_state().clone(),
            pool: self.pool.clone(),
            time_offset: self.time_offset,
            next_timestamp: self.next_timestamp,
            next_base_fee: self.next_base_fee,
            settings: self.settings.clone(),
        };
        self.snapshots.insert(id, snapshot);
        self.next_snapshot = id.saturating_add(1);
    }

    /// Goes back to a snapshot and forgets it and all later ones; false if there is none.
    pub(crate) fn revert(&mut self, id: u64) -> Result<bool> {
        if !self.snapshots.contains_key(&id) {
            return Ok(false);
        }
        self.record(&Record::Revert { id })?;
        self.restore_snapshot(id);
        Ok(true)
    }

    pub(super) fn restore_snapshot(&mut self, id: u64) {
        let mut later = self.snapshots.split_off(&id);
        let Some(snapshot) = later.remove(&id) else { return };
        self.pool = snapshot.pool;
        self.time_offset = snapshot.time_offset;
        self.next_timestamp = snapshot.next_timestamp;
        self.next_base_fee = snapshot.next_base_fee;
        self.next_prevrandao = None;
        self.settings = snapshot.settings;
        self.cut(snapshot.height, snapshot.state);
    }

    /// Removes the last `depth` blocks; their transactions are forgotten, not put back to wait.
    pub(crate) fn rollback(&mut self, depth: u64) -> Result<()> {
        let head = self.head().header.number;
        let height = head
            .checked_sub(depth)
            .ok_or_else(|| NodeError::InvalidParams(format!("depth {depth} goes below the first block")))?;
        let state = self.state_of(height)?.clone();
        self.record(&Record::Rollback { height })?;
        self.roll_back_to(height, state);
        Ok(())
    }

    pub(super) fn roll_back_to(&mut self, height: u64, state: WorldState) {
        self.snapshots.retain(|_, snapshot| snapshot.height <= height);
        self.cut(height, state);
    }

    /// Replaces the last `depth` blocks by as many without transactions; all hashes change.
    pub(crate) fn reorganize(&mut self, depth: u64) -> Result<()> {
        let head = self.head().header.number;
        let first = head.checked_sub(depth).and_then(|height| self.block(height.checked_add(1)?));
        // Without transactions, only another timestamp makes sure that the block differs.
        let timestamp = first.map(|block| block.header.timestamp.saturating_add(1));
        self.rollback(depth)?;
        let waiting = std::mem::take(&mut self.pool);
        let offset = self.time_offset;
        self.next_timestamp = timestamp;
        let mined = (0..depth).try_for_each(|_| self.mine_block());
        self.pool = waiting;
        let state = self.head_state().clone();
        self.pool.drop_stale(&state);
        mined?;
        // Time goes on as before, not from the timestamp that was needed to tell the blocks apart.
        self.set_time_offset(offset)
    }

    /// Goes back to the first block as it was made. Nothing else is left of what happened.
    pub(crate) fn reset(&mut self) -> Result<()> {
        self.record(&Record::Reset)?;
        self.begin_again();
        Ok(())
    }

    pub(super) fn begin_again(&mut self) {
        self.resets = self.resets.saturating_add(1);
        self.snapshots.clear();
        self.pool = Pool::default();
        self.time_offset = 0;
        self.next_timestamp = None;
        self.next_base_fee = None;
        self.next_prevrandao = None;
        self.settings = BlockSettings::default();
        self.automine = true;
        self.impersonated.clear();
        self.impersonate_all = false;
        self.cut(0, self.genesis_state.clone());
    }

    fn cut(&mut self, height: u64, state: WorldState) {
        // Chains that go back have no archive: the first block is in memory.
        let keep = usize::try_from(height.saturating_sub(self.first))
            .unwrap_or(usize::MAX)
            .saturating_add(1)
            .min(self.blocks.len());
        let removed = Vec::from(self.blocks.split_off(keep));
        for block in &removed {
            self.numbers.remove(&block.hash);
            for transaction in &block.transactions {
                self.transactions.remove(&transaction.hash);
            }
        }
        self.states.truncate(self.states.len().saturating_sub(removed.len()));
        self.states.pop_back();
        self.states.push_back(state);
        if !removed.is_empty() {
            self.outbox.push(ChainEventKind::Reverted(removed));
        }
    }
}

/// `state` after an edit.
pub(super) fn edited(state: &WorldState, edit: &StateEdit) -> Result<WorldState> {
    let mut state = state.clone();
    match edit.clone() {
        StateEdit::Balance { address, balance } => state.set_balance(address, balance),
        StateEdit::Nonce { address, nonce } => state.set_nonce(address, nonce),
        StateEdit::Code { address, code } => state.set_code(address, code)?,
        StateEdit::Storage { address, slot, value } => state.set_storage(address, slot, value),
        StateEdit::Load { accounts } => state.load(accounts)?,
    }
    Ok(state)
}
